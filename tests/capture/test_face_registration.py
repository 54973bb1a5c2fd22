from __future__ import annotations

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from avatarfit.capture.face_points import RIGID
from avatarfit.capture.face_registration import (
    Registration,
    choose_keyframes,
    match_face,
    pose_distance_state,
    register_faces,
)
from avatarfit.capture.pose_refinement import refine_poses, without_shared_error
from avatarfit.capture.pose_solver import RigidSolution, solve_poses
from avatarfit.contracts import Camera

CAMERA = Camera(512, 512, 1200.0, 256.0, 256.0)


def skin(seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).uniform(0, 255, (256, 256)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    return np.clip((smooth - smooth.mean()) * 6 + 128, 0, 255).astype(np.uint8)


def test_a_known_shift_is_matched_and_nonsense_is_dropped() -> None:
    picture = skin()
    moved = cv2.warpAffine(picture, np.array([[1.0, 0, 6.3], [0, 1, -3.7]]), (256, 256), flags=cv2.INTER_CUBIC)
    points = np.random.default_rng(1).uniform(40, 210, (50, 2)).astype(np.float32)
    guess = np.full((50, 2), [5, -5], np.float32)
    found = match_face(picture, moved, points, guess, 0.7)
    known = np.isfinite(found[:, 0])
    assert known.mean() > 0.9
    np.testing.assert_allclose(found[known], np.tile([6.3, -3.7], (known.sum(), 1)), atol=0.1)
    assert np.isnan(match_face(picture, skin(9), points, guess, 0.3)).mean() > 0.6


def test_keyframes_cover_the_poses_from_the_reference_on() -> None:
    angles = np.concatenate([np.zeros(50), np.linspace(-0.5, 0.5, 150)])
    state = pose_distance_state(Rotation.from_euler("y", angles[:, None]).as_matrix(), np.tile([0.0, 0, 80], (200, 1)))
    keys = choose_keyframes(state, 10)
    assert keys[0] == 10
    assert len(set(keys)) == len(keys)
    nearest = np.linalg.norm(state[:, None] - state[keys], axis=2).min(axis=1)
    assert np.quantile(nearest, 0.95) < 1.0
    assert choose_keyframes(np.zeros((30, 6)), 3) == [3]


def test_every_picture_is_matched_with_the_reference_and_the_far_ones_with_a_second() -> None:
    picture = skin(2)
    count = 6
    landmarks = np.zeros((count, 478, 3))
    landmarks[:, :, :2] = np.random.default_rng(3).uniform(60, 190, (478, 2))
    landmarks[:, :, 0] += np.arange(count)[:, None]
    grays = [
        cv2.warpAffine(picture, np.array([[1.0, 0, k], [0, 1, 0]]), (256, 256), flags=cv2.INTER_LINEAR)
        for k in range(count)
    ]
    grays[5] = skin(8)  # what the reference cannot reach ...
    keys = {0: grays[0], 4: grays[5]}  # ... a second keyframe may
    state = np.arange(count, dtype=float)[:, None] * np.eye(6)[0]
    camera = Camera(256, 256, 600.0, 128.0, 128.0)
    found = register_faces(grays, keys, 0, state, landmarks, landmarks[:, RIGID, :2], camera)
    assert found.keyframe[:, 0].tolist() == [-1, 0, 0, 0, 0, 0]
    for k in (1, 2, 3):
        np.testing.assert_allclose(np.nanmedian(found.shift_px[k, 0], axis=0), [k, 0], atol=0.05)
        assert np.isnan(found.shift_px[k, 1]).all()
    assert found.keyframe[5, 1] == 4
    assert np.isfinite(found.shift_px[5, 1, :, 0]).mean() > 0.9


def sway(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True pixels [T, R, 2], network landmarks [T, R, 3] with slow shared errors, and the rigid shape."""
    rng = np.random.default_rng(4)
    shape = rng.uniform([-7, -5, -4], [7, 4, 4], (len(RIGID), 3))
    t = np.linspace(0, 8, count)
    rotation = Rotation.from_euler("yx", np.stack([0.15 * np.sin(t), 0.1 * np.cos(1.4 * t)], axis=1)).as_matrix()
    points = np.einsum("tij,nj->tni", rotation, shape) + np.stack([np.sin(t), 0 * t, 75 + 0 * t], axis=1)[:, None]
    pixels = CAMERA.project(points)
    slow = 1.2 * np.stack([np.sin(0.9 * t + 1), np.cos(1.7 * t)], axis=1)[:, None]
    depth = (points[..., 2:] - 75) * 16
    return pixels, np.concatenate([pixels + slow + rng.normal(0, 0.3, pixels.shape), depth], axis=2), shape


def test_matches_take_out_the_slow_error_that_flow_cannot() -> None:
    pixels, landmarks, shape = sway(120)
    flow = np.concatenate([np.diff(pixels, axis=0), np.full((1, len(RIGID), 2), np.nan)])
    linked = np.ones(120, bool)
    first = solve_poses(landmarks, shape, CAMERA, flow)
    shift = np.full((120, 2, len(RIGID), 2), np.nan, np.float32)
    shift[:, 0] = pixels - pixels[60] + np.random.default_rng(5).normal(0, 0.2, pixels.shape)
    shift[:, 0, ::4] = np.nan
    shift[::9, 0, 1:20] += 7  # wrong matches
    keyframe = np.tile([60, -1], (120, 1))
    keyframe[60] = -1
    refined = refine_poses(first, Registration(keyframe, shift), landmarks, flow, landmarks[..., :2], linked, CAMERA)

    def wander(solution: RigidSolution) -> float:
        gap = solution.project(CAMERA) - pixels
        return float(np.sqrt(np.mean(np.sum((gap - gap.mean(axis=0)) ** 2, axis=2))))

    assert wander(refined) < 0.5 * wander(first)
    assert wander(refined) < 0.5


def test_the_shared_error_of_a_picture_is_taken_off_all_its_landmarks() -> None:
    rng = np.random.default_rng(6)
    true = rng.uniform(100, 400, (5, 478, 3)).astype(np.float32)
    turn = (1 + rng.normal(0, 0.003, 5)) * np.exp(1j * rng.normal(0, 0.01, 5))
    moved = true.copy()
    z = (true[..., 0] + 1j * true[..., 1]) * turn[:, None] + rng.normal(0, 2, (5, 1)) + 1j * rng.normal(0, 2, (5, 1))
    moved[..., 0], moved[..., 1], moved[..., 2] = z.real, z.imag, true[..., 2] * np.abs(turn)[:, None]
    target = true[:, RIGID, :2].astype(np.float64)
    target[:, :8] += 20  # landmarks that the pose does not explain
    np.testing.assert_allclose(without_shared_error(moved, RIGID, target), true, atol=0.15)
