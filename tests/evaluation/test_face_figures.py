"""Figures from landmarks on faces whose difference is known: moved, scaled, frozen, without a blink."""

from __future__ import annotations

import numpy as np
import pytest

from avatarfit.evaluation import face_figures as face
from avatarfit.evaluation.definitions import DEFINITIONS, direction, flat_figures, unit
from avatarfit.evaluation.driven import closure, jitter_ratio
from avatarfit.model.rig import closed_gaps_cm
from avatarfit.performer import Performer

RATE = 25


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    """Exact landmarks of the performer, pixels [150, 478, 3]."""
    return Performer(seed=1).performance(6.0).landmarks_px.astype(np.float64)


def test_lmd_of_shifts_and_sizes(points: np.ndarray) -> None:
    np.testing.assert_allclose(face.lmd_px(points, points), 0)
    np.testing.assert_allclose(face.lmd_px(points, points + [7, -3, 0]), 0, atol=1e-9)
    mouth = points[:, face.MOUTH_20, :2]
    spread = np.linalg.norm(mouth - mouth.mean(axis=1, keepdims=True), axis=2).mean(axis=1)
    np.testing.assert_allclose(face.lmd_px(points, 1.1 * points), 0.1 * spread)
    one = points.copy()
    one[:, face.MOUTH_20[3], 0] += 20  # the mean moves by 1: 19 points are off by 1, one by 19
    np.testing.assert_allclose(face.lmd_px(points, one), (19 * 1 + 19) / 20)


def test_the_mouths_twenty_points_are_lips() -> None:
    from avatarfit.model.rig import LIPS_INNER, LIPS_OUTER

    assert len(set(face.MOUTH_20)) == 20
    assert set(face.MOUTH_20[:12]) <= set(LIPS_OUTER)
    assert set(face.MOUTH_20[12:]) <= set(LIPS_INNER)


def test_a_frozen_mouth_does_not_correlate(points: np.ndarray) -> None:
    gap = face.aperture_px(points)
    assert face.correlation(gap, 0.5 * gap + 3) == pytest.approx(1)
    assert face.correlation(gap, -gap) == pytest.approx(-1)
    frozen = np.repeat(points[:1], len(points), axis=0)
    assert face.correlation(gap, face.aperture_px(frozen)) is None
    assert face.lmd_px(points, frozen).mean() > 0.3


def test_missing_faces_do_not_count(points: np.ndarray) -> None:
    lost = points.copy()
    lost[5] = np.nan
    assert face.found(lost).sum() == len(points) - 1
    assert face.correlation(face.aperture_px(points), face.aperture_px(lost)) == pytest.approx(1)
    assert face.identity_distance(points, lost) == pytest.approx(0, abs=1e-6)
    assert face.identity_distance(points, np.full_like(points, np.nan)) is None


def closed_runs(closed: np.ndarray) -> list[range]:
    return face.blink_events(closed, np.zeros(len(closed), bool))


def test_blinks_as_events() -> None:
    closed = np.zeros(50, bool)
    closed[[5, 6, 7, 20, 21, 40, 41]] = True
    truth = closed_runs(closed)
    assert truth == [range(5, 8), range(20, 22), range(40, 42)]
    assert face.blink_f1(truth, truth) == 1
    removed = closed.copy()
    removed[20:22] = False
    assert face.blink_f1(truth, closed_runs(removed)) == pytest.approx(2 * 2 / 5)
    late = np.roll(closed, 1)
    assert face.blink_f1(truth, closed_runs(late)) == 1
    assert face.blink_f1(truth, closed_runs(np.roll(closed, 6))) == 0
    assert face.blink_f1(truth, []) == 0
    assert face.blink_f1([], []) is None
    assert face.blink_f1([range(9)], [range(1, 2), range(5, 6)]) == pytest.approx(2 / 3)  # one hit only


def test_a_blink_does_not_reach_over_a_cut() -> None:
    breaks = np.zeros(10, bool)
    breaks[5] = True
    assert face.blink_events(np.ones(10, bool), breaks) == [range(5), range(5, 10)]


def test_a_removed_blink_is_missed_and_a_hardly_closed_eye_is_none() -> None:
    performance = Performer(seed=1).performance(12.0)
    truth = performance.landmarks_px.astype(np.float64)
    rotation = performance.head.matrices()[:, :, :3].astype(np.float64)
    cm = face.in_head_cm(truth, rotation)
    a, b, threshold = face.closures(cm, cm)
    np.testing.assert_allclose(a, b)
    events = closed_runs(a > threshold)
    assert len(events) >= 2
    first = events[0]
    # Its lids stay as they were before the blink, and go a quarter of the way in a second try.
    held = cm.copy()
    span = slice(max(first.start - 3, 0), first.stop + 3)
    held[span] = cm[max(first.start - 4, 0)]
    _, opened, _ = face.closures(cm, held)
    missed = closed_runs(opened > threshold)
    assert face.blink_f1(events, missed) == pytest.approx(2 * (len(events) - 1) / (2 * len(events) - 1))
    half = cm.copy()
    half[span] = 0.75 * cm[max(first.start - 4, 0)] + 0.25 * cm[span]
    _, lids, _ = face.closures(cm, half)
    assert len(closed_runs(lids > threshold)) == len(events) - 1


def test_similarity_is_found_exactly() -> None:
    points = np.random.default_rng(0).normal(size=(9, 2))
    turn = 1.7 * np.array([[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]])
    found = face.similarity_onto(points, points @ turn.T + [3, -2])
    np.testing.assert_allclose(found, np.concatenate([turn, [[3], [-2]]], axis=1), atol=1e-12)


def test_identity_ignores_place_size_and_turn_but_not_shape(points: np.ndarray) -> None:
    turn = 1.3 * np.array([[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]])
    moved = points.copy()
    moved[:, :, :2] = points[:, :, :2] @ turn.T + 40
    assert face.identity_distance(points, moved) == pytest.approx(0, abs=1e-9)
    wide = points.copy()
    wide[:, :, 0] = (points[:, :, 0] - 128) * 1.1 + 128
    wider = points.copy()
    wider[:, :, 0] = (points[:, :, 0] - 128) * 1.2 + 128
    distances = [face.identity_distance(points, p) for p in (wide, wider)]
    assert 0.01 < distances[0] < distances[1] < 0.15


def test_steadied_points_are_free_of_the_heads_motion(points: np.ndarray) -> None:
    still = np.repeat(points[:1], 20, axis=0)
    shaken = still + np.random.default_rng(0).normal(0, 4, (20, 1, 3))
    steady = face.steadied(shaken, still[0, :, :2])
    np.testing.assert_allclose(steady, np.repeat(steady[:1], 20, axis=0), atol=1e-9)
    assert np.linalg.norm(steady[0, 33] - steady[0, 263]) == pytest.approx(1)


def test_expression_error_is_the_mean_difference() -> None:
    a = np.full((4, 10), 0.2)
    np.testing.assert_allclose(face.expression_error(a, a + 0.1 * np.eye(4, 10)), 0.01)


def test_closure_recall_and_precision() -> None:
    truth = np.array([0.0, 0, 0, 0, 1, 1, 1, 1])
    driven = np.array([0.0, 0.1, 0.5, 0.5, 0, 1, 1, 1])
    assert closure(truth, driven, 0.05, 0.2) == {"closure_recall": 0.5, "closure_precision": 0.5}
    assert closure(truth, np.zeros(8), 0.05, 0.2) == {"closure_recall": 1, "closure_precision": 0.5}
    assert closure(truth + 1, truth + 1, 0.05, 0.2) == {"closure_recall": None, "closure_precision": None}
    assert closed_gaps_cm(np.linspace(0, 1, 101)) == pytest.approx((0.15, 0.23))


def test_jitter_above_six_hertz_counts_only_what_is_fast() -> None:
    seconds = np.arange(200) / RATE
    base = np.random.default_rng(0).normal(size=(1, 478, 3)) * np.ones((200, 1, 1))

    def waving(slow: float, fast: float) -> np.ndarray:
        return (
            base + (slow * np.sin(2 * np.pi * 1.5 * seconds) + fast * np.sin(2 * np.pi * 10 * seconds))[:, None, None]
        )

    assert jitter_ratio(waving(1, 0.3), waving(0.2, 0.1), seconds) == pytest.approx(3, rel=0.05)
    assert jitter_ratio(waving(1, 0), waving(1, 0.1), seconds) < 0.05
    assert jitter_ratio(waving(1, 1)[:20], waving(1, 1)[:20], seconds[:20]) is None


def test_every_figure_has_a_meaning_and_a_direction() -> None:
    assert all(d.better in ("higher", "lower", "near 1", "near 0", "") for d in DEFINITIONS.values())
    assert direction("composites.full.person.psnr_db") == "higher"
    assert direction("pose_jitter.render") == direction("pose_jitter.added") == "lower"
    assert direction("pose_jitter.truth") == direction("pose_jitter.frames") == ""
    assert direction("neck_seam.p95") == "near 1"
    assert direction("lip_sound_offset.render.energy.r") == "higher"
    assert direction("lip_sound_offset.truth.energy.r") == ""
    assert (unit("latency.total_ms"), unit("found_landmarks.lmd_px"), unit("nothing")) == ("ms", "px", "")


def test_flat_figures() -> None:
    result = {"size": {"width_px": 9}, "sync": {"truth": {"sync_c": 1}}, "neck_seam": {"median": None}}
    assert flat_figures(result) == {"neck_seam.median": None, "sync.truth.sync_c": 1.0}
