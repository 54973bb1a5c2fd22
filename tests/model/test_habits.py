"""Laws of the sampler of blinks, gaze, head and torso."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from avatarfit.model.habits import SETTLE_SECONDS, Habits, HabitSampler, Stance

RATE = 25.0


def clip(count: int = 1000, seed: int = 0) -> tuple[Stance, np.ndarray]:
    """A head that wanders, a torso that follows, eyes that blink for six frames every few seconds."""
    random = np.random.default_rng(seed)

    def wander(columns: int, size: float) -> np.ndarray:
        noise = gaussian_filter1d(random.standard_normal((count, columns)), 12, axis=0, mode="wrap")
        return (size * noise / noise.std(0)).astype(np.float32)

    rotation = np.concatenate([np.ones((count, 1), np.float32), wander(3, 0.03)], 1)
    rotation /= np.linalg.norm(rotation, axis=1, keepdims=True)
    torso = np.tile(np.eye(2, 3, dtype=np.float32), (count, 1, 1))
    torso[:, :, 2] += wander(2, 0.01)
    opening = np.zeros(count, np.float32)
    at = 30
    while at < count - 10:
        opening[at : at + 6] = -4
        at += int(random.integers(60, 110))
    eyes = np.concatenate([wander(4, 0.5), opening[:, None], opening[:, None]], 1)
    stance = Stance(wander(4, 0.5), eyes, rotation, wander(3, 0.5) + np.float32([0, 0, 60]), torso, wander(3, 1.0))
    return stance, np.arange(count) / RATE


def habits(count: int = 1000) -> Habits:
    stance, pts = clip(count)
    return Habits.of(stance, pts, RATE)


def steps(stance: Stance) -> np.ndarray:
    """cm a frame of the head's translation."""
    return np.linalg.norm(np.diff(stance.translation_cm, axis=0), axis=1)


def blinks(eyes: np.ndarray) -> int:
    shut = eyes[:, -1] < -2
    return int((np.diff(shut.astype(int)) == 1).sum())


def test_the_same_seed_plays_the_same_and_another_does_not() -> None:
    h = habits()
    a, b, c = (HabitSampler(h, seed, RATE).next(500) for seed in (1, 1, 2))
    np.testing.assert_array_equal(a.translation_cm, b.translation_cm)
    np.testing.assert_array_equal(a.eyes, b.eyes)
    assert np.abs(a.translation_cm - c.translation_cm).max() > 0.1


def test_how_many_frames_are_asked_at_a_time_changes_nothing() -> None:
    h = habits()
    whole = HabitSampler(h, 3, 30.0).next(400)
    sampler = HabitSampler(h, 3, 30.0)
    parts = [sampler.next(n) for n in (1, 99, 0, 250, 50)]
    for name in ("upper", "eyes", "rotation_wxyz", "translation_cm", "torso_affine", "torso_shape"):
        np.testing.assert_array_equal(np.concatenate([getattr(p, name) for p in parts]), getattr(whole, name))


def test_joins_are_as_smooth_as_the_clip() -> None:
    h = habits()
    played = HabitSampler(h, 0, RATE).next(5000)
    own = np.linalg.norm(np.diff(h.translation_cm, axis=0), axis=1)
    assert steps(played).max() < 2 * own.max()
    jerk = np.linalg.norm(np.diff(played.translation_cm, 2, axis=0), axis=1)
    assert jerk.max() < 3 * np.linalg.norm(np.diff(h.translation_cm, 2, axis=0), axis=1).max()
    turn = np.linalg.norm(np.diff(played.rotation_wxyz, axis=0), axis=1)
    assert turn.max() < 2 * np.linalg.norm(np.diff(h.rotation_wxyz, axis=0), axis=1).max()


def test_every_sequence_starts_at_the_common_rest() -> None:
    h = habits()
    rest = h.stance(h.rest()[None])
    for seed in range(5):
        played = HabitSampler(h, seed, RATE).next(50)
        np.testing.assert_allclose(played.translation_cm[0], rest.translation_cm[0], atol=1e-5)
        np.testing.assert_allclose(played.eyes[0], rest.eyes[0], atol=1e-5)
    assert SETTLE_SECONDS * RATE < 50


def test_the_blink_rate_and_the_pose_spread_are_the_persons() -> None:
    h = habits()
    played = HabitSampler(h, 0, RATE).next(10_000)
    rate, own = blinks(played.eyes) / 10_000, blinks(h.eyes) / len(h)
    assert 0.7 * own < rate < 1.4 * own
    np.testing.assert_allclose(played.translation_cm.std(0), h.translation_cm.std(0), rtol=0.5)


def test_blinks_keep_their_length() -> None:
    played = HabitSampler(habits(), 0, RATE).next(10_000)
    shut = np.flatnonzero(np.diff(np.pad((played.eyes[:, -1] < -2).astype(int), 1)))
    lengths = shut[1::2] - shut[::2]
    assert np.median(lengths) == 6
    assert (np.abs(lengths - 6) > 2).mean() < 0.1


def test_head_and_eyes_come_from_the_same_moment() -> None:
    """Where no cross-fade is under way, the state is a row of the clip."""
    h = habits()
    played = HabitSampler(h, 0, RATE).next(2000)
    rows = np.concatenate([played.upper, played.eyes, played.translation_cm], 1)
    own = np.concatenate([h.upper, h.eyes, h.translation_cm], 1)
    exact = np.array([np.abs(own - row).max(1).min() < 1e-4 for row in rows[50:]])
    assert exact.mean() > 0.5


def test_no_motion_holds_the_head_and_leaves_the_eyes() -> None:
    h = habits()
    still, moving = HabitSampler(h, 0, RATE, 0.0).next(500), HabitSampler(h, 0, RATE, 1.0).next(500)
    assert np.ptp(still.translation_cm, axis=0).max() < 1e-5
    assert np.ptp(still.torso_affine, axis=0).max() < 1e-6
    assert np.ptp(still.torso_shape, axis=0).max() < 1e-6
    np.testing.assert_array_equal(still.eyes, moving.eyes)
    half = HabitSampler(h, 0, RATE, 0.5).next(500)
    np.testing.assert_allclose(half.translation_cm, (still.translation_cm + moving.translation_cm) / 2, atol=1e-4)
    with pytest.raises(ValueError, match="motion came as 2"):
        HabitSampler(h, 0, RATE, 2)


def test_another_frame_rate_keeps_the_speed() -> None:
    h = habits()
    slow, fast = HabitSampler(h, 0, 25.0).next(200), HabitSampler(h, 0, 50.0).next(400)
    assert abs(steps(slow).sum() - steps(fast).sum()) < 0.15 * steps(slow).sum()


def test_missing_frames_are_never_played_across() -> None:
    stance, pts = clip(400)
    pts[200:] += 3.0
    stance.translation_cm[200:] += np.float32([5, 0, 0])
    played = HabitSampler(Habits.of(stance, pts, RATE), 0, RATE).next(3000)
    assert steps(played).max() < 1.0


@pytest.mark.parametrize("count", [1, 2, 5, 30])
def test_a_few_frames_are_enough_to_play(count: int) -> None:
    stance, pts = clip(400)
    few = Stance(*(getattr(stance, n)[:count] for n in stance.__dataclass_fields__))
    played = HabitSampler(Habits.of(few, pts[:count], RATE), 0, RATE).next(300)
    assert played.rotation_wxyz.shape == (300, 4)
    np.testing.assert_allclose(np.linalg.norm(played.rotation_wxyz, axis=1), 1, atol=1e-5)


def test_opposite_quaternions_are_one_pose() -> None:
    stance, pts = clip(400)
    stance.rotation_wxyz[::2] *= -1
    played = HabitSampler(Habits.of(stance, pts, RATE), 0, RATE).next(300)
    assert np.abs(np.diff(played.rotation_wxyz, axis=0)).max() < 0.1


def test_a_cut_in_the_clip_ends_a_stretch_and_quick_motion_does_not() -> None:
    stance, pts = clip()
    assert habits().run.max() == 0
    cut = stance.translation_cm.copy()
    cut[400:, 0] += 3
    assert np.flatnonzero(np.diff(Habits.of(replace(stance, translation_cm=cut), pts, RATE).run)).tolist() == [399]
    quick = stance.translation_cm.copy()
    quick[:, 1] += 3 / (1 + np.exp(-(np.arange(1000) - 400) / 2))
    assert Habits.of(replace(stance, translation_cm=quick), pts, RATE).run.max() == 0


def test_what_plays_never_jumps_over_a_cut() -> None:
    stance, pts = clip()
    cut = stance.translation_cm.copy()
    cut[400:, 0] += 3
    h = Habits.of(replace(stance, translation_cm=cut), pts, RATE)
    assert max(steps(HabitSampler(h, seed, RATE).next(800)).max() for seed in range(3)) < 0.5
