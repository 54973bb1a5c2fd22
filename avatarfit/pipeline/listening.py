"""Listening: the eyes rest on whom one listens to, and the head nods a little where the other leaves room for it.

Listeners give feedback where the speaker's voice stays low for a moment, rather than at every pause (Ward & Tsukahara,
Prosodic features which cue back-channel responses in English and Japanese, Journal of Pragmatics 32, 2000): 110 ms of
pitch below the 26th percentile, after 700 ms of speech, and not within 800 ms of the last; the feedback comes 700 ms
after that, where they measured it for English. Here also the end of a phrase asks for it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import numpy as np

from avatarfit.audio import HOP_SECONDS, FeatureStream
from avatarfit.contracts import rotations
from avatarfit.media import StreamResampler
from avatarfit.model.habits import Stance

LOW_PERCENTILE, LOW_SECONDS, SPOKEN_SECONDS, APART_SECONDS, WAIT_SECONDS = 26.0, 0.11, 0.7, 0.8, 0.7
_PHRASE_END_SECONDS, _AFTER_PHRASE_SECONDS = 0.25, 0.15
_BINS, _WIDEST_OCTAVES, _FORGET = 64, 3.0, 0.999
_ACTIVE = 0.5
_HOLD_SECONDS = 1.2
"""Between another's phrases one goes on listening so long."""
_ATTEND_SECONDS = 0.4
_KEPT = 600
_LOOKING = 0.8
"""So far a listener's gaze is held."""
_NOD_SECONDS, _NOD_DEGREES, _SECOND_NOD = 0.75, 2.6, 0.45
_PIVOT_CM = np.array([0.0, 6.0, 8.0])
"""Where the head turns on the neck, in the head's frame: below the eyes and behind them."""


class Ear:
    """The other's voice: whether they speak, and when a nod would be in place. Times are the session's line's."""

    def __init__(self) -> None:
        self._stream = FeatureStream()
        self._resampler: tuple[int, StreamResampler] | None = None
        self._pitches = np.zeros(_BINS)
        self._low = self._spoken = self._silent = 0.0
        self._last_active = self._last_nod = -np.inf
        self._due: float | None = None
        self._time = 0.0

    def hear(self, samples: np.ndarray, rate_hz: int, now_seconds: float) -> None:
        """Sound of the other, float32 [n], of which the last has just been heard."""
        if self._resampler is None or self._resampler[0] != rate_hz:
            self._resampler = rate_hz, StreamResampler(rate_hz, 16_000)
        rows = self._stream.push(self._resampler[1].push(samples))
        for k, row in enumerate(rows):
            self._time = max(self._time, now_seconds - (len(rows) - 1 - k) * HOP_SECONDS)
            self._hop(float(row[-3]), float(row[-2]), float(row[-1]), self._time)

    def listening(self, at_seconds: float) -> bool:
        """The other speaks, or spoke a moment ago."""
        return at_seconds - self._last_active < _HOLD_SECONDS

    def nods(self, at_seconds: float) -> bool:
        """A nod is due; it is told once."""
        if self._due is None or at_seconds < self._due:
            return False
        self._due, self._last_nod = None, at_seconds
        return True

    def _hop(self, pitch: float, voicing: float, activity: float, now: float) -> None:
        active = activity > _ACTIVE
        if active:
            self._last_active, self._silent = now, 0.0
            self._spoken += HOP_SECONDS
        else:
            self._silent += HOP_SECONDS
        if active and voicing > 0.5:
            self._low = self._low + HOP_SECONDS if pitch <= self._low_pitch() else 0.0
            self._pitches *= _FORGET
            self._pitches[_bin(pitch)] += 1
        wait = None
        if self._spoken >= SPOKEN_SECONDS and self._low >= LOW_SECONDS:
            wait = WAIT_SECONDS
        elif self._spoken >= SPOKEN_SECONDS and _PHRASE_END_SECONDS <= self._silent < 2 * _PHRASE_END_SECONDS:
            wait = _AFTER_PHRASE_SECONDS
        if wait is not None and self._due is None and now + wait - self._last_nod >= APART_SECONDS + _NOD_SECONDS:
            self._due = now + wait
            self._spoken = self._low = 0.0
        if self._silent > _HOLD_SECONDS:
            self._spoken = self._low = 0.0

    def _low_pitch(self) -> float:
        total = self._pitches.sum()
        if total < SPOKEN_SECONDS / HOP_SECONDS / 2:
            return -np.inf
        k = int(np.searchsorted(np.cumsum(self._pitches), LOW_PERCENTILE / 100 * total))
        return (k + 0.5) / _BINS * 2 * _WIDEST_OCTAVES - _WIDEST_OCTAVES


def _bin(pitch: float) -> int:
    return int(np.clip((pitch + _WIDEST_OCTAVES) / (2 * _WIDEST_OCTAVES) * _BINS, 0, _BINS - 1))


class Attention:
    """How far the person listens over time: eased, 0 to 1, of the frames told last."""

    def __init__(self, frame_rate_hz: float) -> None:
        self._step = 1 / (_ATTEND_SECONDS * frame_rate_hz)
        self._rate = frame_rate_hz
        self._level = 0.0
        self._told: deque[tuple[float, float]] = deque(maxlen=_KEPT)
        self._listened = 0

    def next(self, pts_seconds: float, listens: bool) -> None:
        """The next frame."""
        self._level = min(max(self._level + (self._step if listens else -self._step), 0.0), 1.0)
        x = self._level
        self._told.append((pts_seconds, _LOOKING * x * x * (3 - 2 * x)))
        self._listened = _KEPT if x else max(self._listened - 1, 0)

    def at(self, pts_seconds: np.ndarray) -> np.ndarray:
        """float64 [T] at times of frames that were told."""
        if not self._listened:
            return np.zeros(len(pts_seconds))
        times, values = zip(*self._told, strict=True)
        return np.interp(pts_seconds, times, values)


class Nods:
    """Small nods, laid over any stance: down and up twice, the second time less, beginning and ending at rest."""

    def __init__(self, frame_rate_hz: float) -> None:
        self._rate = frame_rate_hz
        self._frame: int | None = None
        self.count = 0

    def start(self) -> None:
        """Nod, unless one is under way."""
        if self._frame is None:
            self._frame = 0
            self.count += 1

    def over(self, stance: Stance) -> Stance:
        """The next frames; the same object where nobody nods."""
        if self._frame is None:
            return stance
        degrees = np.zeros(len(stance.rotation_wxyz))
        for k in range(len(degrees)):
            if self._frame is not None:
                x = self._frame / (_NOD_SECONDS * self._rate)
                degrees[k] = nod_degrees(x)
                self._frame = None if x >= 1 else self._frame + 1
        return nodded(stance, degrees)


def nod_degrees(x: float) -> float:
    """How far the head is down at a share `x` of a nod."""
    if not 0 < x < 1:
        return 0.0
    first = np.sin(np.pi * min(x / 0.55, 1.0)) ** 2
    second = np.sin(np.pi * max((x - 0.5) / 0.5, 0.0)) ** 2
    return float(_NOD_DEGREES * (first + _SECOND_NOD * second))


def nodded(stance: Stance, degrees: np.ndarray) -> Stance:
    """Heads turned down by `degrees` [T] about the neck; what is turned about is the camera's x axis."""
    from scipy.spatial.transform import Rotation

    down = Rotation.from_rotvec(np.radians(degrees)[:, None] * np.array([1.0, 0.0, 0.0]))
    before = rotations(stance.rotation_wxyz)
    after = down * before
    pivot = before.apply(_PIVOT_CM)
    translation = stance.translation_cm + pivot - after.apply(_PIVOT_CM)
    return replace(
        stance, rotation_wxyz=np.asarray(after.as_quat()[:, [3, 0, 1, 2]], np.float32),
        translation_cm=np.asarray(translation, np.float32),
    )  # fmt: skip
