"""`march_rays` and `composite_rays` by nerfacc (Li et al. 2023), where it is installed: another backend and yardstick.

The only importer of nerfacc. It walks the cells along a ray and takes the intervals whose middle lies in an occupied
one: with the lattice begun where the ray enters the box those are ours, but for roundings at cells' faces and for the
interval that the box cuts short. Not yet run on a GPU.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util

import torch
from torch import Tensor

from avatarfit.contracts import BackendError
from avatarfit.ops import layout, native_cuda


def describe() -> str:
    """What would be used, in words.

    Raises:
        BackendError: nerfacc is not installed or there is no GPU.
    """
    if importlib.util.find_spec("nerfacc") is None:
        raise BackendError(
            "nerfacc is not installed",
            "nerfacc 0.5.3 or newer",
            "run pip install avatarfit[gpu] on a machine with a GPU, or ask for backend 'cuda'",
        )
    device = native_cuda.device_name()
    return f"nerfacc {importlib.metadata.version('nerfacc')} for ray marching and compositing, on {device}"


def march_rays_nerfacc(
    origins: Tensor, directions: Tensor, near: Tensor, far: Tensor, box: list[float], occupied: Tensor, step: float,
    max_samples: int, jitter: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """What `march_rays` gives, by nerfacc: positions [S, 3], t [S], lengths [S], offsets [R + 1].

    Args: as `march_rays`, checked there; float32 on one CUDA device. A jitter moves a sample in its interval, not which
        intervals are kept.
        occupied: bool [G, G, G] by x, y, z.
    """
    import nerfacc

    rays = len(origins)
    edges = origins.new_tensor(box)
    enters, leaves = _stretch(origins, directions, near, far, edges)
    intervals, samples, _ = nerfacc.traverse_grids(
        origins, directions, occupied[None], edges[None], near_planes=enters, far_planes=leaves, step_size=step
    )
    begins, ends = intervals.vals[intervals.is_left], intervals.vals[intervals.is_right]
    ray = samples.ray_indices.long()
    ends = torch.minimum(ends, leaves[ray])
    counts = torch.bincount(ray, minlength=rays)
    # The nearest so many of a ray.
    place = torch.arange(len(ray), device=ray.device) - (counts.cumsum(0) - counts)[ray]
    kept = (place < max_samples) & (begins < ends)
    begins, ends, ray = begins[kept], ends[kept], ray[kept]
    lengths = ends - begins
    t = begins + (0.5 if jitter is None else jitter[ray]) * lengths
    positions = torch.minimum(torch.maximum(origins[ray] + t[:, None] * directions[ray], edges[:3]), edges[3:])
    counts = torch.bincount(ray, minlength=rays)
    return positions, t, lengths, torch.nn.functional.pad(counts.cumsum(0), (1, 0))


def _stretch(origins: Tensor, directions: Tensor, near: Tensor, far: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
    """Where each ray enters and leaves the box, [R] each; the same twice for one that has no way through it."""
    still = directions == 0
    one, other = (edges[:3] - origins) / directions, (edges[3:] - origins) / directions
    enters = torch.where(still, -torch.inf, torch.minimum(one, other)).amax(1).maximum(near)
    leaves = torch.where(still, torch.inf, torch.maximum(one, other)).amin(1).minimum(far)
    inside = (~still | ((origins >= edges[:3]) & (origins <= edges[3:]))).all(1) & ~still.all(1)
    usable = inside & enters.isfinite() & leaves.isfinite() & (enters < leaves)
    zero = torch.zeros_like(enters)
    return torch.where(usable, enters, zero), torch.where(usable, leaves, zero)


def composite_rays_nerfacc(
    sigma: Tensor, color: Tensor, t: Tensor, lengths: Tensor, offsets: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What `composite_rays` gives, by nerfacc: colour [R, C], alpha [R], depth [R], weights [S].

    Args: as `composite_rays`, checked there; float32 on one CUDA device.
    """
    import nerfacc

    rays = len(offsets) - 1
    counts = offsets.diff()
    ray = torch.repeat_interleave(torch.arange(rays, device=offsets.device), counts, output_size=len(t))
    weights, reaches, _ = nerfacc.render_weight_from_density(
        torch.zeros_like(lengths), lengths, sigma, ray_indices=ray, n_rays=rays
    )
    weights = torch.where(reaches >= layout.TRANSMITTANCE_MIN, weights, 0.0)
    values = torch.cat([color, torch.ones_like(t)[:, None], t[:, None]], 1)
    sums = nerfacc.accumulate_along_rays(weights, values=values, ray_indices=ray, n_rays=rays)
    return sums[:, :-2], sums[:, -2], sums[:, -1], weights
