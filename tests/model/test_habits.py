"""Laws of the sampler of blinks, gaze, head and torso."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from avatarfit.model.blinks import without_blinks
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


def test_blinks_come_as_often_as_asked() -> None:
    h = habits()

    def rate(asked: float) -> float:
        played = HabitSampler(h, 0, RATE, blink_rate=lambda seconds: np.full(len(seconds), asked)).next(10_000)
        return blinks(played.eyes) / 10_000

    assert rate(0.0) == 0
    assert 0.4 * rate(1.0) < rate(0.5) < 0.6 * rate(1.0)
    assert 1.7 * rate(1.0) < rate(2.0) < 2.3 * rate(1.0)
    part = HabitSampler(h, 0, RATE, blink_rate=lambda seconds: (seconds > 100).astype(float)).next(5000)
    assert blinks(part.eyes[:2500]) == 0 < blinks(part.eyes[2500:])


def test_blinks_never_repeat_a_rhythm() -> None:
    played = HabitSampler(habits(), 0, RATE).next(10_000)
    starts = np.flatnonzero(np.diff((played.eyes[:, -1] < -2).astype(int)) == 1)
    gaps = np.diff(starts)
    assert len(np.unique(gaps)) > 0.3 * len(gaps)
    assert gaps.min() > 40


def test_blinks_are_lifted_out_whole() -> None:
    stance, _ = clip()
    run = np.zeros(len(stance.eyes), np.int32)
    upper, eyes, found = without_blinks(stance.upper, stance.eyes, run, RATE)
    assert len(found.shapes) == blinks(stance.eyes)
    assert eyes[:, -1].min() > -0.5
    shut = stance.eyes[:, -1] < -2
    np.testing.assert_array_equal(upper[~shut], stance.upper[~shut])
    still, _ = clip(200)
    still.eyes[:] = 0
    assert not without_blinks(still.upper, still.eyes, run[:200], RATE)[2].shapes


def test_who_blinks_in_pauses_blinks_in_pauses() -> None:
    stance, pts = clip()
    shut = stance.eyes[:, -1] < -2
    starts = np.flatnonzero(np.diff(shut.astype(int)) == 1) + 1
    sound = np.zeros((len(pts), 3), np.float32)
    sound[:, 0] = 1
    for start in starts[::1]:
        sound[max(start - 5, 0) : start + 10, 0] = 0
    h = Habits.of(stance, pts, RATE, sound)
    heard = np.zeros((10_000, 3))
    heard[:, 0] = np.arange(10_000) // 50 % 2
    eyes = HabitSampler(h, 0, RATE).next(10_000, heard).eyes
    begun = np.flatnonzero(np.diff((eyes[:, -1] < -2).astype(int)) == 1) + 1
    in_pause = (heard[begun, 0] == 0).mean()
    assert in_pause > 0.6


def spoken() -> tuple[Habits, np.ndarray]:
    """A clip whose brows are up where it is loud, and a rhythm of speech to play it to."""
    stance, pts = clip(3000)
    random = np.random.default_rng(5)
    loud = np.clip(gaussian_filter1d(random.standard_normal(3000), 25, mode="wrap") * 8, -1, 1)
    stance.upper[:, 0] = 2 * loud
    sound = np.stack([(loud > 0).astype(float), loud, np.zeros(3000)], axis=1)
    heard = np.clip(gaussian_filter1d(random.standard_normal(8000), 50, mode="wrap") * 12, -1, 1)
    return Habits.of(stance, pts, RATE, sound), np.stack([(heard > 0).astype(float), heard, 0 * heard], axis=1)


def test_what_plays_agrees_with_what_is_heard() -> None:
    h, heard = spoken()

    def agreement(played: Stance) -> float:
        return float(np.corrcoef(played.upper[100:, 0], heard[100:, 1])[0, 1])

    deaf = Habits.of(Stance(*(getattr(h, n) for n in Stance.__dataclass_fields__)), np.arange(3000) / RATE, RATE)
    apart = np.mean([agreement(HabitSampler(deaf, seed, RATE).next(8000, heard)) for seed in range(2)])
    together = np.mean([agreement(HabitSampler(h, seed, RATE).next(8000, heard)) for seed in range(2)])
    assert abs(apart) < 0.1
    assert together > apart + 0.2


def test_what_is_heard_later_changes_nothing_now() -> None:
    h, heard = spoken()
    other = heard.copy()
    other[2000:] = other[2000:][::-1]
    a, b = (HabitSampler(h, 0, RATE).next(3000, sound[:3000]) for sound in (heard, other))
    np.testing.assert_array_equal(a.upper[:2000], b.upper[:2000])
    np.testing.assert_array_equal(a.eyes[:2000], b.eyes[:2000])
    whole = HabitSampler(h, 0, RATE)
    parts = [whole.next(n, heard[k : k + n]) for k, n in ((0, 7), (7, 900), (907, 93))]
    np.testing.assert_array_equal(np.concatenate([p.upper for p in parts]), a.upper[:1000])


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
