from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from avatarfit.contracts import FaceMotion, HeadPose, Motion, TorsoMotion
from avatarfit.model.gaussian_avatar import (
    GROUPS,
    GaussianAvatar,
    MotionWeights,
    compose,
    condition,
    group_mask,
    inverse,
)

COUNTS = (4, 3, 2)


def random_motion(frames: int = 6, seed: int = 0) -> Motion:
    generator = np.random.default_rng(seed)
    rotation = Rotation.from_rotvec(generator.normal(size=(frames, 3)) * 0.1).as_quat()[:, [3, 0, 1, 2]]
    affine = np.eye(2, 3) + generator.normal(size=(frames, 2, 3)) * 0.01
    return Motion(
        np.arange(frames) / 25,
        FaceMotion(*(generator.normal(size=(frames, n)) for n in (*COUNTS[:2], 6))),
        HeadPose(rotation, generator.normal(size=(frames, 3)) + (0, 0, 100)),
        TorsoMotion(affine, generator.normal(size=(frames, COUNTS[2]))),
    )


@pytest.fixture
def avatar() -> GaussianAvatar:
    torch.manual_seed(0)
    motion = random_motion()
    rest = motion.head.matrices()[2]
    inputs = condition(motion, rest)
    return GaussianAvatar(
        torch.randn(9, 14), torch.randn(9, 5, 14), torch.arange(9, dtype=torch.int32) % 3, torch.rand(9), rest,
        inputs.amin(dim=0), inputs.amax(dim=0), MotionWeights(group_mask(*COUNTS), 5, hidden=7), COUNTS,
    )  # fmt: skip


def test_compose_and_inverse() -> None:
    a, b = np.random.default_rng(1).normal(size=(2, 4, 3, 4))
    point = np.array([1.0, 2, 3])
    inner = b[:, :, :3] @ point + b[:, :, 3]
    expected = np.einsum("tij,tj->ti", a[:, :, :3], inner) + a[:, :, 3]
    np.testing.assert_allclose(compose(a, b)[:, :, :3] @ point + compose(a, b)[:, :, 3], expected)
    np.testing.assert_allclose(compose(a, inverse(a)), np.broadcast_to(np.eye(3, 4), a.shape), atol=1e-9)


def test_at_the_rest_pose_the_head_does_not_move(avatar: GaussianAvatar) -> None:
    np.testing.assert_allclose(avatar.head_matrices(random_motion().head)[2], np.eye(3, 4), atol=1e-4)


def test_a_blink_moves_only_the_upper_face_and_speech_only_the_lower(avatar: GaussianAvatar) -> None:
    motion = random_motion()
    before = avatar.weights(avatar.condition(motion))
    face = FaceMotion(motion.face.mouth, motion.face.upper, motion.face.eyes + 1)
    blinked = avatar.weights(avatar.condition(Motion(motion.pts_seconds, face, motion.head, motion.torso)))
    face = FaceMotion(motion.face.mouth + 1, motion.face.upper, motion.face.eyes)
    spoken = avatar.weights(avatar.condition(Motion(motion.pts_seconds, face, motion.head, motion.torso)))
    for after, mover in ((blinked, "upper_face"), (spoken, "lower_face")):
        for group, name in enumerate(GROUPS):
            changed = (after[:, group] - before[:, group]).abs().max() > 1e-4
            assert changed == (name == mover), name


def test_a_head_carried_by_the_torso_does_not_stretch_the_neck(avatar: GaussianAvatar) -> None:
    rest = avatar.rest_head
    affine = np.eye(2, 3)[None] + np.array([[[0, 0, 0.02], [0, 0, -0.01]]])
    torso = TorsoMotion(affine)
    translation = torso.matrices()[0, :, :3] @ rest[:, 3]
    quaternion = Rotation.from_matrix(rest[:, :3]).as_quat()[[3, 0, 1, 2]]
    face = FaceMotion(np.zeros((1, 4)), np.zeros((1, 3)), np.zeros((1, 6)))
    motion = Motion(np.zeros(1), face, HeadPose(quaternion[None], translation[None]), torso)
    assert condition(motion, rest)[0, -3:].abs().max() < 1e-4


def test_motion_beyond_what_was_seen_is_held(avatar: GaussianAvatar) -> None:
    motion = random_motion()
    wild = FaceMotion(motion.face.mouth * 100, motion.face.upper, motion.face.eyes)
    far = Motion(motion.pts_seconds, wild, motion.head, motion.torso)
    corner = torch.where(avatar.condition(far) > 0, avatar.condition_high, avatar.condition_low)
    mouth = slice(COUNTS[2], COUNTS[2] + COUNTS[0])
    kept = avatar.condition(motion)
    kept[:, mouth] = corner[:, mouth]
    corner = kept
    expected = avatar.weights(
        torch.minimum(torch.maximum(avatar.condition(far), avatar.condition_low), avatar.condition_high)
    )
    torch.testing.assert_close(avatar.basis_weights(far), expected)
    assert avatar.basis_weights(far).abs().max() < 50


def test_tensors_round_trip(avatar: GaussianAvatar) -> None:
    again = GaussianAvatar.from_tensors(avatar.to_tensors(), avatar.config())
    motion = random_motion(seed=3)
    torch.testing.assert_close(again.basis_weights(motion), avatar.basis_weights(motion))
    torch.testing.assert_close(again.base, avatar.base)
    torch.testing.assert_close(again.deltas, avatar.deltas, atol=2e-3, rtol=1e-3)


def test_arrays_that_do_not_fit_are_refused(avatar: GaussianAvatar) -> None:
    tensors = avatar.to_tensors() | {"skin": np.zeros(3, np.float32)}
    with pytest.raises(ValueError, match="do not fit each other"):
        GaussianAvatar.from_tensors(tensors, avatar.config())
    tensors = avatar.to_tensors() | {"group": np.full(9, 7, np.int32)}
    with pytest.raises(ValueError, match="do not fit each other"):
        GaussianAvatar.from_tensors(tensors, avatar.config())
