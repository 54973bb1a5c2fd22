"""The CUDA source of ray march and compositing, run on the CPU by `cuda_on_host`, against the reference."""

from __future__ import annotations

import pytest
import torch

from avatarfit import ops
from avatarfit.ops import cuda_volume
from avatarfit.ops.march import coarse_bits, pack_bits

BOX = (-1.0, -1.2, -0.7, 1.1, 1.0, 0.9)


@pytest.mark.parametrize(("side", "share"), [(4, 1.0), (16, 0.1), (64, 0.01), (8, 0.0)])
@pytest.mark.parametrize(("step", "most", "jittered"), [(0.02, 2**20, True), (0.3, 3, False)])
def test_march_keeps_the_samples_of_the_reference(emulation, side, share, step, most, jittered):
    random = torch.Generator().manual_seed(side)
    origins = 2 * torch.randn(150, 3, generator=random)
    origins[::3] *= 0.2
    directions = torch.nn.functional.normalize(torch.randn(150, 3, generator=random) - 0.5 * origins, dim=1)
    directions[::5, 0], directions[::7, 1:] = 0, 0
    near, far = 0.2 * torch.rand(150, generator=random), 2 + 4 * torch.rand(150, generator=random)
    far[::9] = torch.nan
    occupancy = pack_bits(torch.rand(side**3, generator=random) < share)
    jitter = torch.rand(150, generator=random) if jittered else None
    rays = origins, directions, near, far
    want = ops.march_rays(*rays, BOX, occupancy, step, most, jitter=jitter, backend="reference")
    got = cuda_volume.march_rays(*rays, list(BOX), occupancy, coarse_bits(occupancy), step, most, jitter)
    for name, a, b in zip(want._fields, want, got, strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("rays", [[1], [0, 1, 0, 5, 31, 32, 33, 64, 100, 0], [300, 3]], ids=["one", "mixed", "long"])
@pytest.mark.parametrize("density", [0.01, 3.0, 300.0])
@pytest.mark.parametrize(("channels", "of_weights"), [(3, True), (32, False)])
def test_compositing_and_its_gradients(emulation, relative_error, rays, density, channels, of_weights):
    # Measured worst: 6.9e-7.
    random = torch.Generator().manual_seed(len(rays))
    total = sum(rays)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    offsets = torch.tensor([0, *rays]).cumsum(0)
    sigma, color = density * normal(total).square(), normal(total, channels)
    t, lengths = 3 + normal(total).square(), 0.01 + 0.05 * normal(total).square()
    chosen = normal(len(rays), channels), normal(len(rays)), normal(len(rays)), normal(total)
    leaves = sigma.clone().requires_grad_(), color.clone().requires_grad_()
    want = ops.composite_rays(*leaves, t, lengths, offsets, backend="reference")
    used = 4 if of_weights else 3
    sum((out * grad).sum() for out, grad in zip(want[:used], chosen, strict=False)).backward()
    inputs = [v.float() for v in (sigma, color, t, lengths)]
    got = cuda_volume.composite_rays(*inputs, offsets)
    for expected, found in zip(want, got, strict=True):
        assert relative_error(found, expected.detach()) < 3e-6
    given = [grad.float() for grad in chosen[:3]]
    grads = cuda_volume.composite_rays_backward(
        *given, chosen[3].float() if of_weights else None, *inputs, offsets, got[3]
    )
    for leaf, found in zip(leaves, grads, strict=True):
        assert relative_error(found, leaf.grad) < 3e-6


def test_what_lies_behind_an_opaque_front_has_neither_value_nor_gradient(emulation):
    sigma = torch.tensor([8.0, 2.0, *[1.0] * 60])
    color, ones, offsets = torch.rand(62, 3), torch.ones(62), torch.tensor([0, 62])
    out = cuda_volume.composite_rays(sigma, color, ones, ones, offsets)
    grads = cuda_volume.composite_rays_backward(
        torch.ones(1, 3), torch.ones(1), torch.ones(1), ones, sigma, color, ones, ones, offsets, out[3]
    )
    for values in (out[3], *grads):
        assert values[2:].eq(0).all()
        assert values[:2].ne(0).all()


def test_nothing_is_marched_and_composited_into_nothing(emulation):
    nothing, full = torch.zeros(0), torch.full((8,), 255, dtype=torch.uint8)
    none = torch.zeros(0, 3)
    found = cuda_volume.march_rays(none, none, nothing, nothing, list(BOX), full, full, 0.1, 9, None)
    assert [len(t) for t in found] == [0, 0, 0, 1]
    out = cuda_volume.composite_rays(nothing, torch.zeros(0, 3), nothing, nothing, torch.zeros(3, dtype=torch.int64))
    assert out[0].eq(0).all()
    assert out[0].shape == (2, 3)
