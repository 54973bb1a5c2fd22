"""The first guess of a hash-grid head: a box around the head, the shell its surface may lie in, and what moves there.

Depth comes from the solved face: a radiance field seen from nearly one side cannot find it alone, and a shell of a few
centimetres instead of a whole box is what makes fitting on a CPU affordable. The motion grid begins as plain
blendshapes: the landmarks' linear response to the motion, spread into space.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from scipy.interpolate import LinearNDInterpolator
from scipy.spatial import cKDTree
from torch import Tensor

from avatarfit.capture.clip_folder import HEAD
from avatarfit.contracts import InputError, Motion
from avatarfit.fitting.frame_store import FrameStore
from avatarfit.model.gaussian_avatar import condition, group_mask
from avatarfit.model.hashgrid_head import REGIONS, FieldShape, HashgridHead
from avatarfit.model.motion_grid import COLUMNS, ZONES
from avatarfit.model.rig import LIPS_INNER, LIPS_OUTER, MOUTH_REGION, UPPER_REGION
from avatarfit.ops.field import DENSITY, DISPLACEMENT

_MESH_COUNT = 468
_FRAMES = 32
_HEAD_BEHIND_FACE_CM = 5.0
"""Depth of the head's outline behind the face's middle."""
_SKULL_DEPTH_CM = 7.0
_MARGIN_CM = 1.0
_BEFORE_CM, _BEHIND_CM, _MOUTH_BEHIND_CM = 0.5, 1.2, 2.4
"""The shell about the solved face; beyond the mesh, where depth is a guess, it is half as thick again."""
_GROWTH_CM = 0.5
"""How far past the first shell the field may ever reach."""
_SPREAD_CM = 0.9
_LOG_DENSITY_BEFORE, _LOG_DENSITY_BEHIND = -4.0, 2.5


@dataclass(frozen=True)
class HeadStart:
    """What fitting begins with.

    Attributes:
        head: the field; its occupancy is the shell.
        allowed: bool [G, G, G] by x, y, z: cells that may ever be occupied.
        shell: bool [G, G, G], a part of them.
    """

    head: HashgridHead
    allowed: Tensor
    shell: Tensor


def initial_head(
    motion: Motion, landmarks_cm: np.ndarray, frames: FrameStore, rest_head: np.ndarray, shape: FieldShape
) -> HeadStart:
    """A field to start fitting from.

    Args:
        motion: of the training frames.
        landmarks_cm: float32 [T, 478, 3] of the training frames, in the head's frame.
        frames: pictures and masks of the same frames.
        rest_head: float32 [3, 4], the pose that motion is told from.
        shape: how large.

    Raises:
        InputError: no frame shows a head, or the field does not fit into memory.
    """
    require_memory(shape)
    face = landmarks_cm.mean(axis=0).astype(np.float64)
    chosen = np.unique(np.linspace(0, len(motion) - 1, min(_FRAMES, len(motion))).round().astype(int))
    low, side = _box(face, motion, frames, chosen)

    cells = shape.occupancy_side
    along = [start + side * (np.arange(cells) + 0.5) / cells for start in low]
    depth, beside, lips = _surface(face, np.stack(np.meshgrid(*along[:2], indexing="ij"), axis=-1).reshape(-1, 2))
    behind = along[2] - depth[:, None]  # [x and y, z]
    before, after = np.where(beside, 1.5, 1.0) * _BEFORE_CM, np.where(beside, 1.5, 1.0) * _BEHIND_CM
    after[lips] = _MOUTH_BEHIND_CM
    shell = ((behind > -before[:, None]) & (behind < after[:, None])).reshape(cells, cells, cells)
    inside = np.argwhere(shell)
    places = low + side * (inside + 0.5) / cells
    wide = max(3, frames.camera.width_px // 64) | 1
    shell[tuple(inside.T)] = _seen_as_head(places, motion, frames, chosen, reach=wide, share=0.1)
    if not shell.any():
        raise _no_head()
    reach = max(1, round(_GROWTH_CM * cells / side))
    allowed = dilated(torch.from_numpy(shell), reach)

    vertices = _vertices(allowed.numpy(), shape.motion_cells)
    inputs = condition(motion, rest_head)
    counts = motion.face.mouth.shape[1], motion.face.upper.shape[1], motion.torso.shape.shape[1]
    head = HashgridHead(
        shape, (float(low[0]), float(low[1]), float(low[2])), side, rest_head.astype(np.float32), inputs.amin(dim=0),
        inputs.amax(dim=0), counts, torch.from_numpy(vertices),
    )  # fmt: skip
    places = _places(vertices, shape.motion_cells, low, side)
    with torch.no_grad():
        behind = places[:, 2] - _surface(face, places[:, :2])[0]
        # Outside the outline, where the skull's depth would have it solid, nothing is to be carved away.
        outlined = _seen_as_head(places, motion, frames, chosen, reach=1, share=0.5)
        prior = np.interp(np.where(outlined, behind, -np.inf), [-0.5, 0.3], [_LOG_DENSITY_BEFORE, _LOG_DENSITY_BEHIND])
        head.motion.rest[:, DENSITY] = torch.from_numpy(prior.astype(np.float32))
        _start_as_blendshapes(head, places, landmarks_cm, inputs.numpy(), counts)
    return HeadStart(head, allowed, torch.from_numpy(shell))


def require_memory(shape: FieldShape) -> None:
    """Raises InputError where the field's numbers, their gradients and two moments take more than the machine has."""
    space, plane = shape.hash_grid, shape.plane_grid
    count = (0 if space is None else space.row_count) * shape.hash_features
    count += (0 if plane is None else plane.row_count) * 3 * shape.plane_features
    columns = (1 + shape.basis_count) * COLUMNS
    count += shape.motion_grid.row_count * columns
    wanted, there = 16 * count, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if wanted > there // 2:
        raise InputError(
            f"the field's grids take {wanted} bytes to fit, the machine has {there}",
            "grids of at most half of that",
            "lower hash_rows_log2, plane_rows_log2 or motion_cells in the preset",
        )


def dilated(cells: Tensor, by: int = 1) -> Tensor:
    """bool [G, G, G] grown by so many cells in every direction, corners too."""
    grown = cells[None, None].half()
    for axis in range(3):
        size, padding = [1, 1, 1], [0, 0, 0]
        size[axis], padding[axis] = 2 * by + 1, by
        grown = torch.nn.functional.max_pool3d(grown, size, stride=1, padding=padding)
    return grown[0, 0] > 0


def _no_head() -> InputError:
    return InputError(
        "the clip's frames show no head", "frames whose labels hold face or hair", "capture the clip again"
    )


def _box(face: np.ndarray, motion: Motion, frames: FrameStore, chosen: np.ndarray) -> tuple[np.ndarray, float]:
    """Lowest corner [3] and side of a cube that holds the head of every chosen frame."""
    camera, matrices = frames.camera, motion.head.matrices().astype(np.float64)
    depth = face[:_MESH_COUNT, 2].mean() + _HEAD_BEHIND_FACE_CM
    found = []
    for index in chosen:
        frame = frames[int(index)]
        rows, columns = np.nonzero(np.isin(frame.labels, HEAD) & (frame.person > 127))
        if not len(rows):
            continue
        px = np.stack([columns, rows], axis=1) + 0.5
        ray = (px - (camera.center_x_px, camera.center_y_px)) / camera.focal_px
        rotation, translation = matrices[index, :, :3], matrices[index, :, 3]
        direction = np.concatenate([ray, np.ones((len(ray), 1))], axis=1) @ rotation
        origin = -translation @ rotation
        at = origin + direction * ((depth - origin[2]) / direction[:, 2])[:, None]
        found.append(np.percentile(at[:, :2], [0.2, 99.8], axis=0))
    if not found:
        raise _no_head()
    across = np.array(found)
    low = np.array([*across[:, 0].min(axis=0), face[:, 2].min() - _BEFORE_CM]) - _MARGIN_CM
    high = np.array([*across[:, 1].max(axis=0), face[:, 2].max() + _SKULL_DEPTH_CM]) + _MARGIN_CM
    side = float((high - low).max())
    low[:2] -= (side - (high - low)[:2]) / 2
    return low, side


def _surface(face: np.ndarray, across: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Depth of the solved face's surface at x and y [n, 2], whether these lie beside the mesh, and whether at the lips.

    The skull turns away past the mesh's edge, as in `initialise`.
    """
    mesh = face[:_MESH_COUNT]
    depth = LinearNDInterpolator(mesh[:, :2], mesh[:, 2])(across)
    outside = np.isnan(depth)
    away, nearest = cKDTree(mesh[:, :2]).query(across[outside])
    depth[outside] = mesh[nearest, 2] + np.minimum(away, _SKULL_DEPTH_CM)
    lips = cKDTree(mesh[list(LIPS_OUTER + LIPS_INNER), :2]).query(across)[0] < 1.0
    return depth, outside, lips


def _seen_as_head(
    places: np.ndarray, motion: Motion, frames: FrameStore, chosen: np.ndarray, reach: int, share: float
) -> np.ndarray:
    """bool [n]: places in the head's outline, dilated by a disc `reach` pixels wide, in this share of frames."""
    camera, matrices = frames.camera, motion.head.matrices().astype(np.float64)
    count = np.zeros(len(places), np.int64)
    for index in chosen:
        frame = frames[int(index)]
        head = (np.isin(frame.labels, HEAD) & (frame.person > 127)).astype(np.uint8)
        grown = cv2.dilate(head, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach)))
        px = camera.project(places @ matrices[index, :, :3].T + matrices[index, :, 3])
        x, y = np.floor(px).astype(int).T
        inside = (x >= 0) & (y >= 0) & (x < camera.width_px) & (y < camera.height_px)
        count[inside] += grown[y[inside], x[inside]]
    return count >= share * len(chosen)


def _vertices(allowed: np.ndarray, motion_cells: int) -> np.ndarray:
    """int64 [V], rising: rows of the motion grid's vertices about any allowed cell."""
    ratio = motion_cells / len(allowed)
    low = np.floor(np.argwhere(allowed) * ratio).astype(np.int64)
    high = np.ceil((np.argwhere(allowed) + 1) * ratio).astype(np.int64)
    most = int((high - low).max())
    rows = []
    for step in np.ndindex(most + 1, most + 1, most + 1):
        corner = np.minimum(low + step, high)
        rows.append(corner @ np.array([1, motion_cells + 1, (motion_cells + 1) ** 2]))
    return np.unique(np.concatenate(rows))


def _places(vertices: np.ndarray, motion_cells: int, low: np.ndarray, side: float) -> np.ndarray:
    """[V, 3], centimetres."""
    across = motion_cells + 1
    at = np.stack([vertices % across, vertices // across % across, vertices // across**2], axis=1)
    return np.asarray(low + side / motion_cells * at)


def _start_as_blendshapes(
    head: HashgridHead, places: np.ndarray, landmarks_cm: np.ndarray, inputs: np.ndarray, counts: tuple[int, int, int]
) -> None:
    """Bases that carry a place back by what its nearest landmarks move, and attention to the region these lie in."""
    face = landmarks_cm.mean(axis=0).astype(np.float64)
    moved = (landmarks_cm - face).reshape(len(landmarks_cm), -1)
    distance, nearest = cKDTree(face[:_MESH_COUNT]).query(places, k=8)
    kernel = np.exp(-0.5 * (distance / _SPREAD_CM) ** 2)
    kernel /= np.maximum(kernel.sum(axis=1, keepdims=True), 1.0)  # fades where all are far
    mask = group_mask(*counts)[: len(REGIONS)].numpy() > 0
    count = head.shape.basis_count
    bases = np.zeros(tuple(head.motion.bases.shape), np.float32)
    zone, best = np.full(len(places), ZONES.index("elsewhere"), np.int32), np.zeros(len(places))
    for region, points in enumerate((MOUTH_REGION, UPPER_REGION)):
        seen = np.flatnonzero(mask[region])[:count]
        share = (kernel * np.isin(nearest, points)).sum(axis=1)
        mine = (share > 0.1) & (share > best)
        best = np.maximum(best, share)
        zone[mine] = region
        # The network's weight k starts as the k-th input that the region sees.
        design = inputs[:, seen] - inputs[:, seen].mean(axis=0, dtype=np.float64)
        ridge = 1e-3 * len(design) * np.eye(len(seen))
        response = np.linalg.solve(design.T @ design + ridge, design.T @ moved).reshape(len(seen), -1, 3)
        response[:, np.setdiff1d(np.arange(response.shape[1]), points)] = 0
        carried = -np.einsum("vn,kvnc->vkc", kernel, response[:, nearest])
        bases[mine, : len(seen), DISPLACEMENT] = carried[mine]
        bases[mine, len(seen) :, DISPLACEMENT] = 0
    head.motion.bases.copy_(torch.from_numpy(bases))
    head.motion.zone.copy_(torch.from_numpy(zone))
