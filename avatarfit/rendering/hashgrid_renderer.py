"""Draws a hash-grid avatar: its field's head over the Gaussians' neck and torso."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import torch
from torch import Tensor

from avatarfit.contracts import Camera, Motion
from avatarfit.model.gaussian_avatar import GaussianAvatar
from avatarfit.model.hashgrid_head import HashgridHead, rays_through
from avatarfit.ops.torch_threads import torch_threads
from avatarfit.rendering.gaussian_renderer import GaussianRenderer
from avatarfit.rendering.seen_pixels import occupied_blocks, seen_pixels

_RAYS_AT_ONCE = 1 << 16
"""Rays whose samples lie in memory together: it bounds what a large picture takes."""


class HashgridRenderer:
    """Renders frames of a motion: rays through the pixels on which the field may show, over what the Gaussians give.

    Args:
        field: the head.
        gaussians: neck and torso.
        camera: the view; any size.
        backend: `auto` (the CPU's kernels), `reference`, `cpu` or `cuda` (avatarfit.ops.backend).

    Raises:
        BackendError: the backend is not there.
    """

    def __init__(self, field: HashgridHead, gaussians: GaussianAvatar, camera: Camera, backend: str = "auto") -> None:
        self._behind = GaussianRenderer(gaussians, camera, backend)
        self.camera, self.backend = camera, self._behind.backend
        self.field = field if self._behind.device.type == "cpu" else deepcopy(field).to(self._behind.device)
        self._blocks = occupied_blocks(field.box, field.occupancy)
        self._prepared: tuple[Motion, Tensor, np.ndarray] | None = None

    def render(self, motion: Motion, index: int) -> np.ndarray:
        """Frame `index` of `motion`: float32 [H, W, 4], premultiplied sRGB-coded colour and alpha."""
        picture = self._behind.render(motion, index)
        (columns, rows), front = self.head(motion, index)
        picture[rows, columns] = front + (1 - front[:, 3:]) * picture[rows, columns]
        return picture

    def render_over(self, motion: Motion, index: int, background: np.ndarray) -> np.ndarray:
        """Frame `index` over `background` uint8 [H, W, 3] of the camera's size: uint8 [H, W, 3]."""
        picture = self._behind.render_over(motion, index, background)
        (columns, rows), front = self.head(motion, index)
        behind = picture[rows, columns] * np.float32(1 / 255)
        shown = front[:, :3] + (1 - front[:, 3:]) * behind
        picture[rows, columns] = np.clip(np.rint(shown * 255), 0, 255).astype(np.uint8)
        return picture

    def head(self, motion: Motion, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Columns and rows, int64 [2, R], and what the rays there see of the field, float32 [R, 4]."""
        if self._prepared is None or self._prepared[0] is not motion:
            self._prepared = motion, self.field.conditions(motion), motion.head.matrices()
        _, conditions, poses = self._prepared
        pixels = seen_pixels(self._blocks, self.camera, poses[index])
        with torch.inference_mode(), torch_threads(1):
            head = torch.from_numpy(poses[index]).to(self._behind.device)
            origins, directions = rays_through(torch.from_numpy(pixels).to(head.device), self.camera, head)
            state = self.field.frame_state(conditions[index])
            parts = zip(origins.split(_RAYS_AT_ONCE), directions.split(_RAYS_AT_ONCE), strict=True)
            front = torch.cat([self.field.look(*part, state, self.backend) for part in parts])
        return pixels.T, front.cpu().numpy()
