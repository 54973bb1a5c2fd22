"""Landmarks that do not lean to one side, faces that come and go, motion of points."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from avatarfit.capture.canonical_face import canonical_face
from avatarfit.capture.face_mesh import LOOK_EVERY, FaceMeshTracker, follow_points, without_crop_shift
from avatarfit.capture.face_points import OUTER_EYE_CORNERS, RIGID
from avatarfit.performer import Performer


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    performer = Performer(seed=0, width_px=256)
    return performer.render(performer.performance(1.0, 25.0), 0).rgb


def landmarks(picture: np.ndarray) -> np.ndarray:
    tracker = FaceMeshTracker(1)
    found = [tracker.detect(picture)[0].landmarks_px for _ in range(4)]
    tracker.close()
    return found[-1]


def test_a_mirrored_picture_gives_mirrored_landmarks(picture: np.ndarray) -> None:
    large = cv2.resize(picture, (1024, 1024), interpolation=cv2.INTER_CUBIC)
    seen, mirrored = landmarks(large), landmarks(np.ascontiguousarray(large[:, ::-1]))[canonical_face().mirror]
    aside_px = (seen[RIGID, 0] - (1024 - mirrored[RIGID, 0])) / 2
    assert abs(aside_px.mean()) < 0.5, "1.3 px without the correction"


def test_the_crop_shift_follows_the_crop() -> None:
    points = np.zeros((478, 3), np.float32)
    points[0, :2], points[1, :2] = [-192, -100], [192, 100]
    left, right = OUTER_EYE_CORNERS
    points[left, :2], points[right, :2] = [-50, 0], [50, 0]
    # The crop is 1.5 * 384 = 576 px wide: three pixels to one of the network's.
    moved = without_crop_shift(points, 192) - points
    np.testing.assert_allclose(moved[:, :2], -1.0, atol=1e-5)
    np.testing.assert_array_equal(moved[:, 2], 0)
    turned = points[:, [1, 0, 2]] * np.array([-1, 1, 1], np.float32)  # a quarter turn, with the eyes
    moved = without_crop_shift(turned, 192) - turned
    np.testing.assert_allclose(moved[:, :2] - [2.0, -1.0], 0, atol=1e-5)


def test_a_second_face_is_found_and_forgotten(picture: np.ndarray) -> None:
    small = picture[:, 40:216]
    wall = np.full_like(small, 128)
    alone, together = np.concatenate([small, wall], axis=1), np.concatenate([small, small], axis=1)
    tracker = FaceMeshTracker()
    assert [len(tracker.detect(alone)) for _ in range(3)] == [1, 1, 1]
    counts = [len(tracker.detect(together)) for _ in range(2 * LOOK_EVERY)]
    assert counts[LOOK_EVERY:] == [2] * LOOK_EVERY
    counts = [len(tracker.detect(alone)) for _ in range(2 * LOOK_EVERY)]
    assert counts[4:] == [1] * (2 * LOOK_EVERY - 4)
    tracker.close()


def test_points_are_followed_wherever_they_lie() -> None:
    texture = cv2.GaussianBlur(np.random.default_rng(2).uniform(0, 255, (220, 260)).astype(np.float32), (0, 0), 2)
    texture = cv2.normalize(texture, None, 0, 255, cv2.NORM_MINMAX)
    shift = np.array([2.4, -1.3])
    moved = cv2.warpAffine(texture, np.array([[1, 0, shift[0]], [0, 1, shift[1]]]), texture.shape[::-1])
    points = np.random.default_rng(3).uniform([90, 60], [200, 150], (40, 2)).astype(np.float32)
    flow = follow_points(texture.astype(np.uint8), moved.astype(np.uint8), points)
    assert np.isfinite(flow).all()
    np.testing.assert_allclose(flow, np.broadcast_to(shift, flow.shape), atol=0.1)
    outside = follow_points(texture.astype(np.uint8), moved.astype(np.uint8), points + 1000)
    assert np.isnan(outside).all()
