"""PSNR and SSIM against exact answers."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from avatarfit.evaluation import PSNR_CAP_DB, Scores, Truth, psnr_db, ssim, ssim_map
from avatarfit.evaluation.regions import MOUTH_ENLARGEMENT, mouth_box, person_mask
from avatarfit.model.rig import LIPS_OUTER


def noise(seed: int = 0, shape: tuple[int, ...] = (24, 30, 3)) -> np.ndarray:
    return np.random.default_rng(seed).random(shape)


def test_equal_pictures() -> None:
    assert psnr_db(noise(), noise()) == PSNR_CAP_DB
    assert ssim(noise(), noise()) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("step", [0.5, 0.1, 1 / 255])
def test_psnr_of_a_constant_error_is_exact(step: float) -> None:
    signs = np.where(noise() < 0.5, -1, 1)
    assert psnr_db(noise(1), noise(1) + step * signs) == pytest.approx(-20 * math.log10(step), abs=1e-9)


def test_psnr_counts_only_the_mask() -> None:
    truth = np.zeros((4, 4, 3))
    picture = truth.copy()
    picture[:2] = 0.1
    picture[2:] = 0.7
    mask = np.zeros((4, 4), bool)
    mask[:2] = True
    assert psnr_db(truth, picture, mask) == pytest.approx(20)
    weights = np.where(mask, 0.75, 0.25)
    expected = -10 * math.log10(0.75 * 0.01 + 0.25 * 0.49)
    assert psnr_db(truth, picture, weights) == pytest.approx(expected)


def test_ssim_of_two_constants_is_the_luminance_term() -> None:
    a, b = 0.3, 0.5
    expected = (2 * a * b + 0.01**2) / (a * a + b * b + 0.01**2)
    got = ssim_map(np.full((20, 20, 3), a), np.full((20, 20, 3), b))
    assert got.shape == (10, 10)
    np.testing.assert_allclose(got, expected, atol=1e-9)


def test_ssim_equals_the_definition_written_out() -> None:
    x, y = noise(2), np.clip(noise(2) + 0.2 * (noise(3) - 0.5), 0, 1)
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    top, left, channel = 3, 7, 1
    p, q = x[top : top + 11, left : left + 11, channel], y[top : top + 11, left : left + 11, channel]
    mp, mq = (window * p).sum(), (window * q).sum()
    vp, vq = (window * (p - mp) ** 2).sum(), (window * (q - mq) ** 2).sum()
    cov = (window * (p - mp) * (q - mq)).sum()
    expected = (2 * mp * mq + 1e-4) * (2 * cov + 9e-4) / ((mp**2 + mq**2 + 1e-4) * (vp + vq + 9e-4))
    got = ssim_map(x[..., channel : channel + 1], y[..., channel : channel + 1])[top, left]
    assert got == pytest.approx(expected, abs=1e-9)


def test_ssim_is_symmetric_and_falls_with_noise() -> None:
    x = noise(4)
    values = [ssim(x, np.clip(x + s * (noise(5) - 0.5), 0, 1)) for s in (0.1, 0.3, 0.9)]
    assert values == sorted(values, reverse=True)
    assert ssim(noise(1), noise(2)) == pytest.approx(ssim(noise(2), noise(1)))


def test_refusals() -> None:
    with pytest.raises(ValueError, match="one shape"):
        psnr_db(np.zeros((4, 4, 3)), np.zeros((4, 5, 3)))
    with pytest.raises(ValueError, match="mask is empty"):
        psnr_db(noise(), noise(), np.zeros((24, 30)))
    with pytest.raises(ValueError, match="11 px"):
        ssim_map(np.zeros((10, 30, 3)), np.zeros((10, 30, 3)))


def lips(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    points = np.full((478, 3), 1e6)
    points[list(LIPS_OUTER), :2] = (left + right) / 2, (top + bottom) / 2
    points[LIPS_OUTER[0], :2] = left, top
    points[LIPS_OUTER[1], :2] = right, bottom
    return points


def test_mouth_box_is_a_square_around_the_lips() -> None:
    left, top, right, bottom = mouth_box(lips(100, 150, 140, 170), 256, 256)
    assert right - left == bottom - top == math.ceil(40 * MOUTH_ENLARGEMENT)
    assert ((left + right) / 2, (top + bottom) / 2) == (pytest.approx(120, abs=1), pytest.approx(160, abs=1))


def test_mouth_box_stays_inside_and_holds_a_window() -> None:
    left, top, right, bottom = mouth_box(lips(250, 250, 256, 254), 256, 256)
    assert (right, bottom) == (256, 256)
    assert right - left == bottom - top >= 11
    assert left >= 0
    assert top >= 0


def test_person_is_above_one_half() -> None:
    np.testing.assert_array_equal(person_mask(np.array([[0, 127, 128, 255]], np.uint8)), [[False, False, True, True]])


def test_scores_are_means_of_each_frames_figure() -> None:
    truth = Truth(np.zeros((30, 30, 3), np.uint8), np.ones((30, 30), bool), (5, 5, 20, 20))
    scores = Scores()
    scores.add(truth, np.full((30, 30, 3), 0.1))
    scores.add(truth, np.full((30, 30, 3), 0.01))
    means = scores.means()
    for region in ("person", "mouth", "whole_frame"):
        assert means[region]["psnr_db"] == pytest.approx(30, abs=1e-3)  # the mean of 20 and 40, not of the errors
    assert json.loads(json.dumps(means, allow_nan=False)) == means
