"""Kernel ridge regression from a window of speech features: the moments of the clip that sounded like this one vote.

With a minute of one voice it generalises better than a network alone. A Gaussian over the window weighs what sounds
near one moment, a little after the mouth's own (lips take their place before they are heard), more than what lies
around it. Far from everything heard in the clip it falls back to the mean. Saunders, Gammerman & Vovk 1998.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

PAST_HOPS = 10
AHEAD_HOPS = 8
STEP_HOPS = 2
REACH_HOPS = 4.0
"""Standard deviation of the window's weights."""


class KernelRegression(nn.Module):
    """Windows of hops -> values.

    Buffers:
        centres: float [N, A], the clip's windows, standardised and weighted, so that a squared distance is a mean.
        votes: float [N, V], what each contributes.
        offset, scale: float [W]; mean: float [V].
        turn: float [W, A], the windows' principal axes, where distances are not told on all of W.
    """

    turn: Tensor
    centres: Tensor
    votes: Tensor
    offset: Tensor
    scale: Tensor
    mean: Tensor

    def __init__(
        self, centre_count: int, columns: int, value_count: int, group: int = 1, axes: int = 0, other_columns: int = 4
    ) -> None:
        """Sizes.

        Args:
            centre_count, columns, value_count: N, D, V.
            group: so many neighbouring columns are averaged, all but the last `other_columns`.
            axes: distances are told on so many principal axes; 0 for all of a window.
        """
        super().__init__()
        self.bands, self.group, self.others = columns - other_columns, group, other_columns
        if self.bands < 0 or group < 1 or self.bands % group:
            raise ValueError(f"{self.bands} columns came; wanted a multiple of {group}")
        size = window_size(columns, group, other_columns)
        if not 0 <= axes <= size:
            raise ValueError(f"{axes} axes came for windows of {size}")
        self.axes = axes
        if axes:
            self.register_buffer("turn", torch.zeros(size, axes))
        self.register_buffer("centres", torch.zeros(centre_count, axes or size))
        self.register_buffer("votes", torch.zeros(centre_count, value_count))
        self.register_buffer("offset", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))
        self.register_buffer("mean", torch.zeros(value_count))
        self._known: tuple[tuple[int, int], Tensor] | None = None

    def windows(self, x: Tensor, stride: int) -> Tensor:
        """Standardised windows [B, T, W] of hops [B, PAST_HOPS + (T - 1) * stride + AHEAD_HOPS + 1, D]."""
        grouped = x[..., : self.bands].unflatten(-1, (self.bands // self.group, self.group)).mean(-1)
        x = torch.cat([grouped, x[..., self.bands :]], dim=-1)
        windows = x.unfold(1, PAST_HOPS + AHEAD_HOPS + 1, stride)[..., ::STEP_HOPS].flatten(2)
        return (windows - self.offset) / self.scale

    def forward(self, x: Tensor, stride: int) -> Tensor:
        """[B, T, V] from hops as in `windows`."""
        return self.mean + _gaussian(self._turned(self.windows(x, stride)), self.centres, self._squares()) @ self.votes

    def _turned(self, windows: Tensor) -> Tensor:
        return windows @ self.turn if self.axes else windows

    def _squares(self) -> Tensor:
        """float [N]: the centres' squared lengths, worked out again when the centres were written to."""
        state = self.centres.data_ptr(), self.centres._version
        if self._known is None or self._known[0] != state:
            # What is kept must serve training, too, whoever asked first.
            with torch.inference_mode(False), torch.no_grad():
                self._known = state, self.centres.square().sum(-1)
        return self._known[1]

    @torch.no_grad()
    def solve(self, x: Tensor, targets: Tensor, lead_hops: float = 0.0, ridge: float = 0.3) -> None:
        """Fits the votes in place.

        Args:
            x: float [N, PAST_HOPS + AHEAD_HOPS + 1, D], the hops around each moment to learn from.
            targets: float [N, V].
            lead_hops: the window's weights are centred so far after the token.
        """
        self.offset.zero_()
        self.scale.fill_(1)
        windows = self.windows(x, 1)[:, 0]
        self.offset.copy_(windows.mean(0))
        self.scale.copy_((windows.std(0, correction=0) + 0.05) / self._weights(lead_hops).sqrt())
        windows = (windows - self.offset) / self.scale
        if self.axes:
            self.turn.copy_(torch.linalg.eigh((windows.T @ windows).double())[1][:, -self.axes :])
        self.centres.copy_(self._turned(windows))
        self.mean.copy_(targets.mean(0))
        kernel = _gaussian(self.centres, self.centres, self._squares()).double()
        kernel.diagonal().add_(ridge)
        self.votes.copy_(torch.linalg.solve(kernel, (targets - self.mean).double()))

    def _weights(self, lead_hops: float) -> Tensor:
        """float [W], summing to one; a column's is the same at every tap but for the Gaussian over the taps."""
        taps = torch.arange(-PAST_HOPS, AHEAD_HOPS + 1, STEP_HOPS, dtype=torch.float32)
        bell = torch.exp(-0.5 * ((taps - lead_hops) / REACH_HOPS).square())
        weights = bell.unsqueeze(0).expand(self.bands // self.group + self.others, -1).flatten()
        return (weights / weights.sum()).to(self.scale.device)


def window_size(columns: int, group: int = 1, other_columns: int = 4) -> int:
    """W: what a window comes to."""
    return ((PAST_HOPS + AHEAD_HOPS) // STEP_HOPS + 1) * ((columns - other_columns) // group + other_columns)


def _gaussian(x: Tensor, centres: Tensor, squares: Tensor) -> Tensor:
    """exp(-squared distance), [..., N]; `squares` [N] are the centres' squared lengths."""
    squared = x.square().sum(-1, keepdim=True) + squares - 2 * x @ centres.T
    return torch.exp(-squared.clamp_min(0))
