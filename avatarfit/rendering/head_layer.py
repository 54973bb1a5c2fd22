"""The head and neck of an avatar alone, with alpha, where its torso hides them as it does in the whole picture.

Every Gaussian counts by how far it belongs to the head. Drawn once with its colour times that share, and once with the
share for its colour, the same blending gives the head's part of each pixel's colour and of its alpha; a collar before
the neck still cuts it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from avatarfit.contracts import Camera, Motion
from avatarfit.rendering.gaussian_renderer import GaussianRenderer

if TYPE_CHECKING:
    from avatarfit.model.avatar import Avatar
    from avatarfit.model.gaussian_avatar import GaussianAvatar

WHOLE_NECK = (0.12, 0.4)
"""Bounds of the skinning weight between which a Gaussian passes from torso to head: the neck down to the collar, but
for what of a tie or a collar looks like skin."""
UPPER_NECK = (0.15, 0.6)
"""The neck fades out on the way down, so that it passes softly into another picture's neck."""
_COLOUR = slice(11, 14)


class HeadLayer:
    """Renders head and neck.

    Args:
        avatar: of either head.
        camera: the view; any size.
        backend: as `GaussianRenderer`.
        neck: `WHOLE_NECK` or `UPPER_NECK`.

    Raises:
        BackendError: the backend is not there.
    """

    def __init__(
        self, avatar: Avatar, camera: Camera, backend: str = "auto", neck: tuple[float, float] = WHOLE_NECK
    ) -> None:
        self.camera = camera
        coloured, shared = _by_share(avatar.gaussians, neck)
        self._coloured = GaussianRenderer(coloured, camera, backend)
        self._shared = GaussianRenderer(shared, camera, backend)
        self._field = None
        if avatar.field is not None:
            from avatarfit.rendering.hashgrid_renderer import HashgridRenderer

            self._field = HashgridRenderer(avatar.field, avatar.gaussians, camera, backend)

    def render(self, motion: Motion, index: int) -> np.ndarray:
        """Frame `index` of `motion`: float32 [H, W, 4], premultiplied sRGB-coded colour and alpha."""
        picture = self._coloured.render(motion, index)
        picture[..., 3] = self._shared.render(motion, index)[..., 0]
        if self._field is not None:
            (columns, rows), front = self._field.head(motion, index)
            picture[rows, columns] = front + (1 - front[:, 3:]) * picture[rows, columns]
        np.clip(picture, 0, picture[..., 3:], out=picture)
        return picture


def _by_share(gaussians: GaussianAvatar, neck: tuple[float, float]) -> tuple[GaussianAvatar, GaussianAvatar]:
    """The Gaussians with their colours times their share in the head, and with the share for their colours."""
    low, high = neck
    way = ((gaussians.skin - low) / (high - low)).clamp(0, 1)
    share = (way * way * (3 - 2 * way))[:, None]
    coloured, shared = gaussians.base.clone(), gaussians.base.clone()
    coloured[:, _COLOUR] *= share
    shared[:, _COLOUR] = share
    deltas, still = gaussians.deltas.clone(), gaussians.deltas.clone()
    deltas[:, :, _COLOUR] *= share[:, None]
    still[:, :, _COLOUR] = torch.zeros(())
    return replace(gaussians, base=coloured, deltas=deltas), replace(gaussians, base=shared, deltas=still)
