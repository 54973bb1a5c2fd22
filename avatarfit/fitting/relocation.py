"""Moves Gaussians that do nothing to where the picture is still wrong, so the count stays the budget.

After 3DGS-MCMC (Kheradmand et al. 2024): a dead Gaussian becomes the twin of a live one, drawn in proportion to how
strongly the loss has been pulling at it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from avatarfit.model.gaussian_avatar import GaussianAvatar

DEAD_LOGIT = -4.0
"""Opacity 0.018: below what a display can show of one Gaussian."""
_SHRINK = 0.47
"""log 1.6, the split factor of 3D Gaussian splatting (Kerbl et al. 2023, 5.2)."""
_AT_MOST = 0.05


@torch.no_grad()
def relocate(
    avatar: GaussianAvatar, moments: tuple[Tensor, ...], pull: Tensor, seen: Tensor, generator: torch.Generator
) -> int:
    """Makes twins of Gaussians with large `pull` out of dead ones, in place; returns how many moved.

    The optimiser's moments of both twins are cleared.

    Args:
        pull: float [N], how strongly the loss pulled at each lately.
        seen: float [N], the highest opacity logit that each had in any frame lately: one that shows only when the mouth
            is open is not dead.
    """
    dead = torch.nonzero(seen < DEAD_LOGIT).flatten()[: int(_AT_MOST * avatar.count)]
    chance = pull.clone()
    chance[avatar.base[:, 10] < 0] = 0
    if not len(dead) or int((chance > 0).sum()) < len(dead):
        return 0
    source = torch.multinomial(chance, len(dead), generator=generator)
    spread = torch.exp(avatar.base[source, 7:10])
    shift = torch.randn(len(dead), 3, generator=generator) * spread
    for tensor in (avatar.base, avatar.deltas, avatar.group, avatar.skin):
        tensor[dead] = tensor[source]
    avatar.base[dead, :3] += shift
    avatar.base[source, :3] -= shift
    both = torch.cat([dead, source])
    avatar.base[both, 7:10] -= _SHRINK
    for moment in moments:
        moment[both] = 0
    return len(dead)
