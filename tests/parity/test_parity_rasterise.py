"""The rasteriser: native against the float64 reference, and the laws of compositing."""

from __future__ import annotations

import pytest
import torch

from avatarfit import ops
from avatarfit.ops import native

BACKENDS = ["reference", "cpu"]


def both(splats: torch.Tensor, height: int, width: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Image and gradient by the float64 reference, then by the native float32 kernels, for one random covector."""
    chosen = torch.randn(height, width, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    results = []
    for dtype, backend in ((torch.float64, "reference"), (torch.float32, "cpu")):
        leaf = splats.detach().to(dtype).clone().requires_grad_()
        image = ops.rasterise(leaf, height, width, backend=backend)
        (image * chosen.to(dtype)).sum().backward()
        results.append((image.detach(), leaf.grad))
    return results


@pytest.mark.parametrize(
    ("count", "height", "width", "log_scale"),
    [
        (60, 37, 53, -1.0),
        (800, 64, 64, -1.0),
        (3000, 101, 67, -0.5),
        (200, 3, 5, 0.0),
        (40, 50, 1, 1.0),
        (900, 61, 90, 0.8),
    ],
)
def test_overlapping_scenes_agree(isa, scene, relative_error, count, height, width, log_scale):
    # Measured worst (AVX2 and baseline): gradients 3.7e-6 of the column's largest.
    # float32 may fall on the other side of a threshold (alpha 1/255, transmittance 1e-4): such pixels are counted.
    made = scene(count, count, height, width, log_scale)
    splats = ops.project(*made.inputs(torch.float32), *made.camera, backend="cpu")
    (want, want_grad), (got, got_grad) = both(splats, height, width)
    difference = (got - want).abs()
    assert difference.max() < 1.2 / 255
    assert (difference > 5e-6).double().mean() < 2e-4
    for column in range(9):
        assert relative_error(got_grad[:, column], want_grad[:, column]) < 2e-5, column
    assert not got_grad[:, 9].any()
    assert not want_grad[:, 9].any()


def test_well_separated_splats_agree(isa, separated, relative_error):
    (want, want_grad), (got, got_grad) = both(separated(25, 60, 70), 60, 70)
    assert (got - want).abs().max() < 1e-6
    assert relative_error(got_grad, want_grad) < 1e-5


def test_reference_passes_finite_differences_on_separated_splats(separated):
    splats = separated(4, 24, 24).requires_grad_()
    chosen = torch.randn(24, 24, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def loss(values: torch.Tensor) -> torch.Tensor:
        return (ops.rasterise(values, 24, 24) * chosen).sum()

    loss(splats).backward()
    step = 1e-6
    with torch.no_grad():
        for row in range(4):
            for column in range(9):
                up, down = splats.clone(), splats.clone()
                up[row, column] += step
                down[row, column] -= step
                slope = float(loss(up) - loss(down)) / (2 * step)
                assert slope == pytest.approx(float(splats.grad[row, column]), rel=1e-5, abs=1e-6), (row, column)


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_splat_gives_its_formula(backend):
    splat = torch.tensor([[2.5, 1.5, 0.5, 0.1, 0.4, 0.8, 0.2, 0.4, 0.6, 10.0]])
    image = ops.rasterise(splat, 3, 5, backend=backend)
    dx, dy = 1.0, -1.0  # pixel (x=3, y=0), centre (3.5, 0.5)
    alpha = 0.8 * torch.exp(torch.tensor(-(0.5 * (0.5 * dx * dx + 0.4 * dy * dy) + 0.1 * dx * dy)))
    torch.testing.assert_close(image[0, 3], alpha * torch.tensor([0.2, 0.4, 0.6, 1.0]))
    torch.testing.assert_close(image[1, 2], 0.8 * torch.tensor([0.2, 0.4, 0.6, 1.0]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_permuting_the_splats_changes_nothing(scene, backend):
    made = scene(3, 400, 40, 44)
    splats = ops.project(*made.inputs(torch.float32), *made.camera, backend=backend).detach()
    order = torch.randperm(400, generator=torch.Generator().manual_seed(0))
    assert torch.equal(
        ops.rasterise(splats, 40, 44, backend=backend),
        ops.rasterise(splats[order].contiguous(), 40, 44, backend=backend),
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_opaque_front_hides_what_is_behind(backend):
    front = torch.tensor([[8.0, 8, 1e-4, 0, 1e-4, 1.0, 1, 0, 0, 5]])
    wall = front.repeat(3, 1)  # 0.99 each: transmittance 1e-6 after three
    behind = torch.tensor([[8.0, 8, 0.01, 0, 0.01, 1.0, 0, 1, 0, 9]])
    with_back = ops.rasterise(torch.cat([behind, wall]), 16, 16, backend=backend)
    assert torch.equal(with_back, ops.rasterise(wall, 16, 16, backend=backend))
    in_front = behind.clone()
    in_front[0, 9] = 1
    assert not torch.equal(ops.rasterise(torch.cat([in_front, wall]), 16, 16, backend=backend), with_back)


@pytest.mark.parametrize("backend", BACKENDS)
def test_ties_in_depth_go_by_index(backend):
    pair = torch.tensor([[2.0, 2, 0.1, 0, 0.1, 0.9, 1, 0, 0, 7], [2.0, 2, 0.1, 0, 0.1, 0.9, 0, 1, 0, 7]])
    image = ops.rasterise(pair, 4, 4, backend=backend)
    assert image[1, 1, 0] > 5 * image[1, 1, 1]
    swapped = ops.rasterise(pair.flip(0).contiguous(), 4, 4, backend=backend)
    assert swapped[1, 1, 1] > 5 * swapped[1, 1, 0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_alpha_stays_in_its_range(scene, backend):
    made = scene(8, 1500, 33, 35, log_scale=0.5)
    image = ops.rasterise(
        ops.project(*made.inputs(torch.float32), *made.camera, backend=backend), 33, 35, backend=backend
    )
    assert image[..., 3].min() >= 0
    assert image[..., 3].max() <= 1
    assert image[..., 3].max() > 0.99
    # White splats: the premultiplied colour is the alpha itself.
    splats = ops.project(*made.inputs(torch.float32), *made.camera, backend=backend).detach().clone()
    splats[:, 6:9] = 1
    white = ops.rasterise(splats, 33, 35, backend=backend)
    torch.testing.assert_close(white[..., 0], white[..., 3], rtol=0, atol=2e-6)


def test_depth_agrees_with_the_reference_in_value_and_gradient(isa, separated, relative_error):
    chosen = torch.randn(60, 70, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    results = []
    for dtype, backend in ((torch.float64, "reference"), (torch.float32, "cpu")):
        leaf = separated(25, 60, 70).to(dtype).requires_grad_()
        depth = ops.rasterise_depth(leaf, 60, 70, backend=backend)
        (depth * chosen.to(dtype)).sum().backward()
        results.append((depth.detach(), leaf.grad))
    (want, want_grad), (got, got_grad) = results
    assert relative_error(got, want) < 1e-6
    for column in (0, 1, 2, 3, 4, 5, 9):
        assert relative_error(got_grad[:, column], want_grad[:, column]) < 1e-5, column
    assert not want_grad[:, 6:9].any()
    assert not got_grad[:, 6:9].any()


def test_depth_passes_finite_differences_on_separated_splats(separated):
    splats = separated(4, 24, 24).requires_grad_()
    ops.rasterise_depth(splats, 24, 24)[8:12, 4:20].sum().backward()
    with torch.no_grad():
        for row in range(4):
            up, down = splats.clone(), splats.clone()
            up[row, 9] += 1e-4
            down[row, 9] -= 1e-4
            difference = ops.rasterise_depth(up, 24, 24) - ops.rasterise_depth(down, 24, 24)
            slope = float(difference[8:12, 4:20].sum()) / 2e-4
            assert slope == pytest.approx(float(splats.grad[row, 9]), rel=1e-6, abs=1e-9), row


@pytest.mark.parametrize("backend", BACKENDS)
def test_depth_over_alpha_is_where_the_splats_are(scene, backend):
    made = scene(5, 900, 33, 35, log_scale=0.5)
    splats = ops.project(*made.inputs(torch.float32), *made.camera, backend=backend).detach().clone()
    seen = splats[:, 9] > 0
    alpha = ops.rasterise(splats, 33, 35, backend=backend)[..., 3]
    mean = ops.rasterise_depth(splats, 33, 35, backend=backend) / alpha.clamp(min=1e-6)
    drawn = alpha > 0.01
    assert drawn.any()
    assert mean[drawn].min() >= splats[seen, 9].min() * (1 - 1e-5)
    assert mean[drawn].max() <= splats[seen, 9].max() * (1 + 1e-5)
    splats[seen, 9] = 50.0  # all at one depth
    flat = ops.rasterise_depth(splats, 33, 35, backend=backend)
    torch.testing.assert_close(flat, 50 * ops.rasterise(splats, 33, 35, backend=backend)[..., 3], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (17, 1), (30, 31)])
def test_no_gaussians_give_nothing(backend, height, width):
    splats = torch.zeros(0, 10, requires_grad=True)
    image = ops.rasterise(splats, height, width, backend=backend)
    assert image.shape == (height, width, 4)
    assert not image.any()
    image.sum().backward()
    assert splats.grad is None or splats.grad.shape == (0, 10)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_picture_of_one_pixel(backend):
    splat = torch.tensor([[0.5, 0.5, 1.0, 0, 1.0, 0.5, 1, 0.5, 0.25, 3]])
    torch.testing.assert_close(ops.rasterise(splat, 1, 1, backend=backend)[0, 0], torch.tensor([0.5, 0.25, 0.125, 0.5]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_that_cannot_be_drawn_are_left_out(backend):
    good = torch.tensor([[4.0, 4, 0.5, 0, 0.5, 0.7, 1, 1, 1, 5]])
    bad = good.repeat(9, 1)
    bad[0, 9] = -1  # culled
    bad[1, 5] = 0.003  # less than 1/255
    bad[2, 0] = float("nan")
    bad[3, 2] = float("inf")
    bad[4, 3] = 2.0  # not positive definite
    bad[5, 2] = -0.5
    bad[6, :2] = 1e6  # far outside
    bad[7, 5] = float("nan")
    bad[8, 9] = float("nan")
    leaf = torch.cat([bad, good]).requires_grad_()
    image = ops.rasterise(leaf, 9, 9, backend=backend)
    assert torch.equal(image.detach(), ops.rasterise(good, 9, 9, backend=backend))
    image.sum().backward()
    assert not leaf.grad[:9].any()
    assert leaf.grad[9].any()


def test_huge_and_tiny_splats_agree(isa, relative_error):
    rows = [[20.0, 15, 1e-5, 0, 2e-5, 0.9, 1, 0, 0, 5], [11.3, 7.9, 3.0, 0.5, 2.5, 0.99, 0, 1, 0, 4]]
    rows += [[-30.0, 10, 1e-3, 5e-4, 1e-3, 0.8, 0, 0, 1, 3], [5.0, 45, 2e-3, -1.9e-3, 2e-3, 1.0, 1, 1, 0, 6]]
    (want, want_grad), (got, got_grad) = both(torch.tensor(rows, dtype=torch.float64), 31, 42)
    assert (got - want).abs().max() < 5e-6
    assert relative_error(got_grad, want_grad) < 1e-4


def test_native_is_repeatable_bit_for_bit(isa, scene):
    made = scene(11, 2000, 90, 75)
    seen = []
    for _ in range(3):
        inputs = made.inputs(torch.float32)
        image = ops.rasterise(ops.project(*inputs, *made.camera, backend="cpu"), 90, 75, backend="cpu")
        image.square().sum().backward()
        seen.append([image.detach(), *(t.grad for t in inputs)])
        ops.rasterise(torch.rand(50, 10), 20, 20, backend="cpu")  # other work in between, in the same workspace
    for later in seen[1:]:
        for first, again in zip(seen[0], later, strict=True):
            assert torch.equal(first, again)


def test_the_picture_does_not_depend_on_threads(scene):
    made = scene(12, 1500, 70, 64)
    splats = ops.project(*made.inputs(torch.float32), *made.camera, backend="cpu").detach()
    before = native.threads()
    images = []
    try:
        for count in (1, 2, 5):
            native.set_threads(count)
            images.append(ops.rasterise(splats, 70, 64, backend="cpu"))
    finally:
        native.set_threads(before)
    assert torch.equal(images[0], images[1])
    assert torch.equal(images[0], images[2])


def test_backward_after_another_forward_uses_its_own_splats(scene):
    made, other = scene(1, 300, 40, 40), scene(2, 300, 40, 40)
    splats = ops.project(*made.inputs(torch.float32), *made.camera, backend="cpu").detach()
    apart, mixed = splats.clone().requires_grad_(), splats.clone().requires_grad_()
    ops.rasterise(apart, 40, 40, backend="cpu").sum().backward()
    image = ops.rasterise(mixed, 40, 40, backend="cpu")
    ops.rasterise(ops.project(*other.inputs(torch.float32), *other.camera, backend="cpu"), 40, 40, backend="cpu")
    image.sum().backward()
    assert torch.equal(apart.grad, mixed.grad)


def test_over_a_picture_agrees_with_the_floats(isa, scene):
    made = scene(6, 700, 45, 50)
    splats = ops.project(*made.inputs(torch.float32), *made.camera, backend="cpu").detach()
    background = torch.randint(0, 256, (45, 50, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    got = ops.rasterise_over(splats, background, backend="cpu").int()
    image = ops.rasterise(splats, 45, 50, backend="cpu")
    want = ((image[..., :3] + (1 - image[..., 3:]) * background / 255).clamp(0, 1) * 255).round().int()
    assert (got - want).abs().max() <= 1  # a value within float32 rounding of a half may go either way
    assert ((got - want) != 0).double().mean() < 1e-3
    nothing = ops.rasterise_over(torch.zeros(0, 10), background, backend="cpu")
    assert torch.equal(nothing, background)


def test_render_frame_is_the_three_operations(isa, scene):
    made = scene(7, 500, 45, 50)
    attributes, skin, head, torso = (t.detach() for t in made.inputs(torch.float32))
    random = torch.Generator().manual_seed(0)
    deltas = 0.05 * torch.randn(500, 4, 14, generator=random)
    weights = torch.randn(2, 4, generator=random)
    group = torch.randint(0, 2, (500,), generator=random, dtype=torch.int32)
    background = torch.randint(0, 256, (45, 50, 3), generator=random, dtype=torch.uint8)
    got = ops.render_frame(
        attributes, deltas, weights, group, skin, head, torso, *made.camera[:3], background, backend="cpu"
    )
    blended = ops.blend(attributes, deltas, weights, group, backend="cpu")
    splats = ops.project(blended, skin, head, torso, *made.camera, backend="cpu")
    assert torch.equal(got, ops.rasterise_over(splats, background, backend="cpu"))


def test_half_deltas_give_the_picture_of_their_float_copy(isa, scene):
    made = scene(7, 500, 45, 50)
    attributes, skin, head, torso = (t.detach() for t in made.inputs(torch.float32))
    random = torch.Generator().manual_seed(1)
    # Down to the subnormal numbers of half precision, which a careless conversion would flush to zero.
    deltas = (torch.randn(500, 4, 14, generator=random) * 10 ** (-7 * torch.rand(500, 4, 14, generator=random))).half()
    assert ((deltas != 0) & (deltas.abs() < 6e-5)).sum() > 1000
    weights = torch.randn(2, 4, generator=random)
    weights[0] *= 1e4
    group = torch.randint(0, 2, (500,), generator=random, dtype=torch.int32)
    background = torch.randint(0, 256, (45, 50, 3), generator=random, dtype=torch.uint8)
    pictures = [
        ops.render_frame(attributes, d, weights, group, skin, head, torso, *made.camera[:3], background, backend="cpu")
        for d in (deltas, deltas.float())
    ]
    assert torch.equal(*pictures)
    assert not torch.equal(pictures[0], background)
    for backend in BACKENDS:
        assert torch.equal(
            *(ops.blend(attributes, d, weights, group, backend=backend) for d in (deltas, deltas.float()))
        )
