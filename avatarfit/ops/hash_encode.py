"""Multi-resolution hash encoding of points (Müller et al. 2022, "Instant Neural Graphics Primitives", section 3).

Each level interpolates the rows of its table at the corners of the cell that a point lies in, multi-linearly; the
levels' results stand side by side. The rules at the edges, for the reference and the kernels alike:

- A coordinate outside [0, 1] is clamped to it; its gradient is zero. At 0 and at 1 the gradient passes.
- Cells hold their lower faces; the last cell along an axis also holds its upper one. So the value is continuous
  everywhere, and on a face between two cells the gradient is that of the upper cell.
- A NaN coordinate gives NaN in its row of the output and, where its gradient flows, in the rows of the table it reads.
"""

from __future__ import annotations

import torch
from torch import Tensor

from avatarfit.ops import cuda_kernels, native, vendor_tcnn
from avatarfit.ops._checks import check, pointer
from avatarfit.ops.backend import wants_native
from avatarfit.ops.hash_grid import GRID_FEATURES_MAX, HashGrid, empty_gradients, grid_arguments
from avatarfit.ops.registry import LIBRARY, register

PLANES = ((0, 1), (1, 2), (0, 2))
"""Axes of a tri-plane's planes: xy, yz, xz."""


def hash_encode(
    points: Tensor,  # [N, D]
    table: Tensor,  # [grid.row_count, F]
    grid: HashGrid,
    *,
    backend: str = "auto",
) -> Tensor:
    """The features of every level of a hash grid at each point.

    Args:
        points: [N, D] in [0, 1]; outside it they are clamped.
        table: [R, F], the rows of all levels one after another, R = `grid.row_count`; F is 1 to 16 for the kernels.
        grid: the levels, D = 2 or 3.
        backend: `auto | reference | cpu | cuda | tcnn`.

    Returns:
        [N, L * F], level by level; differentiable once in points and table. The CPU's gradients are the same to the
        last bit for any number of threads; on CUDA the table's is summed by atomics, in no fixed order.

    Raises:
        ValueError: a shape, dtype or stride does not fit, or the kernels take no such F.
        BackendError: the backend cannot take these tensors.
    """
    check("points", points, (None, grid.dimensions))
    check("table", table, (grid.row_count, None), points.dtype)
    if not wants_native(backend, points):
        return hash_encode_reference(points, table, grid)
    if backend == "tcnn":
        return vendor_tcnn.hash_encode_tcnn(points, table, grid)
    if not 1 <= table.shape[1] <= GRID_FEATURES_MAX:
        raise ValueError(
            f"table came with {table.shape[1]} features; wanted 1 to {GRID_FEATURES_MAX}, or backend 'reference'"
        )
    result: Tensor = torch.ops.avatarfit.hash_encode(points, table, grid.resolutions, grid.offsets)
    return result


def hash_encode_reference(points: Tensor, table: Tensor, grid: HashGrid) -> Tensor:
    """Plain torch twin of `hash_encode`, any float dtype and any F."""
    clamped = points.clamp(0, 1)
    levels = []
    for level, resolution in enumerate(grid.resolutions):
        at = clamped * resolution
        cell = at.detach().nan_to_num(0.0).floor().clamp(max=resolution - 1)
        fraction = at - cell
        features = table.new_zeros(len(points), table.shape[1])
        for corner in range(1 << grid.dimensions):
            far = [corner >> axis & 1 for axis in range(grid.dimensions)]
            weight = torch.ones_like(fraction[:, 0])
            for axis, is_far in enumerate(far):
                weight = weight * (fraction[:, axis] if is_far else 1 - fraction[:, axis])
            vertex = cell.long() + torch.tensor(far, device=cell.device)
            features = features + weight[:, None] * table[grid.row_of(level, vertex)]
        levels.append(features)
    return torch.cat(levels, 1)


def triplane_encode(
    points: Tensor,  # [N, 3]
    tables: Tensor,  # [3, grid.row_count, F]
    grid: HashGrid,
    *,
    backend: str = "auto",
) -> Tensor:
    """Three plane encodings of points in space, as in SyncTalk (Peng et al., CVPR 2024, section 3.3).

    Args:
        points: [N, 3] in [0, 1].
        tables: [3, R, F], those of the planes xy, yz and xz.
        grid: the levels of each plane, D = 2.
        backend: as `hash_encode`.

    Returns:
        [N, 3 * L * F], plane by plane; differentiable in points and tables.

    Raises:
        ValueError, BackendError: as `hash_encode`; or the grid is none of planes.
    """
    check("points", points, (None, 3))
    check("tables", tables, (3, grid.row_count, None), points.dtype)
    if grid.dimensions != 2:
        raise ValueError(f"grid came with {grid.dimensions} dimensions; wanted 2, for planes")
    axes = points.unbind(1)
    encoded = [
        hash_encode(torch.stack([axes[first], axes[second]], 1), table, grid, backend=backend)
        for (first, second), table in zip(PLANES, tables.unbind(), strict=True)
    ]
    return torch.cat(encoded, 1)


LIBRARY.define("hash_encode(Tensor points, Tensor table, int[] resolutions, int[] offsets) -> Tensor")
LIBRARY.define(
    "hash_encode_backward(Tensor grad, Tensor points, Tensor table, int[] resolutions, int[] offsets,"
    " bool want_table, bool want_points) -> (Tensor, Tensor)"
)


def _hash_encode_cpu(points: Tensor, table: Tensor, resolutions: list[int], offsets: list[int]) -> Tensor:
    out = points.new_empty(points.shape[0], len(resolutions) * table.shape[1])
    status = native.load().af_hash_encode(*grid_arguments(points, table, resolutions, offsets), out.data_ptr())
    native.check_status(status)
    return out


def _hash_encode_backward_cpu(
    grad: Tensor, points: Tensor, table: Tensor, resolutions: list[int], offsets: list[int], want_table: bool,
    want_points: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    grad_table, grad_points = empty_gradients(points, table, want_table, want_points)
    status = native.load().af_hash_encode_backward(
        *grid_arguments(points, table, resolutions, offsets),
        pointer("grad", grad, (points.shape[0], len(resolutions) * table.shape[1])),
        grad_table.data_ptr() if want_table else None,
        grad_points.data_ptr() if want_points else None,
    )
    native.check_status(status)
    return grad_table, grad_points


def _setup(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    points, table, ctx.resolutions, ctx.offsets = inputs
    ctx.save_for_backward(points, table)


def _backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def]
    points, table = ctx.saved_tensors
    want_points, want_table = ctx.needs_input_grad[:2]
    grad_table, grad_points = torch.ops.avatarfit.hash_encode_backward(
        grad.contiguous(), points, table, ctx.resolutions, ctx.offsets, want_table, want_points
    )
    return grad_points if want_points else None, grad_table if want_table else None, None, None


register(
    "hash_encode",
    cpu=_hash_encode_cpu,
    cuda=cuda_kernels.hash_encode,
    fake=lambda points, table, resolutions, offsets: points.new_empty(
        points.shape[0], len(resolutions) * table.shape[1]
    ),
    setup=_setup,
    backward=_backward,
)
register(
    "hash_encode_backward",
    cpu=_hash_encode_backward_cpu,
    cuda=cuda_kernels.hash_encode_backward,
    fake=lambda grad, points, table, resolutions, offsets, want_table, want_points: empty_gradients(
        points, table, want_table, want_points
    ),
)
