from __future__ import annotations

import cv2
import numpy as np
import pytest

from avatarfit.capture.torso_alignment import TorsoAligner, locally_normalised

H = W = 256


def body() -> tuple[np.ndarray, np.ndarray]:
    """A dark, nearly plain jacket before a light wall, and where it is."""
    rng = np.random.default_rng(0)
    weave = cv2.GaussianBlur(rng.normal(0, 40, (H, W)).astype(np.float32), (0, 0), 2)
    y, x = np.mgrid[:H, :W]
    torso = (y > 150 + 0.002 * (x - 128) ** 2).astype(np.uint8)
    picture = np.where(torso > 0, 40 + 0.5 * weave + 10 * ((x // 40) % 2), 190 + 0.02 * x)
    return np.clip(picture, 0, 255).astype(np.uint8), torso


def about(linear: np.ndarray, shift: tuple[float, float]) -> np.ndarray:
    middle = np.array([128.0, 200.0])
    return np.concatenate([linear, (middle + shift - linear @ middle)[:, None]], axis=1)


def moved(picture: np.ndarray, affine: np.ndarray) -> np.ndarray:
    return cv2.warpAffine(picture, affine, (W, H), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


POINTS = np.array([[40.0, 200], [128, 170], [216, 200], [128, 245]])


def gap(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm((POINTS @ a[:, :2].T + a[:, 2]) - (POINTS @ b[:, :2].T + b[:, 2]), axis=1).max())


def test_small_motion_is_found_to_a_tenth_of_a_pixel() -> None:
    picture, torso = body()
    aligner = TorsoAligner(picture, torso, torso)
    for linear, shift in (
        (np.eye(2), (2.3, -1.4)),
        (np.array([[1.01, -0.012], [0.012, 0.995]]), (1.0, 1.5)),
        (np.eye(2), (0.0, 0.0)),
    ):
        truth = about(linear, shift)
        found = aligner.align(moved(picture, truth), np.eye(2, 3), truth)
        assert gap(found.affine_px, truth) < 0.12
        assert found.agreeing > 0.9


def test_a_hand_before_the_chest_does_not_pull() -> None:
    picture, torso = body()
    aligner = TorsoAligner(picture, torso, torso)
    truth = about(np.eye(2), (1.5, 1.0))
    shown = moved(picture, truth)
    cv2.circle(shown, (150, 220), 28, 230, -1)
    assert gap(aligner.align(shown, np.eye(2, 3), np.eye(2, 3)).affine_px, truth) < 0.3


def test_light_that_changes_is_not_motion() -> None:
    picture, torso = body()
    aligner = TorsoAligner(picture, torso, torso)
    brighter = np.clip(picture * 1.25 + 12, 0, 255).astype(np.uint8)
    assert gap(aligner.align(brighter, np.eye(2, 3), np.eye(2, 3)).affine_px, np.eye(2, 3)) < 0.15


def test_it_works_in_pixels_of_the_picture_not_of_the_working_size() -> None:
    picture, torso = body()
    large, mask = (cv2.resize(p, (512, 512), interpolation=f) for p, f in ((picture, 1), (torso, 0)))
    truth = np.array([[1.0, 0, 4.6], [0, 1, -2.4]])
    shown = cv2.warpAffine(large, truth, (512, 512), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    found = TorsoAligner(large, mask, mask).align(shown, np.eye(2, 3), np.eye(2, 3))
    assert np.abs(found.affine_px[:, :2] - np.eye(2)).max() < 0.002
    middle = np.array([256.0, 400])
    np.testing.assert_allclose(found.affine_px[:, :2] @ middle + found.affine_px[:, 2] - middle, [4.6, -2.4], atol=0.2)


def test_no_torso_is_no_pixels() -> None:
    picture, torso = body()
    assert TorsoAligner(picture, np.zeros_like(torso), torso).pixel_count == 0


def test_normalisation_takes_out_gain_and_offset() -> None:
    picture, _ = body()
    value = picture.astype(np.float32)
    a, b = locally_normalised(value, 6), locally_normalised(value * 0.5 + 30, 6)
    strong = np.abs(a) > 0.5
    assert np.median(np.abs(a - b)[strong]) < 0.25
    assert np.abs(locally_normalised(np.full((40, 40), 77, np.uint8), 6)).max() < 1e-3


@pytest.mark.filterwarnings("error")
def test_flat_surroundings_are_normalised_to_numbers() -> None:
    rng = np.random.default_rng(0)
    gray = np.full((512, 512), 70, np.uint8)
    gray[100:200, 100:200] = rng.integers(0, 256, (100, 100))
    for radius in (3.0, 6.0, 10.0):
        assert np.isfinite(locally_normalised(gray, radius)).all()
