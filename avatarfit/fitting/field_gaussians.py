"""Gaussians that begin as a hash-grid head looks: they lie on its surface, have its colours and move as it moves.

From a radiance field to splats: where a ray's light comes from on the average is a point of the surface (the expected
depth of NeRF, Mildenhall et al. 2020), which the field's own displacement carries to rest. Where such a point goes over
many frames of motion, and how its colour changes on the way, is linear in the Gaussians' weights as nearly as least
squares can make it: that is what their deltas begin with.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from avatarfit import ops
from avatarfit.contracts import Camera, Motion
from avatarfit.fitting.initialise import OPENING_LOGIT, SUBNASALE
from avatarfit.model.gaussian_avatar import ATTRIBUTE_COUNT, GROUPS, GaussianAvatar
from avatarfit.model.hashgrid_head import FrameState, HashgridHead, pixel_grid, pixels_of_box, rays_through
from avatarfit.model.rig import Rig
from avatarfit.ops.field import DISPLACEMENT
from avatarfit.ops.march import morton_code

VIEWS = 12
"""Frames whose rays give surface points."""
_MOMENTS = 96
"""Frames over which points are followed."""
_SURE = 0.5
"""Alpha from which a ray has met the surface."""
_CARRIES = 3
"""Steps of the fixed-point iteration from a place at rest to where motion has it."""
_RIDGE = 3e-2
_NEIGHBOURS = 7
_MOVING_CM, _MOVING_MORE = 0.1, 2.0


class _Points(NamedTuple):
    """Surface points of the field at rest."""

    rest_cm: Tensor
    """float32 [N, 3], in the head's frame."""
    more_rgb: Tensor
    """float32 [N, 3]: what the ray showed, less what the field's colour is at the point."""


@torch.no_grad()
def gaussians_of_field(
    field: HashgridHead,
    below: GaussianAvatar,
    rig: Rig,
    motion: Motion,
    camera: Camera,
    *,
    count: int,
    generator: np.random.Generator,
) -> GaussianAvatar:
    """A Gaussian avatar that begins as a hash-grid avatar looks; neck and torso are taken over as they are.

    Args:
        field: the head.
        below: neck and torso; its network gives the head's weights too.
        rig: the person's.
        motion: of this person, as varied as the avatar is to be, [T].
        camera: the view whose pixels give points.
        count: of the head's Gaussians; fewer where the field shows fewer points.
        generator: chooses among the points.
    """
    views = varied_frames(field.conditions(motion).numpy(), VIEWS)
    points = _surface(field, motion, camera, views)
    moments = np.sort(varied_frames(field.conditions(motion).numpy(), _MOMENTS))
    states = [field.frame_state(row) for row in field.conditions(motion)[moments]]
    moved = torch.stack([_carried(field, points.rest_cm, state) for state in states]) - points.rest_cm  # [F, N, 3]

    # What moves is what people look at: mouth and eyes take more than their share.
    chance = 1 + _MOVING_MORE * (moved.std(dim=0).norm(dim=1) / _MOVING_CM).clamp(max=1)
    chosen = _evenly(field, points.rest_cm, chance.double().numpy(), count, generator)
    rest, moved = points.rest_cm[chosen], moved[:, chosen]
    colours = torch.stack(
        [field.shade(rest + shift, state)[1] for shift, state in zip(moved, states, strict=True)]
    )  # [F, N, 3]

    below_nose = rest[:, 1] > float(rig.shape_cm[SUBNASALE, 1]) - 0.5
    group = torch.where(below_nose, GROUPS.index("lower_face"), GROUPS.index("upper_face")).int()
    weights = below.basis_weights(motion[moments])  # [F, G, K]
    base, deltas = _followed(below, rest, points.more_rgb[chosen], group, weights, moved, colours)
    return replace(
        below,
        base=torch.cat([below.base, base]),
        deltas=torch.cat([below.deltas, deltas]),
        group=torch.cat([below.group, group]),
        skin=torch.cat([below.skin, torch.ones(len(base))]),
    )


def varied_frames(conditions: np.ndarray, count: int) -> np.ndarray:
    """Indices of `count` rows of [T, D] that lie far from each other, the first nearest the median (farthest-point
    sampling, Gonzalez 1985); all where there are no more."""
    middle = np.median(conditions, axis=0)
    chosen = [int(np.argmin(np.linalg.norm(conditions - middle, axis=1)))]
    distance = np.full(len(conditions), np.inf)
    while len(chosen) < min(count, len(conditions)):
        distance = np.minimum(distance, np.linalg.norm(conditions - conditions[chosen[-1]], axis=1))
        distance[chosen[-1]] = -1  # never twice, even where rows are equal
        chosen.append(int(np.argmax(distance)))
    return np.array(chosen)


def _evenly(
    field: HashgridHead, places: Tensor, chance: np.ndarray, count: int, generator: np.random.Generator
) -> Tensor:
    """Indices of at most `count` of the places [N, 3], as dense as `chance` [N] says and with few holes: at even steps
    of the chance summed along a Morton curve (systematic sampling)."""
    cells = ((places - places.new_tensor(field.low_cm)) * (1023 / field.side_cm)).long().clamp(0, 1023)
    order = np.argsort(morton_code(cells).numpy())
    reached = np.cumsum(chance[order])
    at = (np.arange(count) + generator.uniform()) / count * reached[-1]
    return torch.from_numpy(np.sort(order[np.unique(np.searchsorted(reached, at))]))


def _displaced(field: HashgridHead, places: Tensor, state: FrameState) -> Tensor:
    """Places [N, 3] of a frame carried to rest, cm in the head's frame."""
    at = (places - places.new_tensor(field.low_cm)) / field.side_cm
    return places + ops.hash_encode(at, state.grid, field.shape.motion_grid)[:, DISPLACEMENT]


def _carried(field: HashgridHead, rest: Tensor, state: FrameState) -> Tensor:
    """Where places at rest [N, 3] are in a frame: the inverse of `_displaced`."""
    places = rest
    for _ in range(_CARRIES):
        places = places - (_displaced(field, places, state) - rest)
    return places


def _surface(field: HashgridHead, motion: Motion, camera: Camera, views: np.ndarray) -> _Points:
    """Points on which rays of these frames end, at rest; those of the first frame, and what the others add to them."""
    poses, conditions = torch.from_numpy(motion.head.matrices()), field.conditions(motion)
    rest, more_rgb = torch.zeros(2, 0, 3)
    for view in views.tolist():
        state = field.frame_state(conditions[view])
        pixels = pixel_grid(*pixels_of_box(field.box, camera, poses[view]))
        origins, directions = rays_through(pixels, camera, poses[view])
        samples = field.march(origins, directions)
        sigma, colour = field.shade(samples.positions, state)
        light = ops.composite_rays(sigma, colour, samples.t, samples.lengths, samples.offsets)
        met = light.alpha > _SURE
        depth, alpha = light.depth[met] / light.alpha[met], light.alpha[met]
        ends = origins[met] + depth[:, None] * directions[met]
        found = _displaced(field, ends, state)
        more = light.color[met] / alpha[:, None] - field.shade(ends, state)[1]
        if len(rest) and len(found):
            footprint = float(depth.mean()) / camera.focal_px
            new = torch.from_numpy(cKDTree(rest.numpy()).query(found.numpy())[0] > footprint)
            found, more = found[new], more[new]
        rest, more_rgb = torch.cat([rest, found]), torch.cat([more_rgb, more])
    return _Points(rest, more_rgb)


def _followed(
    below: GaussianAvatar,
    rest: Tensor,
    more_rgb: Tensor,
    group: Tensor,
    weights: Tensor,
    moved: Tensor,
    colours: Tensor,
) -> tuple[Tensor, Tensor]:
    """Attributes [N, 14] and deltas [N, K, 14] of points that go where `moved` [F, N, 3] says, by weights [F, G, K]."""
    count, basis_count = len(rest), weights.shape[2]
    rotation = torch.from_numpy(below.rest_head[:, :3].copy())
    base = torch.zeros(count, ATTRIBUTE_COUNT)
    deltas = torch.zeros(count, basis_count, ATTRIBUTE_COUNT)
    base[:, 3] = 1
    if count > _NEIGHBOURS:
        # Neighbours overlap at one deviation (Kerbl et al. 2023, 3.4), as in `initialise`; more of them, for no holes.
        distance = cKDTree(rest.numpy()).query(rest.numpy(), k=_NEIGHBOURS + 1)[0][:, 1:].mean(axis=1)
        base[:, 7:10] = torch.log(torch.from_numpy(0.5 * distance).float().clamp(0.02, 1.0))[:, None]
    base[:, 10] = OPENING_LOGIT
    for index in group.unique().tolist():
        mine = torch.nonzero(group == index).flatten()
        design = torch.cat([torch.ones(len(weights), 1), weights[:, index]], 1).double()
        ridge = _RIDGE * len(design) * torch.eye(design.shape[1], dtype=torch.float64)
        ridge[0, 0] = 0  # where a point is on the average costs nothing
        course = torch.cat([moved[:, mine] @ rotation.T, colours[:, mine]], 2).double()  # [F, n, 6]
        answer = torch.linalg.solve(design.T @ design + ridge, design.T @ course.flatten(1)).float()
        answer = answer.reshape(-1, len(mine), 6)
        base[mine, 0:3], base[mine, 11:14] = answer[0, :, :3], answer[0, :, 3:] + more_rgb[mine]
        deltas[mine, :, 0:3] = answer[1:, :, :3].transpose(0, 1)
        deltas[mine, :, 11:14] = answer[1:, :, 3:].transpose(0, 1)
    base[:, 0:3] += rest @ rotation.T + torch.from_numpy(below.rest_head[:, 3].copy())
    return base, deltas
