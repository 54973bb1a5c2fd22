"""One place that knows how each kind of head is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from avatarfit.contracts import Camera, Motion

if TYPE_CHECKING:
    from avatarfit.model.avatar import Avatar


class Renderer(Protocol):
    """Draws frames of a motion at one camera; ask for frames of one motion object in turn, since what a motion needs
    only once is kept from frame to frame."""

    def render(self, motion: Motion, index: int) -> np.ndarray:
        """Frame `index` of `motion`: float32 [H, W, 4], premultiplied sRGB-coded colour and alpha."""

    def render_over(self, motion: Motion, index: int, background: np.ndarray) -> np.ndarray:
        """Frame `index` over `background` uint8 [H, W, 3] of the camera's size: uint8 [H, W, 3]."""


def renderer_of(avatar: Avatar, camera: Camera, backend: str = "auto") -> Renderer:
    """What draws this avatar.

    Args:
        avatar: of either head.
        camera: the view; any size.
        backend: `auto` (the CPU's kernels), `reference`, `cpu` or `cuda` (avatarfit.ops.backend).

    Raises:
        BackendError: the backend is not there.
    """
    from avatarfit.rendering.gaussian_renderer import GaussianRenderer

    if avatar.field is None:
        return GaussianRenderer(avatar.gaussians, camera, backend=backend)
    from avatarfit.rendering.hashgrid_renderer import HashgridRenderer

    return HashgridRenderer(avatar.field, avatar.gaussians, camera, backend)
