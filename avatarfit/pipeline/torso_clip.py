"""The clip folder that lends its torso."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from avatarfit.compositing.source_torso import ClipFrame, SourceTorso, TorsoUnder
from avatarfit.compositing.torso_walk import TorsoWalk
from avatarfit.contracts import Camera, InputError, Motion

if TYPE_CHECKING:
    from avatarfit.capture.clip_folder import ClipFolder
    from avatarfit.model.avatar import Avatar

_SAMPLE = 40
"""So many frames tell what the head hides."""
_JUMP = 24
"""A frame so far ahead, or one behind, is sought anew; nearer ones are decoded through."""
_CURSORS = 2
"""A dissolve reads the clip at two places."""


class _Cursor:
    """Decodes a clip folder's frames and masks from a place on."""

    def __init__(self, clip: ClipFolder, index: int) -> None:
        self.at = index
        self._frames, self._masks = clip.frames(index), clip.masks(index)

    def reach(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(rgb, person, labels) of frame `index`, which is not behind."""
        while True:
            frame, (person, labels) = next(self._frames), next(self._masks)
            self.at += 1
            if self.at > index:
                return frame.rgb, person, labels

    def close(self) -> None:
        """Let go of the files."""
        for part in (self._frames, self._masks):
            close = getattr(part, "close", None)
            if close is not None:
                close()


class TorsoClip:
    """A clip folder as the source of torsos.

    Args:
        avatar: of the same person.
        folder: the clip folder.

    Raises:
        InputError, FileFormatError: no such folder, or of another person's shape.
    """

    def __init__(self, avatar: Avatar, folder: str | Path) -> None:
        from avatarfit.capture.clip_folder import ClipFolder
        from avatarfit.evaluation.clip_view import measured_motion

        path = Path(folder)
        if not path.is_dir():
            raise InputError(
                f"the torso's clip {path} is no folder", "the clip folder that capture made of a clip of this person",
                "give it with --torso-clip, such as me.work/clip",
            )  # fmt: skip
        self._clip = ClipFolder.open(path)
        self.motion = measured_motion(avatar, self._clip)
        self._cursors: list[_Cursor] = []
        self.torso = SourceTorso(self._clip.camera, self._clip.plate(), self._sample())

    @property
    def camera(self) -> Camera:
        """Of the clip's pictures."""
        return self._clip.camera

    def walk(self, frame_rate_hz: float) -> TorsoWalk:
        """A fresh walk through the clip."""
        return TorsoWalk(self.motion.head, self.motion.torso, frame_rate_hz)

    def under(self, camera: Camera) -> TorsoUnder:
        """What puts this torso under heads at `camera`."""
        return TorsoUnder(self.torso, self.frame, camera)

    def frame(self, index: int) -> ClipFrame:
        """Any frame; rising order is read fast."""
        reachable = [c for c in self._cursors if 0 <= index - c.at < _JUMP]
        if reachable:
            cursor = min(reachable, key=lambda c: index - c.at)
        else:
            cursor = _Cursor(self._clip, index)
            if len(self._cursors) == _CURSORS:
                self._cursors.pop(0).close()
            self._cursors.append(cursor)
        rgb, person, labels = cursor.reach(index)
        return ClipFrame(rgb, person, labels, self._affine(index))

    def _affine(self, index: int) -> np.ndarray:
        return self.motion.torso.affine[index].astype(np.float64)

    def _sample(self) -> Iterator[ClipFrame]:
        wanted = sorted(set(np.linspace(0, len(self._clip) - 1, _SAMPLE).round().astype(int).tolist()))
        for index, frame in zip(wanted, self._clip.frames_at(wanted), strict=False):
            person, labels = next(self._clip.masks(index, index + 1))
            yield ClipFrame(frame.rgb, person, labels, self._affine(index))

    def close(self) -> None:
        """Let go of the clip."""
        for cursor in self._cursors:
            cursor.close()
        self._cursors = []


class HeadOverClip:
    """Renders an avatar's head over the clip's own torso; a `Renderer` whose frames are asked for in order.

    Args:
        avatar: the person.
        clip: of the same person.
        camera: of the pictures.
        frame_rate_hz: of the motion.
        backend: of the renderer.
    """

    def __init__(
        self, avatar: Avatar, clip: TorsoClip, camera: Camera, frame_rate_hz: float, backend: str = "auto"
    ) -> None:
        from avatarfit.rendering.head_layer import UPPER_NECK, HeadLayer

        self._head = HeadLayer(avatar, camera, backend, UPPER_NECK)
        self._walk, self._under = clip.walk(frame_rate_hz), clip.under(camera)

    def render(self, motion: Motion, index: int) -> np.ndarray:
        """The next frame: float32 [H, W, 4], premultiplied."""
        one = slice(index, index + 1)
        lent = self._walk.step(motion.head[one], motion.torso[one])
        return self._under.under(self._head.render(motion, index), motion.torso.affine[index], lent)

    def skip(self, motion: Motion, index: int) -> None:
        """Go past the next frame without drawing it."""
        one = slice(index, index + 1)
        self._walk.step(motion.head[one], motion.torso[one])
