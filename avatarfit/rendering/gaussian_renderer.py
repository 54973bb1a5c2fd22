"""Motion -> pictures with alpha, from a Gaussian avatar."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from avatarfit import ops
from avatarfit.contracts import Camera, Motion
from avatarfit.model.gaussian_avatar import GaussianAvatar, StillWeights, condition_array


class GaussianRenderer:
    """Renders frames of a motion.

    Args:
        gaussians: the avatar's Gaussians.
        camera: the view; any size.
        backend: `auto` (the CPU's kernels), `reference`, `cpu` or `cuda` (avatarfit.ops.backend).

    Raises:
        BackendError: the backend is not there.
    """

    def __init__(self, gaussians: GaussianAvatar, camera: Camera, backend: str = "auto") -> None:
        self.gaussians, self.camera = gaussians, camera
        self.backend = ops.choose(backend).name
        self.device = torch.device("cpu" if self.backend in ("reference", "cpu") else "cuda")
        # Half precision, as the avatar file keeps them: half of what drawing has to read.
        self._still = tuple(
            t.to(self.device) for t in (gaussians.base, gaussians.deltas.half(), gaussians.group, gaussians.skin)
        )
        self._weights = StillWeights(gaussians.weights, gaussians.condition_low, gaussians.condition_high)
        self._from_rest = Rotation.from_matrix(gaussians.rest_head[:, :3]).inv()
        self._prepared: tuple[Motion, np.ndarray, np.ndarray, np.ndarray] | None = None

    def render(self, motion: Motion, index: int) -> np.ndarray:
        """Frame `index` of `motion`: float32 [H, W, 4], premultiplied sRGB-coded colour and alpha."""
        weights, head, torso = self._frame(motion, index)
        (base, deltas, group, skin), c = self._still, self.camera
        with torch.inference_mode():
            attributes = ops.blend(base, deltas, weights, group, backend=self.backend)
            splats = ops.project(
                attributes, skin, head, torso, c.focal_px, c.center_x_px, c.center_y_px, c.width_px, c.height_px,
                backend=self.backend,
            )  # fmt: skip
            return ops.rasterise(splats, c.height_px, c.width_px, backend=self.backend).cpu().numpy()

    def render_over(self, motion: Motion, index: int, background: np.ndarray) -> np.ndarray:
        """Frame `index` over `background` uint8 [H, W, 3] of the camera's size: uint8 [H, W, 3]."""
        weights, head, torso = self._frame(motion, index)
        (base, deltas, group, skin), c = self._still, self.camera
        with torch.inference_mode():
            return ops.render_frame(
                base, deltas, weights, group, skin, head, torso, c.focal_px, c.center_x_px, c.center_y_px,
                torch.from_numpy(np.ascontiguousarray(background)).to(self.device), backend=self.backend,
            ).cpu().numpy()  # fmt: skip

    def _frame(self, motion: Motion, index: int) -> tuple[Tensor, Tensor, Tensor]:
        if self._prepared is None or self._prepared[0] is not motion:
            conditions = condition_array(motion, self.gaussians.rest_head, self._from_rest)
            self._prepared = motion, conditions, self.gaussians.head_matrices(motion.head), motion.torso.matrices()
        _, conditions, head, torso = self._prepared
        # A frame by itself: what a product makes of a row may hang on how many rows there are, by a last bit.
        parts = self._weights(conditions[index][None])[0], head[index], torso[index]
        weights, heads, torsos = (torch.from_numpy(part).to(self.device) for part in parts)
        return weights, heads, torsos
