"""Where in a box a field has density: the grid that lets `march_rays` leave out what is empty.

After Müller et al. 2022, "Instant Neural Graphics Primitives" (its section on occupancy grids): each cell holds a
running maximum of densities probed at random places in it, which decays, and is occupied while that is above a
threshold. Unlike there a cell's number decays only when the cell is probed, so that it is never taken for empty without
having been looked at. Probes are samples: what lies in a small part of a cell is found only sooner or later.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from avatarfit.ops.march import check_box, check_side, morton_cell, pack_bits

PROBES_AT_ONCE = 1 << 18


class OccupancyGrid:
    """Densities of the cells of a box, and the bits that `march_rays` takes."""

    def __init__(
        self,
        box: tuple[float, float, float, float, float, float],
        side: int,
        threshold: float,
        *,
        decay: float = 0.95,
        device: torch.device | str = "cpu",
    ) -> None:
        """Every cell begins occupied.

        Args:
            box: lowest x, y, z and highest x, y, z.
            side: cells along each axis, a power of two from 4 to 512.
            threshold: density above which a cell is occupied; 0.01 / step lets no cell go whose samples would absorb
                1 % of the light.
            decay: what a cell's number is multiplied with, each time before it is probed, in [0, 1].

        Raises:
            ValueError: a number lies outside its range.
        """
        check_box(list(box))
        check_side(side)
        if not (threshold >= 0 and 0 <= decay <= 1):
            raise ValueError(f"threshold and decay came as {threshold} and {decay}; wanted 0 or more, and 0 to 1")
        self.box, self.side, self.threshold, self.decay = box, side, threshold, decay
        self.densities = torch.full((side**3,), torch.inf, device=device)
        """float32 [side^3], in Morton order; infinite where no probe has been."""
        self.bits = pack_bits(self.densities > threshold)
        """uint8 [side^3 / 8], as `march_rays` takes it."""

    @torch.no_grad()
    def update(
        self,
        density: Callable[[Tensor], Tensor],
        *,
        cells: Tensor | None = None,
        probes: int = 1,
        generator: torch.Generator | None = None,
    ) -> None:
        """Probe cells at random places, and make the bits anew.

        A cell in which any of these probes is above the threshold is occupied afterwards, and so is one with a probe
        that is not a number.

        Args:
            density: takes places float32 [P, 3] in the box, gives densities [P]. Of a field that moves: at a motion
                of the caller's choice, another each time, so that the maximum runs over motions too.
            cells: int64 [n], Morton codes, none twice; None for all cells.
            probes: in each cell, from 1.
            generator: of the random places, on the grid's device.

        Raises:
            ValueError: no probes, or densities of another shape.
        """
        if probes < 1:
            raise ValueError(f"probes came as {probes}; wanted 1 or more")
        device = self.densities.device
        chosen = torch.arange(len(self.densities), device=device) if cells is None else cells
        for some in chosen.split(PROBES_AT_ONCE):
            largest = self.densities[some].mul_(self.decay)
            largest[largest.isinf()] = 0
            for _ in range(probes):
                found = density(self.places(some, generator))
                if found.shape != some.shape:
                    raise ValueError(f"density gave shape {list(found.shape)}; wanted {list(some.shape)}")
                largest = torch.maximum(largest, found.to(largest).nan_to_num(torch.inf, posinf=torch.inf))
            self.densities[some] = largest
        self.bits = pack_bits(self.densities > self.threshold)

    def places(self, cells: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A random place in each of these cells: float32 [n, 3]."""
        device = self.densities.device
        low, high = torch.tensor(self.box, device=device).reshape(2, 3)
        within = torch.rand(len(cells), 3, generator=generator, device=device)
        return low + (morton_cell(cells) + within) * ((high - low) / self.side)

    def choose_cells(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Half of `count` cells from all, half from the occupied ones, as instant-ngp does after its first steps.

        Returns:
            int64 [at most count]: Morton codes, none twice.
        """
        device = self.densities.device

        def some_of(total: int) -> Tensor:
            return torch.randint(total, (count // 2,), generator=generator, device=device)

        occupied = (self.densities > self.threshold).nonzero()[:, 0]
        chosen = some_of(len(self.densities))
        if len(occupied):
            chosen = torch.cat([chosen, occupied[some_of(len(occupied))]])
        return chosen.unique()

    def occupied_fraction(self) -> float:
        """Share of the cells that are occupied, 0 to 1."""
        return float((self.densities > self.threshold).float().mean())
