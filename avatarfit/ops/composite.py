"""Samples along rays to pixels: emission and absorption (Max 1995, "Optical Models for Direct Volume Rendering"; the
quadrature is equation 3 of Mildenhall et al. 2020, "NeRF").

A sample of density sigma that stands for a length d absorbs `a = 1 - exp(-sigma d)` of what comes from behind it. Its
own light reaches the eye with weight `T a`, where T, the transmittance, is the product of `1 - a` over the samples
before it. A sample whose T is below `layout.TRANSMITTANCE_MIN` takes no part, in value or gradient: its weight is 0.
Alpha is the sum of the weights; the caller composites what lies behind with `1 - alpha`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from avatarfit.ops import cuda_volume, layout, native, vendor_nerfacc
from avatarfit.ops._checks import check, pointer
from avatarfit.ops.backend import wants_native
from avatarfit.ops.registry import LIBRARY, register

MAX_CHANNELS = 32


class RayLight(NamedTuple):
    """What rays see of their samples."""

    color: Tensor
    """[R, C], premultiplied by alpha."""
    alpha: Tensor
    """[R]: the sum of the weights."""
    depth: Tensor
    """[R]: the sum of the weights times t; divided by alpha, the mean."""
    weights: Tensor
    """[S]: how much of each sample its ray sees."""


def composite_rays(
    sigma: Tensor,  # [S]
    color: Tensor,  # [S, C]
    t: Tensor,  # [S]
    lengths: Tensor,  # [S]
    offsets: Tensor,  # int64 [R + 1]
    *,
    backend: str = "auto",
) -> RayLight:
    """What each ray sees, front to back; gradients go to sigma and colour, from all four results.

    Args:
        sigma: [S], not negative, per unit of `lengths`.
        color: [S, C], C from 1 to 32: red, green, blue and whatever else is to be summed alike.
        t, lengths, offsets: as from `march_rays`. Offsets begin with 0, do not fall and end with S: only the last is
            looked at, on CUDA none is.
        backend: `auto | reference | cpu | cuda | nerfacc`.

    Returns:
        `RayLight`. A ray without samples has zeros.

    Raises:
        ValueError: a shape, dtype or stride does not fit.
        BackendError: the backend cannot take these tensors.
    """
    samples = len(sigma)
    check("sigma", sigma, (None,))
    check("color", color, (samples, None), sigma.dtype)
    check("t", t, (samples,), sigma.dtype)
    check("lengths", lengths, (samples,), sigma.dtype)
    check("offsets", offsets, (None,), torch.int64)
    if not 1 <= color.shape[1] <= MAX_CHANNELS:
        raise ValueError(f"color came with {color.shape[1]} channels; wanted 1 to {MAX_CHANNELS}")
    if len(offsets) < 1 or (offsets.device.type == "cpu" and (offsets[0] != 0 or int(offsets[-1]) != samples)):
        raise ValueError(f"offsets came without 0 at their begin or {samples} at their end; wanted both")
    if wants_native(backend, sigma):
        if backend == "nerfacc":
            return RayLight(*vendor_nerfacc.composite_rays_nerfacc(sigma, color, t, lengths, offsets))
        return RayLight(*torch.ops.avatarfit.composite_rays(sigma, color, t, lengths, offsets))
    return composite_rays_reference(sigma, color, t, lengths, offsets)


def composite_rays_reference(sigma: Tensor, color: Tensor, t: Tensor, lengths: Tensor, offsets: Tensor) -> RayLight:
    """Plain torch twin of `composite_rays`, any float dtype: rays in rows as long as the longest."""
    counts = offsets.diff()
    place = torch.arange(int(counts.max()) if len(counts) else 0, device=sigma.device)
    filled = place < counts[:, None]
    depths = sigma.new_zeros(filled.shape).masked_scatter(filled, sigma * lengths)
    reaches = torch.exp(depths - depths.cumsum(1))
    weights = torch.where(reaches >= layout.TRANSMITTANCE_MIN, -reaches * torch.expm1(-depths), 0.0)[filled]
    ray = torch.repeat_interleave(torch.arange(len(counts), device=sigma.device), counts)
    sums = torch.cat([color, torch.ones_like(t)[:, None], t[:, None]], 1) * weights[:, None]
    out = sums.new_zeros(len(counts), sums.shape[1]).index_add(0, ray, sums)
    return RayLight(out[:, :-2], out[:, -2], out[:, -1], weights)


LIBRARY.define(
    "composite_rays(Tensor sigma, Tensor color, Tensor t, Tensor lengths, Tensor offsets)"
    " -> (Tensor, Tensor, Tensor, Tensor)"
)
LIBRARY.define(
    "composite_rays_backward(Tensor grad_color, Tensor grad_alpha, Tensor grad_depth, Tensor? grad_weights,"
    " Tensor sigma, Tensor color, Tensor t, Tensor lengths, Tensor offsets, Tensor weights) -> (Tensor, Tensor)"
)


def _pointers(sigma: Tensor, color: Tensor, t: Tensor, lengths: Tensor, offsets: Tensor) -> tuple[int, ...]:
    samples, channels = color.shape
    return (
        pointer("sigma", sigma, (samples,)),
        pointer("color", color, (samples, channels)),
        pointer("t", t, (samples,)),
        pointer("lengths", lengths, (samples,)),
        pointer("offsets", offsets, (None,), torch.int64),
        len(offsets) - 1,
        channels,
    )


def _composite_rays_cpu(
    sigma: Tensor, color: Tensor, t: Tensor, lengths: Tensor, offsets: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    if bool((offsets.diff() < 0).any()):
        raise ValueError("offsets came with one below the one before it; wanted offsets that do not fall")
    out = _fake(sigma, color, t, lengths, offsets)
    given = _pointers(sigma, color, t, lengths, offsets)
    native.check_status(native.load().af_composite_rays(*given, *(o.data_ptr() for o in out)))
    return out


def _composite_rays_backward_cpu(
    grad_color: Tensor, grad_alpha: Tensor, grad_depth: Tensor, grad_weights: Tensor | None, sigma: Tensor,
    color: Tensor, t: Tensor, lengths: Tensor, offsets: Tensor, weights: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    rays, samples = len(offsets) - 1, len(sigma)
    out = torch.empty_like(sigma), torch.empty_like(color)
    status = native.load().af_composite_rays_backward(
        *_pointers(sigma, color, t, lengths, offsets),
        pointer("weights", weights, (samples,)),
        pointer("grad_color", grad_color, (rays, color.shape[1])),
        pointer("grad_alpha", grad_alpha, (rays,)),
        pointer("grad_depth", grad_depth, (rays,)),
        None if grad_weights is None else pointer("grad_weights", grad_weights, (samples,)),
        *(o.data_ptr() for o in out),
    )
    native.check_status(status)
    return out


def _fake(
    sigma: Tensor, color: Tensor, t: Tensor, lengths: Tensor, offsets: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rays = len(offsets) - 1
    return (
        color.new_empty(rays, color.shape[1]),
        sigma.new_empty(rays),
        sigma.new_empty(rays),
        torch.empty_like(sigma),
    )


def _setup(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    ctx.set_materialize_grads(False)  # the weights' would be zeros for every sample
    ctx.save_for_backward(*inputs, output[3])


def _backward(ctx, grad_color, grad_alpha, grad_depth, grad_weights):  # type: ignore[no-untyped-def]
    sigma, color, _, _, offsets, _ = ctx.saved_tensors
    rays = len(offsets) - 1
    shapes = (rays, color.shape[1]), (rays,), (rays,)
    given = [
        sigma.new_zeros(shape) if grad is None else grad.contiguous()
        for grad, shape in zip((grad_color, grad_alpha, grad_depth), shapes, strict=True)
    ]
    of_weights = None if grad_weights is None else grad_weights.contiguous()
    grads = torch.ops.avatarfit.composite_rays_backward(*given, of_weights, *ctx.saved_tensors)
    return *grads, None, None, None


register(
    "composite_rays",
    cpu=_composite_rays_cpu,
    cuda=cuda_volume.composite_rays,
    fake=_fake,
    setup=_setup,
    backward=_backward,
)
register(
    "composite_rays_backward",
    cpu=_composite_rays_backward_cpu,
    cuda=cuda_volume.composite_rays_backward,
    fake=lambda grad_color, grad_alpha, grad_depth, grad_weights, sigma, color, *_: (
        torch.empty_like(sigma),
        torch.empty_like(color),
    ),
)
