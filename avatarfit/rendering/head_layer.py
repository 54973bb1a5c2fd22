"""The head and neck of an avatar alone, with alpha, where its torso hides them as it does in the whole picture.

Every Gaussian counts by how far it belongs to the head. Drawn with that share for its colour, the same blending tells
how much of each pixel is the head's; a collar before the neck still cuts it. What is mostly the head's is all of it:
skin is often made of Gaussians of the face with some of the neck behind them, and must not let a background through.
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

WHOLE_NECK = (0.25, 0.6)
"""Bounds of the skinning weight between which a Gaussian passes from torso to head: the neck down to the collar, but
for what of a tie or a collar looks like skin."""
UPPER_NECK = (0.15, 0.6)
"""The neck fades out on the way down, so that it passes softly into another picture's neck."""
_NONE, _ALL = 0.2, 0.5
"""A pixel that is the head's by less is not of it, one that is by more is wholly so."""
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
        self._whole = GaussianRenderer(avatar.gaussians, camera, backend)
        self._share = GaussianRenderer(_with_shares(avatar.gaussians, neck), camera, backend)
        self._field = None
        if avatar.field is not None:
            from avatarfit.rendering.hashgrid_renderer import HashgridRenderer

            self._field = HashgridRenderer(avatar.field, avatar.gaussians, camera, backend)

    def render(self, motion: Motion, index: int) -> np.ndarray:
        """Frame `index` of `motion`: float32 [H, W, 4], premultiplied sRGB-coded colour and alpha."""
        picture = self._whole.render(motion, index)
        share = self._share.render(motion, index)[..., 0]
        if self._field is not None:
            (columns, rows), front = self._field.head(motion, index)
            picture[rows, columns] = front + (1 - front[:, 3:]) * picture[rows, columns]
            share[rows, columns] = front[:, 3] + (1 - front[:, 3]) * share[rows, columns]
        way = np.clip((share - _NONE * picture[..., 3]) / np.maximum((_ALL - _NONE) * picture[..., 3], 1e-6), 0, 1)
        picture *= (way * way * (3 - 2 * way))[..., None]
        return picture


def _with_shares(gaussians: GaussianAvatar, neck: tuple[float, float]) -> GaussianAvatar:
    """The Gaussians with their share in the head for their colours."""
    low, high = neck
    way = ((gaussians.skin - low) / (high - low)).clamp(0, 1)
    base, deltas = gaussians.base.clone(), gaussians.deltas.clone()
    base[:, _COLOUR] = (way * way * (3 - 2 * way))[:, None]
    deltas[:, :, _COLOUR] = torch.zeros(())
    return replace(gaussians, base=base, deltas=deltas)
