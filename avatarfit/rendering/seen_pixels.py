"""Which pixels may see anything of a volume that rides the head."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from avatarfit.contracts import Camera
from avatarfit.ops.march import grid_side, morton_code

_ALONG = 16
"""Blocks along a side of the box, at most; their outlines choose the pixels."""
_CORNERS = np.array([[corner >> axis & 1 for axis in range(3)] for corner in range(8)])
_NEAREST_CM = 0.1


def occupied_blocks(box: tuple[float, float, float, float, float, float], occupancy: Tensor) -> np.ndarray:
    """The blocks of cells, 16 along each side, in which any cell is occupied.

    Args:
        box: lowest x, y, z and highest x, y, z.
        occupancy: uint8 [G^3 / 8], as `ops.march_rays` takes it.

    Returns:
        float64 [B, 2, 3], lowest and highest corner of each.
    """
    along = min(grid_side(occupancy), _ALONG)
    # Along the Morton curve the cells of a block follow each other, and the blocks lie on a Morton curve too.
    cells = np.unpackbits(occupancy.cpu().numpy(), bitorder="little")
    filled = cells.reshape(along**3, -1).any(axis=1)
    blocks = np.stack(np.meshgrid(*[np.arange(along)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    blocks = blocks[filled[morton_code(torch.from_numpy(blocks)).numpy()]]
    low, high = np.array(box, np.float64).reshape(2, 3)
    return np.stack([low + blocks * (high - low) / along, low + (blocks + 1) * (high - low) / along], axis=1)


def seen_pixels(blocks: np.ndarray, camera: Camera, head: np.ndarray) -> np.ndarray:
    """int64 [R, 2], column and row: every pixel whose ray meets a block, and few others; row by row.

    Args:
        blocks: float [B, 2, 3], lowest and highest corners in the head's frame.
        camera: the view.
        head: float [3, 4], the head's pose, `x_camera = R x_head + t`.
    """
    seen = np.zeros((camera.height_px, camera.width_px), bool)
    corners = blocks[:, _CORNERS, np.arange(3)] @ head[:, :3].T.astype(np.float64) + head[:, 3]  # [B, 8, 3]
    behind = corners[:, :, 2] < _NEAREST_CM
    # What reaches past the camera has no bounding rectangle.
    seen[:] = bool((behind.any(axis=1) & ~behind.all(axis=1)).any())
    points = camera.project(corners[~behind.any(axis=1)])
    size = camera.width_px, camera.height_px
    first = np.clip(np.floor(points.min(axis=1) - 0.5), 0, size).astype(int)
    last = np.clip(np.ceil(points.max(axis=1) + 0.5), 0, size).astype(int)
    for (left, top), (right, bottom) in zip(first.tolist(), last.tolist(), strict=True):
        seen[top:bottom, left:right] = True
    return np.ascontiguousarray(np.argwhere(seen)[:, ::-1])
