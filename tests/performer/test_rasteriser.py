from __future__ import annotations

import numpy as np

from avatarfit.performer.rasteriser import rasterise


def _one(points: list[list[float]], size: int = 12) -> tuple[set[tuple[int, int]], np.ndarray, np.ndarray]:
    corners = np.array(points)
    found = rasterise(corners, np.ones(3), np.array([[0, 1, 2]]), np.zeros(1), size, size)
    return {(int(p % size), int(p // size)) for p in found.pixel}, found.weights, found.pixel


def test_covers_the_pixels_whose_centres_lie_inside() -> None:
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.arange(12), np.arange(12))
    for _ in range(50):
        p = rng.uniform(-3, 15, (3, 2))
        if np.cross(p[1] - p[0], p[2] - p[0]) < 0:
            p = p[::-1]
        centres = np.stack([x + 0.5, y + 0.5], axis=-1)
        inside = np.ones((12, 12), bool)
        for k in range(3):
            inside &= np.cross(p[(k + 1) % 3] - p[k], centres - p[k]) > 0
        covered, _, _ = _one(p.tolist())
        assert covered == {(int(i), int(j)) for i, j in zip(x[inside], y[inside], strict=True)}


def test_weights_reproduce_the_pixel_centres() -> None:
    points = [[1.3, 0.7], [10.9, 3.2], [4.1, 11.6]]
    _, weights, pixel = _one(points)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(
        weights @ np.array(points), np.stack([pixel % 12 + 0.5, pixel // 12 + 0.5], axis=1), atol=1e-4
    )


def test_back_faces_are_not_drawn() -> None:
    assert _one([[1, 1], [1, 10], [10, 1]])[0] == set()


def test_two_triangles_of_a_square_share_no_pixel_and_leave_none() -> None:
    points = np.array([[2.0, 2.0], [9.0, 2.0], [9.0, 9.0], [2.0, 9.0]])
    triangles = np.array([[0, 1, 2], [0, 2, 3]])
    found = rasterise(points, np.ones(4), triangles, np.zeros(2), 12, 12)
    assert len(found.pixel) == len(set(found.pixel.tolist())) == 49


def test_the_nearer_wins_and_bias_pushes_back() -> None:
    points = np.array([[1.0, 1.0], [11.0, 1.0], [1.0, 11.0]] * 2)
    depth = np.array([5.0, 5, 5, 4, 4, 4])
    triangles = np.arange(6).reshape(2, 3)
    assert set(rasterise(points, depth, triangles, np.zeros(2), 12, 12).triangle.tolist()) == {1}
    assert set(rasterise(points, depth, triangles, np.array([0.0, 2.0]), 12, 12).triangle.tolist()) == {0}


def test_crossing_surfaces_split_where_they_cross() -> None:
    points = np.array([[0.0, 0.0], [24.0, 0.0], [0.0, 24.0]] * 2)
    depth = np.concatenate([points[:3, 0], np.full(3, 6.0)])  # a ramp x against a wall at 6
    found = rasterise(points, depth, np.arange(6).reshape(2, 3), np.zeros(2), 12, 12)
    np.testing.assert_array_equal(found.triangle, (found.pixel % 12 + 0.5 > 6).astype(int))
