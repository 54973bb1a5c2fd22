from __future__ import annotations

import numpy as np

from avatarfit.capture.person_alpha import NETWORK_SIDE_PX, AlphaSteadier, median_of_five

SIDE = NETWORK_SIDE_PX
STILL = [np.eye(2, 3)] * 5


def disc(x: float, y: float = 128, radius: float = 60) -> np.ndarray:
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return (np.clip(radius - np.hypot(columns - x, rows - y) + 0.5, 0, 1) * 255).astype(np.uint8)


def test_exchange_network_is_the_median() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (5, 50, 60)).astype(np.uint8)
    np.testing.assert_array_equal(median_of_five(list(pictures)), np.median(pictures, axis=0))


def test_equal_still_masks_stay_as_they_are() -> None:
    mask = disc(128)
    np.testing.assert_array_equal(AlphaSteadier(SIDE, SIDE).steady([mask] * 5, STILL, STILL, (100, 150)), mask)


def test_one_bad_mask_leaves_no_trace() -> None:
    mask = disc(128)
    masks = [mask, mask, np.zeros_like(mask), mask, mask]
    np.testing.assert_array_equal(AlphaSteadier(SIDE, SIDE).steady(masks, STILL, STILL, (100, 150)), mask)


def test_motion_is_taken_out_before_the_median() -> None:
    masks = [disc(128 + 8 * k) for k in range(-2, 3)]
    maps = [np.array([[1.0, 0, -8 * k], [0, 1, 0]]) for k in range(-2, 3)]
    out = AlphaSteadier(SIDE, SIDE).steady(masks, maps, maps, (100, 150))
    assert np.abs(out.astype(int) - disc(128)).max() <= 2


def test_the_body_below_follows_the_torso_and_the_head_its_own_motion() -> None:
    column = np.zeros((SIDE, SIDE), np.uint8)
    column[:, 100:140] = 255
    shifted = np.roll(column, 6, axis=1)
    masks = [shifted, shifted, column, shifted, shifted]
    back = [np.array([[1.0, 0, -6], [0, 1, 0]])] * 2
    torso = [*back, np.eye(2, 3), *back]
    out = AlphaSteadier(SIDE, SIDE).steady(masks, STILL, torso, (100, 150))
    np.testing.assert_array_equal(out[200], column[200])
    np.testing.assert_array_equal(out[20], shifted[20])


def test_the_mask_comes_at_the_clips_size() -> None:
    out = AlphaSteadier(400, 300).steady([disc(128)] * 5, STILL, STILL, (100, 150))
    assert out.shape == (300, 400)
    assert out[150, 200] == 255
    assert out[5, 5] == 0
