"""What is drawn and counted, against exact answers."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from avatarfit.capture.clip_folder import FACE, HAIR, TORSO
from avatarfit.capture.frame_selection import new_shots
from avatarfit.capture.report.advice import light_curve
from avatarfit.capture.report.charts import Curve, Marks, clock, line_chart
from avatarfit.capture.report.contact_sheet import contact_sheet
from avatarfit.capture.report.drawings import (
    choose_pictures,
    face_with_landmarks,
    on_checkerboard,
    plate_with_invented,
    with_labels,
)
from avatarfit.capture.report.face_curves import blink_spans, count_mouth_shapes, head_angles_degrees
from avatarfit.capture.report.picture_measures import PictureMeasures, blur_of, head_cut_share, skin_luma
from avatarfit.capture.report.sound_measures import measure_sound
from avatarfit.contracts import AudioClip, HeadPose
from avatarfit.model.rig import LIPS_INNER


def test_angles_have_the_signs_that_they_are_told_with() -> None:
    looks_at = np.array([[0.5, 0, -1], [0, 0.5, -1], [0, 0, -1.0]])  # to the picture's right, down, at the camera
    rotations = [Rotation.align_vectors([p / np.linalg.norm(p)], [[0, 0, -1]])[0] for p in looks_at[:2]]
    rotations.append(Rotation.from_euler("z", 20, degrees=True))  # x towards y, which points down: clockwise as seen
    x, y, z, w = np.stack([r.as_quat() for r in rotations]).T
    angles = head_angles_degrees(HeadPose(np.stack([w, x, y, z], axis=1), np.zeros((3, 3))))
    turn = np.degrees(np.arctan(0.5))
    np.testing.assert_allclose(angles, [[turn, 0, 0], [0, turn, 0], [0, 0, 20]], atol=1e-4)


def test_blinks_are_the_short_stretches() -> None:
    shut = np.zeros(100, bool)
    shut[[0, 1]] = shut[20:24] = shut[40:90] = shut[99] = True
    found = blink_spans(np.arange(100) / 25, shut)
    np.testing.assert_allclose(found, [(0, 0.04), (0.8, 0.92), (3.96, 3.96)])


def test_mouth_shapes_are_counted_once() -> None:
    face = np.zeros((30, 478, 3), np.float32)
    face[:, LIPS_INNER, 1] = np.repeat([0.0, 0.4, 0.8], 10)[:, None] + 0.01 * np.arange(30)[:, None] % 0.05
    assert count_mouth_shapes(face) == 3
    assert count_mouth_shapes(face[:10]) == 1


def test_blur_rises_with_blur_and_ignores_contrast() -> None:
    import cv2

    picture = np.random.default_rng(0).integers(0, 255, (120, 90)).astype(np.uint8)
    picture = cv2.GaussianBlur(picture, (0, 0), 0.7)
    blurs = [blur_of(cv2.GaussianBlur(picture, (0, 0), s) if s else picture) for s in (0, 1, 2, 4)]
    assert all(b > a + 0.04 for a, b in pairwise(blurs)), blurs
    assert blur_of(picture // 2 + 60) == pytest.approx(blurs[0], abs=0.02)
    assert blur_of(cv2.blur(picture, (9, 1))) > blurs[0] + 0.1  # in one direction is enough
    assert blur_of(np.full((20, 20), 9, np.uint8)) == 1


def test_a_head_on_the_edge_is_measured_in_its_own_widths() -> None:
    labels = np.zeros((50, 60), np.uint8)
    labels[10:30, 20:40] = FACE
    assert head_cut_share(labels) == 0
    labels[0:12, 25:35] = HAIR
    assert head_cut_share(labels) == pytest.approx(10 / 20)
    labels[40:, :] = TORSO
    assert head_cut_share(labels) == pytest.approx(10 / 20)


def test_skin_out_of_the_picture_has_no_brightness_and_does_not_count() -> None:
    assert np.isnan(skin_luma(np.zeros((20, 20, 3), np.uint8), np.full((478, 3), -50.0)))
    luma = np.array([100, np.nan, 110, 90, 100.0])
    curve = light_curve(PictureMeasures(np.arange(5), luma, luma, luma), 1000.0)
    np.testing.assert_allclose(curve * 100, [100, 105, 110, 90, 100])


def test_a_jump_is_a_cut_and_a_quick_movement_is_none() -> None:
    difference = np.full(100, 1.0)
    difference[0] = np.inf
    difference[40] = 14
    difference[69:72] = 3.8, 4.1, 2.2
    difference[99] = 9
    assert new_shots(difference).tolist() == [40, 99]
    assert len(new_shots(np.array([np.inf, 3.0]))) == 0


def test_pictures_are_spread_and_the_worst_are_apart() -> None:
    state = np.zeros((100, 2))
    state[30], state[60] = (10, 0), (0, 5)
    residual = np.zeros(100)
    residual[[30, 80, 81, 10]] = 9, 8, 7.9, 6
    spread, worst = choose_pictures(state, residual, 3, 2)
    assert {30, 60} < set(spread)
    assert spread == sorted(spread)
    assert worst == [80, 10]
    few, none = choose_pictures(state[:2], residual[:2], 8, 4)
    assert (len(few), none) == (2, [])


def test_drawings_leave_the_picture_where_it_is() -> None:
    grey = np.full((40, 60, 3), 120, np.uint8)
    labels = np.zeros((80, 120), np.uint8)
    labels[20:60, 40:80] = FACE
    drawn = with_labels(grey, labels)
    assert drawn.shape == grey.shape
    assert (drawn[20, 30] != drawn[5, 5]).any()
    np.testing.assert_array_equal(on_checkerboard(grey, np.full((80, 120), 255, np.uint8)), grey)
    empty = on_checkerboard(grey, np.zeros((80, 120), np.uint8))
    assert set(np.unique(empty)) == {150, 205}
    seen = np.zeros((40, 60), bool)
    seen[:, :30] = True
    plate = plate_with_invented(grey, seen)
    assert (plate[:, :28] == 120).all()
    assert (plate[:, 32:] != 120).any()
    points = np.random.default_rng(0).uniform(-30, 90, (478, 3))  # partly outside
    assert face_with_landmarks(grey, points).shape == (300, 300, 3)


def test_a_chart_keeps_peaks_breaks_at_gaps_and_says_what_it_shows() -> None:
    values = np.zeros(100_000)
    values[51_234] = 7.5
    values[70_000] = np.nan
    seconds = np.arange(100_000) / 25
    chart = line_chart(
        "Height <of>", "cm", 4000, [Curve("up & down", seconds, values)], [Marks("lost", [(1, 2)], "lost")]
    )
    assert "Height &lt;of&gt;" in chart
    assert "up &amp; down from 0 to 7.5" in chart
    assert len(chart) < 30_000
    path = chart.split(' d="')[1].split('"')[0]
    heights = [float(p.split(" ")[1]) for p in path.replace("M", "L").split("L")[1:]]
    assert max(heights) - min(heights) > 100  # the one high value is drawn
    gap = line_chart("t", "u", 1, [Curve("c", np.arange(4) / 4, np.array([0, np.nan, 1, 1]))])
    assert gap.split(' d="')[1].split('"')[0].count("M") == 2


def test_the_clock() -> None:
    assert [clock(0), clock(59.96), clock(61.25), clock(600, False)] == ["0:00.0", "1:00.0", "1:01.2", "10:00"]


def test_a_contact_sheet_holds_every_picture() -> None:
    column = [np.full((10, 12, 3), level, np.uint8) for level in (100, 150)]
    sheet = contact_sheet([column, [column[1], column[0]]], ["", ""])
    assert (sheet == 100).all(axis=2).sum() == (sheet == 150).all(axis=2).sum() == 240
    with pytest.raises(ValueError, match="wanted one caption"):
        contact_sheet([column], [])


def test_sound_of_any_rate_and_length_is_measured() -> None:
    rng = np.random.default_rng(0)
    for rate, seconds in ((8000, 0.01), (48000, 0.3), (44100, 3.0)):
        heard = measure_sound(AudioClip(rng.normal(size=int(rate * seconds)).astype(np.float32) * 0.1, rate))
        assert np.isfinite([heard.tonal_share, heard.overload_share, heard.speech_over_pauses_db]).all()
    silence = measure_sound(AudioClip(np.zeros(16000, np.float32), 16000))
    assert silence.silent
    assert measure_sound(AudioClip(np.zeros(0, np.float32), 16000)).silent
