from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from avatarfit.contracts import HeadPose, TorsoMotion
from avatarfit.model.torso_follower import TorsoFollower

COUNT, TRAIN = 900, 800


@pytest.fixture(scope="module")
def heads() -> tuple[HeadPose, np.ndarray]:
    wander = gaussian_filter1d(np.random.default_rng(0).standard_normal((COUNT, 6)), 15, axis=0)
    wander /= wander.std(axis=0)
    rotation = Rotation.from_rotvec(wander[:, :3] * 0.08).as_quat()[:, [3, 0, 1, 2]]
    return HeadPose(rotation, wander[:, 3:] + [0, 0, 60]), wander


def test_a_torso_that_follows_the_head_is_found(heads: tuple[HeadPose, np.ndarray]) -> None:
    head, wander = heads
    affine = np.tile(np.eye(2, 3), (COUNT, 1, 1))
    affine[:, :, 2] += 0.01 * wander[:, 3:5]
    affine[:, 0, 1] += 0.02 * wander[:, 2]
    shape = wander[:, :1] - 0.5 * wander[:, 1:2]
    found = TorsoFollower.fit(head[:TRAIN], TorsoMotion(affine[:TRAIN], shape[:TRAIN])).torso(head)
    held = slice(TRAIN, None)
    assert np.abs(found.affine[held] - affine[held]).max() < 1e-3
    # Half of what the clothes do is held back, for it is rarely the head's doing.
    share = float((found.shape[held] * shape[held]).sum() / (shape[held] ** 2).sum())
    assert 0.4 < share < 0.6


def test_a_torso_that_the_head_does_not_tell_of_rests(heads: tuple[HeadPose, np.ndarray]) -> None:
    head, _ = heads
    noise = np.random.default_rng(1).standard_normal((COUNT, 1))
    still = TorsoMotion(np.tile(np.eye(2, 3), (COUNT, 1, 1)), noise)
    found = TorsoFollower.fit(head, still).torso(head)
    np.testing.assert_allclose(found.affine, still.affine, atol=1e-5)
    assert found.shape.std() < 0.15
