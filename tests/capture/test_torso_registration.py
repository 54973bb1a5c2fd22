from __future__ import annotations

import cv2
import numpy as np
import pytest

from avatarfit.capture.torso_registration import TorsoRegistrar, fit_affine, normalised, rested
from avatarfit.contracts import Camera

H = W = 256


def cloth(seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).uniform(0, 255, (H, W)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.5)
    return np.clip((smooth - smooth.mean()) * 5 + 128, 0, 255).astype(np.uint8)


def about(middle: tuple[float, float], linear: np.ndarray, shift: tuple[float, float]) -> np.ndarray:
    return np.concatenate([linear, (np.array(middle) + shift - linear @ middle)[:, None]], axis=1)


TORSO = np.zeros((H, W), np.uint8)
TORSO[130:] = 1
MIDDLE = (128.0, 195.0)
POINTS = np.stack(np.meshgrid([40.0, 128, 216], [150.0, 195, 240]), axis=-1).reshape(-1, 2)


def apply(affine: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ affine[:, :2].T + affine[:, 2]


def test_known_affine_motion_is_found_to_a_tenth_of_a_pixel() -> None:
    picture = cloth()
    registrar = TorsoRegistrar(picture, TORSO)
    for k in range(1, 8):
        linear = np.array([[1 + 0.004 * k, -0.006 * k], [0.006 * k, 1 - 0.002 * k]])
        truth = about(MIDDLE, linear, (1.3 * k, -0.7 * k))
        moved = cv2.warpAffine(picture, truth, (W, H), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
        found = registrar.register(moved)
        assert found.agreeing > 0.5
        assert np.linalg.norm(apply(found.affine_px, POINTS) - apply(truth, POINTS), axis=1).max() < 0.15


def test_nothing_drifts_on_a_long_way_there_and_back() -> None:
    picture = cloth(1)
    registrar = TorsoRegistrar(picture, TORSO)
    for t in np.linspace(0, 4 * np.pi, 60):
        truth = about(MIDDLE, np.eye(2), (9 * np.sin(t), 4 * np.sin(2 * t)))
        found = registrar.register(cv2.warpAffine(picture, truth, (W, H), borderMode=cv2.BORDER_REFLECT))
    np.testing.assert_allclose(found.affine_px, np.eye(2, 3), atol=0.05)


def test_an_arm_across_the_chest_does_not_pull_the_torso() -> None:
    picture = cloth(2)
    registrar = TorsoRegistrar(picture, TORSO)
    arm = cloth(3)
    for k in range(1, 10):
        truth = about(MIDDLE, np.eye(2), (0.4 * k, 0.2 * k))
        moved = cv2.warpAffine(picture, truth, (W, H), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
        moved[200:, : 12 * k] = np.roll(arm, 5 * k, axis=1)[200:, : 12 * k]
        found = registrar.register(moved)
        assert np.linalg.norm(apply(found.affine_px, POINTS) - apply(truth, POINTS), axis=1).max() < 0.3


def test_plain_cloth_is_reported_as_not_trackable() -> None:
    registrar = TorsoRegistrar(np.full((H, W), 90, np.uint8), TORSO)
    found = registrar.register(np.full((H, W), 90, np.uint8))
    assert found.agreeing == 0
    np.testing.assert_array_equal(found.affine_px, np.eye(2, 3))


def test_robust_fit_follows_the_majority_exactly() -> None:
    rng = np.random.default_rng(4)
    source = rng.uniform(0, 200, (100, 2))
    truth = about((100, 100), np.array([[1.01, 0.02], [-0.015, 0.99]]), (5, -3))
    target = apply(truth, source)
    target[:30] += rng.uniform(10, 30, (30, 2))
    found = fit_affine(source, target, np.array([100.0, 100]), np.eye(2, 3), 0.6)
    np.testing.assert_allclose(apply(found, source), apply(truth, source), atol=0.02)


def test_normalised_map_holds_at_every_size() -> None:
    affine = about((80, 60), np.array([[1.02, 0.03], [-0.01, 0.98]]), (4, -2))
    camera = Camera(200, 150, 400.0, 100.0, 75.0)
    u = normalised(affine[None], camera)[0]
    index = np.array([[10.0, 20], [150, 90]])
    for scale in (1, 2):
        big = camera.resized(200 * scale, 150 * scale)
        center = np.array([big.center_x_px, big.center_y_px])
        pixel, moved = (index + 0.5) * scale, (apply(affine, index) + 0.5) * scale
        np.testing.assert_allclose(apply(u, (pixel - center) / big.focal_px) * big.focal_px + center, moved, atol=1e-9)


def test_rested_maps_have_an_identity_median_and_keep_relative_motion() -> None:
    rng = np.random.default_rng(5)
    maps = np.eye(2, 3) + rng.normal(0, 0.01, (21, 2, 3))
    still = np.repeat(maps[:1], 7, axis=0)
    np.testing.assert_allclose(rested(still, 7), np.repeat(np.eye(2, 3)[None], 7, 0), atol=1e-12)
    out, middle = rested(maps, 21), np.median(maps, axis=0)
    point = np.array([[0.1, -0.2]])
    for before, after in zip(maps, out, strict=True):
        np.testing.assert_allclose(apply(after, apply(middle, point)), apply(before, point), atol=1e-12)


@pytest.mark.parametrize("far", [70.0])
def test_a_body_that_leaves_its_place_is_followed_by_a_second_reference(far: float) -> None:
    rng = np.random.default_rng(6)
    wide = cv2.GaussianBlur(rng.uniform(0, 255, (H, 3 * W)).astype(np.float32), (0, 0), 2.5)
    wide = np.clip((wide - wide.mean()) * 5 + 128, 0, 255).astype(np.uint8)

    def seen(x: float) -> np.ndarray:
        return cv2.warpAffine(wide, np.array([[1.0, 0, x - W], [0, 1, 0]]), (W, H), flags=cv2.INTER_LINEAR)

    registrar = TorsoRegistrar(seen(0), TORSO)
    for x in np.arange(0, 2 * far, 4):
        found = registrar.register(seen(float(x)))
    np.testing.assert_allclose(apply(found.affine_px, np.array([MIDDLE]))[0] - MIDDLE, [x, 0], atol=1.5)
