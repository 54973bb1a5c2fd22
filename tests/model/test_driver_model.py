"""Laws of the mouth that is made of what a driver's network tells."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from avatarfit.model.driver_model import DriverModel
from avatarfit.model.locally_linear import LocallyLinear

MOUTH = 4
REST = np.float32([-1, 0, 0.2, 0])


def model(closed: bool = True) -> DriverModel:
    """Column 0 is how open the mouth is: -1 with closed lips."""
    random = np.random.default_rng(0)
    shapes = random.uniform(-1, 1, (300, MOUTH)).astype(np.float32)
    shapes[:100, 0] = -1
    deviation = np.float32([2, 1, 0.5, 0.25])
    return DriverModel(
        "test", SimpleNamespace(), LocallyLinear(shapes * deviation), SimpleNamespace(), REST, deviation,
        LocallyLinear(shapes[:100] * deviation) if closed else None,
    )  # type: ignore[arg-type]  # fmt: skip


def told(probability: np.ndarray, seed: int = 1) -> np.ndarray:
    mouths = np.random.default_rng(seed).uniform(-1, 1, (len(probability), MOUTH))
    return np.concatenate([mouths, probability[:, None]], axis=1).astype(np.float32)


def test_lips_that_are_surely_closed_are_closed_and_near_what_was_told() -> None:
    x = told(np.ones(40))
    got = model().mouth(x, np.ones(40, np.float32), 1.0, 0.0)
    np.testing.assert_allclose(got[:, 0], -1, atol=1e-5)
    np.testing.assert_allclose(got[:, 1], x[:, 1], atol=0.6)
    assert np.corrcoef(got[:, 1], x[:, 1])[0, 1] > 0.9


def test_lips_that_are_surely_open_stay_what_was_told() -> None:
    x, speaking = told(np.zeros(40)), np.ones(40, np.float32)
    np.testing.assert_allclose(model().mouth(x, speaking, 1.0, 0.0), x[:, :-1], atol=1e-6)
    np.testing.assert_array_equal(
        model().mouth(x, speaking, 1.2, 0.3), model(closed=False).mouth(x, speaking, 1.2, 0.3)
    )


def test_where_nobody_speaks_the_mouth_rests_whatever_shape_was_told() -> None:
    silence = np.zeros(9, np.float32)
    np.testing.assert_allclose(model().mouth(told(silence), silence, 1.2, 0.0), np.tile(REST, (9, 1)), atol=1e-6)
    closed = [model().mouth(told(silence + 1, seed), silence, 1.2, 0.0) for seed in (1, 2)]
    np.testing.assert_array_equal(closed[0], closed[1])
    np.testing.assert_allclose(closed[0], np.tile(REST, (9, 1)), atol=0.15)  # the clip's closed lips nearest to it


def test_lips_told_closed_are_closed_however_little_anybody_speaks() -> None:
    got = model().mouth(told(np.ones(9)), np.linspace(0, 1, 9, dtype=np.float32), 1.2, 0.0)
    np.testing.assert_allclose(got[:, 0], -1, atol=1e-5)


def test_a_growing_probability_closes_the_lips_without_a_jump() -> None:
    def steps(count: int) -> np.ndarray:
        x = told(np.zeros(1)).repeat(count, axis=0)
        x[:, -1] = np.linspace(0, 1, count)
        got = model().mouth(x, np.ones(count, np.float32), 1.0, 0.0)[:, 0]
        assert (np.diff(got) <= 1e-6).all()
        return np.abs(np.diff(got))

    assert steps(2001).max() < 0.15 * steps(201).max()


def test_motion_about_rest_has_the_size_that_was_asked_for() -> None:
    x, speaking = told(np.zeros(20)), np.ones(20, np.float32)
    one, two = (model().mouth(x, speaking, strength, 0.0) - REST for strength in (1.0, 2.0))
    np.testing.assert_allclose(two, 2 * one, atol=1e-5)


@pytest.mark.parametrize("count", [0, 1])
def test_few_frames_are_fine(count: int) -> None:
    assert model().mouth(told(np.ones(count)), np.ones(count, np.float32)).shape == (count, MOUTH)
