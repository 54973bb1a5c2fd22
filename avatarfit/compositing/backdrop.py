"""What stands behind, made to fit a picture: still, or a video at its own rate, over and over."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Protocol

import numpy as np

from avatarfit.compositing.shot import Shot
from avatarfit.contracts import InputError
from avatarfit.media import ahead, probe, read_video

_MOST_ENLARGED = 8.0
_RATES_HZ = (1.0, 240.0)
_BACK = 0.5


class Picture(Protocol):
    """Something that has a picture at every time."""

    def at(self, seconds: float) -> np.ndarray:
        """uint8 [H, W, 3]; the same array object as long as nothing changes."""


class Backdrop:
    """A layer that puts something opaque behind the person.

    Example: `Compositor(Backdrop(Still(picture)))`, `Compositor(Backdrop(VideoLoop("street.mp4", 1920, 1080)))`.

    Args:
        picture: of the size of the pictures.
    """

    def __init__(self, picture: Picture) -> None:
        self.picture = picture

    def apply(self, shot: Shot) -> None:
        """Set `shot.behind`."""
        shot.behind = self.picture.at(shot.seconds)


class Still:
    """The same picture all the time: uint8 [H, W, 3]."""

    def __init__(self, rgb: np.ndarray) -> None:
        self._rgb = np.ascontiguousarray(rgb)

    def at(self, seconds: float) -> np.ndarray:
        """See `Picture`."""
        return self._rgb


class VideoLoop:
    """A video from its start, at its own speed, and from its start again after its end; covering, cut in the middle.

    Frames are taken by time: at another rate than the pictures' some come twice or are left out, and it never runs
    faster or slower. It is decoded on a thread of its own, a few pictures ahead; a few pictures are in memory.

    Args:
        path: the video.
        width_px, height_px: of the pictures that it stands behind.

    Raises:
        InputError: no video that can be read, or of a size or rate that is of no use here.
    """

    def __init__(self, path: str | Path, width_px: int, height_px: int) -> None:
        self.path = Path(path)
        info = probe(self.path)
        low, high = _RATES_HZ
        if not low <= info.frame_rate_hz <= high:
            raise InputError(
                f"the background {self.path} has {info.frame_rate_hz:g} pictures a second",
                f"a video of {low:g} to {high:g} a second", "convert it to the output's rate",
            )  # fmt: skip
        self._crop = covering_crop(info.width_px, info.height_px, width_px, height_px)
        check_enlargement(self.path, self._crop[2], width_px)
        self._size = width_px, height_px
        self._period = 1 / info.frame_rate_hz
        self._start = 0.0
        self._round = 0
        self._frames = self._decoded()
        first = next(self._frames, None)
        if first is None:
            raise InputError(f"the background {self.path} holds no picture", "a video", "give another file")
        self._now, self._next = first, next(self._frames, None)

    def _decoded(self) -> Generator[tuple[float, np.ndarray], None, None]:
        """(seconds, picture), round after round; a round lasts until its last picture has been shown."""
        start = 0.0
        while True:
            last = None
            for frame in ahead(read_video(self.path, crop=self._crop, size=self._size)):
                last = start + frame.pts_seconds
                yield last, frame.rgb
            if last is None:
                return
            start = last + self._period

    def at(self, seconds: float) -> np.ndarray:
        """See `Picture`; times come rising, but for a start over."""
        if seconds < self._now[0] - _BACK * self._period:
            self.close()
            self._frames = self._decoded()
            self._now, self._next = next(self._frames), next(self._frames, None)
        while self._next is not None and self._next[0] <= seconds + 1e-6:
            self._now, self._next = self._next, next(self._frames, None)
        return self._now[1]

    def close(self) -> None:
        """End the decoding."""
        self._frames.close()


def covering_crop(width_px: int, height_px: int, over_width_px: int, over_height_px: int) -> tuple[int, int, int, int]:
    """x, y, width, height of the largest middle part of a picture that has the other size's aspect ratio."""
    scale = min(width_px / over_width_px, height_px / over_height_px)
    width = min(max(round(over_width_px * scale), 1), width_px)
    height = min(max(round(over_height_px * scale), 1), height_px)
    return (width_px - width) // 2, (height_px - height) // 2, width, height


def check_enlargement(path: Path, from_px: int, to_px: int) -> None:
    """Raise where a background would have to be enlarged so much that nothing of it could be recognised.

    Raises:
        InputError: it would.
    """
    if to_px > _MOST_ENLARGED * from_px:
        raise InputError(
            f"the background {path} has only {from_px} pixels for the {to_px} across the picture",
            f"at least an eighth of the picture's {to_px}", "give a larger one",
        )  # fmt: skip
