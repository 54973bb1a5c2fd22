"""The picture loss and the fused optimiser against straightforward torch."""

from __future__ import annotations

import pytest
import torch

from avatarfit import ops


def pictures(height: int, width: int, channels: int = 3) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(height * 100 + width)
    shapes = (height, width, channels), (height, width, 3), (height, width), (height, width, 3)
    return [torch.rand(*s, generator=random, dtype=torch.float64) for s in shapes]


@pytest.mark.parametrize(("height", "width"), [(1, 1), (4, 3), (11, 11), (40, 33), (45, 61), (64, 128)])
@pytest.mark.parametrize("fraction", [0.0, 0.2, 1.0])
def test_loss_agrees_in_value_and_gradient(isa, relative_error, height, width, fraction):
    # Measured worst (AVX2 and baseline): value 3.8e-7, gradient 7.0e-7.
    image, target, weight, _ = pictures(height, width)
    results = []
    for dtype, backend in ((torch.float64, "reference"), (torch.float32, "cpu")):
        leaf = image.to(dtype).clone().requires_grad_()
        loss = ops.l1_dssim(leaf, target.to(dtype), weight.to(dtype), fraction, backend=backend)
        (3 * loss).backward()
        results.append((loss.detach(), leaf.grad))
    (want, want_grad), (got, got_grad) = results
    assert relative_error(got, want) < 1e-6
    assert relative_error(got_grad, want_grad) < 5e-6


@pytest.mark.parametrize(("height", "width"), [(7, 5), (45, 61)])
def test_loss_over_a_background_agrees(isa, relative_error, height, width):
    image, target, weight, background = pictures(height, width, 4)
    results = []
    for dtype, backend in ((torch.float64, "reference"), (torch.float32, "cpu")):
        leaf = image.to(dtype).clone().requires_grad_()
        others = [t.to(dtype) for t in (target, weight)]
        loss = ops.l1_dssim(leaf, *others, 0.3, background=background.to(dtype), backend=backend)
        loss.backward()
        results.append((loss.detach(), leaf.grad))
    (want, want_grad), (got, got_grad) = results
    assert relative_error(got, want) < 1e-6
    assert relative_error(got_grad, want_grad) < 5e-6


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("channels", [3, 4])
def test_the_loss_with_its_gradient_is_what_autograd_gives(backend, channels):
    image, target, weight, background = (t.float() for t in pictures(45, 61, channels))
    background = background if channels == 4 else None
    leaf = image.clone().requires_grad_()
    loss = ops.l1_dssim(leaf, target, weight, 0.3, background=background, backend=backend)
    loss.backward()
    for given in (image, leaf):
        value, gradient = ops.l1_dssim_with_gradient(given, target, weight, 0.3, background=background, backend=backend)
        assert torch.equal(value, loss.detach())
        assert torch.equal(gradient, leaf.grad)
        assert not value.requires_grad
        assert not gradient.requires_grad
    assert not image.requires_grad


def test_ssim_reference_is_the_definition():
    # One window in the middle of an 11x11 picture, written out by hand.
    x, y, *_ = pictures(11, 11)
    offset = torch.arange(11, dtype=torch.float64) - 5
    taps = torch.exp(-(offset**2) / 4.5)
    window = (taps[:, None] * taps[None, :] / taps.sum() ** 2)[..., None]
    mu_x, mu_y = (window * x).sum((0, 1)), (window * y).sum((0, 1))
    var_x, var_y = (window * (x - mu_x) ** 2).sum((0, 1)), (window * (y - mu_y) ** 2).sum((0, 1))
    cov = (window * (x - mu_x) * (y - mu_y)).sum((0, 1))
    want = (2 * mu_x * mu_y + 1e-4) * (2 * cov + 9e-4) / ((mu_x**2 + mu_y**2 + 1e-4) * (var_x + var_y + 9e-4))
    torch.testing.assert_close(ops.ssim_map(x, y)[5, 5], want)


def test_equal_pictures_lose_nothing(isa):
    image = torch.rand(30, 20, 3)
    leaf = image.clone().requires_grad_()
    loss = ops.l1_dssim(leaf, image, torch.ones(30, 20), 0.5, backend="cpu")
    loss.backward()
    assert abs(float(loss.detach())) < 1e-6
    assert leaf.grad.abs().max() < 1e-6


def test_pixels_without_weight_do_not_count_in_l1(isa):
    image, target = torch.rand(12, 12, 3), torch.rand(12, 12, 3)
    weight = torch.zeros(12, 12)
    weight[3, 4] = 2.0
    loss = ops.l1_dssim(image, target, weight, 0.0, backend="cpu")
    torch.testing.assert_close(loss, (image - target)[3, 4].abs().mean())


def test_reference_loss_passes_finite_differences():
    image, target, weight, _ = pictures(9, 8)
    leaf = image.requires_grad_()
    assert torch.autograd.gradcheck(lambda t: ops.l1_dssim(t, target, weight, 0.4), [leaf], eps=1e-7, atol=1e-6)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize(("count", "bases", "groups"), [(1, 1, 1), (300, 12, 3), (70, 5, 2)])
def test_fused_adam_follows_torch_adam(backend, relative_error, count, bases, groups):
    # Both float32; ten steps. Measured worst: parameters 4.1e-7, weights' gradient 5.9e-7.
    random = torch.Generator().manual_seed(count)
    base, deltas = torch.randn(count, 14, generator=random), torch.randn(count, bases, 14, generator=random)
    group = torch.randint(0, groups, (count,), generator=random, dtype=torch.int32)
    lr = torch.logspace(-4, -2, 14)
    decay = 0.1
    plain_base = [base[:, c].clone().requires_grad_() for c in range(14)]
    plain_deltas = [deltas[..., c].clone().requires_grad_() for c in range(14)]
    optimisers = [torch.optim.Adam([p], lr=float(lr[c]), eps=1e-12) for c, p in enumerate(plain_base)]
    optimisers += [
        torch.optim.AdamW([p], lr=float(2 * lr[c]), eps=1e-12, weight_decay=decay) for c, p in enumerate(plain_deltas)
    ]
    moments = [torch.zeros_like(t) for t in (base, base, deltas, deltas)]
    for step in range(1, 11):
        weights = torch.randn(groups, bases, generator=random)
        grad = torch.randn(count, 14, generator=random) * 10 ** float(torch.randint(-6, 1, (1,), generator=random))
        leaf = weights.clone().requires_grad_()
        blended = ops.blend_reference(torch.stack(plain_base, -1), torch.stack(plain_deltas, -1), leaf, group)
        for optimiser in optimisers:
            optimiser.zero_grad()
        (blended * grad).sum().backward()
        for optimiser in optimisers:
            optimiser.step()
        weights_grad = ops.blend_adam_step_(
            base, deltas, *moments, grad, weights, group, step, lr, 2 * lr,
            eps=1e-12, delta_weight_decay=decay, backend=backend,
        )  # fmt: skip
        assert relative_error(weights_grad, leaf.grad) < 1e-5
        assert relative_error(base, torch.stack(plain_base, -1).detach()) < 2e-6
        assert relative_error(deltas, torch.stack(plain_deltas, -1).detach()) < 2e-6


def test_fused_adam_native_agrees_with_reference(isa, relative_error):
    random = torch.Generator().manual_seed(1)
    start = [torch.randn(*s, generator=random) for s in ((500, 14), (500, 7, 14))]
    grad, weights = torch.randn(500, 14, generator=random), torch.randn(2, 7, generator=random)
    group = torch.randint(0, 2, (500,), generator=random, dtype=torch.int32)
    results = []
    for backend in ("reference", "cpu"):
        base, deltas = (t.clone() for t in start)
        moments = [torch.zeros_like(t) for t in (base, base, deltas, deltas)]
        lr = torch.full((14,), 1e-2)
        out = [
            ops.blend_adam_step_(base, deltas, *moments, grad * s, weights, group, s, lr, lr, backend=backend)
            for s in (1, 2, 3)
        ]
        results.append([base, deltas, *moments, *out])
    for want, got in zip(*results, strict=True):
        assert relative_error(got, want) < 5e-6
