"""The hash-grid head: a radiance field in the head's frame that motion bends (NeRF, Mildenhall et al. 2020).

A place is first carried to rest by a displacement from the motion grid (model.motion_grid). There a multi-resolution
hash grid (Müller et al. 2022) and three planes (SyncTalk, Peng et al., CVPR 2024) tell what is there; a small network
makes density of it and of the place's local motion, which must be told what no displacement can do - lips that part -
(the ambient coordinates of HyperNeRF, Park et al. 2021, and RAD-NeRF, Tang et al. 2022). A second one gives the colour,
which also knows the head's rotation, for the light does not turn with it, and a code of the frame (NeRF in the Wild,
Martin-Brualla et al. 2021), whose mean is what is shown at run time.

The field's frame is the head's: a box with cubic cells, centimetres. Rays go there by the inverse of the head's pose.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from avatarfit import ops
from avatarfit.contracts import Camera, Motion
from avatarfit.model.gaussian_avatar import MotionWeights, condition, group_mask
from avatarfit.model.motion_grid import COLUMNS, MotionGrid
from avatarfit.model.small_mlp import SmallMlp
from avatarfit.ops.field import LOCAL
from avatarfit.ops.fused_mlp import mlp_layers
from avatarfit.ops.hash_grid import HashGrid

REGIONS = ("lower_face", "upper_face")
"""Of `gaussian_avatar.GROUPS`, those of the head."""
_OTHER_INPUTS = 6 + 3 + 3 + 6 + 3
"""Of `gaussian_avatar.condition`, beside the codes: eyes, rotation, translation, torso, head on torso."""
COLOUR_FROM = 1e-3
"""Without gradients, samples that a ray sees less of than this are not coloured: a quarter of a display's step."""
_RANGES: dict[str, tuple[float, float]] = {
    "motion_cells": (1, 128), "basis_count": (1, 128), "hash_levels": (0, 32),
    "hash_coarsest": (1, 4096), "hash_finest": (1, 65536), "hash_rows_log2": (4, 24), "hash_features": (1, 16),
    "plane_levels": (0, 32), "plane_coarsest": (1, 4096), "plane_finest": (1, 65536), "plane_rows_log2": (4, 24),
    "plane_features": (1, 16), "density_hidden": (1, 256), "geometry_features": (0, 255), "colour_hidden": (1, 256),
    "code_count": (0, 64), "occupancy_side": (4, 512), "step_cm": (0.005, 10.0), "max_samples": (1, 4096),
}  # fmt: skip
"""What a field's sizes may be: a file cannot ask for more than a machine has."""


@dataclass(frozen=True)
class FieldShape:
    """How large a field is."""

    motion_cells: int = 32
    """Cells of the motion grid along each axis."""
    basis_count: int = 16
    """Bases of each vertex."""
    hash_levels: int = 8
    """Levels of the 3-D grid; 0 leaves it out."""
    hash_coarsest: int = 16
    hash_finest: int = 256
    hash_rows_log2: int = 16
    hash_features: int = 2
    plane_levels: int = 6
    """Levels of each plane; 0 leaves the planes out."""
    plane_coarsest: int = 32
    plane_finest: int = 256
    plane_rows_log2: int = 16
    plane_features: int = 2
    density_hidden: int = 32
    geometry_features: int = 15
    """What the colour's network is told by the density's."""
    colour_hidden: int = 32
    code_count: int = 4
    """Length of a frame's code."""
    occupancy_side: int = 128
    """Cells of the occupancy grid along each axis, a power of two."""
    step_cm: float = 0.3
    """Length of a ray's intervals."""
    max_samples: int = 64
    """Of a ray."""

    def __post_init__(self) -> None:
        for name, (lowest, highest) in _RANGES.items():
            value = getattr(self, name)
            if not (type(value) is int or (name == "step_cm" and type(value) is float)):
                raise ValueError(f"{name} came as {value!r}; wanted a {'' if name == 'step_cm' else 'whole '}number")
            if not lowest <= value <= highest:
                raise ValueError(f"{name} came as {value}; wanted {lowest} to {highest}")

    @property
    def hash_grid(self) -> HashGrid | None:
        """The levels in space."""
        if not self.hash_levels:
            return None
        return HashGrid.between(3, self.hash_levels, self.hash_coarsest, self.hash_finest, self.hash_rows_log2)

    @property
    def plane_grid(self) -> HashGrid | None:
        """The levels of each plane."""
        if not self.plane_levels:
            return None
        return HashGrid.between(2, self.plane_levels, self.plane_coarsest, self.plane_finest, self.plane_rows_log2)

    @property
    def motion_grid(self) -> HashGrid:
        """The one dense level of the motion."""
        return HashGrid(3, (self.motion_cells,), (0, (self.motion_cells + 1) ** 3))

    @property
    def encoded(self) -> int:
        """Features of a place at rest."""
        return self.hash_levels * self.hash_features + 3 * self.plane_levels * self.plane_features


class FrameState(NamedTuple):
    """What the field knows of one frame."""

    grid: Tensor
    """[(motion_cells + 1)^3, 14]."""
    seen: Tensor
    """[3 + code_count]: the head's rotation and the frame's code."""


class HashgridHead(nn.Module):
    """The field of one head.

    Args:
        shape: how large.
        low_cm: lowest x, y, z of the box in the head's frame.
        side_cm: the box's side.
        rest_head: float32 [3, 4], the head's pose that motion is told from.
        condition_low, condition_high: float32 [D], range of the networks' inputs over the training frames.
        input_counts: lengths of the mouth, upper-face and torso codes.
        vertices: int64 [V], the motion grid's kept rows.
    """

    occupancy: Tensor
    condition_low: Tensor
    condition_high: Tensor

    def __init__(
        self,
        shape: FieldShape,
        low_cm: tuple[float, float, float],
        side_cm: float,
        rest_head: np.ndarray,
        condition_low: Tensor,
        condition_high: Tensor,
        input_counts: tuple[int, int, int],
        vertices: Tensor,
    ) -> None:
        super().__init__()
        self.shape, self.low_cm, self.side_cm, self.rest_head = shape, low_cm, side_cm, rest_head
        self.input_counts = input_counts
        self.register_buffer("condition_low", condition_low)
        self.register_buffer("condition_high", condition_high)
        self.register_buffer("occupancy", torch.full((shape.occupancy_side**3 // 8,), 255, dtype=torch.uint8))
        self.weights = MotionWeights(group_mask(*input_counts)[: len(REGIONS)], shape.basis_count)
        self.motion = MotionGrid(shape.motion_cells, vertices, shape.basis_count)
        space, plane = shape.hash_grid, shape.plane_grid
        rows = 0 if space is None else space.row_count
        self.table = nn.Parameter(torch.empty(rows, shape.hash_features).uniform_(-1e-4, 1e-4))
        rows = 0 if plane is None else plane.row_count
        self.planes = nn.Parameter(torch.empty(3, rows, shape.plane_features).uniform_(-1e-4, 1e-4))
        told = LOCAL.stop - LOCAL.start
        self.density = SmallMlp((shape.encoded + told, shape.density_hidden, 1 + shape.geometry_features))
        seen = 3 + shape.code_count
        self.colour = SmallMlp((shape.geometry_features + told + seen, shape.colour_hidden, shape.colour_hidden, 3))
        with torch.no_grad():  # the density's own start is the motion grid's
            mlp_layers(self.density.parameters_flat, self.density.widths)[-1][0][0] *= 0.1

    @property
    def box(self) -> tuple[float, float, float, float, float, float]:
        """Lowest x, y, z and highest x, y, z, centimetres in the head's frame."""
        x, y, z = self.low_cm
        return x, y, z, x + self.side_cm, y + self.side_cm, z + self.side_cm

    def conditions(self, motion: Motion, *, held: bool = True) -> Tensor:
        """The networks' inputs, float32 [T, D]; `held` to what fitting saw, so that nothing tears beyond it."""
        inputs = condition(motion, self.rest_head).to(self.condition_low.device)
        return torch.minimum(torch.maximum(inputs, self.condition_low), self.condition_high) if held else inputs

    def frame_state(self, inputs: Tensor, code: Tensor | None = None) -> FrameState:
        """The field in one frame; gradients go to the code only.

        Args:
            inputs: [D], a row of `conditions`.
            code: [code_count]; None takes the mean of the training frames', zero.
        """
        rows = self.motion.rows(self.motion.zone_weights(self.weights(inputs[None])[0]))
        return FrameState(self.motion.spread(rows), self.seen(inputs, code))

    def seen(self, inputs: Tensor, code: Tensor | None = None) -> Tensor:
        """What the colour is told of a frame (`FrameState.seen`); as `frame_state`."""
        mouth, upper, torso = self.input_counts
        at = torso + mouth + upper + 6
        code = inputs.new_zeros(self.shape.code_count) if code is None else code
        return torch.cat([inputs[at : at + 3], code])

    def as_field(self, state: FrameState) -> ops.Field:
        """The field in a frame as the operations take it; lengths are centimetres in the head's frame."""
        shape = self.shape
        return ops.Field(
            self.low_cm, self.side_cm, state.grid, shape.motion_grid, self.table, shape.hash_grid, self.planes,
            shape.plane_grid, self.density.parameters_flat, self.density.widths, self.colour.parameters_flat,
            self.colour.widths, state.seen,
        )  # fmt: skip

    def density_at(self, positions: Tensor, state: FrameState, backend: str = "auto") -> Tensor:
        """Density per centimetre [S] at places [S, 3] in the head's frame, centimetres."""
        return ops.field_density(positions, self.as_field(state), backend)[0]

    def shade(self, positions: Tensor, state: FrameState, backend: str = "auto") -> tuple[Tensor, Tensor]:
        """Density per centimetre [S] and colour [S, 3] at places [S, 3] in the head's frame, centimetres."""
        field = self.as_field(state)
        sigma, geometry, told = ops.field_density(positions, field, backend)
        return sigma, ops.field_colour(geometry, told, field, backend)

    def march(
        self, origins: Tensor, directions: Tensor, jitter: Tensor | None = None, backend: str = "auto"
    ) -> ops.RaySamples:
        """Samples of rays [R, 3] in the head's frame (directions of length 1) in the occupied cells."""
        near = origins.new_zeros(len(origins))
        return ops.march_rays(
            origins, directions, near, torch.full_like(near, torch.inf), self.box, self.occupancy, self.shape.step_cm,
            self.shape.max_samples, jitter=jitter, backend=backend,
        )  # fmt: skip

    @torch.no_grad()
    def look(self, origins: Tensor, directions: Tensor, state: FrameState, backend: str = "auto") -> Tensor:
        """What rays see, [R, 4]: premultiplied colour and alpha. No gradients."""
        samples = self.march(origins, directions, backend=backend)
        return ops.see_field(samples, self.as_field(state), COLOUR_FROM, backend=backend)

    def draw(self, camera: Camera, head: Tensor, state: FrameState, backend: str = "auto") -> Tensor:
        """The head in a picture, [H, W, 4]: premultiplied sRGB-coded colour and alpha. No gradients.

        Args:
            head: [3, 4], the head's pose (`HeadPose.matrices`), on the field's device.
        """
        out = head.new_zeros(camera.height_px, camera.width_px, 4)
        left, top, right, bottom = pixels_of_box(self.box, camera, head)
        pixels = pixel_grid(left, top, right, bottom).to(head.device)
        seen = self.look(*rays_through(pixels, camera, head), state, backend)
        out[top:bottom, left:right] = seen.reshape(bottom - top, right - left, 4)
        return out

    def to_tensors(self) -> dict[str, np.ndarray]:
        """Every array by name; tables and bases in half precision."""
        half = {"table", "planes", "motion.bases"}
        state = {name: value.half() if name in half else value for name, value in self.state_dict().items()}
        arrays = {name: value.detach().cpu().numpy() for name, value in state.items()}
        return arrays | {"rest_head": self.rest_head.astype(np.float32)}

    def config(self) -> dict[str, Any]:
        """JSON-able shape of the model."""
        mouth, upper, torso = self.input_counts
        counts = {"mouth_count": mouth, "upper_count": upper, "torso_count": torso}
        box = {"low_cm": list(self.low_cm), "side_cm": self.side_cm, "regions": list(REGIONS)}
        return asdict(self.shape) | counts | box

    @classmethod
    def from_tensors(cls, tensors: dict[str, np.ndarray], config: dict[str, Any]) -> HashgridHead:
        """The inverse of `to_tensors` and `config`, ready to draw.

        Raises:
            KeyError, TypeError, ValueError, RuntimeError: an array is missing or does not fit.
        """
        config = dict(config)
        counts = tuple(int(config.pop(f"{name}_count")) for name in ("mouth", "upper", "torso"))
        x, y, z = (float(value) for value in config.pop("low_cm"))
        side_cm = float(config.pop("side_cm"))
        if tuple(config.pop("regions")) != REGIONS:
            raise ValueError(f"the field's regions are not {', '.join(REGIONS)}")
        state = {name: torch.from_numpy(np.array(value)) for name, value in tensors.items()}
        rest_head = state.pop("rest_head").numpy()
        vertices = state["motion.vertices"]
        shape = FieldShape(**config)
        rows = shape.motion_grid.row_count
        if vertices.dtype != torch.int64 or (
            len(vertices) and not 0 <= int(vertices.min()) <= int(vertices.max()) < rows
        ):
            raise ValueError(f"the motion grid's vertices lie outside its {rows} rows")
        if rest_head.shape != (3, 4) or not (np.abs([x, y, z]) < 1e4).all() or not 0.1 <= side_cm <= 1e3:
            raise ValueError(f"the field's box of {side_cm} cm or its rest pose cannot be")
        ranges = state["condition_low"], state["condition_high"]
        sizes = shape, (x, y, z), side_cm, rest_head, *ranges, (counts[0], counts[1], counts[2]), vertices
        # Sizes come from a file: they must be those of its arrays before much memory is taken for them.
        space, plane = shape.hash_grid, shape.plane_grid
        bases = (len(vertices), shape.basis_count, COLUMNS)
        wanted: dict[str, tuple[int, ...]] = {
            "table": (0 if space is None else space.row_count, shape.hash_features),
            "planes": (3, 0 if plane is None else plane.row_count, shape.plane_features),
            "motion.bases": bases,
            "condition_low": (inputs := sum(counts) + _OTHER_INPUTS,),
            "condition_high": (inputs,),
            "occupancy": (shape.occupancy_side**3 // 8,),
        }
        for name, size in wanted.items():
            if tuple(state[name].shape) != size or (state[name].dtype == torch.uint8) != (name == "occupancy"):
                raise ValueError(f"{name} is {state[name].dtype} {list(state[name].shape)}; wanted {list(size)}")
        head = cls(*sizes)
        head.load_state_dict({name: v.float() if v.is_floating_point() else v for name, v in state.items()})
        return head.eval().requires_grad_(False)


def rays_through(pixels: Tensor, camera: Camera, head: Tensor) -> tuple[Tensor, Tensor]:
    """Origins and directions of length 1, [R, 3] each, in the head's frame, of rays through pixels' centres.

    Args:
        pixels: int64 [R, 2], column and row.
        head: [3, 4], the head's pose, `x_camera = R x_head + t`.
    """
    rotation, translation = head[:, :3], head[:, 3]
    offset = (pixels + 0.5 - head.new_tensor([camera.center_x_px, camera.center_y_px])) / camera.focal_px
    toward = torch.cat([offset, torch.ones_like(offset[:, :1])], 1)
    directions = torch.nn.functional.normalize(toward, dim=1) @ rotation
    origins = (-translation @ rotation).expand_as(directions).contiguous()
    return origins, directions.contiguous()


def pixels_of_box(
    box: tuple[float, float, float, float, float, float], camera: Camera, head: Tensor
) -> tuple[int, int, int, int]:
    """Left, top, right, bottom (the latter two exclusive) of the pixels that may see a box in the head's frame."""
    corners = np.array([[box[3 * (i >> axis & 1) + axis] for axis in range(3)] for i in range(8)])
    matrix = head.cpu().numpy().astype(np.float64)
    seen = corners @ matrix[:, :3].T + matrix[:, 3]
    size = camera.width_px, camera.height_px
    if (seen[:, 2] <= 0).any():
        return 0, 0, *size
    px = camera.project(seen)
    low, high = np.floor(px.min(axis=0)), np.ceil(px.max(axis=0))
    left, top = (int(np.clip(value, 0, most)) for value, most in zip(low, size, strict=True))
    right, bottom = (int(np.clip(value, 0, most)) for value, most in zip(high, size, strict=True))
    return left, top, right, bottom


def pixel_grid(left: int, top: int, right: int, bottom: int) -> Tensor:
    """int64 [n, 2]: column and row of every pixel of a rectangle, row after row."""
    columns, rows = torch.arange(left, right), torch.arange(top, bottom)
    return torch.cartesian_prod(rows, columns).reshape(-1, 2).flip(1)
