from __future__ import annotations

import cv2
import numpy as np
import pytest

from avatarfit.capture.face_points import RIGID
from avatarfit.capture.picture_maps import (
    HeadMapper,
    between_maps,
    chained,
    head_map,
    interpolated,
    inverse_map,
    pixels_of_cells,
    resized_map,
    shrunk,
    small_size,
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


def test_one_mapper_serves_many_heads() -> None:
    rng = np.random.default_rng(2)
    source = rng.uniform(50, 150, (478, 3))
    mapper = HeadMapper(source)
    for _ in range(3):
        target = source + rng.normal(0, 5, (478, 3))
        np.testing.assert_allclose(mapper.to(target), head_map(source, target), atol=1e-9)


@pytest.mark.parametrize("size", [(64, 48), (70, 50), (16, 12)])
def test_every_pixel_lies_in_one_cell(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    cells = (rng.random((12, 16)) < 0.3).astype(np.uint8)
    rows, columns = pixels_of_cells(cells, size)
    found = np.zeros(size[::-1], int)
    np.add.at(found, (rows, columns), 1)
    y, x = np.mgrid[: size[1], : size[0]]
    expected = cells[((y + 0.5) * 12 / size[1]).astype(int), ((x + 0.5) * 16 / size[0]).astype(int)]
    np.testing.assert_array_equal(found, expected)


def test_interpolation_is_exact_on_a_plane_at_any_number_of_points() -> None:
    y, x = np.mgrid[:30, :40].astype(np.float32)
    picture = np.stack([2 * x - y, x + 3 * y], axis=2)
    rng = np.random.default_rng(0)
    for count in (1, 1024, 3000):
        across, down = rng.uniform(0, 39, count).astype(np.float32), rng.uniform(0, 29, count).astype(np.float32)
        expected = np.stack([2 * across - down, across + 3 * down], axis=1)
        np.testing.assert_allclose(interpolated(picture, across, down), expected, atol=0.15)  # 1/32 pixel steps


def test_shrinking_in_two_steps_is_the_area_average() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (96, 128, 3)).astype(np.uint8)
    assert small_size((128, 96), 32) == (32, 24)
    expected = picture.reshape(24, 4, 32, 4, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(shrunk(picture, (32, 24)), expected, atol=1)
