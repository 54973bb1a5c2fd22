from __future__ import annotations

import cv2
import numpy as np
import pytest

from avatarfit.capture.torso_shape import TorsoFlow, torso_modes
from avatarfit.contracts import Camera

SIDE = 512
CAMERA = Camera(SIDE, SIDE, 1200.0, SIDE / 2, SIDE / 2)


@pytest.fixture(scope="module")
def cloth() -> np.ndarray:
    noise = np.random.default_rng(0).uniform(0, 255, (SIDE, SIDE)).astype(np.float32)
    soft = cv2.GaussianBlur(noise, (0, 0), 3)
    return np.clip((soft - 127) * 6 + 127, 0, 255).astype(np.uint8)


def body() -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[300:] = 1
    return mask


def swing(cloth: np.ndarray, left_px: float, right_px: float) -> np.ndarray:
    """The cloth with its left edge moved sideways by one amount, its right edge by another, linearly between."""
    x, y = np.meshgrid(np.arange(SIDE, dtype=np.float32), np.arange(SIDE, dtype=np.float32))
    moved = left_px + (right_px - left_px) * x / (SIDE - 1)
    return cv2.remap(cloth, x - moved.astype(np.float32), y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)


def test_what_an_affine_map_leaves_is_measured(cloth: np.ndarray) -> None:
    flow = TorsoFlow(cloth, body(), CAMERA)
    assert flow.usable
    np.testing.assert_allclose(flow.box[[0, 2]], [-SIDE / 2 / 1200, SIDE / 2 / 1200], atol=1e-6)
    shift = np.array([[1.0, 0, 7], [0, 1, -4]])
    picture = cv2.warpAffine(swing(cloth, -2.0, 3.0), shift, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT)
    found_px = flow.measure(picture, shift) * 1200
    wanted = -2 + 5 * (np.arange(32) + 0.5) / 32
    inner = found_px[2:-2, 2:-2]
    assert np.abs(inner[..., 0] - wanted[None, 2:-2]).max() < 0.35
    assert np.abs(inner[..., 1]).max() < 0.25


def test_modes_are_the_principal_ones_and_give_the_course_back() -> None:
    random = np.random.default_rng(1)
    fields = np.linalg.qr(random.normal(size=(16 * 32 * 2, 2)))[0].T.reshape(2, 16, 32, 2) * 0.01
    course = random.normal(size=(200, 2)) * [3.0, 1.0]
    rows = np.einsum("ks,sijc->kijc", course, fields) + 0.5
    good = np.ones(200, bool)
    good[50:53] = False
    rows[50:53] = 99
    modes, found = torso_modes(rows, np.zeros(4, np.float32), good, 180)
    assert modes.count == found.shape[1] == 2
    train = course[:180][good[:180]]
    np.testing.assert_allclose(found[:180][good[:180]].std(axis=0), 1, rtol=1e-3)
    back = np.einsum("ks,sijc->kijc", found[good], modes.fields)
    wanted = np.einsum("ks,sijc->kijc", course - train.mean(axis=0), fields)[good]
    np.testing.assert_allclose(back, wanted, atol=2e-4)
    between = found[49] + (found[53] - found[49]) * np.array([[0.25], [0.5], [0.75]])
    np.testing.assert_allclose(found[50:53], between, atol=1e-5)  # those without a torso lie between their neighbours


def test_a_torso_that_does_not_move_has_no_modes_and_too_little_of_one_none() -> None:
    modes, found = torso_modes(np.zeros((20, 16, 32, 2)), np.zeros(4, np.float32), np.ones(20, bool), 18)
    assert (modes.count, found.shape) == (0, (20, 0))
    strip = np.zeros((SIDE, SIDE), np.uint8)
    strip[-20:] = 1
    assert not TorsoFlow(np.zeros((SIDE, SIDE), np.uint8), strip, CAMERA).usable
    assert not TorsoFlow(np.zeros((SIDE, SIDE), np.uint8), np.zeros_like(strip), CAMERA).usable
