from __future__ import annotations

import cv2
import numpy as np
import pytest

from avatarfit.capture.matte import RimMatte
from avatarfit.capture.picture_motion import Motion

SIDE = 256


def scene(light: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A striped person before a textured wall: picture, the wall, the exact alpha 0..1, a network's coarse mask."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE]
    alpha = np.clip(70.3 - np.hypot(x - 128, y - 140) + 3 * np.sin(np.arctan2(y - 140, x - 128) * 9), 0, 1)
    wall = np.stack([60 + 0.2 * x, 110 + 0.1 * y, 200 - 0.2 * x], axis=2) + rng.normal(0, 6, (SIDE, SIDE, 1))
    person = np.stack([120 + 12 * np.sin(x / 7), 70 + 8 * np.sin(y / 9), 40 + 0 * x], axis=2)
    picture = person * alpha[..., None] + wall * light * (1 - alpha[..., None])
    coarse = (cv2.GaussianBlur(cv2.dilate(alpha, np.ones((5, 5))), (0, 0), 1.2) * 255).astype(np.uint8)
    return (
        picture.round().clip(0, 255).astype(np.uint8),
        wall.clip(0, 255).astype(np.uint8),
        alpha,
        coarse.astype(np.uint8),
    )


def rim_error(alpha: np.ndarray, true: np.ndarray) -> float:
    rim = cv2.dilate(((true > 0) & (true < 1)).astype(np.uint8), np.ones((9, 9))) > 0
    return float(np.abs(alpha / 255 - true)[rim].mean())


@pytest.mark.parametrize("light", [1.0, 0.85])
def test_the_rim_is_found_where_the_mask_is_too_wide(light: float) -> None:
    """Measured: mask 0.23, matte 0.07, also when the light on the wall has changed since the plate."""
    picture, wall, true, coarse = scene(light)
    alpha = RimMatte(wall).refine(picture, coarse)
    assert rim_error(coarse, true) > 0.15
    assert rim_error(alpha, true) < 0.09
    assert alpha.dtype == np.uint8


def test_far_from_the_rim_all_is_certain() -> None:
    picture, wall, true, coarse = scene()
    alpha = RimMatte(wall).refine(picture, coarse)
    inside = cv2.erode((true == 1).astype(np.uint8), np.ones((25, 25))) > 0
    outside = cv2.dilate((true > 0).astype(np.uint8), np.ones((31, 31))) == 0
    assert (alpha[inside] == 255).all()
    assert (alpha[outside] == 0).all()


def test_before_a_wall_of_the_persons_colour_the_mask_keeps_its_say() -> None:
    picture = np.full((SIDE, SIDE, 3), 90, np.uint8)
    _, _, _, coarse = scene()
    alpha = RimMatte(picture).refine(picture, coarse)
    # Stretched so that its doubt at both ends ends, and nothing more.
    stretched = np.clip((coarse.astype(float) - 20) * 255 / 215, 0, 255)
    assert np.abs(alpha - stretched).max() <= 2


@pytest.mark.parametrize("value", [0, 255])
def test_a_mask_without_a_rim_stays_as_it_is(value: int) -> None:
    picture, wall, _, coarse = scene()
    mask = np.full_like(coarse, value)
    np.testing.assert_array_equal(RimMatte(wall).refine(picture, mask), mask)


def test_pictures_need_not_be_square() -> None:
    picture, wall, true, coarse = (a[60:220, :] for a in scene())
    alpha = RimMatte(np.ascontiguousarray(wall)).refine(np.ascontiguousarray(picture), np.ascontiguousarray(coarse))
    assert rim_error(alpha, true) < 0.09


def test_noise_of_still_pictures_is_damped_at_the_rim() -> None:
    picture, wall, true, coarse = scene()
    still = Motion(np.zeros((8, 8, 2), np.float32))
    rng = np.random.default_rng(1)
    noisy = [np.clip(picture + rng.normal(0, 12, picture.shape), 0, 255).astype(np.uint8) for _ in range(8)]
    together = RimMatte(wall)
    carried = [together.refine(p, coarse, still if k else None) for k, p in enumerate(noisy)]
    single = [RimMatte(wall).refine(p, coarse) for p in noisy]
    changes = [np.abs(np.diff(np.stack(s[2:]).astype(float), axis=0)).mean() for s in (carried, single)]
    assert changes[0] < 0.75 * changes[1]
    assert rim_error(carried[-1], true) < 0.1
