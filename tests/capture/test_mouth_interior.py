from __future__ import annotations

import numpy as np
import pytest

from avatarfit.capture.face_points import INNER_LIPS, MOUTH_CORNERS, OUTER_LIPS
from avatarfit.capture.mouth_interior import covered, mouth_interior

SKIN, LIP, DARK, TOOTH = (205, 160, 140), (170, 80, 85), (30, 12, 12), (190, 185, 170)


def ellipse(points: np.ndarray, across: float, down: float, at: tuple[float, float]) -> np.ndarray:
    """Places of the landmarks in `points` on an ellipse, in the order in which they go round."""
    turn = np.linspace(0, 2 * np.pi, len(points), endpoint=False)
    return np.stack([at[0] - across * np.cos(turn), at[1] + down * np.sin(turn)], axis=1)


def mouth(true_gap: float, told_gap: float, inside: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A drawn mouth, landmarks whose opening is `told_gap` high on each side, and where the true opening is."""
    at = (100.3, 80.2)
    landmarks = np.zeros((478, 3))
    landmarks[OUTER_LIPS, :2] = ellipse(OUTER_LIPS, 40, 20, at)
    landmarks[INNER_LIPS, :2] = ellipse(INNER_LIPS, 32, told_gap, at)
    assert landmarks[list(MOUTH_CORNERS), 0].tolist() == pytest.approx([60.3, 140.3])
    y, x = np.mgrid[:160, :200] + 0.5
    picture = np.empty((160, 200, 3))
    picture[:] = SKIN
    picture[((x - at[0]) / 40) ** 2 + ((y - at[1]) / 20) ** 2 < 1] = LIP
    opening = ((x - at[0]) / 32) ** 2 + ((y - at[1]) / max(true_gap, 1e-3)) ** 2 < 1
    picture[opening] = inside
    picture += np.random.default_rng(0).normal(0, 2, picture.shape)
    return picture.clip(0, 255).astype(np.uint8), landmarks, opening


def found(picture: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    out = np.zeros(picture.shape[:2], bool)
    result = mouth_interior(picture, landmarks)
    assert result is not None
    rows, columns, inside = result
    out[rows, columns] = inside
    return out


@pytest.mark.parametrize("inside", [DARK, TOOTH])
@pytest.mark.parametrize("told", [7.0, 8.0, 9.0])
def test_colour_mends_landmarks_that_are_a_little_off(inside: tuple[int, int, int], told: float) -> None:
    picture, landmarks, opening = mouth(8.0, told, inside)
    both = found(picture, landmarks)
    assert (both & opening).sum() / (both | opening).sum() > 0.93


def test_a_tongue_as_red_as_the_lips_is_interior() -> None:
    picture, landmarks, _ = mouth(8.0, 8.0, LIP)
    assert found(picture, landmarks)[77:83, 90:110].all()


def test_closed_lips_enclose_nothing() -> None:
    picture, landmarks, _ = mouth(0.0, 0.2, DARK)
    assert not found(picture, landmarks).any()


def test_a_mouth_outside_the_picture_is_none() -> None:
    picture, landmarks, _ = mouth(8.0, 8.0, DARK)
    landmarks[:, 0] += 400
    assert mouth_interior(picture, landmarks) is None


def test_pixels_are_covered_when_half_of_them_is() -> None:
    square = np.array([[2.0, 1.0], [5.6, 1.0], [5.6, 3.3], [2.0, 3.3]])
    expected = np.zeros((6, 8), bool)
    expected[1:3, 2:6] = True
    np.testing.assert_array_equal(covered(square, np.array([8, 6])), expected)
