from __future__ import annotations

import numpy as np
import pytest

from avatarfit.capture.face_mesh import Detection
from avatarfit.capture.frame_selection import (
    FaceMark,
    choose_face,
    cuts,
    links,
    longest_gap,
    near_duplicates,
    shows_one_picture,
)
from avatarfit.capture.source_view import SourceView
from avatarfit.contracts import FaceError


def test_padding_of_every_sixth_picture_is_found_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    difference = rng.uniform(0.6, 3, 120)
    difference[0] = np.inf
    padded = np.arange(120) % 6 == 5
    difference[padded] = rng.uniform(0, 0.05, padded.sum())
    np.testing.assert_array_equal(near_duplicates(difference), padded)


def test_a_person_who_sits_still_keeps_every_picture() -> None:
    difference = np.concatenate([[np.inf], np.full(30, 1.5), np.full(30, 0.03), np.full(30, 1.5)])
    assert not near_duplicates(difference)[5:28].any()
    assert near_duplicates(difference).sum() <= 2  # at most the moment motion stops


def test_a_still_video_has_no_duplicates() -> None:
    assert not near_duplicates(np.concatenate([[np.inf], np.zeros(20)])).any()


def test_a_splice_is_a_cut_and_lively_motion_is_none() -> None:
    difference = np.random.default_rng(1).uniform(0.5, 3, 80)
    difference[0], difference[40] = np.inf, 14
    assert np.flatnonzero(cuts(difference)).tolist() == [40]
    assert not cuts(np.concatenate([[np.inf], 7 + 5 * np.sin(np.arange(60) / 3)])).any()


def face(x: float, size: float) -> Detection:
    points = np.zeros((478, 3), np.float32)
    points[:, 0] = x + np.linspace(-size / 2, size / 2, 478)
    points[:, 1] = 100 + np.linspace(-size / 2, size / 2, 478)
    return Detection(points, np.zeros((2, 2), np.float32))


def test_the_larger_steadier_face_wins_even_when_another_is_found_first() -> None:
    detections = [[face(50, 60)] for _ in range(5)]
    detections += [[face(300 + i, 150), face(50, 60)] for i in range(20)]
    detections += [[face(50, 60), face(320, 150)], [], [face(321, 150)]]
    chosen, others = choose_face(detections)
    np.testing.assert_array_equal(chosen, [-1] * 5 + [0] * 20 + [1, -1, 0])
    assert others == 0


def test_a_second_face_of_like_size_is_counted() -> None:
    chosen, others = choose_face([[face(300, 150), face(80, 140)]] * 4)
    assert chosen.tolist() == [0] * 4
    assert others == 4


def test_no_faces_are_no_choice() -> None:
    chosen, others = choose_face([[], [], []])
    assert chosen.tolist() == [-1, -1, -1]
    assert others == 0


def test_links_bridge_repeats_but_not_lost_pictures() -> None:
    repeated = np.zeros(9, bool)
    repeated[[2, 3]] = True
    none = np.zeros(9, bool)
    linked, source = links(np.array([0, 1, 4, 5, 8]), repeated, none)
    assert linked.tolist() == [True, True, True, False, False]
    cut = none.copy()
    cut[4] = True
    assert links(np.array([0, 1, 4, 5, 8]), repeated, cut)[0].tolist() == [True, False, True, False, False]
    assert source.tolist() == [0, 3, 4, 7, 8]


def test_a_mark_chooses_its_person_however_small_and_whenever_found() -> None:
    detections = [[face(300, 150)], [face(300, 150), face(80, 60)], [face(82, 60), face(300, 150)]]
    times = np.arange(3) / 25
    mark = FaceMark.of(0.0, face(81, 62).landmarks_px)
    chosen, others = choose_face(detections, times, mark)
    assert chosen.tolist() == [-1, 1, 0]
    assert others == 2
    assert choose_face(detections, times)[0].tolist() == [0, 0, 1]
    with pytest.raises(FaceError, match=r"the face seen at 0\.00 s was lost"):
        choose_face(detections, times, FaceMark(0.0, 600.0, 100.0, 60.0))
    with pytest.raises(FaceError, match=r"the face seen at 9\.00 s was lost"):
        choose_face(detections, times, FaceMark(9.0, mark.x_px, mark.y_px, 60.0))


def test_a_mark_moves_with_the_view() -> None:
    moved = FaceMark(1.5, 300.0, 200.0, 100.0).within(SourceView(100, 50, 400, 400, 200, 200))
    assert moved == FaceMark(1.5, 100.0, 75.0, 50.0)


def test_a_still_picture_is_told_from_a_still_person() -> None:
    still = np.concatenate([[np.inf], np.zeros(60)])
    still[30] = 0.6  # a key picture is coded anew
    assert shows_one_picture(still)
    assert not shows_one_picture(np.concatenate([[np.inf], np.full(60, 0.05)]))
    padded = np.where(np.arange(61) % 2 == 0, 0.0, 1.5)
    assert not shows_one_picture(padded)
    assert not shows_one_picture(np.array([np.inf]))


def test_the_longest_gap_is_in_seconds() -> None:
    missing = np.array([1, 0, 1, 1, 1, 0, 1, 1], bool)
    times = np.array([0, 1, 2, 3, 4, 5, 6, 12.0])
    assert longest_gap(missing, times) == (6, 12)
    assert longest_gap(missing, np.arange(8.0)) == (2, 4)
