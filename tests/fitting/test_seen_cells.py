from __future__ import annotations

import torch

from avatarfit.fitting.hashgrid_start import dilated
from avatarfit.fitting.seen_cells import SeenCells
from avatarfit.ops import march_rays

LOW, SIDE = (-2.0, 1.0, 5.0), 8.0


def test_a_cell_that_was_seen_is_kept_with_its_neighbours_and_others_are_not() -> None:
    cells = SeenCells(torch.ones(8, 8, 8, dtype=torch.bool), LOW, SIDE, 0.1)
    cells.see(torch.tensor([[0.5, 4.5, 6.5], [5.5, 8.5, 12.5]]), torch.tensor([0.2, 0.05]))
    wanted = torch.zeros(8, 8, 8, dtype=torch.bool)
    wanted[1:4, 2:5, 0:3] = True
    assert torch.equal(cells.occupied(), wanted)
    cells.fade(0.4)
    assert not cells.occupied().any()


def test_what_is_not_allowed_is_never_kept() -> None:
    allowed = torch.zeros(8, 8, 8, dtype=torch.bool)
    allowed[2, 3, 1] = True
    cells = SeenCells(allowed, LOW, SIDE, 0.1)
    cells.see(torch.tensor([[0.5, 4.5, 6.5]]), torch.tensor([0.2]))
    assert torch.equal(cells.occupied(), allowed)


def test_the_bits_are_those_that_rays_are_marched_by() -> None:
    generator = torch.Generator().manual_seed(0)
    chosen = torch.rand(8, 8, 8, generator=generator) < 0.3
    cells = SeenCells(torch.ones_like(chosen), LOW, SIDE, 0.1)
    origins = torch.rand(400, 3, generator=generator) * 4 + torch.tensor([-4.0, 2.0, -3.0])
    directions = torch.nn.functional.normalize(torch.rand(400, 3, generator=generator), dim=1)
    ends = torch.zeros(400), torch.full((400,), torch.inf)
    box = (*LOW, *(low + SIDE for low in LOW))
    samples = march_rays(origins, directions, *ends, box, cells.bits(chosen), 0.1, 1000)
    at = ((samples.positions - torch.tensor(LOW)) / SIDE * 8).long().clamp(0, 7)
    assert len(at) > 1000
    assert chosen[at[:, 0], at[:, 1], at[:, 2]].all()
    everywhere = march_rays(origins, directions, *ends, box, cells.bits(torch.ones_like(chosen)), 0.1, 1000)
    at = ((everywhere.positions - torch.tensor(LOW)) / SIDE * 8).long().clamp(0, 7)
    assert int(chosen[at[:, 0], at[:, 1], at[:, 2]].sum()) == len(samples.t)


def test_growing_goes_by_whole_cells_in_every_direction() -> None:
    one = torch.zeros(9, 9, 9, dtype=torch.bool)
    one[4, 4, 4] = True
    grown = dilated(one, 2)
    assert int(grown.sum()) == 125
    assert grown[2:7, 2:7, 2:7].all()
