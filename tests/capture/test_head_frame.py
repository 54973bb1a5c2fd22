from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from avatarfit.capture.face_points import CHIN, FOREHEAD_TOP, OUTER_EYE_CORNERS, RIGID
from avatarfit.capture.head_frame import OUTER_EYE_DISTANCE_CM, place_landmarks, prior_shape_cm
from avatarfit.capture.pose_solver import RigidSolution, solve_poses
from avatarfit.contracts import Camera

CAMERA = Camera(512, 512, 1200.0, 256.0, 256.0)


def seen_head(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A made-up head whose jaw opens: true landmarks_cm [T, 478, 3], rotation, translation, landmarks_px with z."""
    rng = np.random.default_rng(0)
    face = rng.uniform([-7, -5, -4], [7, 11, 4], (478, 3))
    face[OUTER_EYE_CORNERS[0]], face[OUTER_EYE_CORNERS[1]] = [-4.45, 0, 0], [4.45, 0, 0]
    face[FOREHEAD_TOP], face[CHIN] = [0, -5, 1], [0, 10, 1]
    t = np.linspace(0, 12, count)
    opening = 0.5 + 0.5 * np.sin(2.3 * t)
    points = np.repeat(face[None], count, axis=0)
    low = np.setdiff1d(np.flatnonzero(face[:, 1] > 6), [*RIGID, CHIN, FOREHEAD_TOP])
    points[:, low, 1] += opening[:, None]
    points[:, low, 2] += 0.6 * opening[:, None]  # the jaw swings back as it opens
    rotation = Rotation.from_euler("yxz", np.stack([0.25 * np.sin(t), 0.15 * np.cos(1.3 * t), 0 * t], 1)).as_matrix()
    translation = np.stack([np.sin(t), 0 * t, 80 + 0 * t], axis=1)
    camera_points = np.einsum("tij,tnj->tni", rotation, points) + translation[:, None]
    depth = (camera_points[..., 2:] - 80) * CAMERA.focal_px / 80
    return points, rotation, translation, np.concatenate([CAMERA.project(camera_points), depth], axis=2)


def test_landmarks_project_exactly_onto_their_pixels() -> None:
    _, _, _, pixels = seen_head(50)
    noisy = (pixels + np.random.default_rng(1).normal(0, 1, pixels.shape)).astype(np.float32)
    solution = solve_poses(noisy[:, RIGID], prior_shape_cm(noisy), CAMERA)
    landmarks_cm, moved = place_landmarks(noisy, solution, CAMERA, 45)
    camera_points = (
        np.einsum("tij,tnj->tni", moved.rotation, landmarks_cm.astype(float)) + moved.translation_cm[:, None]
    )
    np.testing.assert_allclose(CAMERA.project(camera_points), noisy[..., :2], atol=2e-3)
    np.testing.assert_allclose(
        moved.rotation @ moved.rotation.transpose(0, 2, 1), np.eye(3)[None].repeat(50, 0), atol=1e-9
    )


def test_the_head_frame_has_its_origin_scale_and_axes() -> None:
    _, _, _, pixels = seen_head(60)
    solution = solve_poses(pixels[:, RIGID], prior_shape_cm(pixels), CAMERA)
    mean = place_landmarks(pixels.astype(np.float32), solution, CAMERA, 60)[0].mean(axis=0)
    right, left = mean[list(OUTER_EYE_CORNERS)]
    np.testing.assert_allclose((right + left) / 2, 0, atol=1e-3)
    np.testing.assert_allclose(left - right, [OUTER_EYE_DISTANCE_CM, 0, 0], atol=1e-3)
    down = mean[CHIN] - mean[FOREHEAD_TOP]
    assert down[1] > 0
    assert abs(down[2]) < 1e-3


def test_true_expression_and_its_depth_come_back() -> None:
    points, rotation, translation, pixels = seen_head(80)
    truth = RigidSolution(points[0, RIGID], rotation, translation, np.zeros(80))
    found, _ = place_landmarks(pixels.astype(np.float32), truth, CAMERA, 80)
    # Weak-perspective z is only nearly right, hence a millimetre; motion of the jaw in depth is kept.
    assert np.abs(found - points)[..., :2].max() < 0.25
    spread = found[..., 2].std(axis=0)
    moving = points[..., 2].std(axis=0) > 0.1
    np.testing.assert_allclose(spread[moving], points[:, moving, 2].std(axis=0), atol=0.08)
    assert np.median(spread[~moving]) < 0.05


def test_depth_is_fitted_on_the_training_frames_only() -> None:
    _, rotation, translation, pixels = seen_head(60)
    points = seen_head(60)[0]
    truth = RigidSolution(points[0, RIGID], rotation, translation, np.zeros(60))
    spoiled = pixels.copy()
    spoiled[50:, :, 2] += np.random.default_rng(2).normal(0, 30, (10, 478))
    clean = place_landmarks(pixels.astype(np.float32), truth, CAMERA, 50)[0]
    dirty = place_landmarks(spoiled.astype(np.float32), truth, CAMERA, 50)[0]
    np.testing.assert_array_equal(clean[:50], dirty[:50])
