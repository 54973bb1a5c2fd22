"""What a run-time frame is made of: what of an avatar stays, and what moves it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Gaussians:
    """An avatar's Gaussians at run time, the same in every frame; all tensors contiguous and on one device."""

    base: Tensor
    """float32 [N, 14], attributes at rest, in the order of `layout`."""
    deltas: Tensor
    """float32 or float16 [N, K, 14]; float16 is read as it is and gives the picture of its float32 copy."""
    group: Tensor
    """int32 [N], the row of a frame's weights that each Gaussian follows."""
    skin: Tensor
    """float32 [N] in 0..1: 1 follows the head, 0 the torso."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture to draw. Its size is the background's."""

    gaussians: Gaussians
    weights: Tensor
    """float32 [G, K]."""
    head: Tensor
    """float32 [3, 4], rest space to camera, cm."""
    torso: Tensor
    """float32 [3, 4]."""
    focal_px: float
    center_x_px: float
    center_y_px: float
    background: Tensor
    """uint8 [H, W, 3]."""

    @property
    def camera(self) -> tuple[float, float, float, int, int]:
        """Focal length, centre x and y, width and height, px: the last arguments of `project`."""
        height_px, width_px = self.background.shape[:2]
        return float(self.focal_px), float(self.center_x_px), float(self.center_y_px), width_px, height_px
