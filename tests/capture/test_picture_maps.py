from __future__ import annotations

import cv2
import numpy as np

from avatarfit.capture.face_points import RIGID
from avatarfit.capture.picture_maps import (
    between_maps,
    chained,
    head_map,
    inverse_map,
    moved_by_parts,
    resized_map,
)

FIRST = np.array([[1.1, -0.2, 5.0], [0.15, 0.9, -3.0]])
THEN = np.array([[0.8, 0.1, 2.0], [-0.3, 1.2, 7.0]])


def at(affine: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ affine[:, :2].T + affine[:, 2]


POINTS = np.random.default_rng(0).uniform(0, 100, (20, 2))


def test_a_chain_is_one_map_after_the_other_and_an_inverse_undoes() -> None:
    np.testing.assert_allclose(at(chained(FIRST, THEN), POINTS), at(THEN, at(FIRST, POINTS)))
    np.testing.assert_allclose(chained(FIRST, inverse_map(FIRST)), np.eye(2, 3), atol=1e-12)
    np.testing.assert_allclose(at(between_maps(FIRST, THEN), at(FIRST, POINTS)), at(THEN, POINTS))


def test_a_map_at_half_the_size_moves_the_same_things() -> None:
    """Pixel centres lie at + 0.5: index i at full size is (i + 0.5) / 2 - 0.5 at half."""
    half = resized_map(FIRST, (200, 100), (100, 50))
    np.testing.assert_allclose(at(half, (POINTS + 0.5) / 2 - 0.5), (at(FIRST, POINTS) + 0.5) / 2 - 0.5)


def test_the_heads_map_is_the_least_squares_one() -> None:
    rng = np.random.default_rng(1)
    source = rng.uniform(50, 150, (478, 3))
    target = np.concatenate([at(FIRST, source[:, :2] - 0.5) + 0.5, source[:, 2:]], axis=1)
    np.testing.assert_allclose(head_map(source, target), FIRST, atol=1e-9)
    target[:, :2] += rng.normal(0, 2, (478, 2))
    design = np.concatenate([source[RIGID, :2] - 0.5, np.ones((len(RIGID), 1))], axis=1)
    expected = np.linalg.lstsq(design, target[RIGID, :2] - 0.5, rcond=None)[0].T
    np.testing.assert_allclose(head_map(source, target), expected, atol=1e-9)


def test_maps_are_opencvs() -> None:
    picture = np.zeros((60, 60), np.float32)
    picture[30, 20] = 1
    shifted = cv2.warpAffine(picture, np.array([[1.0, 0, 4], [0, 1, -6]]), (60, 60))
    assert np.unravel_index(shifted.argmax(), shifted.shape) == (24, 24)


def test_what_is_above_the_row_goes_with_the_head_and_what_is_below_with_the_body() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (40, 50)).astype(np.uint8)
    head, body = np.array([[1.0, 0, 3], [0, 1, 2]]), np.array([[1.0, 0, -4], [0, 1, 0]])
    moved = moved_by_parts(picture, head, body, 25)
    np.testing.assert_array_equal(moved[2:25, 3:], picture[:23, :-3])
    np.testing.assert_array_equal(moved[25:, :-4], picture[25:, 4:])
    np.testing.assert_array_equal(moved_by_parts(picture, head, np.eye(2, 3), -5), picture)
