"""Laws of the locally linear projection."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avatarfit.model.locally_linear import LocallyLinear


def cloud(count: int = 200, seed: int = 0) -> np.ndarray:
    """A bent two-dimensional sheet in six dimensions."""
    random = np.random.default_rng(seed)
    u, v = random.uniform(-1, 1, (2, count))
    return np.stack([u, v, u * u, u * v, np.sin(v), 0.1 * random.standard_normal(count)], 1).astype(np.float32)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12), st.sampled_from([1e-6, 0.1, 10.0]))
def test_weights_sum_to_one_and_are_not_negative(seed: int, neighbours: int, ridge: float) -> None:
    query = np.random.default_rng(seed).normal(0, 1, (7, 6))
    index, weight = LocallyLinear(cloud(), neighbours, ridge).weights(query)
    assert index.shape == weight.shape == (7, neighbours)
    np.testing.assert_allclose(weight.sum(1), 1, atol=1e-9)
    assert (weight >= 0).all()


@pytest.mark.parametrize("ridge", [1e-4, 0.1])
def test_a_shape_of_the_clip_stays_itself(ridge: float) -> None:
    shapes = cloud()
    np.testing.assert_allclose(LocallyLinear(shapes, 10, ridge)(shapes[:50]), shapes[:50], atol=1e-4)


def test_the_result_lies_inside_its_neighbours() -> None:
    shapes = cloud()
    lle = LocallyLinear(shapes)
    query = np.random.default_rng(1).normal(0, 3, (100, 6)).astype(np.float32)
    index, _ = lle.weights(query)
    around, out = shapes[index], lle(query)
    assert (out >= around.min(1) - 1e-5).all()
    assert (out <= around.max(1) + 1e-5).all()


def test_outliers_come_back_to_the_clips_shapes() -> None:
    shapes = cloud()
    lle = LocallyLinear(shapes)
    far = shapes + np.random.default_rng(2).normal(0, 0.5, shapes.shape).astype(np.float32)

    def distance(points: np.ndarray) -> float:
        return float(np.linalg.norm(points[:, None] - shapes, axis=2).min(1).mean())

    assert distance(lle(far)) < 0.3 * distance(far)


def test_strength_0_is_the_identity_and_between_is_between() -> None:
    lle = LocallyLinear(cloud())
    query = np.random.default_rng(3).normal(0, 1, (20, 6)).astype(np.float32)
    np.testing.assert_array_equal(lle(query, 0.0), query)
    np.testing.assert_allclose(lle(query, 0.25), 0.75 * query + 0.25 * lle(query, 1.0), atol=1e-6)
    with pytest.raises(ValueError, match=r"strength came as 1\.5; wanted 0 to 1"):
        lle(query, 1.5)


def test_nothing_pops_when_neighbours_change() -> None:
    lle = LocallyLinear(cloud(400), 8)

    def along(count: int) -> tuple[np.ndarray, np.ndarray]:
        u = np.linspace(-0.8, 0.8, count)
        v = 0.7 * np.sin(2 * u)
        path = np.stack([u, v, u * u, u * v, np.sin(v), 0.1 * np.cos(5 * u)], 1)
        return path, np.linalg.norm(np.diff(lle(path).astype(np.float64), axis=0), axis=1)

    path, steps = along(2000)
    index, _ = lle.weights(path)
    assert len({tuple(sorted(row)) for row in index}) > 20
    # A pop stays as large however fine the path; a continuous path's steps shrink with it.
    assert steps.max() < 6 * steps.mean()
    assert along(16_000)[1].max() < 0.2 * steps.max()


def test_fewer_shapes_than_neighbours_and_repeated_shapes_are_fine() -> None:
    one = LocallyLinear(np.ones((1, 3), np.float32), 10)
    np.testing.assert_allclose(one(np.zeros((2, 3), np.float32)), 1)
    same = LocallyLinear(np.ones((30, 3), np.float32), 5)
    np.testing.assert_allclose(same(np.ones((2, 3), np.float32)), 1, atol=1e-6)
    np.testing.assert_allclose(same(np.full((2, 3), 4, np.float32)), 1, atol=1e-6)
