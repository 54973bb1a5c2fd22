"""How a Gaussian avatar is fitted."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from avatarfit.fitting.frame_settings import FrameSettings


@dataclass(frozen=True)
class GaussianSettings(FrameSettings):
    """How a Gaussian avatar is fitted."""

    count: int = 12_000
    """Gaussians."""
    basis_count: int = 24
    """Deltas for each Gaussian."""
    delta_decay: float = 0.02
    """Decoupled weight decay of the deltas (AdamW), per unit of step * rate."""
    mean_rate_cm: float = 0.006
    rotation_rate: float = 0.004
    scale_rate: float = 0.006
    opacity_rate: float = 0.03
    colour_rate: float = 0.005
    delta_rate_fraction: float = 0.25
    """A delta's learning rate over its base attribute's."""
    network_rate: float = 2e-3
    opacity_weight: float = 0.005
    """Weight of the mean opacity: Gaussians that the picture does not need fade (Kheradmand et al. 2024, eq. 10)."""
    relocate_every: int = 300
    """Steps between moves of Gaussians that do nothing to where error stays; none in the last 30 %."""

    def attribute_rates(self) -> Tensor:
        """float32 [14]."""
        rates = [self.mean_rate_cm] * 3 + [self.rotation_rate] * 4 + [self.scale_rate] * 3
        return torch.tensor([*rates, self.opacity_rate, *[self.colour_rate] * 3], dtype=torch.float32)
