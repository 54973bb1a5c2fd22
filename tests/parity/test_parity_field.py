"""A field seen along rays: the one kernel against the operations' references, and what it owes to no other ray."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from avatarfit import ops
from avatarfit.ops import field as field_module
from avatarfit.ops import layout, native
from avatarfit.ops.hash_grid import HashGrid

SPACE, PLANE = HashGrid.between(3, 5, 4, 20, 10), HashGrid.between(2, 4, 5, 40, 9)
LOW, SIDE = (-3.0, -2.0, 1.0), 6.0
COLOUR_FROM = 2e-3


@pytest.fixture
def threads() -> Iterator[None]:
    before = native.threads()
    yield
    native.set_threads(before)


def made_field(
    space: HashGrid | None = SPACE,
    plane: HashGrid | None = PLANE,
    features: int = 2,
    hidden: tuple[int, ...] = (32,),
    geometry: int = 15,
    seen: int = 7,
) -> ops.Field:
    """A field of half empty space and half fog and walls; float64 that float32 holds exactly."""
    random = torch.Generator().manual_seed(features)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random).double()

    motion_grid = HashGrid(3, (6,), (0, 343))
    motion = 0.1 * normal(343, layout.ATTRIBUTE_COUNT)
    motion[:, field_module.DENSITY] = (4 * normal(343) - 2).float().double()
    encoded = features * ((space.levels if space else 0) + 3 * (plane.levels if plane else 0))
    density_widths = 10 + encoded, *hidden, 1 + geometry
    colour_widths = geometry + 10 + seen, *hidden, hidden[0], 3
    parameters = [
        (normal(ops.mlp_parameter_count(widths)) * widths[0] ** -0.5).float().double()
        for widths in (density_widths, colour_widths)
    ]
    table, planes = (
        normal(space.row_count if space else 0, features),
        normal(3, plane.row_count if plane else 0, features),
    )
    return ops.Field(
        LOW, SIDE, motion.float().double(), motion_grid, table, space, planes, plane, parameters[0], density_widths,
        parameters[1], colour_widths, normal(seen),
    )  # fmt: skip


def made_samples(rays: int, field: ops.Field) -> ops.RaySamples:
    """Samples of rays of 0 to 30 of them, some a little outside; float64 that float32 holds exactly."""
    random = torch.Generator().manual_seed(rays)
    counts = torch.randint(0, 31, (rays,), generator=random) * (torch.rand(rays, generator=random) < 0.8)
    offsets = torch.zeros(rays + 1, dtype=torch.int64)
    offsets[1:] = counts.cumsum(0)
    total = int(offsets[-1])
    positions = torch.tensor(field.low) + field.side * (1.1 * torch.rand(total, 3, generator=random) - 0.05)
    t, lengths = torch.rand(2, total, generator=random)
    return ops.RaySamples(positions.double(), t.double(), 0.1 + 0.2 * lengths.double(), offsets)


def as_float(samples: ops.RaySamples, field: ops.Field) -> tuple[ops.RaySamples, ops.Field]:
    return tuple(
        type(group)(*(v.float() if isinstance(v, Tensor) and v.is_floating_point() else v for v in group))  # type: ignore[return-value]
        for group in (samples, field)
    )


def near_a_threshold(samples: ops.RaySamples, field: ops.Field) -> Tensor:
    """bool [R]: rays on which rounding may decide whether a sample takes part or is coloured."""
    sigma = ops.field_density(samples.positions, field, "reference")[0]
    rest = samples.t, samples.lengths, samples.offsets
    weights = ops.composite_rays(sigma, sigma[:, None], *rest, backend="reference").weights
    ray, out = samples.ray_of_sample(), torch.zeros(len(samples.offsets) - 1, dtype=torch.bool)
    thick = sigma * samples.lengths
    depth = thick.cumsum(0) - thick
    depth -= depth[samples.offsets[:-1].clamp(max=max(len(depth) - 1, 0))][ray]
    near = (weights / COLOUR_FROM - 1).abs() < 1e-4
    near |= (depth + math.log(layout.TRANSMITTANCE_MIN)).abs() < 1e-4
    out[ray[near]] = True
    return out


SHAPES = {
    "both": {},
    "space": {"plane": None, "features": 1},
    "planes": {"space": None, "features": 4, "seen": 0},
    "neither": {"space": None, "plane": None, "geometry": 0},
    "wide": {"features": 5, "hidden": (48, 33), "geometry": 19, "seen": 3},
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rays", [0, 1, 47, 1300])
def test_the_kernel_agrees_with_the_operations(isa, shape, rays):
    # Measured worst: 5.1e-7.
    field = made_field(**SHAPES[shape])
    samples = made_samples(rays, field)
    want = ops.see_field(samples, field, COLOUR_FROM, backend="reference")
    got = ops.see_field(*as_float(samples, field), COLOUR_FROM, backend="cpu")
    assert got.shape == want.shape == (rays, 4)
    sure = ~near_a_threshold(samples, field)
    assert sure.double().sum() >= 0.95 * rays
    assert not ((got - want)[sure].abs() > 2e-6).any()
    empty = samples.offsets.diff() == 0
    assert not got[empty].any()
    if rays == 1300:
        alpha = want[:, 3][~empty]
        assert (alpha > 0.99).double().mean() > 0.1, "the scene is no test"
        assert (alpha < 0.9).double().mean() > 0.1, "the scene is no test"


def test_every_weight_counts_and_only_dark_samples_are_left_out():
    samples, field = as_float(made_samples(300, made_field()), made_field())
    full = ops.see_field(samples, field, 0.0)
    sigma, geometry, told = ops.field_density(samples.positions, field)
    colour = ops.field_colour(geometry, told, field)
    light = ops.composite_rays(sigma, colour, samples.t, samples.lengths, samples.offsets)
    assert (full[:, :3] - light.color).abs().max() < 2e-5
    for colour_from in (0.01, 0.3, 2.0):
        some = ops.see_field(samples, field, colour_from)
        assert torch.equal(some[:, 3], full[:, 3])
        assert (some[:, :3] <= full[:, :3] + 1e-6).all()
    assert not some[:, :3].any()


def test_any_number_of_threads_gives_the_same_bits(isa, threads):
    samples, field = as_float(made_samples(2500, made_field()), made_field())
    pictures = []
    for count in (1, 2, 5):
        native.set_threads(count)
        pictures.append(ops.see_field(samples, field, COLOUR_FROM))
    assert torch.equal(pictures[0], pictures[1])
    assert torch.equal(pictures[0], pictures[2])


def test_a_ray_owes_nothing_to_the_others(isa):
    samples, field = as_float(made_samples(200, made_field()), made_field())
    every = ops.see_field(samples, field, COLOUR_FROM)
    for ray in range(0, 200, 17):
        first, last = samples.offsets[ray : ray + 2].tolist()
        own = ops.RaySamples(*(v[first:last] for v in samples[:3]), torch.tensor([0, last - first]))
        assert torch.equal(ops.see_field(own, field, COLOUR_FROM)[0], every[ray])


def test_nan_stays_with_the_rays_that_meet_it(isa):
    samples, field = as_float(made_samples(150, made_field()), made_field())
    want = ops.see_field(samples, field, COLOUR_FROM)
    lost = int(samples.offsets[60])
    samples.positions[lost] = torch.nan
    got = ops.see_field(samples, field, COLOUR_FROM)
    ray = int(samples.ray_of_sample()[lost])
    others = torch.arange(150) != ray
    assert got[ray].isnan().all()
    assert torch.equal(got[others], want[others])


def test_both_sides_state_the_same_numbers():
    library = native.load()
    assert library.af_constant(b"FIELD_DENSITY") == field_module.DENSITY
    assert library.af_constant(b"FIELD_LOCAL") == field_module.LOCAL.start
    assert library.af_constant(b"FIELD_LOG_DENSITY_MAX") == field_module.LOG_DENSITY_MAX


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"density_widths": (34, 32, 15)}, r"density came with shape \[\d+\]; wanted \[\d+\]"),
        ({"colour_widths": (31, 32, 32, 4)}, r"colour came with shape \[\d+\]; wanted \[\d+\]"),
        ({"seen": torch.zeros(6)}, r"widths \(44, 32, 16\) and \(32, 32, 32, 3\) that do not fit"),
        ({"space": None}, r"widths \(44, 32, 16\) and \(32, 32, 32, 3\) that do not fit"),
        ({"motion": torch.zeros(343, 13)}, r"motion came with shape \[343, 13\]; wanted \[343, 14\]"),
        ({"table": torch.zeros(7, 2)}, r"table came with shape \[7, 2\]; wanted \[\d+, any\]"),
    ],
)
def test_a_field_that_does_not_fit_is_told(change, message):
    samples, field = as_float(made_samples(5, made_field()), made_field())
    with pytest.raises(ValueError, match=message):
        ops.see_field(samples, field._replace(**change), COLOUR_FROM)


@pytest.mark.parametrize("offsets", [[0, 3, 2, 9], [1, 3, 9], [0, 3]])
def test_offsets_that_do_not_fit_are_told(offsets):
    field = as_float(made_samples(5, made_field()), made_field())[1]
    samples = ops.RaySamples(torch.zeros(9, 3), torch.zeros(9), torch.ones(9), torch.tensor(offsets))
    with pytest.raises(ValueError, match="offsets came falling or without 0 and 9 at their ends"):
        ops.see_field(samples, field, COLOUR_FROM)
