"""The working picture: which part of the source is taken, at which size, and which of its pictures."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from avatarfit.contracts import Camera, InputError, VideoFrame

_EARLY = 0.1
"""Share of a tick by which a picture may come early: containers round times."""

_SAME_SECONDS = 1e-4


@dataclass(frozen=True)
class SourceView:
    """A crop of the upright source picture and the size it is brought to.

    Attributes:
        x_px, y_px, width_px, height_px: the crop, in pixels of the upright source picture.
        working_width_px, working_height_px: the size that everything after decoding sees.
        frame_rate_hz: at most this many pictures a second are taken; None takes all.
    """

    x_px: int
    y_px: int
    width_px: int
    height_px: int
    working_width_px: int
    working_height_px: int
    frame_rate_hz: float | None = None

    @staticmethod
    def whole(width_px: int, height_px: int) -> SourceView:
        """All of the picture at its own size."""
        return SourceView(0, 0, width_px, height_px, width_px, height_px)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> SourceView:
        """The view that `to_json` told."""
        return SourceView(**values)

    @staticmethod
    def of_manifest(manifest: Mapping[str, Any]) -> SourceView:
        """The view of a clip folder's clip.json: its crop, and the camera's size; every kept picture is named there."""
        crop, camera = manifest["view"], manifest["camera"]
        return SourceView(
            crop["x_px"], crop["y_px"], crop["width_px"], crop["height_px"], camera["width_px"], camera["height_px"]
        )

    def to_json(self) -> dict[str, Any]:
        """The attributes by name."""
        return asdict(self)

    def crop_json(self) -> dict[str, int]:
        """The crop, as clip.json holds it."""
        return {"x_px": self.x_px, "y_px": self.y_px, "width_px": self.width_px, "height_px": self.height_px}

    @property
    def scale(self) -> np.ndarray:
        """float64 [2]: working pixels for each source pixel, across and down."""
        return np.array([self.working_width_px / self.width_px, self.working_height_px / self.height_px])

    def to_working(self, points_px: np.ndarray) -> np.ndarray:
        """Points [..., 2] of the upright source picture, in the working picture; pixel centres at + 0.5 in both."""
        return (points_px - (self.x_px, self.y_px)) * self.scale

    def camera(self, focal_px: float) -> Camera:
        """The working picture's camera, as if it had been turned to the person: its axis goes through the middle.

        A crop beside the source's middle is then seen a little askew, which a constant turn of the head takes up; with
        a focal length that nobody knows, the true axis would be no nearer to the truth.
        """
        width, height = self.working_width_px, self.working_height_px
        return Camera(width, height, focal_px, width / 2, height / 2)

    def picker(self) -> Callable[[float], bool]:
        """A function to be asked with each source picture's time, in order: whether it is taken.

        Each tick of the wanted rate takes the first picture at or after it, so what is dropped is dropped evenly, times
        stay true and no picture is made up.
        """
        if self.frame_rate_hz is None:
            return lambda _seconds: True
        rate, last = self.frame_rate_hz, -1

        def take(seconds: float) -> bool:
            nonlocal last
            tick = int(np.floor(seconds * rate + _EARLY))
            taken, last = tick > last, max(tick, last)
            return taken

        return take


def read_working(
    path: Path | str,
    view: SourceView,
    start_seconds: float = 0.0,
    *,
    pick: Callable[[float], bool] | None = None,
) -> Generator[VideoFrame, None, None]:
    """The clip's working pictures, in order, uint8 [working height, working width, 3].

    Args:
        path: the source.
        view: crop, size and rate.
        start_seconds: time of the picture to begin with.
        pick: asked with each source picture's time instead of `view.picker()`; a picture for which it says no costs
            only its decoding.

    Raises:
        InputError: not a readable video.
    """
    from avatarfit.media import read_video

    crop = (view.x_px, view.y_px, view.width_px, view.height_px)
    size = (view.working_width_px, view.working_height_px)
    return read_video(path, start_seconds, crop=crop, size=size, wanted=pick or view.picker())


def read_working_at(path: Path | str, view: SourceView, pts_seconds: np.ndarray) -> Iterator[VideoFrame]:
    """The working pictures at known times, float64 [N], rising; others cost only their decoding.

    Raises:
        InputError: not a readable video, or it has no picture at one of the times.
    """
    found = 0

    def pick(seconds: float) -> bool:
        nonlocal found
        taken = found < len(pts_seconds) and seconds > pts_seconds[found] - _SAME_SECONDS
        found += taken
        return bool(taken)

    start = float(pts_seconds[0]) - _SAME_SECONDS if len(pts_seconds) else 0.0
    with closing(read_working(path, view, start, pick=pick)) as pictures:
        for wanted in pts_seconds:
            frame = next(pictures, None)
            if frame is None or frame.pts_seconds > wanted + _SAME_SECONDS:
                raise InputError(
                    f"{path} has no picture at {wanted:.3f} s any more", "the clip that was captured",
                    "capture it again",
                )  # fmt: skip
            yield frame
