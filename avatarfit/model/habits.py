"""What a person does beside speaking: blinks, gaze, brows, head and torso, re-sampled from the clip's own stretches.

Everything is taken from the same moment of the clip, so head, torso and eyes stay consistent. A stretch plays for a few
seconds and then passes, by a cross-fade, into another whose pose and velocity match where they meet (motion graphs,
Kovar, Gleicher & Pighin 2002). Among those that match, one is taken whose own sound just then was most like what is
heard: brows and head move with loudness and pitch (Yehia, Kuratate & Vatikiotis-Bateson 2002). Nothing ever plays
backwards. Blinks come by themselves (avatarfit.model.blinks).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from avatarfit.model.blinks import OPENING, BlinkPlayer, without_blinks

FADE_SECONDS = 0.8
SHORTEST_SECONDS, LONGEST_SECONDS = 2.0, 5.0
SETTLE_SECONDS = 0.6
SOUND = ("activity", "level", "pitch")
"""What of the sound stretches are chosen by: columns of `Habits.sound` and of what is heard."""
SOUND_COLUMNS = (-1, -4, -3)
"""Where these stand in a row of speech features (avatarfit.audio.features)."""

_CHOICES = 6
_MOST_LEAVES = 30
"""So many moments are weighed at which a stretch may end: all of it is done between two frames."""
_MATCHING = 24
"""So many of the stretches whose pose fits are asked for their sound."""
_COSTLIER = 1.5
"""A join may cost this many times what was planned for the sake of its sound."""
_LAGS_SECONDS = (0.0, 0.2, 0.4, 0.7, 1.0)
"""Moments back in time at which a stretch's sound is held against what is heard."""
_DISAGREE_SECONDS, _DISAGREE = 0.4, 0.6
"""A stretch of speech is left early when for about so long nobody speaks, and the other way round."""
_HURRY_SECONDS = 0.6
_AWAY_SECONDS = 1.0
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
        sound: float32 [N, 3], what was heard at the frames (`SOUND`, in the speech features' units); [N, 0] where that
            is not known, and then habits and sound go their own ways.
        frame_rate_hz: of the clip.
    """

    upper: np.ndarray
    eyes: np.ndarray
    rotation_wxyz: np.ndarray
    translation_cm: np.ndarray
    torso_affine: np.ndarray
    torso_shape: np.ndarray
    run: np.ndarray
    sound: np.ndarray
    frame_rate_hz: float

    @staticmethod
    def of(stance: Stance, pts_seconds: np.ndarray, frame_rate_hz: float, sound: np.ndarray | None = None) -> Habits:
        """The habits seen in a clip's frames at `pts_seconds` [N], with the `sound` [N, 3] heard there, if known."""
        gap = np.diff(pts_seconds, prepend=pts_seconds[:1]) > 1.5 / frame_rate_hz
        gap |= _cuts(stance)
        q = stance.rotation_wxyz.copy()
        # One hemisphere for all, so that weighted sums of quaternions mean something.
        q[q @ q[0] < 0] *= -1
        return Habits(
            stance.upper, stance.eyes, q, stance.translation_cm, stance.torso_affine, stance.torso_shape,
            np.cumsum(gap).astype(np.int32),
            np.zeros((len(q), 0), np.float32) if sound is None else np.asarray(sound, np.float32),
            float(frame_rate_hz),
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
    """Plays habits without end, frame after frame; the same seed plays the same to the same sound.

    Args:
        habits: what to play.
        seed: which of the endless sequences.
        frame_rate_hz: of the frames to come; the clip's stretches keep their own speed.
        blink_rate: how many times as often as the person does the eyes blink, a function of seconds [T] since the
            first frame; None: as often.
    """

    def __init__(
        self,
        habits: Habits,
        seed: int,
        frame_rate_hz: float,
        blink_rate: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        self.habits, self._blink_rate = habits, blink_rate
        self.step = habits.frame_rate_hz / frame_rate_hz
        self._rate = frame_rate_hz
        self._random = np.random.default_rng(seed)
        known = habits.sound.shape[1] == len(SOUND)
        upper, eyes, blinks = without_blinks(
            habits.upper, habits.eyes, habits.run, habits.frame_rate_hz, habits.sound[:, 0] if known else None
        )
        awake = replace(habits, upper=upper, eyes=eyes)
        self._face, self._lowest = upper.shape[1] + 6, blinks.lowest
        self._blinks = BlinkPlayer(blinks, habits.frame_rate_hz, frame_rate_hz, seed)
        self._table, self._rest = awake.table(), habits.rest()
        self._matching = _matching_columns(self._table, awake)
        self._ear = _Ear(habits, frame_rate_hz) if known else None
        last = np.append(np.flatnonzero(np.diff(habits.run)), len(habits) - 1)
        self._run_end = last[np.searchsorted(last, np.arange(len(habits)))]
        self._fade = FADE_SECONDS * habits.frame_rate_hz
        self._away = int(np.ceil(_AWAY_SECONDS * habits.frame_rate_hz))
        self._used = np.zeros(len(habits), np.float32)
        self._frame = 0
        self._here = float(self._first())
        self._before: float | None = None
        self._faded = 0.0
        self._since, self._hurried = self._here, False
        self._plan(SHORTEST_SECONDS, LONGEST_SECONDS)

    def next(self, count: int, heard: np.ndarray | None = None) -> Stance:
        """The next `count` frames; how many are asked at a time changes nothing.

        Args:
            heard: float [count, 3], the sound at each frame (`SOUND`); None where there is none.
        """
        rows = self._table[:0]
        if count:
            seconds = (self._frame + np.arange(count)) / self._rate
            rates = np.ones(count) if self._blink_rate is None else self._blink_rate(seconds)
            ears = [None] * count if heard is None else list(heard)
            rows = np.stack([self._advance(*both) for both in zip(ears, rates, strict=True)])
        return self.habits.stance(rows)

    def _advance(self, heard: np.ndarray | None, blink_rate: float) -> np.ndarray:
        row = self._row(self._here)
        if self._before is not None:
            row = _mixed(self._row(self._before), row, self._faded / self._fade)
        blink = self._blinks.next(None if heard is None else float(heard[0]), float(blink_rate))
        if blink is not None:
            row = row.copy()
            row[: self._face] += blink
            opening = row[: self._face][OPENING]
            np.maximum(opening, self._lowest, out=opening)
        row = _mixed(self._rest, row, self._frame / (SETTLE_SECONDS * self._rate))
        self._frame += 1
        if self._ear is not None and heard is not None:
            self._ear.hear(heard, self._here)
        self._here += self.step
        if self._before is not None:
            self._before += self.step
            self._faded += self.step
            if self._faded >= self._fade:
                self._before = None
        elif self._here >= self._until:
            self._jump()
        elif self._ear is not None and self._ear.disagrees and not self._hurried:
            played = (self._here - self._since) / self.habits.frame_rate_hz
            if played >= SHORTEST_SECONDS / 2:
                self._hurried = True
                self._plan(0.0, _HURRY_SECONDS)
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
        return self._one_of(self._apart(cost, _CHOICES))

    def _jump(self) -> None:
        """Starts the cross-fade into a stretch that fits here."""
        enter = self._next
        if self._ear is not None and self._ear.heard:
            cost = self._join_cost(np.array([min(round(self._here), len(self._table) - 1)]))[0]
            others = self._apart(cost, _MATCHING)
            found = np.append(enter, others[cost[others] <= _COSTLIER * cost[enter]])
            unlike = self._ear.unlike(found)
            enter = self._one_of(found[np.argsort(unlike, kind="stable")[: max(len(found) // 4, 1)]])
        self._before, self._faded, self._here = self._here, 0.0, float(enter)
        self._since, self._hurried = self._here, False
        self._used[max(enter - self._away, 0) : enter + self._away] += 1
        self._plan(SHORTEST_SECONDS, LONGEST_SECONDS)

    def _plan(self, shortest_seconds: float, longest_seconds: float) -> None:
        """When this stretch ends: where pose and velocity agree best with one that could follow."""
        start, rate = int(self._here), self.habits.frame_rate_hz
        latest = max(int(self._run_end[start] - self._fade), start)
        first = min(start + int(shortest_seconds * rate), latest)
        last = min(start + int(longest_seconds * rate), latest)
        leave = np.arange(first, last + 1, 1 + (last - first) // _MOST_LEAVES)
        cost = self._join_cost(leave)
        best_leave = cost.argmin(axis=0)
        self._next = self._one_of(self._apart(cost[best_leave, np.arange(cost.shape[1])], _CHOICES))
        self._until = int(leave[best_leave[self._next]])

    def _join_cost(self, leave: np.ndarray) -> np.ndarray:
        """float [A, N]: how badly each frame follows each of `leave`; infinite where it is nearly the same moment."""
        here, there = self._matching[leave], self._matching
        cost = np.square(here).sum(1)[:, None] + np.square(there).sum(1) - 2 * here @ there.T
        cost = np.maximum(cost, 0) * (1 + self._used)
        near = np.abs(np.arange(len(there)) - leave[:, None]) < self._away
        if not near.all():
            cost[near] = np.inf
        return np.asarray(cost)

    def _apart(self, cost: np.ndarray, count: int) -> np.ndarray:
        """int: the `count` cheapest frames [N] that have time to play; neighbouring frames are one choice, not many."""
        left = self._run_end - np.arange(len(cost))
        for wanted in (left >= SHORTEST_SECONDS * self.habits.frame_rate_hz, left >= 2 * self._fade, left >= 0):
            usable = np.where(wanted, cost, np.inf)
            if np.isfinite(usable).any():
                break
        apart: list[int] = []
        reach = int(np.ceil(self._fade))
        while len(apart) < count and np.isfinite(usable).any():
            apart.append(int(usable.argmin()))
            usable[max(apart[-1] - reach + 1, 0) : apart[-1] + reach] = np.inf
        return np.array(apart)

    def _one_of(self, frames: np.ndarray) -> int:
        return int(frames[int(self._random.integers(len(frames)))])


class _Ear:
    """What is heard now against what was heard in the clip.

    Args:
        habits: with sound.
        frame_rate_hz: at which `hear` is called.
    """

    def __init__(self, habits: Habits, frame_rate_hz: float) -> None:
        self._scale = np.maximum(habits.sound.std(axis=0), 1e-3)
        self._own = habits.sound / self._scale
        self._run = habits.run
        self._own_lags = [round(lag * habits.frame_rate_hz) for lag in _LAGS_SECONDS]
        self._lags = [round(lag * frame_rate_hz) for lag in _LAGS_SECONDS]
        self._history: deque[np.ndarray] = deque(maxlen=self._lags[-1] + 1)
        self._keep = np.exp(-1 / (_DISAGREE_SECONDS * frame_rate_hz))
        self._apart = 0.0

    @property
    def heard(self) -> bool:
        """Something was."""
        return bool(self._history)

    @property
    def disagrees(self) -> bool:
        """For a while now the clip spoke and nobody is heard, or the other way round."""
        return abs(self._apart) > _DISAGREE

    def hear(self, heard: np.ndarray, position: float) -> None:
        """The sound [3] of the next frame, while the clip's frame at `position` plays."""
        self._history.append(np.asarray(heard) / self._scale)
        own = self._own[min(int(position), len(self._own) - 1), 0] * self._scale[0]
        self._apart = self._keep * self._apart + (1 - self._keep) * (float(heard[0]) - float(own))

    def unlike(self, frames: np.ndarray) -> np.ndarray:
        """How little the sound before each of the clip's `frames` is like that heard last, float [len(frames)]."""
        total, count = np.zeros(len(frames)), 0
        for own_lag, lag in zip(self._own_lags, self._lags, strict=True):
            if lag >= len(self._history):
                break
            then = np.maximum(frames - own_lag, 0)
            then = np.where(self._run[then] == self._run[frames], then, frames)
            total += np.square(self._own[then] - self._history[-1 - lag]).mean(axis=1)
            count += 1
        return np.asarray(total / max(count, 1))


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


def _mixed(a: np.ndarray, b: np.ndarray, progress: float) -> np.ndarray:
    """From a to b along a smooth step."""
    x = min(max(progress, 0.0), 1.0)
    w = np.float32(x * x * x * (x * (6 * x - 15) + 10))
    return a + w * (b - a)
