"""Motion -> pictures with alpha, from a Gaussian avatar."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from avatarfit import ops
from avatarfit.contracts import Camera, Motion
from avatarfit.model.gaussian_avatar import GaussianAvatar


class GaussianRenderer:
    """Renders frames of a motion.

    Args:
        gaussians: the avatar's Gaussians.
        camera: the view; any size.
        backend: `auto`, `reference` or `cpu` (avatarfit.ops.backend).

    Raises:
        BackendError: the backend is not there.
    """

    def __init__(self, gaussians: GaussianAvatar, camera: Camera, backend: str = "auto") -> None:
        self.gaussians, self.camera = gaussians, camera
        self.backend = ops.resolve_backend(backend).name
        self._prepared: tuple[Motion, Tensor, Tensor, Tensor] | None = None

    def render(self, motion: Motion, index: int) -> np.ndarray:
        """Frame `index` of `motion`: float32 [H, W, 4], premultiplied sRGB-coded colour and alpha."""
        with torch.inference_mode():
            size = (self.camera.height_px, self.camera.width_px)
            return ops.rasterise(self._splats(motion, index), *size, backend=self.backend).numpy()

    def render_over(self, motion: Motion, index: int, background: np.ndarray) -> np.ndarray:
        """Frame `index` over `background` uint8 [H, W, 3]: uint8 [H, W, 3]."""
        with torch.inference_mode():
            splats = self._splats(motion, index)
            return ops.rasterise_over(splats, torch.from_numpy(background), backend=self.backend).numpy()

    def _splats(self, motion: Motion, index: int) -> Tensor:
        # One pass of the network over the whole motion costs less than one frame's rasterising.
        if self._prepared is None or self._prepared[0] is not motion:
            head = torch.from_numpy(self.gaussians.head_matrices(motion.head))
            torso = torch.from_numpy(motion.torso.matrices())
            self._prepared = (motion, self.gaussians.basis_weights(motion), head, torso)
        _, weights, head, torso = self._prepared
        g = self.gaussians
        attributes = ops.blend(g.base, g.deltas, weights[index], g.group, backend=self.backend)
        return ops.project(attributes, g.skin, head[index], torso[index], self.camera, backend=self.backend)
