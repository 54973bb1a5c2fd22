"""Ray march and compositing for CUDA tensors: checks, outputs, then calls of the native library, as in `cuda_kernels`.

How many samples there are is waited for, once a march: their memory cannot be asked for before.
"""

from __future__ import annotations

import torch
from torch import Tensor

from avatarfit.ops import native_cuda
from avatarfit.ops._checks import pointer

WORD = 8
"""Bytes of the occupancy grid are read eight at a time."""


def march_rays(
    origins: Tensor, directions: Tensor, near: Tensor, far: Tensor, box: list[float], occupancy: Tensor,
    coarse: Tensor, step: float, max_samples: int, jitter: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Kernel of `avatarfit::march_rays`."""
    rays, device = len(origins), origins.device
    edges = torch.tensor(box, dtype=torch.float32)
    given = (
        pointer("origins", origins, (rays, 3), device=device),
        pointer("directions", directions, (rays, 3), device=device),
        pointer("near", near, (rays,), device=device),
        pointer("far", far, (rays,), device=device),
        None if jitter is None else pointer("jitter", jitter, (rays,), device=device),
        rays,
        pointer("box", edges, (6,)),
        pointer("occupancy", occupancy, (None,), torch.uint8, device, multiple_of=WORD),
        pointer("coarse", coarse, (None,), torch.uint8, device, multiple_of=WORD),
        round((8 * occupancy.numel()) ** (1 / 3)),
        step,
    )
    counts, firsts = torch.empty(2, rays, dtype=torch.int32, device=device)
    native_cuda.call("af_cuda_march_rays_count", device, *given, max_samples, counts.data_ptr(), firsts.data_ptr())
    offsets = torch.zeros(rays + 1, dtype=torch.int64, device=device)
    torch.cumsum(counts, 0, out=offsets[1:])
    total = int(offsets[-1])
    out = origins.new_empty(total, 3), origins.new_empty(total), origins.new_empty(total), offsets
    native_cuda.call(
        "af_cuda_march_rays_write", device, *given, firsts.data_ptr(), offsets.data_ptr(),
        *(o.data_ptr() for o in out[:3]),
    )  # fmt: skip
    return out


def _sample_pointers(sigma: Tensor, color: Tensor, t: Tensor, lengths: Tensor, offsets: Tensor) -> tuple[int, ...]:
    (samples, channels), device = color.shape, sigma.device
    return (
        pointer("sigma", sigma, (samples,), device=device),
        pointer("color", color, (samples, channels), device=device),
        pointer("t", t, (samples,), device=device),
        pointer("lengths", lengths, (samples,), device=device),
        pointer("offsets", offsets, (None,), torch.int64, device),
        len(offsets) - 1,
        channels,
    )


def composite_rays(
    sigma: Tensor, color: Tensor, t: Tensor, lengths: Tensor, offsets: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Kernel of `avatarfit::composite_rays`."""
    rays = len(offsets) - 1
    out = (
        color.new_empty(rays, color.shape[1]),
        sigma.new_empty(rays),
        sigma.new_empty(rays),
        torch.empty_like(sigma),
    )
    given = _sample_pointers(sigma, color, t, lengths, offsets)
    native_cuda.call("af_cuda_composite_rays", sigma.device, *given, *(o.data_ptr() for o in out))
    return out


def composite_rays_backward(
    grad_color: Tensor, grad_alpha: Tensor, grad_depth: Tensor, grad_weights: Tensor | None, sigma: Tensor,
    color: Tensor, t: Tensor, lengths: Tensor, offsets: Tensor, weights: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Kernel of `avatarfit::composite_rays_backward`."""
    rays, samples, device = len(offsets) - 1, len(sigma), sigma.device
    out = torch.empty_like(sigma), torch.empty_like(color)
    native_cuda.call(
        "af_cuda_composite_rays_backward", device,
        *_sample_pointers(sigma, color, t, lengths, offsets),
        pointer("weights", weights, (samples,), device=device),
        pointer("grad_color", grad_color, (rays, color.shape[1]), device=device),
        pointer("grad_alpha", grad_alpha, (rays,), device=device),
        pointer("grad_depth", grad_depth, (rays,), device=device),
        None if grad_weights is None else pointer("grad_weights", grad_weights, (samples,), device=device),
        *(o.data_ptr() for o in out),
    )  # fmt: skip
    return out
