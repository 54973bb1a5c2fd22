"""A radiance field (NeRF, Mildenhall et al. 2020) that a grid of motion bends, and what rays see of it.

A place in the field's cube reads the motion grid: a displacement, a log density and what the networks are told.
Carried on by the displacement it reads a hash grid in space and three planes. A first small network makes of that a log
density, to which the motion's is added, and geometry features; a second one makes the colour of these, of what the
motion tells and of what is the same everywhere in a frame.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from avatarfit.ops import native
from avatarfit.ops._checks import check, pointer
from avatarfit.ops.backend import wants_native
from avatarfit.ops.composite import composite_rays
from avatarfit.ops.fused_mlp import fused_mlp, mlp_parameter_count
from avatarfit.ops.hash_encode import hash_encode, triplane_encode
from avatarfit.ops.hash_grid import HashGrid
from avatarfit.ops.layout import ATTRIBUTE_COUNT
from avatarfit.ops.march import RaySamples

DISPLACEMENT = slice(0, 3)
DENSITY = 3
LOCAL = slice(4, ATTRIBUTE_COUNT)
"""Columns of the motion grid, as many as an attribute row's: the way to rest, in the units of `Field.side`; log density
per such unit; what the networks are told."""
LOG_DENSITY_MAX = 8.0


class Field(NamedTuple):
    """A field in one frame; tensors of one dtype on one device."""

    low: tuple[float, float, float]
    """Lowest corner of the cube."""
    side: float
    motion: Tensor
    """[motion_grid.row_count, 14]."""
    motion_grid: HashGrid
    """One dense level in space."""
    table: Tensor
    """[space.row_count, F]; of no space it is not looked at."""
    space: HashGrid | None
    planes: Tensor
    """[3, plane.row_count, F], as in `triplane_encode`; of no plane it is not looked at."""
    plane: HashGrid | None
    density: Tensor
    """Parameters of the first network, as in `fused_mlp`."""
    density_widths: tuple[int, ...]
    """Ten features of the motion, those of `space` and of the planes; ...; log density and geometry features."""
    colour: Tensor
    colour_widths: tuple[int, ...]
    """Geometry features, the motion's ten, and `seen`; ...; red, green and blue before the sigmoid."""
    seen: Tensor
    """[K]: of the whole frame."""


def field_density(positions: Tensor, field: Field, backend: str = "auto") -> tuple[Tensor, Tensor, Tensor]:
    """Density [S] at places [S, 3], and what the colour is made of: geometry features [S, G] and the motion's [S, 10].

    Differentiable in every tensor of the field that takes part and in positions.
    """
    at = (positions - positions.new_tensor(field.low)) / field.side
    motion = hash_encode(at, field.motion, field.motion_grid, backend=backend)
    at = at + motion[:, DISPLACEMENT] / field.side
    told = [motion[:, LOCAL]]
    if field.space is not None:
        told.append(hash_encode(at, field.table, field.space, backend=backend))
    if field.plane is not None:
        told.append(triplane_encode(at, field.planes, field.plane, backend=backend))
    out = fused_mlp(torch.cat(told, 1), field.density, field.density_widths, backend=backend)
    sigma = torch.exp((out[:, 0] + motion[:, DENSITY]).clamp(max=LOG_DENSITY_MAX))
    return sigma, out[:, 1:], told[0]


def field_colour(geometry: Tensor, told: Tensor, field: Field, backend: str = "auto") -> Tensor:
    """Colour [S, 3] in 0..1 of what `field_density` gives beside the density; differentiable likewise."""
    features = torch.cat([geometry, told, field.seen.expand(len(told), -1)], 1)
    return torch.sigmoid(fused_mlp(features, field.colour, field.colour_widths, backend=backend))


@torch.no_grad()
def see_field(samples: RaySamples, field: Field, colour_from: float, *, backend: str = "auto") -> Tensor:
    """What rays see of a field: `field_density`, `field_colour` and `composite_rays` in one. No gradients.

    Args:
        samples: as from `march_rays`.
        colour_from: samples of which a ray sees no more than this stay black.
        backend: `auto | reference | cpu | cuda | tcnn | nerfacc`. The CPU's is one kernel, which asks the networks
            about no more samples than rays see, and whose results are the same to the last bit for any number of
            threads; elsewhere the operations' kernels follow each other.

    Returns:
        [R, 4], premultiplied colour and alpha.

    Raises:
        ValueError: a shape, dtype or stride does not fit, or the kernels take no such field.
        BackendError: the backend cannot take these tensors.
    """
    if wants_native(backend, samples.positions) and samples.positions.device.type == "cpu":
        return _see_field_cpu(samples, field, colour_from)
    return see_field_reference(samples, field, colour_from, backend)


def see_field_reference(samples: RaySamples, field: Field, colour_from: float, backend: str = "reference") -> Tensor:
    """Twin of `see_field`: one operation after another, each by `backend`; any float dtype by their references."""
    sigma, geometry, told = field_density(samples.positions, field, backend)
    rest = samples.t, samples.lengths, samples.offsets
    weights = composite_rays(sigma, sigma[:, None], *rest, backend=backend).weights
    shown = torch.nonzero(weights > colour_from).flatten()
    colour = sigma.new_zeros(len(sigma), 3)
    colour.index_copy_(0, shown, field_colour(geometry[shown], told[shown], field, backend))
    light = composite_rays(sigma, colour, *rest, backend=backend)
    return torch.cat([light.color, light.alpha[:, None]], 1)


def _grid_arguments(name: str, rows: Tensor, grid: HashGrid | None, tables: int) -> tuple[object, ...]:
    """Rows [tables * R, F] of a grid, and what it is; of none, that it has no levels."""
    if grid is None:
        return None, 0, None, None, 0
    address = pointer(name, rows, (tables * grid.row_count, None))
    return (
        address, rows.shape[1], _int32(grid.resolutions), (ctypes.c_int64 * len(grid.offsets))(*grid.offsets),
        grid.levels,
    )  # fmt: skip


def _int32(values: Sequence[int]) -> ctypes.Array[ctypes.c_int32]:
    return (ctypes.c_int32 * len(values))(*values)


def _mlp_arguments(name: str, parameters: Tensor, widths: tuple[int, ...]) -> tuple[object, ...]:
    return _int32(widths), len(widths) - 1, pointer(name, parameters, (mlp_parameter_count(widths),))


def _see_field_cpu(samples: RaySamples, field: Field, colour_from: float) -> Tensor:
    offsets = samples.offsets
    check("offsets", offsets, (None,), torch.int64)
    count = len(samples.positions)
    if len(offsets) < 1 or offsets[0] != 0 or int(offsets[-1]) != count or bool((offsets.diff() < 0).any()):
        raise ValueError(f"offsets came falling or without 0 and {count} at their ends; wanted them as from march_rays")
    (cells,) = field.motion_grid.resolutions
    out = samples.positions.new_empty(len(offsets) - 1, 4)
    status = native.load().af_see_field(
        native.workspace(),
        pointer("positions", samples.positions, (count, 3)),
        pointer("lengths", samples.lengths, (count,)),
        pointer("offsets", offsets, (None,), torch.int64),
        len(out),
        (ctypes.c_float * 4)(*field.low, field.side),
        pointer("motion", field.motion, ((cells + 1) ** 3, ATTRIBUTE_COUNT)),
        cells,
        *_grid_arguments("table", field.table, field.space, 1),
        *_grid_arguments("planes", field.planes.flatten(0, 1), field.plane, 3),
        *_mlp_arguments("density", field.density, field.density_widths),
        *_mlp_arguments("colour", field.colour, field.colour_widths),
        pointer("seen", field.seen, (None,)),
        len(field.seen),
        colour_from,
        out.data_ptr(),
    )
    if status == native.STATUS_BAD_VALUE:
        raise ValueError(
            f"the field came with networks of widths {field.density_widths} and {field.colour_widths} that do not fit "
            "its grids or exceed 4 layers of 128; wanted others, or backend 'reference'"
        )
    native.check_status(status)
    return out
