"""The drawing stage of a live session: a moment becomes bytes, the mark on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Protocol

import numpy as np

from avatarfit.compositing import Background, parse_background
from avatarfit.compositing.mark import Mark
from avatarfit.contracts import FaceMotion, HeadPose, Motion, TorsoMotion
from avatarfit.contracts.events import Listener
from avatarfit.pipeline.live_frame import LiveState, Moment
from avatarfit.pipeline.picture import PictureMaker, PictureSettings

if TYPE_CHECKING:
    from avatarfit.compositing.shot import Layer
    from avatarfit.model.avatar import Avatar


class Drawer(Protocol):
    """What draws moments, one after the other, some left out."""

    def draw(self, moment: Moment) -> np.ndarray:
        """uint8 [H, W, 3], or premultiplied uint8 [H, W, 4]; a new one each time."""


class LivePictures:
    """See `Drawer`.

    Args:
        avatar: who is drawn.
        frame_rate_hz: of the frames.
        background: as of `drive_avatar`.
        settings: how they are shown.
        alpha: whether pictures keep their alpha.
        mark: words that say what the picture is; None leaves them out.
        layers, backend, on_event: see `PictureMaker`.

    Raises:
        InputError: as `PictureMaker` and `Mark`.
    """

    def __init__(
        self,
        avatar: Avatar,
        frame_rate_hz: float,
        background: str | Background,
        settings: PictureSettings,
        *,
        alpha: bool,
        mark: str | None,
        layers: Sequence[Layer] = (),
        backend: str = "auto",
        on_event: Listener,
    ) -> None:
        behind = parse_background(background) if isinstance(background, str) else background
        rate = Fraction(frame_rate_hz).limit_denominator(1001)
        self._maker = PictureMaker(
            avatar, behind, replace(settings, rate=rate), takes_alpha=alpha, layers=layers, backend=backend,
            on_event=on_event,
        )  # fmt: skip
        self._mark = None if mark is None else Mark(mark)
        self.camera = self._maker.camera

    def draw(self, moment: Moment) -> np.ndarray:
        """See `Drawer`."""
        picture = self._maker.make(moment.motion, 0, moment.index)
        if picture.dtype != np.uint8:
            import cv2

            # OpenCV rounds to nearest and saturates.
            picture = cv2.convertScaleAbs(picture, alpha=255.0) if self._mark is None else self._marked(picture)
        elif self._mark is not None:
            self._mark.stamp(picture)
        return picture

    def _marked(self, picture: np.ndarray) -> np.ndarray:
        import cv2

        assert self._mark is not None
        picture = np.ascontiguousarray(picture, np.float32)
        self._mark.stamp(picture)
        return cv2.convertScaleAbs(picture, alpha=255.0)


def resting_moment(avatar: Avatar) -> Moment:
    """The person at rest, before the first sound."""
    habits = avatar.driver.habits
    rest = habits.stance(habits.rest()[None])
    motion = Motion(
        np.zeros(1), FaceMotion(np.asarray(avatar.driver.mouth_rest[None]), rest.upper, rest.eyes),
        HeadPose(rest.rotation_wxyz, rest.translation_cm), TorsoMotion(rest.torso_affine, rest.torso_shape),
    )  # fmt: skip
    return Moment(0, motion, LiveState.IDLE)
