from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from avatarfit.capture.pose_solver import PoseSettings, mean_rigid_shape, solve_poses
from avatarfit.contracts import Camera

CAMERA = Camera(640, 480, 1400.0, 320.0, 240.0)
LOOSE = PoseSettings(rotation_acceleration=1, translation_acceleration_cm=10, depth_acceleration_cm=10)


class Truth:
    """A rigid head that nods, turns and sways, seen by a camera."""

    def __init__(self, count: int = 60, points: int = 60, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.shape = rng.uniform([-7, -6, -4], [7, 5, 4], (points, 3))
        self.shape -= self.shape.mean(axis=0)
        t = np.linspace(0, 3 * np.pi, count)
        angles = np.stack([0.3 * np.sin(t), 0.25 * np.sin(0.7 * t + 1), 0.1 * np.cos(t)], axis=1)
        self.rotation = Rotation.from_euler("yxz", angles).as_matrix()
        self.translation = np.stack([2 * np.sin(t), np.cos(0.5 * t), 85 + 2 * np.sin(0.3 * t)], axis=1)
        camera_points = np.einsum("tij,nj->tni", self.rotation, self.shape) + self.translation[:, None]
        self.pixels = CAMERA.project(camera_points)
        # The network's z is on the scale of x, in pixels.
        depth = (camera_points[..., 2:] - 85) * CAMERA.focal_px / 85
        self.landmarks = np.concatenate([self.pixels, depth], axis=2)
        self.flow = np.concatenate([np.diff(self.pixels, axis=0), np.full((1, points, 2), np.nan)])

    def angle_error(self, rotation: np.ndarray) -> np.ndarray:
        return np.linalg.norm(Rotation.from_matrix(rotation @ self.rotation.transpose(0, 2, 1)).as_rotvec(), axis=1)


def test_exact_pixels_give_the_exact_pose_and_shape() -> None:
    truth = Truth()
    found = solve_poses(truth.landmarks, truth.shape, CAMERA, settings=LOOSE)
    assert found.residual_px.max() < 1e-3
    assert truth.angle_error(found.rotation).max() < 1e-4
    np.testing.assert_allclose(found.translation_cm, truth.translation, atol=0.02)
    np.testing.assert_allclose(found.shape_cm, truth.shape, atol=2e-3)


def test_a_wrong_prior_shape_is_corrected_by_the_clip() -> None:
    truth = Truth()
    prior = truth.shape + np.random.default_rng(1).normal(0, 0.3, truth.shape.shape)
    found = solve_poses(truth.landmarks, prior, CAMERA, settings=LOOSE)
    before = solve_poses(truth.landmarks, prior, CAMERA, settings=PoseSettings(rounds=1, shape_deviation_cm=1e-6))
    assert np.median(found.residual_px) < 0.05 < 0.5 < np.median(before.residual_px)


def test_noise_and_outliers_barely_move_the_pose() -> None:
    truth = Truth(count=80)
    rng = np.random.default_rng(2)
    noisy = truth.landmarks.copy()
    noisy[..., :2] += rng.normal(0, 0.5, noisy[..., :2].shape)
    noisy[:, :6, :2] += 15  # a hand over part of the face, all the time for six points
    noisy[30:34, 6:20, :2] -= 10
    found = solve_poses(noisy, truth.shape, CAMERA, settings=PoseSettings(shape_deviation_cm=0.05))
    rest = np.einsum("tij,nj->tni", found.rotation, truth.shape) + found.translation_cm[:, None]
    error = np.linalg.norm(CAMERA.project(rest) - truth.pixels, axis=2)
    assert np.median(error) < 0.4
    assert error.max(axis=1)[30:34].max() < 6


def test_image_motion_takes_out_the_jitter_that_landmarks_share() -> None:
    truth = Truth(count=100)
    rng = np.random.default_rng(3)
    jitter = rng.normal(0, 0.6, (100, 1, 2))  # the same for all points of a frame, as a landmark network's
    noisy = truth.landmarks.copy()
    noisy[..., :2] += jitter + rng.normal(0, 0.2, noisy[..., :2].shape)
    flow = truth.flow + rng.normal(0, 0.15, truth.flow.shape)
    flow[:, ::5] = np.nan
    flow[::7, :8] += 9  # wrong matches

    def motion_error(flow_px: np.ndarray | None) -> float:
        found = solve_poses(noisy, truth.shape, CAMERA, flow_px)
        points = np.einsum("tij,nj->tni", found.rotation, found.shape_cm) + found.translation_cm[:, None]
        moved = np.diff(CAMERA.project(points), axis=0) - truth.flow[:-1]
        return float(np.sqrt(np.mean(np.median(moved, axis=1) ** 2)))

    assert motion_error(flow) < 0.5 * motion_error(None)


def test_frames_that_are_not_neighbours_are_not_smoothed_together() -> None:
    truth = Truth(count=40)
    jump = truth.landmarks.copy()
    jump[20:, :, 0] += 120  # a cut
    linked = np.ones(40, bool)
    linked[19] = False
    stiff = PoseSettings(rotation_acceleration=1e-3, translation_acceleration_cm=0.01, depth_acceleration_cm=0.01)
    apart = solve_poses(jump, truth.shape, CAMERA, linked=linked, settings=stiff)
    together = solve_poses(jump, truth.shape, CAMERA, settings=stiff)
    assert apart.residual_px[15:25].max() < 0.5 * together.residual_px[15:25].max()


def test_a_single_frame_can_be_solved() -> None:
    truth = Truth(count=1)
    found = solve_poses(truth.landmarks, truth.shape, CAMERA)
    assert found.residual_px[0] < 0.05
    assert truth.angle_error(found.rotation)[0] < 5e-3


def test_procrustes_mean_of_moved_copies_is_the_shape() -> None:
    rng = np.random.default_rng(4)
    shape = rng.normal(size=(30, 3))
    turns = Rotation.random(25, random_state=5).as_matrix()
    points = rng.uniform(0.5, 2, (25, 1, 1)) * np.einsum("tij,nj->tni", turns, shape) + rng.normal(size=(25, 1, 3))
    mean = mean_rigid_shape(points)
    distances = np.linalg.norm(mean[:, None] - mean[None], axis=2)
    wanted = np.linalg.norm(shape[:, None] - shape[None], axis=2)
    ratio = distances[wanted > 0] / wanted[wanted > 0]
    assert ratio.max() / ratio.min() == pytest.approx(1, abs=1e-9)
