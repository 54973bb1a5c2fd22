"""Which cells of a box any training frame has seen something in: an occupancy grid made of rendering weights.

An occupancy grid of densities (Müller et al. 2022) keeps the inside of a head, which no ray reaches. Here each cell
holds the largest weight with which a ray of any frame, so of any motion, has seen a sample in it, fading slowly; it is
occupied while that is above a threshold, and so are its neighbours, into which a surface may grow.
"""

from __future__ import annotations

import torch
from torch import Tensor

from avatarfit.fitting.hashgrid_start import dilated
from avatarfit.ops.march import morton_code, pack_bits


class SeenCells:
    """The largest weights seen in the cells of a box.

    Args:
        allowed: bool [G, G, G] by x, y, z: cells that may be occupied.
        low_cm, side_cm: the box.
        threshold: weight from which a cell stays.

    Attributes:
        largest: float32 [G^3], x slowest.
    """

    def __init__(self, allowed: Tensor, low_cm: tuple[float, float, float], side_cm: float, threshold: float) -> None:
        self.allowed, self.threshold, self._side = allowed, threshold, len(allowed)
        self._low, self._cells_per_cm = torch.tensor(low_cm), len(allowed) / side_cm
        self.largest = torch.zeros(allowed.numel())
        self._code = morton_code(torch.cartesian_prod(*[torch.arange(self._side)] * 3))

    def see(self, positions: Tensor, weights: Tensor) -> None:
        """Takes in how much of samples at `positions` [S, 3] was seen [S]."""
        cells = ((positions - self._low) * self._cells_per_cm).long().clamp_(0, self._side - 1)
        index = (cells[:, 0] * self._side + cells[:, 1]) * self._side + cells[:, 2]
        self.largest.scatter_reduce_(0, index, weights, "amax")

    def fade(self, by: float) -> None:
        """Multiplies what has been seen."""
        self.largest *= by

    def occupied(self) -> Tensor:
        """bool [G, G, G]."""
        seen = (self.largest > self.threshold).reshape(self.allowed.shape)
        return dilated(seen) & self.allowed

    def bits(self, cells: Tensor) -> Tensor:
        """bool [G, G, G] as `march_rays` takes it, uint8 [G^3 / 8]."""
        in_order = torch.zeros(cells.numel(), dtype=torch.bool)
        in_order[self._code] = cells.reshape(-1)
        return pack_bits(in_order)
