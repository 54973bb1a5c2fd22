"""nerfacc as a backend: what is said where it is absent, and, against a stand-in of its documented calls, what it is
given and what becomes of it."""

from __future__ import annotations

import importlib.util
import math
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from avatarfit import ops
from avatarfit.contracts import BackendError
from avatarfit.ops import vendor_nerfacc
from avatarfit.ops.march import occupied_cells

BOX = [-1.0, -1.2, -0.7, 1.1, 1.0, 0.9]


def traverse_grids(rays_o, rays_d, binaries, aabbs, near_planes, far_planes, step_size):
    """Every interval from the near plane on whose middle lies in an occupied cell before the far plane."""
    assert binaries.shape[0] == aabbs.shape[0] == 1
    low, high = aabbs[0, :3], aabbs[0, 3:]
    side = binaries.shape[1]
    edges: list[Tensor] = []
    rays: list[int] = []
    for r in range(len(rays_o)):
        for k in range(math.ceil(float((far_planes[r] - near_planes[r]) / step_size))):
            begin = near_planes[r] + k * step_size
            middle = begin + step_size / 2
            cell = ((rays_o[r] + middle * rays_d[r] - low) / (high - low) * side).floor().long()
            if middle < far_planes[r] and ((cell >= 0) & (cell < side)).all() and binaries[0, *cell]:
                edges += [begin, begin + step_size]
                rays.append(r)
    is_left = torch.arange(len(edges)) % 2 == 0
    intervals = SimpleNamespace(vals=torch.tensor(edges), is_left=is_left, is_right=~is_left)
    return intervals, SimpleNamespace(ray_indices=torch.tensor(rays, dtype=torch.int64)), None


def render_weight_from_density(t_starts, t_ends, sigmas, ray_indices, n_rays):
    depths, passed = sigmas * (t_ends - t_starts), torch.zeros(n_rays)
    before = []
    for depth, ray in zip(depths, ray_indices.tolist(), strict=True):
        before.append(passed[ray])
        passed = passed.index_add(0, torch.tensor([ray]), depth[None])
    reaches = torch.exp(-torch.stack(before))
    alphas = 1 - torch.exp(-depths)
    return reaches * alphas, reaches, alphas


def accumulate_along_rays(weights, values, ray_indices, n_rays):
    return torch.zeros(n_rays, values.shape[1]).index_add(0, ray_indices, weights[:, None] * values)


@pytest.fixture
def stand_in(monkeypatch):
    calls = traverse_grids, render_weight_from_density, accumulate_along_rays
    monkeypatch.setitem(sys.modules, "nerfacc", SimpleNamespace(**{call.__name__: call for call in calls}))


def made_rays(count: int) -> list[Tensor]:
    random = torch.Generator().manual_seed(count)
    origins = 3 * torch.nn.functional.normalize(torch.randn(count, 3, generator=random), dim=1)
    directions = torch.nn.functional.normalize(torch.rand(count, 3, generator=random) - 0.5 - origins, dim=1)
    directions[0] = -directions[0]
    return [origins, directions, torch.zeros(count), torch.full((count,), 20.0)]


def test_it_keeps_nearly_the_same_samples(stand_in):
    rays, step = made_rays(40), 0.05
    random = torch.Generator().manual_seed(0)
    occupancy = torch.randint(0, 256, (8**3 // 8,), generator=random, dtype=torch.uint8)
    want = ops.march_rays(*rays, tuple(BOX), occupancy, step, 1000, backend="reference")
    positions, t, lengths, offsets = vendor_nerfacc.march_rays_nerfacc(
        *rays, BOX, occupied_cells(occupancy), step, 1000, None
    )
    # The interval at the box' end is ours alone where its middle, cut short, is not theirs.
    missing = (want.offsets.diff() - offsets.diff()).abs()
    assert len(want.t) > 400
    assert missing.max() <= 1
    alike = missing == 0
    assert alike.sum() > 15
    for r in alike.nonzero().flatten().tolist():
        ours, theirs = (slice(int(o[r]), int(o[r + 1])) for o in (want.offsets, offsets))
        torch.testing.assert_close(t[theirs], want.t[ours], rtol=0, atol=1e-5)
        torch.testing.assert_close(lengths[theirs], want.lengths[ours], rtol=0, atol=1e-5)
        torch.testing.assert_close(positions[theirs], want.positions[ours], rtol=0, atol=1e-5)


def test_most_samples_and_jitter_are_ours(stand_in):
    rays, full = made_rays(20), torch.ones(4, 4, 4, dtype=torch.bool)
    jitter = torch.rand(20, generator=torch.Generator().manual_seed(1))
    _, t, lengths, offsets = vendor_nerfacc.march_rays_nerfacc(*rays, BOX, full, 0.1, 3, jitter)
    assert offsets.diff().tolist() == [0] + [3] * 19
    ray = torch.repeat_interleave(torch.arange(20), offsets.diff())
    want = ops.march_rays(*rays, tuple(BOX), torch.full((8,), 255, dtype=torch.uint8), 0.1, 3, jitter=jitter)
    torch.testing.assert_close(t, want.t, rtol=0, atol=1e-5)
    assert (lengths - 0.1).abs().max() < 1e-5
    assert len(ray) == len(t)


def test_cells_come_by_x_y_and_z():
    occupancy = torch.zeros(8, dtype=torch.uint8)
    occupancy[0] = 1 << 1  # Morton code 1: x = 1
    occupancy[4] = 1 << 2  # Morton code 34 = 0b100010: z = 2, y = 1
    assert occupied_cells(occupancy).nonzero().tolist() == [[0, 1, 2], [1, 0, 0]]


def test_light_and_its_gradients_are_ours(stand_in, relative_error):
    random = torch.Generator().manual_seed(5)
    offsets = torch.tensor([0, 7, 7, 30, 31])
    sigma, color = 40 * torch.rand(31, generator=random) ** 3, torch.randn(31, 4, generator=random)
    t, lengths = torch.rand(31, generator=random), 0.1 + torch.rand(31, generator=random)
    chosen = [torch.randn(*s, generator=random) for s in ((4, 4), (4,), (4,), (31,))]
    results = []
    for call in (vendor_nerfacc.composite_rays_nerfacc, ops.composite_rays):
        leaves = sigma.clone().requires_grad_(), color.clone().requires_grad_()
        out = call(*leaves, t, lengths, offsets)
        sum((o * c).sum() for o, c in zip(out, chosen, strict=True)).backward()
        results.append([*(o.detach() for o in out), *(leaf.grad for leaf in leaves)])
    for theirs, ours in zip(*results, strict=True):
        assert relative_error(theirs, ours) < 1e-5


def march_two() -> object:
    return ops.march_rays(
        *made_rays(2), tuple(BOX), torch.full((8,), 255, dtype=torch.uint8), 0.1, 3, backend="nerfacc"
    )


def composite_none() -> object:
    none = torch.zeros(0)
    return ops.composite_rays(none, torch.zeros(0, 3), none, none, torch.zeros(1).long(), backend="nerfacc")


@pytest.mark.parametrize("call", [march_two, composite_none])
def test_without_it_asking_for_it_says_what_to_do(monkeypatch, call):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    ops.choose.cache_clear()
    with pytest.raises(BackendError, match=r"nerfacc is not installed; wanted nerfacc 0.5.3 or newer; run pip install"):
        call()


def test_with_it_but_without_a_gpu_asking_for_it_says_so(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in ("nerfacc", "tcnn"):
        with pytest.raises(BackendError, match="there is no CUDA device"):
            ops.choose.__wrapped__(name)


def test_it_marches_and_composites_as_the_kernels_do_on_a_gpu(relative_error):
    if not torch.cuda.is_available() or importlib.util.find_spec("nerfacc") is None:
        pytest.skip("no CUDA device or no nerfacc: not run")
    rays = [t.cuda() for t in made_rays(500)]
    occupancy = torch.randint(0, 256, (32**3 // 8,), dtype=torch.uint8).cuda()
    want, got = (ops.march_rays(*rays, tuple(BOX), occupancy, 0.02, 1000, backend=b) for b in ("cuda", "nerfacc"))
    assert abs(len(got.t) - len(want.t)) < 0.02 * len(want.t)
    sigma, color = torch.rand_like(want.t), torch.rand(len(want.t), 3, device="cuda")
    light = [ops.composite_rays(sigma, color, *want[1:], backend=b) for b in ("cuda", "nerfacc")]
    for ours, theirs in zip(*light, strict=True):
        assert relative_error(theirs.cpu(), ours.cpu()) < 1e-4
