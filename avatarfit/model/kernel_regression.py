"""Kernel ridge regression from a window of speech features: the moments of the clip that sounded like this one vote.

With a minute of one voice it generalises better than a network alone, and their mean better than either. Far from
everything heard in the clip it falls back to the mean. Saunders, Gammerman & Vovk 1998; Gaussian kernel.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

PAST_HOPS = 14
AHEAD_HOPS = 8
STEP_HOPS = 2
GROUP_BANDS = 4


class KernelRegression(nn.Module):
    """Windows of hops -> coefficients.

    Buffers:
        centres: float [N, W], the clip's windows, standardised and divided by sqrt(W).
        votes: float [N, M], what each contributes.
        offset, scale: float [W]; mean: float [M].
    """

    centres: Tensor
    votes: Tensor
    offset: Tensor
    scale: Tensor
    mean: Tensor

    def __init__(self, centre_count: int, feature_count: int, mouth_count: int, other_features: int = 4) -> None:
        """`other_features`: the last columns, which are no mel bands and stay as they are."""
        super().__init__()
        self.bands = feature_count - other_features
        if self.bands < 0 or self.bands % GROUP_BANDS:
            raise ValueError(f"{self.bands} mel bands came; wanted a multiple of {GROUP_BANDS}")
        taps = (PAST_HOPS + AHEAD_HOPS) // STEP_HOPS + 1
        size = taps * (self.bands // GROUP_BANDS + other_features)
        self.register_buffer("centres", torch.zeros(centre_count, size))
        self.register_buffer("votes", torch.zeros(centre_count, mouth_count))
        self.register_buffer("offset", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))
        self.register_buffer("mean", torch.zeros(mouth_count))

    def windows(self, x: Tensor, stride: int) -> Tensor:
        """Standardised windows [B, T, W] of hops [B, PAST_HOPS + (T - 1) * stride + AHEAD_HOPS + 1, D]."""
        grouped = x[..., : self.bands].unflatten(-1, (-1, GROUP_BANDS)).mean(-1)
        x = torch.cat([grouped, x[..., self.bands :]], dim=-1)
        windows = x.unfold(1, PAST_HOPS + AHEAD_HOPS + 1, stride)[..., ::STEP_HOPS].flatten(2)
        return (windows - self.offset) / self.scale

    def forward(self, x: Tensor, stride: int) -> Tensor:
        """[B, T, M] from hops as in `windows`."""
        return self.mean + _gaussian(self.windows(x, stride), self.centres) @ self.votes

    @torch.no_grad()
    def solve(self, x: Tensor, targets: Tensor, ridge: float = 0.3) -> None:
        """Fits the votes in place.

        Args:
            x: float [N, PAST_HOPS + AHEAD_HOPS + 1, D], the hops around each moment to learn from.
            targets: float [N, M].
        """
        self.offset.zero_()
        self.scale.fill_(1)
        windows = self.windows(x, 1)[:, 0]
        self.offset.copy_(windows.mean(0))
        # Dividing by the square root of the width makes the squared distance a mean over features.
        self.scale.copy_((windows.std(0, correction=0) + 0.05) * windows.shape[1] ** 0.5)
        self.centres.copy_((windows - self.offset) / self.scale)
        self.mean.copy_(targets.mean(0))
        kernel = _gaussian(self.centres, self.centres).double()
        kernel.diagonal().add_(ridge)
        self.votes.copy_(torch.linalg.solve(kernel, (targets - self.mean).double()))


def _gaussian(x: Tensor, centres: Tensor) -> Tensor:
    """exp(-squared distance), [..., N]."""
    squared = x.square().sum(-1, keepdim=True) + centres.square().sum(-1) - 2 * x @ centres.T
    return torch.exp(-squared.clamp_min(0))
