"""Recordings brought onto a person, and what plays them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from avatarfit.avatarfile.motion_file import LandmarkMotion
from avatarfit.contracts import Motion
from avatarfit.driving.blendshape_map import BlendshapeMap
from avatarfit.driving.face_space import FaceSpace, PersonRest
from avatarfit.driving.motion_sources import Playback, PoseAndExpression, Retargeting, Still, at_rate
from avatarfit.model.habits import HabitSampler
from avatarfit.model.rig import lip_aperture_cm


@pytest.fixture(scope="module")
def onto(someone: SimpleNamespace) -> Retargeting:
    return Retargeting(someone.rig, someone.driver)


def recording(who: SimpleNamespace, own: bool) -> LandmarkMotion:
    motion = who.motion
    rest = PersonRest.of(who.rig, who.driver).landmarks_cm if own else None
    return LandmarkMotion(
        motion.pts_seconds + 3, who.rig.landmarks_cm(motion.face), motion.head.rotation_wxyz,
        motion.head.translation_cm, motion.torso.affine, rest,
    )  # fmt: skip


def inside(values: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return ((values > low) & (values < high)).all(axis=1)


def test_a_persons_own_motion_comes_back(someone: SimpleNamespace, onto: Retargeting) -> None:
    motion, back = someone.motion, onto.from_landmarks(recording(someone, own=True))
    np.testing.assert_allclose(back.pts_seconds, motion.pts_seconds, atol=1e-9)
    for name in ("mouth", "upper", "eyes"):
        part, before, after = (getattr(x, name) for x in (onto.space, motion.face, back.face))
        kept = inside(before, part.low, part.high)
        assert kept.mean() > 0.8
        # Openings are measured anew on the lids as the upper face's few coefficients draw them.
        exact = slice(None) if name != "eyes" else slice(4)
        np.testing.assert_allclose(after[kept, exact], before[kept, exact], atol=5e-3)
        assert np.abs(after[kept] - before[kept]).max() < 0.4
    usual = np.abs(back.head.translation_cm - motion.head.translation_cm).max(axis=1) < 1e-3
    assert usual.mean() > 0.95
    np.testing.assert_allclose(back.torso.affine, motion.torso.affine, atol=1e-5)


def test_another_persons_motion_starts_from_this_persons_rest(
    someone: SimpleNamespace, another: SimpleNamespace, onto: Retargeting
) -> None:
    theirs, back = recording(another, own=False), onto.from_landmarks(recording(another, own=False))
    assert np.abs(np.median(back.head.translation_cm, axis=0) - onto.rest.head.translation_cm).max() < 0.2
    for name in ("mouth", "upper", "eyes"):
        part, values = getattr(onto.space, name), getattr(back.face, name)
        assert (values <= part.high + 1e-4).all()
        assert (values >= part.low - 1e-4).all()
    gaps = lip_aperture_cm(theirs.landmarks_cm), lip_aperture_cm(someone.rig.landmarks_cm(back.face))
    assert np.corrcoef(*gaps)[0, 1] > 0.9
    their_closure = another.motion.face.eyes[:, 4:].mean(axis=1)
    assert np.corrcoef(their_closure, back.face.eyes[:, 4:].mean(axis=1))[0, 1] > 0.9
    assert onto.space.closure(back.face.eyes).max() > 0.9


def test_a_take_turns_the_head_and_the_rest_follows(someone: SimpleNamespace, onto: Retargeting) -> None:
    shapes = BlendshapeMap(FaceSpace.of(someone.rig, someone.driver), someone.driver)
    motion = someone.motion
    back = onto.from_take(shapes.take(motion.pts_seconds, motion.face, motion.head))
    assert np.abs((back.head.rotation_wxyz * motion.head.rotation_wxyz).sum(axis=1)).min() > 0.999
    assert np.isfinite(back.torso.affine).all()
    assert np.abs(back.head.translation_cm - onto.rest.head.translation_cm).max() < 3


def test_playback_is_the_recording_and_goes_on_without_a_jump(someone: SimpleNamespace) -> None:
    habits = someone.driver.habits
    source = Playback.of_clip(habits, 25.0)
    played = source.next(4000)
    length = len(habits)
    np.testing.assert_allclose(played.translation_cm[: length - 25], habits.translation_cm[: length - 25], atol=1e-4)
    np.testing.assert_allclose(played.eyes[: length - 25], habits.eyes[: length - 25], atol=1e-4)
    steps = np.linalg.norm(np.diff(played.translation_cm, axis=0), axis=1)
    own = np.linalg.norm(np.diff(habits.translation_cm, axis=0), axis=1).max()
    assert steps.max() < own + 3 * np.ptp(habits.translation_cm, axis=0).max() / 20
    again = Playback.of_clip(habits, 25.0)
    parts = [again.next(n) for n in (1, 700, 0, 1299)]
    np.testing.assert_allclose(np.concatenate([p.upper for p in parts]), played.upper[:2000], atol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 10])
def test_short_recordings_play(count: int, someone: SimpleNamespace) -> None:
    played = Playback.of(someone.motion[:count], 30.0).next(100)
    assert np.isfinite(played.translation_cm).all()
    np.testing.assert_allclose(np.linalg.norm(played.rotation_wxyz, axis=1), 1, atol=1e-5)


def test_still_is_rest_and_parts_come_from_their_sources(someone: SimpleNamespace) -> None:
    habits = someone.driver.habits
    still = Still(habits).next(10)
    np.testing.assert_allclose(still.translation_cm, habits.stance(np.tile(habits.rest(), (10, 1))).translation_cm)
    both = PoseAndExpression(Still(habits), HabitSampler(habits, 0, 25.0)).next(300)
    assert np.ptp(both.translation_cm, axis=0).max() == 0
    np.testing.assert_array_equal(both.upper, HabitSampler(habits, 0, 25.0).next(300).upper)


def test_another_rate_keeps_times(someone: SimpleNamespace) -> None:
    slow: Motion = at_rate(someone.motion, 10.0)
    np.testing.assert_allclose(
        slow.face.mouth[::2], someone.motion.face.mouth[::5][: len(slow.face.mouth[::2])], atol=1e-4
    )
    same = at_rate(someone.motion, 25.0)
    assert len(same) == len(someone.motion)
    np.testing.assert_allclose(same.head.translation_cm, someone.motion.head.translation_cm, atol=1e-4)
