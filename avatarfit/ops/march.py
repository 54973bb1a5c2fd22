"""Samples along rays through a box with an occupancy grid: what lies in empty cells is left out.

The stretch of a ray in the box, `[from, to)` between `near` and `far`, is cut into intervals of one fixed step that
begin at `from`; the last may be shorter, so the intervals' lengths sum to the stretch. Interval k, `[a, b)`, has one
sample at `t = a + jitter (b - a)`: its middle, unless a jitter is given. A sample is kept if its cell is occupied. The
kernels leave empty blocks, of up to 16^3 cells, by a step to their boundary, and keep exactly the samples that going
through all intervals keeps. (Occupancy grids for radiance fields: Müller et al. 2022, "Instant Neural Graphics
Primitives".)

A grid of G^3 cells is a bit to a cell, cell (x, y, z) at bit `i % 8` of byte `i // 8`, where i is its Morton code: the
bits of x, y and z in turn, x lowest. So a byte is a block of 2^3 cells and eight bytes one of 4^3.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from avatarfit.ops import cuda_volume, native, vendor_nerfacc
from avatarfit.ops._checks import check, pointer
from avatarfit.ops.backend import wants_native
from avatarfit.ops.registry import LIBRARY, register

MAX_STEPS = 1 << 20
"""A ray has no more intervals than this."""
SMALLEST_GRID, LARGEST_GRID = 4, 512
WORD = 8
"""Bytes of the grid are read eight at a time."""


class RaySamples(NamedTuple):
    """Samples of all rays, those of one ray in a row and in order. None of it is differentiable."""

    positions: Tensor
    """[S, 3], in the box."""
    t: Tensor
    """[S]: `positions = origin + t * direction`."""
    lengths: Tensor
    """[S]: of the interval that a sample stands for, in units of t."""
    offsets: Tensor
    """int64 [R + 1]: ray r has the samples from `offsets[r]` up to `offsets[r + 1]`."""

    def ray_of_sample(self) -> Tensor:
        """int64 [S]: which ray each sample is of."""
        rays = torch.arange(len(self.offsets) - 1, device=self.offsets.device)
        return torch.repeat_interleave(rays, self.offsets.diff(), output_size=len(self.t))


def march_rays(
    origins: Tensor,  # [R, 3]
    directions: Tensor,  # [R, 3]
    near: Tensor,  # [R]
    far: Tensor,  # [R]
    box: tuple[float, float, float, float, float, float],
    occupancy: Tensor,  # uint8 [G^3 / 8]
    step: float,
    max_samples: int,
    *,
    jitter: Tensor | None = None,  # [R]
    backend: str = "auto",
) -> RaySamples:
    """The samples of each ray that lie in occupied cells, nearest first.

    The float32 backends keep the very same samples, to the last bit.

    Args:
        origins, directions: [R, 3]; directions of length one make t a distance. A ray that misses the box, does not
            move or is not finite has no samples.
        near, far: [R], in units of t; infinity is allowed.
        box: lowest x, y, z and highest x, y, z.
        occupancy: uint8 [G^3 / 8] in the order above, G a power of two from 4 to 512.
        step: length of an interval in units of t; at least the box's diagonal / 2^20.
        max_samples: a ray keeps the nearest so many of its samples.
        jitter: [R], each in [0, 1): where in its interval each sample of a ray lies. None: in the middle.
        backend: `auto | reference | cpu | cuda | nerfacc`; the last one's roundings are others.

    Returns:
        `RaySamples`. How many there are is waited for, on CUDA too.

    Raises:
        ValueError: a shape, dtype or stride does not fit, the box is empty, or a number lies outside its range.
        BackendError: the backend cannot take these tensors.
    """
    rays = len(origins)
    check("origins", origins, (None, 3))
    check("directions", directions, (rays, 3), origins.dtype)
    check("near", near, (rays,), origins.dtype)
    check("far", far, (rays,), origins.dtype)
    if jitter is not None:
        check("jitter", jitter, (rays,), origins.dtype)
    check("occupancy", occupancy, (None,), torch.uint8)
    grid_side(occupancy)
    bounds = [float(edge) for edge in box]
    check_box(bounds)
    if not (math.isfinite(step) and step * MAX_STEPS >= math.dist(bounds[:3], bounds[3:])):
        raise ValueError(f"step came as {step}; wanted at least the box's diagonal / {MAX_STEPS}")
    if not 1 <= max_samples <= MAX_STEPS:
        raise ValueError(f"max_samples came as {max_samples}; wanted 1 to {MAX_STEPS}")
    rest = float(step), max_samples, jitter
    with torch.no_grad():
        if wants_native(backend, origins):
            if backend == "nerfacc":
                given = origins, directions, near, far, bounds, occupied_cells(occupancy)
                return RaySamples(*vendor_nerfacc.march_rays_nerfacc(*given, *rest))
            bits = occupancy, coarse_bits(occupancy)
            return RaySamples(*torch.ops.avatarfit.march_rays(origins, directions, near, far, bounds, *bits, *rest))
        return march_rays_reference(origins, directions, near, far, bounds, occupancy, *rest)


def march_rays_reference(
    origins: Tensor, directions: Tensor, near: Tensor, far: Tensor, box: list[float], occupancy: Tensor, step: float,
    max_samples: int, jitter: Tensor | None = None,
) -> RaySamples:  # fmt: skip
    """Plain torch twin of `march_rays`, any float dtype: looks at every interval and skips nothing."""
    dtype, side = origins.dtype, grid_side(occupancy)
    device, zero = origins.device, origins.new_zeros(())
    low, high = torch.tensor(box, dtype=dtype, device=device).reshape(2, 3)
    cells_per_unit = torch.tensor(float(side), dtype=dtype, device=device) / (high - low)
    length = torch.tensor(step, dtype=dtype, device=device)
    jitter = origins.new_full((len(origins),), 0.5) if jitter is None else jitter

    still = directions == 0
    one, other = (low - origins) / directions, (high - origins) / directions
    enters = torch.where(still, -math.inf, torch.minimum(one, other)).amax(1).maximum(near)
    leaves = torch.where(still, math.inf, torch.maximum(one, other)).amin(1).minimum(far)
    usable = (origins.isfinite() & directions.isfinite()).all(1) & ~still.all(1) & (near <= far)
    usable &= (~still | (origins >= low) & (origins <= high)).all(1) & (jitter >= 0) & (jitter < 1)
    usable &= enters.isfinite() & leaves.isfinite() & (enters < leaves)
    enters, leaves = torch.where(usable, enters, zero), torch.where(usable, leaves, zero)

    most = int(((leaves - enters) / length).max().ceil()) + 1 if len(origins) else 0
    k = torch.arange(min(most, MAX_STEPS), device=device).to(dtype)
    begins = enters[:, None] + k * length
    ends = torch.minimum(enters[:, None] + (k + 1) * length, leaves[:, None])
    lengths = ends - begins
    t = torch.minimum(begins + jitter[:, None] * lengths, ends)
    positions = origins[:, None] + t[..., None] * directions[:, None]
    positions = torch.minimum(torch.maximum(positions, low), high)
    inside = begins < leaves[:, None]
    cells = torch.where(inside[..., None], (positions - low) * cells_per_unit, zero).long().clamp_max(side - 1)
    code = morton_code(cells)
    kept = inside & (occupancy[code // 8] >> (code % 8) & 1).bool()
    kept &= kept.cumsum(1) <= max_samples
    offsets = torch.zeros(len(origins) + 1, dtype=torch.int64, device=device)
    torch.cumsum(kept.sum(1), 0, out=offsets[1:])
    return RaySamples(positions[kept], t[kept], lengths[kept], offsets)


def morton_code(cells: Tensor) -> Tensor:
    """Morton codes int64 [...] of cells int64 [..., 3], each number below 1024 (Morton 1966)."""
    code = torch.zeros_like(cells)
    for bit in range(10):
        code |= (cells >> bit & 1) << (3 * bit)
    return code[..., 0] | code[..., 1] << 1 | code[..., 2] << 2


def morton_cell(code: Tensor) -> Tensor:
    """Cells int64 [..., 3] of Morton codes int64 [...]."""
    along = torch.stack([code, code >> 1, code >> 2], -1)
    cells = torch.zeros_like(along)
    for bit in range(10):
        cells |= (along >> (3 * bit) & 1) << bit
    return cells


def pack_bits(occupied: Tensor) -> Tensor:
    """uint8 [n / 8] of bool [n], n a multiple of 8: element i becomes bit `i % 8` of byte `i // 8`."""
    place = torch.arange(8, device=occupied.device)
    return (occupied.reshape(-1, 8).long() << place).sum(1).to(torch.uint8)


def occupied_cells(occupancy: Tensor) -> Tensor:
    """bool [G, G, G] by x, y, z of a grid's bits."""
    side = grid_side(occupancy)
    steps = torch.arange(side, device=occupancy.device)
    code = morton_code(torch.stack(torch.meshgrid(steps, steps, steps, indexing="ij"), -1))
    return (occupancy[code // 8] >> (code % 8) & 1).bool()


def coarse_bits(occupancy: Tensor) -> Tensor:
    """A bit for each 4^3 cells of a grid, set where any of theirs is: uint8 [n], n a multiple of 8."""
    # Eight bytes are one number where they lie as such; `any` over rows of eight takes ten times as long.
    aligned = occupancy.is_contiguous() and occupancy.storage_offset() % WORD == 0
    occupied = occupancy.view(torch.int64) != 0 if aligned else occupancy.reshape(-1, WORD).any(1)
    return pack_bits(torch.nn.functional.pad(occupied, (0, -len(occupied) % (8 * WORD))))


def grid_side(occupancy: Tensor) -> int:
    """G of a grid of G^3 bits.

    Raises:
        ValueError: there is no such G, or it is out of range.
    """
    side = round((8 * occupancy.numel()) ** (1 / 3))
    if side**3 != 8 * occupancy.numel():
        raise ValueError(f"occupancy came with {occupancy.numel()} bytes; wanted G^3 / 8")
    check_side(side)
    return side


def check_side(side: int) -> None:
    """Hold a grid's side against the ones that there are.

    Raises:
        ValueError: it is no power of two, or out of range.
    """
    if not SMALLEST_GRID <= side <= LARGEST_GRID or side & (side - 1):
        raise ValueError(f"the grid came with side {side}; wanted a power of two, {SMALLEST_GRID} to {LARGEST_GRID}")


def check_box(box: list[float]) -> None:
    """Hold a box against having room: six finite numbers, each high above its low.

    Raises:
        ValueError: it has none.
    """
    if len(box) != 6 or not all(-3e37 < low < high < 3e37 for low, high in zip(box[:3], box[3:], strict=True)):
        raise ValueError(f"box came as {box}; wanted lowest x, y, z, then highest x, y, z, each above its lowest")


LIBRARY.define(
    "march_rays(Tensor origins, Tensor directions, Tensor near, Tensor far, float[] box, Tensor occupancy,"
    " Tensor coarse, float step, int max_samples, Tensor? jitter) -> (Tensor, Tensor, Tensor, Tensor)"
)


def _march_rays_cpu(
    origins: Tensor, directions: Tensor, near: Tensor, far: Tensor, box: list[float], occupancy: Tensor,
    coarse: Tensor, step: float, max_samples: int, jitter: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    rays = len(origins)
    edges = torch.tensor(box, dtype=torch.float32)
    given = (
        native.workspace(),
        pointer("origins", origins, (rays, 3)),
        pointer("directions", directions, (rays, 3)),
        pointer("near", near, (rays,)),
        pointer("far", far, (rays,)),
        None if jitter is None else pointer("jitter", jitter, (rays,)),
        rays,
        pointer("box", edges, (6,)),
        pointer("occupancy", occupancy, (None,), torch.uint8, multiple_of=WORD),
        pointer("coarse", coarse, (None,), torch.uint8, multiple_of=WORD),
        grid_side(occupancy),
        step,
    )
    counts = torch.empty(rays, dtype=torch.int32)
    library = native.load()
    native.check_status(library.af_march_rays_count(*given, max_samples, counts.data_ptr()))
    offsets = torch.zeros(rays + 1, dtype=torch.int64)
    torch.cumsum(counts, 0, out=offsets[1:])
    total = int(offsets[-1])
    out = origins.new_empty(total, 3), origins.new_empty(total), origins.new_empty(total), offsets
    places = (o.data_ptr() for o in out[:3])
    native.check_status(library.af_march_rays_write(*given, offsets.data_ptr(), *places))
    return out


def _fake(origins: Tensor, *_: object) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    total = torch.library.get_ctx().new_dynamic_size()
    offsets = origins.new_empty(len(origins) + 1, dtype=torch.int64)
    return origins.new_empty(total, 3), origins.new_empty(total), origins.new_empty(total), offsets


register("march_rays", cpu=_march_rays_cpu, cuda=cuda_volume.march_rays, fake=_fake)
