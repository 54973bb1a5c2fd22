"""The occupancy grid: what is kept, what goes, and that a march through it sees what the whole field shows."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from avatarfit import ops
from avatarfit.ops.march import morton_cell, morton_code, pack_bits
from avatarfit.ops.occupancy import OccupancyGrid

BOX = (-1.0, -1.0, -1.0, 1.0, 1.0, 1.0)


def ball(positions: torch.Tensor) -> torch.Tensor:
    return 20.0 * (positions.norm(dim=1) < 0.5)


def cell_of(grid: OccupancyGrid, positions: torch.Tensor) -> torch.Tensor:
    low, high = torch.tensor(grid.box).reshape(2, 3)
    return morton_code(((positions - low) / (high - low) * grid.side).long().clamp(0, grid.side - 1))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**20), probes=st.integers(1, 4), rounds=st.integers(1, 3), threshold=st.floats(0.01, 3))
def test_a_cell_is_kept_if_any_probe_in_it_exceeded_the_threshold(seed, probes, rounds, threshold):
    random = torch.Generator().manual_seed(seed)
    grid = OccupancyGrid(BOX, 8, threshold, decay=0.5)
    for _ in range(rounds):
        above: list[torch.Tensor] = []

        def field(positions: torch.Tensor, above: list[torch.Tensor] = above) -> torch.Tensor:
            found = torch.rand(len(positions), generator=random) ** 8 * 4
            above.append(cell_of(grid, positions)[found > threshold])
            return found

        grid.update(field, probes=probes, generator=random)
        occupied = grid.densities > threshold
        assert occupied[torch.cat(above)].all()
        assert torch.equal(grid.bits, pack_bits(occupied))


def test_places_lie_in_their_cells():
    grid = OccupancyGrid((-1.0, 0.0, 2.0, 1.0, 5.0, 3.0), 16, 0.1)
    cells = torch.randperm(16**3)[:500]
    assert torch.equal(cell_of(grid, grid.places(cells)), cells)


def test_a_new_grid_is_full_and_an_empty_field_empties_it():
    grid = OccupancyGrid(BOX, 8, 0.01)
    assert grid.occupied_fraction() == 1
    assert grid.bits.eq(255).all()
    grid.update(lambda positions: torch.zeros(len(positions)))
    assert grid.occupied_fraction() == 0
    assert grid.bits.eq(0).all()


def test_a_maximum_decays_until_it_is_below_the_threshold():
    grid = OccupancyGrid(BOX, 4, 1.0, decay=0.5)
    grid.update(lambda positions: torch.full((len(positions),), 7.0))
    left = []
    for _ in range(4):
        left.append(grid.occupied_fraction())
        grid.update(lambda positions: torch.zeros(len(positions)))
    assert left == [1, 1, 1, 0]


def test_only_cells_that_are_probed_change():
    grid = OccupancyGrid(BOX, 8, 0.5)
    grid.update(ball, probes=8)
    before = grid.densities.clone()
    cells = torch.arange(0, 512, 3)
    grid.update(lambda positions: torch.zeros(len(positions)), cells=cells)
    torch.testing.assert_close(grid.densities[cells], 0.95 * before[cells])
    others = torch.ones(512, dtype=torch.bool)
    others[cells] = False
    assert torch.equal(grid.densities[others], before[others])


def test_what_is_not_a_number_keeps_its_cell():
    grid = OccupancyGrid(BOX, 4, 0.5)
    grid.update(lambda positions: torch.where(positions[:, 0] > 0, torch.nan, 0.0))
    assert grid.occupied_fraction() == 0.5
    assert (morton_cell(torch.arange(64)[grid.densities > 0.5])[:, 0] >= 2).all()


def test_chosen_cells_are_half_occupied_ones():
    grid = OccupancyGrid(BOX, 32, 0.5)
    grid.update(ball, probes=4)
    cells = grid.choose_cells(2000, torch.Generator().manual_seed(0))
    assert len(cells.unique()) == len(cells) <= 2000
    occupied = (grid.densities[cells] > 0.5).float().mean()
    assert grid.occupied_fraction() < 0.12
    assert 0.4 < occupied < 0.6


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_a_march_through_the_grid_sees_what_the_whole_field_shows(backend):
    random = torch.Generator().manual_seed(3)
    grid = OccupancyGrid(BOX, 16, 0.5)

    def blocks(positions: torch.Tensor) -> torch.Tensor:
        # Alike throughout each cell, so that one probe finds whatever there is to see in it.
        return ball((morton_cell(cell_of(grid, positions)) + 0.5) / 8 - 1)

    grid.update(blocks, generator=random)
    assert 0.01 < grid.occupied_fraction() < 0.1
    origins = 3 * torch.nn.functional.normalize(torch.randn(200, 3, generator=random), dim=1)
    directions = torch.nn.functional.normalize(0.8 * (torch.rand(200, 3, generator=random) - 0.5) - origins, dim=1)
    rays = origins, directions, torch.zeros(200), torch.full((200,), 9.0)
    seen, counts = [], []
    for bits in (grid.bits, torch.full_like(grid.bits, 255)):
        found = ops.march_rays(*rays, BOX, bits, 0.01, 2**20, backend=backend)
        sigma = blocks(found.positions)
        out = ops.composite_rays(sigma, found.positions, found.t, found.lengths, found.offsets, backend=backend)
        seen.append(torch.cat([out.color, out.alpha[:, None], out.depth[:, None]], 1))
        counts.append(len(found.t))
    torch.testing.assert_close(seen[0], seen[1], rtol=0, atol=2e-6)
    assert 0 < counts[0] < 0.6 * counts[1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: OccupancyGrid(BOX, 6, 0.1), "the grid came with side 6; wanted a power of two"),
        (lambda: OccupancyGrid((0, 0, 0, 0, 1, 1), 8, 0.1), "box came as"),
        (lambda: OccupancyGrid(BOX, 8, -0.1), "threshold and decay came as -0.1 and 0.95"),
        (lambda: OccupancyGrid(BOX, 8, 0.1, decay=1.1), "threshold and decay came as 0.1 and 1.1"),
        (lambda: OccupancyGrid(BOX, 8, 0.1).update(ball, probes=0), "probes came as 0"),
        (lambda: OccupancyGrid(BOX, 8, 0.1).update(lambda x: x), r"density gave shape \[512, 3\]; wanted \[512\]"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
