"""Ray march and compositing, native against the float64 or float32 reference, and the reference against its laws."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from avatarfit import ops
from avatarfit.contracts import BackendError
from avatarfit.ops.march import morton_cell, morton_code, pack_bits

BOX = (-1.0, -1.2, -0.7, 1.1, 1.0, 0.9)


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> str:
    if request.param == "cuda":
        if not torch.cuda.is_available():
            pytest.skip("no CUDA device: not run")
        ops.choose("cuda")
    return str(request.param)


def made_rays(seed: int, count: int) -> list[Tensor]:
    """Rays at, past and away from BOX, from within and without, along axes and along faces of cells; float32."""
    random = torch.Generator().manual_seed(seed)
    origins = 2 * torch.randn(count, 3, generator=random)
    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=random) - 0.5 * origins, dim=1)
    directions[::5, 0] = 0
    directions[::7, 1:] = 0
    directions[::11] = torch.tensor([1.0, 1e-6, -1e-7])
    origins[::3] *= 0.2
    origins[::13] = torch.tensor([-3.0, BOX[1], BOX[2]])
    near, far = 0.2 * torch.rand(count, generator=random), 2 + 4 * torch.rand(count, generator=random)
    far[::4] = math.inf
    return [origins, directions, near, far]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    side=st.sampled_from([4, 8, 16, 64, 128]),
    share=st.sampled_from([0.0, 0.003, 0.05, 0.5, 1.0]),
    step=st.sampled_from([1e-4, 3e-3, 0.017, 0.3, 5.0]),
    most=st.sampled_from([1, 5, 1000, 2**20]),
    jittered=st.booleans(),
)
def test_no_sample_in_an_occupied_cell_is_skipped(seed, side, share, step, most, jittered):
    # The reference looks at every interval; the kernel leaves blocks out. The samples are the same, to the last bit.
    rays = made_rays(seed, 8 if step < 1e-3 else 60)
    random = torch.Generator().manual_seed(seed)
    occupancy = pack_bits(torch.rand(side**3, generator=random) < share)
    jitter = torch.rand(len(rays[0]), generator=random) if jittered else None
    want, got = (
        ops.march_rays(*rays, BOX, occupancy, step, most, jitter=jitter, backend=backend)
        for backend in ("reference", "cpu")
    )
    for name, a, b in zip(want._fields, want, got, strict=True):
        assert torch.equal(a, b), name


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    side=st.sampled_from([4, 8, 16, 64]),
    cells=st.integers(1, 12),
    step_cells=st.sampled_from([0.2, 0.7, 0.9, 1.5, 1.9, 2.5]),
    away=st.sampled_from([0.0, 30.0, 3e3, 1e5]),
)
def test_nothing_is_lost_where_all_that_is_occupied_lies_together(seed, side, cells, step_cells, away):
    random = torch.Generator().manual_seed(seed)
    rays = made_rays(seed, 80)
    rays[0] += away
    rays[3][::9] *= 1e3
    box = tuple(torch.tensor([edge + away for edge in BOX]).tolist())
    step = step_cells * 1.6 / side
    first = 4 * torch.randint(side // 4, (3,), generator=random)
    cell = morton_cell(torch.arange(side**3))
    near = ((cell >= first) & (cell < first + cells)).all(1)
    occupancy = pack_bits(near & (torch.rand(side**3, generator=random) < 0.7))
    want, got = (ops.march_rays(*rays, box, occupancy, step, 2**20, backend=b) for b in ("reference", "cpu"))
    for name, a, b in zip(want._fields, want, got, strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("step", [2e-3, 0.02, 0.4])
@pytest.mark.parametrize(("side", "share"), [(4, 0.3), (32, 0.1), (64, 0.3), (256, 0.03)])
def test_every_instruction_set_keeps_the_same_samples(isa, side, share, step):
    random = torch.Generator().manual_seed(side)
    occupancy = torch.zeros(side**3 // 8, dtype=torch.uint8)
    chosen = torch.randint(len(occupancy), (round(share * len(occupancy)) + 1,), generator=random)
    occupancy[chosen] = torch.randint(1, 256, chosen.shape, generator=random, dtype=torch.uint8)
    rays = made_rays(side, 60)
    rays[3][::6] *= 1e6
    want, got = (ops.march_rays(*rays, BOX, occupancy, step, 200, backend=b) for b in ("reference", "cpu"))
    assert len(want.t) > 0
    for name, a, b in zip(want._fields, want, got, strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize(("side", "share"), [(4, 1.0), (64, 0.02)])
def test_march_keeps_the_same_samples_on_every_device(device, side, share):
    random = torch.Generator().manual_seed(side)
    occupancy = pack_bits(torch.rand(side**3, generator=random) < share)
    rays, jitter = made_rays(7, 500), torch.rand(500, generator=random)
    want = ops.march_rays(*rays, BOX, occupancy, 0.02, 100, jitter=jitter, backend="reference")
    there = [values.to(device) for values in (*rays, occupancy, jitter)]
    got = ops.march_rays(*there[:4], BOX, there[4], 0.02, 100, jitter=there[5], backend=device)
    assert len(want.t) > 100
    for name, a, b in zip(want._fields, want, got, strict=True):
        assert torch.equal(a, b.cpu()), name


def test_the_reference_is_the_march_written_out():
    side, step = 8, 0.07
    rays = [t.double() for t in made_rays(3, 40)]
    occupied = torch.rand(side, side, side, generator=torch.Generator().manual_seed(1)) < 0.3
    codes = morton_code(torch.stack(torch.meshgrid(*[torch.arange(side)] * 3, indexing="ij"), -1))
    flat = torch.zeros(side**3, dtype=torch.bool)
    flat[codes.flatten()] = occupied.flatten()
    found = ops.march_rays(*rays, BOX, pack_bits(flat), step, 2**20)
    low, high = torch.tensor(BOX, dtype=torch.float64).reshape(2, 3).tolist()
    wanted: list[list[float]] = []
    for origin, direction, near, far in zip(*(t.tolist() for t in rays), strict=True):
        enters, leaves = near, far
        for o, d, lowest, highest in zip(origin, direction, low, high, strict=True):
            if d == 0:
                leaves = leaves if lowest <= o <= highest else -math.inf
            else:
                one, other = sorted([(lowest - o) / d, (highest - o) / d])
                enters, leaves = max(enters, one), min(leaves, other)
        wanted.append([])
        k = 0
        while enters + k * step < leaves:
            end = min(enters + (k + 1) * step, leaves)
            t = (enters + k * step + end) / 2
            at = [o + t * d for o, d in zip(origin, direction, strict=True)]
            cell = [min(max(int((x - a) / (b - a) * side), 0), side - 1) for x, a, b in zip(at, low, high, strict=True)]
            if occupied[tuple(cell)]:
                wanted[-1].append(t)
            k += 1
    assert found.offsets.diff().tolist() == [len(ts) for ts in wanted]
    torch.testing.assert_close(found.t, torch.tensor([t for ts in wanted for t in ts], dtype=torch.float64))


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_samples_lie_on_their_rays_in_order_and_in_the_box(backend):
    rays = made_rays(5, 300)
    jitter = torch.rand(300, generator=torch.Generator().manual_seed(0))
    full = torch.full((16**3 // 8,), 255, dtype=torch.uint8)
    found = ops.march_rays(*rays, BOX, full, 0.02, 2**20, jitter=jitter, backend=backend)
    ray = found.ray_of_sample()
    origins, directions, near, far = (t[ray] for t in rays)
    assert len(found.t) > 1000
    torch.testing.assert_close(found.positions, origins + found.t[:, None] * directions, rtol=0, atol=2e-6)
    low, high = torch.tensor(BOX).reshape(2, 3)
    assert ((found.positions >= low) & (found.positions <= high)).all()
    assert ((found.t >= near) & (found.t <= far)).all()
    same = ray[1:] == ray[:-1]
    assert (found.t[1:] > found.t[:-1])[same].all()
    # Where nothing is empty, the lengths sum to the way through the box.
    ways = torch.zeros(300).index_add(0, ray, found.lengths)
    whole = ops.march_rays(*rays, BOX, full, 100.0, 1, backend=backend)
    torch.testing.assert_close(
        ways, torch.zeros(300).index_add(0, whole.ray_of_sample(), whole.lengths), rtol=1e-5, atol=2e-5
    )


def test_rays_that_cannot_be_marched_have_no_samples(isa):
    nan, inf = math.nan, math.inf
    origins = torch.tensor([[0, 0, 0.0]] * 5 + [[nan, 0, 0], [inf, 0, 0], [5, 5, 5], [0, 5, 0], [0, 0, 0]])
    directions = torch.tensor([[1.0, 0, 0]] * 10)
    directions[0], directions[1, 1] = 0, nan
    near, far = torch.zeros(10), torch.full((10,), 9.0)
    near[2], far[3], near[4] = nan, nan, 10
    full = torch.full((8,), 255, dtype=torch.uint8)
    for backend in ("reference", "cpu"):
        found = ops.march_rays(origins, directions, near, far, BOX, full, 0.1, 50, backend=backend)
        assert found.offsets.diff().tolist() == [0] * 9 + [11]
        nothing = ops.march_rays(*(t[:0] for t in (origins, directions, near, far)), BOX, full, 0.1, 5, backend=backend)
        assert [len(t) for t in nothing] == [0, 0, 0, 1]


def test_morton_codes_are_the_interleaved_bits_and_turn_back():
    assert morton_code(torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [2, 0, 0], [511, 511, 511]])).tolist() == [
        1, 2, 4, 8, 2**27 - 1,
    ]  # fmt: skip
    codes = torch.randint(2**30, (1000,), generator=torch.Generator().manual_seed(0))
    assert torch.equal(morton_code(morton_cell(codes)), codes)


def made_samples(seed: int, lengths_of_rays: list[int], channels: int, density: float) -> SimpleNamespace:
    """Samples away from the threshold of early termination: no transmittance within 1e-3 of it; float64."""
    random = torch.Generator().manual_seed(seed)
    total = sum(lengths_of_rays)
    offsets = torch.tensor([0, *lengths_of_rays]).cumsum(0)
    sigma = density * torch.rand(total, generator=random, dtype=torch.float64) ** 3
    color = torch.randn(total, channels, generator=random, dtype=torch.float64)
    t = torch.rand(total, generator=random, dtype=torch.float64) + 3
    lengths = 0.01 + 0.1 * torch.rand(total, generator=random, dtype=torch.float64)
    for first, last in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        for i in range(first, last):
            reaches = math.exp(-float((sigma * lengths)[first : i + 1].sum()))
            if abs(reaches / 1e-4 - 1) < 1e-3:
                sigma[i] += 0.5
    chosen = [
        torch.randn(*shape, generator=random, dtype=torch.float64)
        for shape in ((len(lengths_of_rays), channels), (len(lengths_of_rays),), (len(lengths_of_rays),), (total,))
    ]
    return SimpleNamespace(leaves=(sigma, color), rest=(t, lengths), offsets=offsets, chosen=chosen)


def light(made: SimpleNamespace, dtype: torch.dtype, backend: str, there: str, used: tuple[int, ...]) -> list[Tensor]:
    leaves = [t.to(there, dtype).clone().requires_grad_() for t in made.leaves]
    out = ops.composite_rays(*leaves, *(t.to(there, dtype) for t in made.rest), made.offsets.to(there), backend=backend)
    sum((out[i] * made.chosen[i].to(there, dtype)).sum() for i in used).backward()
    grads = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves]
    return [t.detach().cpu() for t in (*out, *grads)]


RAYS = [[1], [0, 1, 0, 5, 31, 32, 33, 64, 100, 0], [40] * 200, [700, 3]]


@pytest.mark.parametrize("rays", RAYS, ids=["one", "mixed", "many", "long"])
@pytest.mark.parametrize("density", [0.01, 3.0, 300.0])
@pytest.mark.parametrize(("channels", "used"), [(3, (0, 1, 2, 3)), (1, (0,)), (7, (1, 2)), (32, (3,))])
def test_compositing_agrees_in_value_and_gradient(device, relative_error, rays, density, channels, used):
    # Measured worst on the CPU: 1.1e-6.
    made = made_samples(len(rays), rays, channels, density)
    want = light(made, torch.float64, "reference", "cpu", used)
    got = light(made, torch.float32, device, device, used)
    for expected, found in zip(want, got, strict=True):
        assert relative_error(found, expected) < 3e-6


def test_compositing_agrees_for_each_instruction_set(isa, relative_error):
    made = made_samples(1, RAYS[1], 4, 20.0)
    want = light(made, torch.float64, "reference", "cpu", (0, 1, 2, 3))
    got = light(made, torch.float32, "cpu", "cpu", (0, 1, 2, 3))
    for expected, found in zip(want, got, strict=True):
        assert relative_error(found, expected) < 3e-6


@pytest.mark.parametrize("density", [0.5, 300.0])
def test_reference_compositing_passes_finite_differences(density):
    made = made_samples(2, [6, 0, 9], 2, density)
    leaves = [t.clone().requires_grad_() for t in made.leaves]
    assert torch.autograd.gradcheck(
        lambda sigma, color: tuple(ops.composite_rays(sigma, color, *made.rest, made.offsets)), leaves, eps=1e-6
    )


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_what_lies_behind_an_opaque_front_has_neither_value_nor_gradient(backend):
    # exp(-8) > 1e-4 > exp(-10): the second sample is the last that is looked at.
    sigma = torch.tensor([8.0, 2.0, 1.0, 5.0, 1.0], requires_grad=True)
    color = torch.rand(5, 3, requires_grad=True)
    ones = torch.ones(5)
    out = ops.composite_rays(sigma, color, ones, ones, torch.tensor([0, 4, 5]), backend=backend)
    (out.color.sum() + out.alpha.sum() + out.depth.sum() + out.weights.sum()).backward()
    torch.testing.assert_close(out.alpha, torch.tensor([1 - math.exp(-10), 1 - math.exp(-1)]))
    assert out.weights[2:4].eq(0).all()
    assert sigma.grad[2:4].eq(0).all()
    assert color.grad[2:4].eq(0).all()
    assert color.grad[[0, 1, 4]].gt(0).all()
    other = color.detach().clone()
    other[2:4] = 7.0
    again = ops.composite_rays(sigma.detach(), other, ones, ones, torch.tensor([0, 4, 5]), backend=backend)
    assert torch.equal(again.color, out.color.detach())


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_alpha_is_the_sum_of_the_weights_and_what_was_absorbed(backend):
    made = made_samples(4, [30] * 50, 3, 5.0)
    sigma, color, t, lengths = (v.float() for v in (*made.leaves, *made.rest))
    out = ops.composite_rays(sigma, color, t, lengths, made.offsets, backend=backend)
    torch.testing.assert_close(out.weights.reshape(50, 30).sum(1), out.alpha)
    torch.testing.assert_close(1 - torch.exp(-(sigma * lengths).reshape(50, 30).sum(1)), out.alpha)
    white = ops.composite_rays(sigma, torch.ones(1500, 2), t, lengths, made.offsets, backend=backend)
    torch.testing.assert_close(white.color, out.alpha[:, None].expand(-1, 2))
    assert ((out.depth / out.alpha > 3) & (out.depth / out.alpha < 4)).all()


def seen_through(step: float, inside: bool, backend: str) -> Tensor:
    """Largest error of alpha over rays through a box, or a sphere in it, of density 1.3."""
    rays = made_rays(8, 400)
    rays[2], rays[3] = torch.zeros(400), torch.full((400,), 20.0)
    rays[0] = 4 * torch.nn.functional.normalize(rays[0], dim=1)
    aims = 1.2 * (torch.rand(400, 3, generator=torch.Generator().manual_seed(2)) - 0.5)
    rays[1] = torch.nn.functional.normalize(aims - rays[0], dim=1)
    full = torch.full((8,), 255, dtype=torch.uint8)
    found = ops.march_rays(*rays, (-1, -1, -1, 1, 1, 1), full, step, 2**20, backend=backend)
    sigma = torch.full_like(found.t, 1.3)
    if inside:
        sigma *= found.positions.norm(dim=1) < 0.8
        middle = -(rays[0] * rays[1]).sum(1)
        apart = (rays[0] + middle[:, None] * rays[1]).norm(dim=1)
        way = 2 * (0.64 - apart**2).clamp_min(0).sqrt()
    else:
        one, other = (-1 - rays[0]) / rays[1], (1 - rays[0]) / rays[1]
        way = (torch.maximum(one, other).amin(1) - torch.minimum(one, other).amax(1)).clamp_min(0)
    out = ops.composite_rays(sigma, found.positions, found.t, found.lengths, found.offsets, backend=backend)
    assert (way > 0.5).sum() > 100
    return (out.alpha - (1 - torch.exp(-1.3 * way))).abs()


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_a_box_of_constant_density_is_exact_and_a_sphere_of_first_order_in_the_step(backend):
    for step in (0.01, 0.3, 10.0):
        assert seen_through(step, False, backend).max() < 2e-5
    # A sphere's edge falls anywhere into an interval: the way through it errs by up to a step.
    for step in (0.1, 0.03, 0.01, 0.003):
        error = seen_through(step, True, backend)
        assert error.max() <= 1.3 * step + 1e-5
        assert error.mean() <= 0.5 * step


def test_a_smooth_density_is_of_second_order_in_the_step():
    # sigma = exp(-t) over [0, 1]: the middles of intervals err by h^2 / 24 times the difference of the slopes.
    errors = []
    for count in (5, 10, 20):
        t = (torch.arange(count, dtype=torch.float64) + 0.5) / count
        lengths = torch.full((count,), 1 / count, dtype=torch.float64)
        out = ops.composite_rays(torch.exp(-t), t[:, None], t, lengths, torch.tensor([0, count]))
        errors.append(abs(float(out.alpha[0]) - (1 - math.exp(-(1 - math.exp(-1))))))
    assert 3.9 < errors[0] / errors[1] < 4.1
    assert 3.9 < errors[1] / errors[2] < 4.1


def test_torch_opcheck_of_both():
    rays = made_rays(1, 20)
    full = torch.full((8,), 255, dtype=torch.uint8)
    few = "test_schema", "test_faketensor"
    march = torch.ops.avatarfit.march_rays.default
    torch.library.opcheck(march, (*rays, list(BOX), full, full, 0.1, 50, None), test_utils=few)
    made = made_samples(1, [3, 0, 5], 3, 2.0)
    leaves = [t.float().requires_grad_() for t in made.leaves]
    rest = [t.float() for t in made.rest]
    composite = torch.ops.avatarfit.composite_rays.default
    torch.library.opcheck(composite, (*leaves, *rest, made.offsets), test_utils=(*few, "test_autograd_registration"))


FULL = torch.full((8,), 255, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"occupancy": FULL[:7]}, "occupancy came with 7 bytes"),
        ({"occupancy": torch.zeros(27, dtype=torch.uint8)}, "the grid came with side 6; wanted a power of two"),
        ({"box": (0, 0, 0, 1, 0, 1)}, "box came as .* each above its lowest"),
        ({"step": 0.0}, "step came as 0.0; wanted at least"),
        ({"step": math.nan}, "step came as nan"),
        ({"max_samples": 0}, "max_samples came as 0"),
        ({"near": torch.zeros(3)}, r"near came with shape \[3\]; wanted \[2\]"),
        ({"jitter": torch.zeros(2).double()}, "jitter came as torch.float64"),
        ({"origins": torch.zeros(3, 2).t()}, "origins came with strides"),
    ],
)
def test_march_refuses_what_does_not_fit(changed, message):
    given = {"origins": torch.zeros(2, 3), "directions": torch.ones(2, 3), "near": torch.zeros(2),
             "far": torch.ones(2), "box": BOX, "occupancy": FULL, "step": 0.1, "max_samples": 9}  # fmt: skip
    with pytest.raises(ValueError, match=message):
        ops.march_rays(**{**given, **changed})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"color": torch.zeros(4, 33)}, "color came with 33 channels; wanted 1 to 32"),
        ({"offsets": torch.tensor([0, 3])}, "offsets came without 0 at their begin or 4"),
        ({"offsets": torch.tensor([0, 5, 3, 4])}, "offsets came with one below"),
        ({"t": torch.zeros(5)}, r"t came with shape \[5\]; wanted \[4\]"),
        ({"offsets": torch.tensor([0, 4], dtype=torch.int32)}, "offsets came as torch.int32"),
    ],
)
def test_compositing_refuses_what_does_not_fit(changed, message):
    given = {"sigma": torch.zeros(4), "color": torch.zeros(4, 3), "t": torch.zeros(4), "lengths": torch.zeros(4),
             "offsets": torch.tensor([0, 4])}  # fmt: skip
    with pytest.raises(ValueError, match=message):
        ops.composite_rays(**{**given, **changed})


def test_native_kernels_refuse_other_dtypes():
    with pytest.raises(BackendError, match=r"was given a torch\.float64 tensor"):
        ops.march_rays(*(t.double() for t in made_rays(0, 4)), BOX, FULL, 0.1, 9, backend="cpu")
