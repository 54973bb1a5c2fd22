from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from avatarfit.capture.rotations import continuous_wxyz, left_jacobian, matrix_of, rotvec_of, similarity_to, skew


def test_skew_is_the_cross_product() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 7, 3))
    np.testing.assert_allclose((skew(a) @ b[..., None])[..., 0], np.cross(a, b), atol=1e-14)


def test_left_jacobian_matches_finite_differences_also_at_zero() -> None:
    vectors = np.concatenate([np.random.default_rng(1).normal(size=(6, 3)), np.zeros((1, 3)), [[1e-7, 0, 0]]])
    step = 1e-6
    for axis in range(3):
        moved = matrix_of(vectors + step * np.eye(3)[axis]) @ matrix_of(vectors).transpose(0, 2, 1)
        np.testing.assert_allclose(rotvec_of(moved) / step, left_jacobian(vectors)[:, :, axis], atol=2e-5)


def test_quaternions_do_not_jump_over_half_a_turn() -> None:
    angle = np.linspace(0, 4 * np.pi, 100)
    q = continuous_wxyz(Rotation.from_euler("y", angle[:, None]).as_matrix())
    np.testing.assert_allclose(np.linalg.norm(q, axis=1), 1, atol=1e-12)
    assert np.abs(np.diff(q, axis=0)).max() < 0.1
    np.testing.assert_allclose(q[:, 0], np.cos(angle / 2), atol=1e-9)


def test_similarity_is_recovered_exactly() -> None:
    rng = np.random.default_rng(2)
    target = rng.normal(size=(20, 3))
    scale, shift = rng.uniform(0.5, 2, 5), rng.normal(size=(5, 3))
    rotation = Rotation.random(5, random_state=3).as_matrix()
    # target = s R p + d  =>  p = R^T (target - d) / s
    points = np.einsum("tji,tnj->tni", rotation, target[None] - shift[:, None]) / scale[:, None, None]
    got_scale, got_rotation, got_shift = similarity_to(points, target)
    np.testing.assert_allclose(got_scale, scale, rtol=1e-10)
    np.testing.assert_allclose(got_rotation, rotation, atol=1e-10)
    np.testing.assert_allclose(got_shift, shift, atol=1e-10)
