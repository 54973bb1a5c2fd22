"""Gaussians that begin from a field lie where it is seen, look as it looks, and go where it goes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from avatarfit.contracts import Motion
from avatarfit.fitting.field_gaussians import gaussians_of_field, varied_frames
from avatarfit.model.avatar import Avatar
from avatarfit.model.gaussian_avatar import GROUPS, GaussianAvatar
from avatarfit.ops import blend
from avatarfit.rendering.gaussian_renderer import GaussianRenderer
from avatarfit.rendering.renderer import renderer_of


@pytest.fixture(scope="module")
def motion(someone) -> Motion:
    return someone.motion[::10]


def begun(avatar: Avatar, motion: Motion, count: int = 700) -> GaussianAvatar:
    return gaussians_of_field(
        avatar.field, avatar.gaussians, avatar.rig, motion, avatar.camera.resized(96, 128), count=count,
        generator=np.random.default_rng(0),
    )  # fmt: skip


@pytest.fixture(scope="module")
def start(hashgrid_avatar: Avatar, motion: Motion) -> GaussianAvatar:
    return begun(hashgrid_avatar, motion)


def test_neck_and_torso_are_kept_as_they_are(hashgrid_avatar: Avatar, start: GaussianAvatar) -> None:
    below = hashgrid_avatar.gaussians
    assert start.count == below.count + 700
    for name in ("base", "deltas", "group", "skin"):
        torch.testing.assert_close(getattr(start, name)[: below.count], getattr(below, name), rtol=0, atol=0)
    assert start.weights is below.weights
    assert (start.skin[below.count :] == 1).all()


def test_they_lie_on_the_surface_that_rays_meet(hashgrid_avatar: Avatar, start: GaussianAvatar, motion: Motion) -> None:
    """The scene's density rises through 1 at about an ellipsoid, on the side that the camera sees."""
    below, field = hashgrid_avatar.gaussians, hashgrid_avatar.field
    rest = (start.base[below.count :, :3] - torch.from_numpy(start.rest_head[:, 3])) @ torch.from_numpy(
        start.rest_head[:, :3]
    )
    radii = ((rest - torch.tensor([0.0, 1, 6])) / torch.tensor([7.0, 9, 8])).norm(dim=1)
    assert field.low_cm == (-12, -12, -6)
    assert 0.75 < radii.quantile(0.05) < radii.quantile(0.95) < 1.2
    assert (rest[:, 2] < 8).float().mean() > 0.95


def test_the_picture_is_the_fields_from_the_start(
    hashgrid_avatar: Avatar, start: GaussianAvatar, motion: Motion
) -> None:
    camera, plate = hashgrid_avatar.camera, hashgrid_avatar.plate
    field, gaussians = renderer_of(hashgrid_avatar, camera), GaussianRenderer(start, camera)
    bare = GaussianRenderer(hashgrid_avatar.gaussians, camera)
    for frame in (0, 33, 120):
        truth = field.render_over(motion, frame, plate).astype(float)
        near, without = (np.abs(r.render_over(motion, frame, plate) - truth).mean() for r in (gaussians, bare))
        assert near < 0.35 * without


def test_they_go_where_the_field_goes(hashgrid_avatar: Avatar, motion: Motion) -> None:
    """The scene's jaw moves by half the first weight of the lower face, and the Gaussians' weights begin the same."""
    avatar = hashgrid_avatar
    start, below = begun(avatar, motion), avatar.gaussians.count
    lower = torch.nonzero(start.group[below:] == GROUPS.index("lower_face")).flatten() + below
    opened, shut = int(motion.face.mouth[:, 0].argmax()), int(motion.face.mouth[:, 0].argmin())
    weights, conditions = start.basis_weights(motion).contiguous(), avatar.field.conditions(motion)
    places = [blend(start.base, start.deltas, weights[i].contiguous(), start.group)[lower, :3] for i in (opened, shut)]
    went = (places[0] - places[1]) @ torch.from_numpy(start.rest_head[:, :3])
    told = [float(avatar.field.weights(conditions[i][None])[0, 0, 0]) for i in (opened, shut)]
    jaw = 0.5 * (told[0] - told[1])
    assert jaw > 0.5
    share = went[:, 1] / jaw
    # Deep in the lower face the attention is nearly all the region's; at its edge it fades.
    assert share.quantile(0.75) == pytest.approx(0.92, abs=0.12)
    assert went[:, [0, 2]].abs().mean() < 0.1 * jaw


def test_no_more_gaussians_than_points(hashgrid_avatar: Avatar, motion: Motion) -> None:
    many = begun(hashgrid_avatar, motion, count=10**6)
    assert hashgrid_avatar.gaussians.count + 1000 < many.count < 10**5
    assert torch.isfinite(many.base).all()
    assert torch.isfinite(many.deltas).all()


def test_varied_frames_are_far_from_each_other() -> None:
    line = np.concatenate([np.zeros((50, 1)), [[-3.0], [2.0], [9.0]]])
    chosen = varied_frames(line, 4)
    assert sorted(line[chosen, 0]) == [-3, 0, 2, 9]
    assert line[chosen[0], 0] == 0
    assert sorted(varied_frames(line[-2:], 9)) == [0, 1]
    assert sorted(varied_frames(np.zeros((5, 1)), 5)) == [0, 1, 2, 3, 4]
