"""Seams that are drawn in, poses that tremble by a known size, light that flickers by known levels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from avatarfit.capture.clip_folder import BACKGROUND, FACE, NECK, TORSO
from avatarfit.contracts import HeadPose
from avatarfit.evaluation.steadiness import (
    Flicker,
    PoseJitter,
    jaw_band,
    neck_seam,
    root_mean_square,
    seam_band,
)
from avatarfit.performer import Performer
from avatarfit.performer.performance import Performance

SIDE = 120


def labels() -> np.ndarray:
    out = np.full((SIDE, SIDE), BACKGROUND, np.uint8)
    out[20:70, 30:90], out[70:90, 45:75], out[90:, 10:110] = FACE, NECK, TORSO
    return out


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(100, 110, (SIDE, SIDE, 3)).astype(np.uint8)


def test_the_band_lies_along_the_border_of_head_and_body() -> None:
    band = seam_band(labels(), 100.0)
    rows = np.flatnonzero(band[:, 60])
    assert (rows[0], rows[-1]) == (66, 73)  # four pixels to both sides of the chin
    assert not band[:, :35].any()
    assert not band[85:].any()
    assert seam_band(labels(), 50.0).sum() < band.sum()


def test_the_band_along_a_jaw_is_as_wide_and_rides_on_it() -> None:
    line = np.array([[30.5, 70.5], [90.5, 70.5]])
    band = jaw_band(line, 100.0, SIDE, SIDE)
    assert np.flatnonzero(band[:, 60]).tolist() == list(range(66, 75))
    assert not band[:, :26].any()
    assert not band[:, 95:].any()
    assert (jaw_band(line + [0, 7], 100.0, SIDE, SIDE) == np.roll(band, 7, axis=0)).all()


def test_the_same_picture_has_no_seam() -> None:
    assert neck_seam(picture(), picture(), seam_band(labels(), 100.0)) == 1


def test_a_seam_drawn_in_is_seen_and_one_elsewhere_is_not() -> None:
    band = seam_band(labels(), 100.0)
    torn, elsewhere = picture(), picture()
    torn[70:72, 45:75] = 200
    elsewhere[100:102] = 200
    assert neck_seam(picture(), torn, band) > 10
    assert neck_seam(picture(), elsewhere, band) == 1


def test_energy_grows_with_the_square_of_contrast_and_a_blur_has_less() -> None:
    import cv2

    band = seam_band(labels(), 100.0)
    wide = picture().astype(int)
    wide = (100 + 2 * (wide - 100)).astype(np.uint8)
    assert neck_seam(picture(), wide, band) == pytest.approx(4, rel=0.05)
    assert neck_seam(picture(), np.asarray(cv2.blur(picture(), (3, 3))), band) < 0.5
    assert np.isnan(neck_seam(picture(), picture(), np.zeros((SIDE, SIDE), bool)))


@pytest.fixture(scope="module")
def film() -> tuple[Performance, list[np.ndarray]]:
    performer = Performer(seed=3, width_px=256)
    performance = performer.performance(1.0)
    return performance, [performer.render(performance, k).rgb for k in range(len(performance))]


def jitter_of(head: HeadPose, film: tuple[Performance, list[np.ndarray]], skip: int | None = None) -> np.ndarray:
    performance, pictures = film
    jitter = PoseJitter(
        head, performance.landmarks_cm.mean(axis=0), performance.landmarks_px[:, :, :2], performance.camera
    )
    for index, rgb in enumerate(pictures):
        if index != skip:
            jitter.add(index, rgb)
    return np.array(jitter.px)


def test_an_exact_pose_hardly_trembles_and_a_jittered_one_by_its_size(
    film: tuple[Performance, list[np.ndarray]],
) -> None:
    performance, _ = film
    exact = root_mean_square(jitter_of(performance.head, film))
    assert exact is not None
    assert exact < 0.15
    pixels = 1.5  # the head jumps so far to one side and back, at 512
    to_cm = performance.head.translation_cm[:, 2] / performance.camera.focal_px * (256 / 512)
    shift = np.zeros_like(performance.head.translation_cm)
    shift[::2, 0] = pixels * to_cm[::2]
    shaken = replace(performance.head, translation_cm=performance.head.translation_cm + shift)
    assert root_mean_square(jitter_of(shaken, film)) == pytest.approx(pixels, abs=0.2)


def test_jitter_is_not_measured_over_a_hole(film: tuple[Performance, list[np.ndarray]]) -> None:
    values = jitter_of(film[0].head, film, skip=10)
    assert len(values) == len(film[1]) - 1
    assert np.isnan(values[[0, 10]]).all()
    assert np.isfinite(values).sum() > 15


def test_root_mean_square() -> None:
    assert root_mean_square(np.array([3, np.nan, -3])) == 3
    assert root_mean_square(np.array([np.nan])) is None


def test_flicker_is_the_second_difference_of_the_faces_levels(film: tuple[Performance, list[np.ndarray]]) -> None:
    performance, pictures = film
    points = performance.landmarks_px[0, :, :2].astype(np.float64)
    still, blinking = Flicker(), Flicker()
    for index in range(6):
        base = np.minimum(pictures[0], 200)
        still.add(index, base, points)
        blinking.add(index, base + np.uint8(5 * (index % 2)), points)
    assert np.isnan(still.levels[:2]).all()
    np.testing.assert_allclose(still.levels[2:], 0, atol=0.01)
    np.testing.assert_allclose(blinking.levels[2:], 10, atol=0.5)  # |5 - 2 x 0 + 5| and |0 - 2 x 5 + 0|


def test_flicker_does_not_count_the_heads_motion(film: tuple[Performance, list[np.ndarray]]) -> None:
    import cv2

    performance, pictures = film
    points = performance.landmarks_px[0, :, :2].astype(np.float64)
    followed, ignored = Flicker(), Flicker()
    for index, way in enumerate((0, 3, 0, 3, 0)):
        moved = np.asarray(cv2.warpAffine(pictures[0], np.array([[1, 0, way], [0, 1, 0]], float), (256, 256)))
        followed.add(index, moved, points + [way, 0])
        ignored.add(index, moved, points)
    assert np.mean(followed.levels[2:]) < 0.1 < 2 < np.mean(ignored.levels[2:])
