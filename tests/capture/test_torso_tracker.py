from __future__ import annotations

import cv2
import numpy as np

from avatarfit.capture.torso_tracker import TorsoTracker

SIDE = 256


def body() -> tuple[np.ndarray, np.ndarray]:
    """A woven jacket before a plain wall, and where it is."""
    rng = np.random.default_rng(0)
    weave = cv2.GaussianBlur(rng.normal(0, 60, (SIDE, SIDE)).astype(np.float32), (0, 0), 2)
    y, x = np.mgrid[:SIDE, :SIDE]
    torso = (y > 150 + 0.002 * (x - 128) ** 2).astype(np.uint8)
    picture = np.where(torso > 0, 70 + 1.5 * weave, 190)
    return np.clip(picture, 0, 255).astype(np.uint8), torso


def shifted(picture: np.ndarray, x: float, y: float) -> np.ndarray:
    affine = np.array([[1.0, 0, x], [0, 1, y]])
    return cv2.warpAffine(picture, affine, (SIDE, SIDE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def test_slow_motion_and_a_leap_are_followed() -> None:
    picture, torso = body()
    tracker = TorsoTracker(picture, torso, torso)
    for x, y in ((0, 0), (1.5, 0.5), (3, 1), (4, 2), (16, 6), (17, 6)):
        place = tracker.track(shifted(picture, x, y))
        assert place.found
        np.testing.assert_allclose(place.affine_px @ [128, 200, 1], [128 + x, 200 + y], atol=0.3)


def test_a_torso_that_is_gone_is_said_to_be_and_found_again() -> None:
    picture, torso = body()
    tracker = TorsoTracker(picture, torso, torso)
    tracker.track(picture)
    other = np.random.default_rng(5).integers(0, 255, (SIDE, SIDE)).astype(np.uint8)
    assert not tracker.track(other).found
    again = tracker.track(shifted(picture, 2, 0))
    assert again.found
    np.testing.assert_allclose(again.affine_px @ [128, 200, 1], [130, 200], atol=0.3)


def test_without_a_torso_nothing_is_claimed() -> None:
    picture, torso = body()
    tracker = TorsoTracker(picture, np.zeros_like(torso), torso)
    assert not tracker.usable
    assert not tracker.track(picture).found
