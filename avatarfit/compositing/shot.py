"""One picture on its way through the layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass
class Shot:
    """What layers read and change.

    Attributes:
        rgba: float32 [H, W, 4], premultiplied sRGB-coded, the person; layers may change it in place.
        index: of the frame.
        seconds: its time from the start.
        behind: uint8 [H, W, 3], what stands behind, not to be changed; None leaves the picture transparent. The same
            array object comes again as long as the background does not change, so layers may keep what they made of it.
    """

    rgba: np.ndarray
    index: int
    seconds: float
    behind: np.ndarray | None = None


class Layer(Protocol):
    """One step of compositing."""

    def apply(self, shot: Shot) -> None:
        """Change `shot`: its `rgba` in place, or set `behind`."""
