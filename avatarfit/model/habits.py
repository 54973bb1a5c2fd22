"""What a person does beside speaking: blinks, gaze, brows, head and torso, re-sampled from the clip's own stretches.

Everything is taken from the same moment of the clip, so head, torso and eyes stay consistent. A stretch plays for a few
seconds and then passes, by a cross-fade, into another whose pose and velocity match where they meet (motion graphs,
Kovar, Gleicher & Pighin 2002). Nothing ever plays backwards, and joins avoid blinks, so the blink rate stays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FADE_SECONDS = 0.8
SHORTEST_SECONDS, LONGEST_SECONDS = 2.0, 5.0
SETTLE_SECONDS = 0.6
_CHOICES = 6
_AWAY_SECONDS = 1.0
_BLINK_OPENING = -1.5
_OPENING = slice(-2, None)
_FACE_FROM_NECK_CM = 6.0
_CUT_OVER_NEIGHBOURS, _CUT_OVER_USUAL = 2.5, 2.5
_TORSO_REST = np.eye(2, 3, dtype=np.float32).reshape(-1)


@dataclass(frozen=True)
class Stance:
    """The habits' state over T frames.

    Attributes:
        upper: float32 [T, U] and eyes: float32 [T, 6], rig coefficients.
        rotation_wxyz: float32 [T, 4]. translation_cm: float32 [T, 3]. torso_affine: float32 [T, 2, 3].
        torso_shape: float32 [T, S].
    """

    upper: np.ndarray
    eyes: np.ndarray
    rotation_wxyz: np.ndarray
    translation_cm: np.ndarray
    torso_affine: np.ndarray
    torso_shape: np.ndarray


@dataclass(frozen=True)
class Habits:
    """The clip's stretches.

    Attributes:
        upper, eyes, rotation_wxyz, translation_cm, torso_affine, torso_shape: as in `Stance`, for the clip's N frames.
        run: int32 [N], rising by one where the clip was cut, or frames are missing, between two neighbours.
        frame_rate_hz: of the clip.
    """

    upper: np.ndarray
    eyes: np.ndarray
    rotation_wxyz: np.ndarray
    translation_cm: np.ndarray
    torso_affine: np.ndarray
    torso_shape: np.ndarray
    run: np.ndarray
    frame_rate_hz: float

    @staticmethod
    def of(stance: Stance, pts_seconds: np.ndarray, frame_rate_hz: float) -> Habits:
        """The habits seen in a clip's frames at `pts_seconds` [N]."""
        gap = np.diff(pts_seconds, prepend=pts_seconds[:1]) > 1.5 / frame_rate_hz
        gap |= _cuts(stance)
        q = stance.rotation_wxyz.copy()
        # One hemisphere for all, so that weighted sums of quaternions mean something.
        q[q @ q[0] < 0] *= -1
        return Habits(
            stance.upper, stance.eyes, q, stance.translation_cm, stance.torso_affine, stance.torso_shape,
            np.cumsum(gap).astype(np.int32), float(frame_rate_hz),
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.run)

    def table(self) -> np.ndarray:
        """float32 [N, U + 6 + 4 + 3 + 6 + S]: all of it, side by side."""
        torso = self.torso_affine.reshape(len(self), -1)
        return np.concatenate(
            [self.upper, self.eyes, self.rotation_wxyz, self.translation_cm, torso, self.torso_shape], axis=1
        )

    def stance(self, table: np.ndarray) -> Stance:
        """The inverse of `table` for rows [T, ...]; quaternions come out of unit length."""
        u = self.upper.shape[1]
        upper, eyes, q, t, torso, shape = np.split(table.astype(np.float32), [u, u + 6, u + 10, u + 13, u + 19], axis=1)
        q = q / np.linalg.norm(q, axis=1, keepdims=True)
        return Stance(upper, eyes, q, t, torso.reshape(-1, 2, 3), shape)

    def rest(self) -> np.ndarray:
        """float32 [U + 6 + 4 + 3 + 6 + S]: the common resting pose, a row of `table` (the median of each column)."""
        return np.median(self.table(), axis=0).astype(np.float32)


class HabitSampler:
    """Plays habits without end, frame after frame; the same seed plays the same.

    Args:
        habits: what to play.
        seed: which of the endless sequences.
        frame_rate_hz: of the frames to come; the clip's stretches keep their own speed.
        motion: 0 holds head and torso at rest, 1 moves them as in the clip. Eyes and brows are not touched by it.
    """

    def __init__(self, habits: Habits, seed: int, frame_rate_hz: float, motion: float = 1.0) -> None:
        if not 0 <= motion <= 1:
            raise ValueError(f"motion came as {motion}; wanted 0 to 1")
        self.habits, self.motion = habits, motion
        self.step = habits.frame_rate_hz / frame_rate_hz
        self._rate = frame_rate_hz
        self._random = np.random.default_rng(seed)
        self._table, self._rest = habits.table(), habits.rest()
        self._matching = _matching_columns(self._table, habits)
        last = np.append(np.flatnonzero(np.diff(habits.run)), len(habits) - 1)
        self._run_end = last[np.searchsorted(last, np.arange(len(habits)))]
        self._fade = FADE_SECONDS * habits.frame_rate_hz
        self._calm = _away_from_blinks(habits, int(np.ceil(self._fade)))
        self._away = int(np.ceil(_AWAY_SECONDS * habits.frame_rate_hz))
        self._used = np.zeros(len(habits), np.float32)
        self._frame = 0
        self._here = float(self._first())
        self._before: float | None = None
        self._faded = 0.0
        self._plan()

    def next(self, count: int) -> Stance:
        """The next `count` frames; how many are asked at a time changes nothing."""
        rows = np.stack([self._advance() for _ in range(count)]) if count else self._table[:0]
        moving = slice(self.habits.upper.shape[1] + 6, None)
        rows[:, moving] = self._rest[moving] + self.motion * (rows[:, moving] - self._rest[moving])
        return self.habits.stance(rows)

    def _advance(self) -> np.ndarray:
        row = self._row(self._here)
        if self._before is not None:
            row = _mixed(self._row(self._before), row, self._faded / self._fade)
        row = _mixed(self._rest, row, self._frame / (SETTLE_SECONDS * self._rate))
        self._frame += 1
        self._here += self.step
        if self._before is not None:
            self._before += self.step
            self._faded += self.step
            if self._faded >= self._fade:
                self._before = None
        elif self._here >= self._until:
            self._jump()
        return row

    def _row(self, position: float) -> np.ndarray:
        """The table between frames; beyond a stretch's end its last frame."""
        low = min(int(position), len(self._table) - 1)
        high = min(low + 1, int(self._run_end[low]))
        weight = position - low if high > low else 0.0
        return self._table[low] * np.float32(1 - weight) + self._table[high] * np.float32(weight)

    def _first(self) -> int:
        """A start near rest: one of the frames most like it that have time to play."""
        half = self._matching.shape[1] // 2
        cost = np.square(self._matching[:, :half] - np.median(self._matching[:, :half], axis=0)).sum(1)
        return self._choose(np.zeros(1, np.int64), cost[None])[1]

    def _jump(self) -> None:
        """Starts the cross-fade into the stretch that was chosen."""
        self._before, self._faded = self._here, 0.0
        self._here = float(self._next)
        near = slice(max(self._next - self._away, 0), self._next + self._away)
        self._used[near] += 1
        self._plan()

    def _plan(self) -> None:
        """When this stretch ends, and in which frame the next begins: where pose and velocity agree best."""
        start, rate = int(self._here), self.habits.frame_rate_hz
        latest = max(int(self._run_end[start] - self._fade), start)
        first = min(start + int(SHORTEST_SECONDS * rate), latest)
        leave = np.arange(first, min(start + int(LONGEST_SECONDS * rate), latest) + 1)
        leave = leave[self._calm[leave]] if self._calm[leave].any() else leave
        here, there = self._matching[leave], self._matching
        cost = np.square(here).sum(1)[:, None] + np.square(there).sum(1) - 2 * here @ there.T
        cost = np.maximum(cost, 0) * (1 + self._used)
        near = np.abs(np.arange(len(there)) - leave[:, None]) < self._away
        if not near.all():
            cost[near] = np.inf
        self._until, self._next = self._choose(leave, cost)

    def _choose(self, leave: np.ndarray, cost: np.ndarray) -> tuple[int, int]:
        """One of the cheapest pairs (frame to leave, frame to enter) by the seed; entering away from blinks.

        Args:
            leave: int [A]. cost: float [A, N], infinite where a pair is out of question.
        """
        best_leave = cost.argmin(axis=0)
        best = cost[best_leave, np.arange(cost.shape[1])]
        left = self._run_end - np.arange(len(best))
        long, short = left >= SHORTEST_SECONDS * self.habits.frame_rate_hz, left >= 2 * self._fade
        for wanted in (long & self._calm, long, short & self._calm, short, np.ones_like(short)):
            usable = np.flatnonzero(wanted & np.isfinite(best))
            if len(usable):
                break
        apart: list[int] = []
        for frame in usable[np.argsort(best[usable], kind="stable")]:
            # Neighbouring frames are one choice, not many.
            if all(abs(int(frame) - other) >= self._fade for other in apart):
                apart.append(int(frame))
            if len(apart) == _CHOICES:
                break
        enter = apart[int(self._random.integers(len(apart)))]
        return int(leave[best_leave[enter]]), enter


def _matching_columns(table: np.ndarray, habits: Habits) -> np.ndarray:
    """float32 [N, 2 C]: what must agree at a join, pose then velocity, in comparable units.

    Head and torso count most: their jumps are seen as motion. A quaternion's components are halves of radians, acting
    `_FACE_FROM_NECK_CM` from the neck to the face's middle.
    """
    u = habits.upper.shape[1]
    parts = [
        habits.upper * 0.1,
        habits.eyes * 0.15,
        habits.rotation_wxyz * 2 * _FACE_FROM_NECK_CM,
        habits.translation_cm,
        (habits.torso_affine.reshape(len(table), -1) - _TORSO_REST) * np.median(np.abs(habits.translation_cm[:, 2])),
        habits.torso_shape * 0.05,
    ]
    pose = np.concatenate(parts, axis=1)
    velocity = np.gradient(pose, axis=0) if len(pose) > 1 else np.zeros_like(pose)
    velocity[:, : u + 6] = 0
    return np.concatenate([pose, velocity * habits.frame_rate_hz * FADE_SECONDS / 2], axis=1).astype(np.float32)


def _cuts(stance: Stance) -> np.ndarray:
    """bool [N]: frames in which the head is suddenly elsewhere, as after an edit in the clip.

    A head has mass: a step far beyond the clip's own and several times its neighbours on both sides is no motion.
    """
    q = stance.rotation_wxyz
    turn = 2 * np.arccos(np.clip(np.abs((q[1:] * q[:-1]).sum(axis=1)), 0, 1))
    step = np.linalg.norm(np.diff(stance.translation_cm, axis=0), axis=1) + _FACE_FROM_NECK_CM * turn
    out = np.zeros(len(q), bool)
    if len(step) >= 3:
        padded = np.pad(step, 1, mode="reflect")
        around = np.maximum(padded[:-2], padded[2:])
        out[1:] = (step > _CUT_OVER_NEIGHBOURS * around) & (step > _CUT_OVER_USUAL * np.quantile(step, 0.95))
    return out


def _away_from_blinks(habits: Habits, frames: int) -> np.ndarray:
    """bool [N]: no blink from this frame to the end of a cross-fade that starts here."""
    shut = habits.eyes[:, _OPENING].mean(1) < _BLINK_OPENING
    soon = np.zeros(len(shut), bool)
    for shift in range(min(frames + 1, len(shut))):
        soon[: len(shut) - shift] |= shut[shift:]
    return ~soon


def _mixed(a: np.ndarray, b: np.ndarray, progress: float) -> np.ndarray:
    """From a to b along a smooth step."""
    x = min(max(progress, 0.0), 1.0)
    w = np.float32(x * x * x * (x * (6 * x - 15) + 10))
    return a + w * (b - a)
