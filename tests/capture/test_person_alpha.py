from __future__ import annotations

import numpy as np

from avatarfit.capture.person_alpha import NETWORK_SIDE_PX, AlphaSteadier
from avatarfit.capture.picture_motion import Motion

SIDE = NETWORK_SIDE_PX
STILL = Motion(np.zeros((8, 8, 2), np.float32))


def disc(x: float, y: float = 128, radius: float = 60) -> np.ndarray:
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return (np.clip(radius - np.hypot(columns - x, rows - y) + 0.5, 0, 1) * 255).astype(np.uint8)


def test_equal_still_masks_stay_as_they_are() -> None:
    steadier, mask = AlphaSteadier(SIDE, SIDE), disc(128)
    for motion in (None, STILL, STILL):
        np.testing.assert_array_equal(steadier.steady(mask, motion), mask)


def test_flicker_of_still_masks_is_damped() -> None:
    rng = np.random.default_rng(0)
    steadier, raw, steady = AlphaSteadier(SIDE, SIDE), [], []
    for k in range(12):
        raw.append(rng.integers(0, 256, (SIDE, SIDE)).astype(np.uint8))
        steady.append(steadier.steady(raw[-1], STILL if k else None))
    change, damped = (np.abs(np.diff(np.stack(s[4:]).astype(float), axis=0)).mean() for s in (raw, steady))
    assert damped < 0.5 * change


def test_motion_is_taken_out_before_the_masks_are_mixed() -> None:
    steadier = AlphaSteadier(SIDE, SIDE)
    origin = Motion(np.full((SIDE, SIDE, 2), (-8, 0), np.float32))
    steadier.steady(disc(100))
    for k in range(1, 5):
        out = steadier.steady(disc(100 + 8 * k), origin)
    np.testing.assert_array_equal(out, disc(132))


def test_a_picture_without_a_former_one_forgets_what_was() -> None:
    steadier = AlphaSteadier(SIDE, SIDE)
    steadier.steady(disc(60))
    np.testing.assert_array_equal(steadier.steady(disc(180), None), disc(180))


def test_the_mask_comes_at_the_clips_size() -> None:
    out = AlphaSteadier(400, 300).steady(disc(128))
    assert out.shape == (300, 400)
    assert out[150, 200] == 255
    assert out[5, 5] == 0
