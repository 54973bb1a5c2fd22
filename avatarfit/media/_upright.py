"""Turning pictures the way the file asks for, by its display matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import av


@dataclass(frozen=True)
class Orientation:
    """A turn by quarter circles with mirrorings: first transpose, then flip columns, then flip rows."""

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @staticmethod
    def of(frame: av.VideoFrame) -> Orientation:
        """Orientation from a decoded frame's display matrix (FFmpeg libavutil/display.h; ISO/IEC 14496-12, 6.2.2).

        The matrix maps stored (x, y) to shown (a x + c y, b x + d y); turns that are not by quarters are ignored.
        """
        data = frame.side_data.get("DISPLAYMATRIX")
        if data is None:
            return Orientation()
        a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].astype(float)  # type: ignore[call-overload]
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return Orientation(False, a < 0, d < 0)
        return Orientation(True, c < 0, b < 0)

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Size after turning."""
        return (height, width) if self.transpose else (width, height)

    @property
    def clockwise_degrees(self) -> int:
        """The turn without mirrorings: 0, 90, 180 or 270."""
        if self.transpose:
            return 90 if self.flip_x else 270
        return 180 if self.flip_y else 0

    def apply(self, picture: np.ndarray) -> np.ndarray:
        """`picture` [H, W, ...] turned; contiguous."""
        if self.transpose:
            picture = picture.swapaxes(0, 1)
        if self.flip_x:
            picture = picture[:, ::-1]
        if self.flip_y:
            picture = picture[::-1]
        return np.ascontiguousarray(picture)
