"""A person's blinks: taken out of the clip, and put in again when this person would blink.

The rest of the face is re-sampled with the eyes open, so blinks can come more or less often than in the clip, and none
is cut in half. When they come is a renewal process: intervals are drawn from the person's own; in speech and in pauses
they run at the person's own two rates (people blink where speech pauses, Nakano and Kitazawa 2010).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

OPENING = slice(-2, None)
"""The openings' columns among the eyes' six."""

_LEAST_DEPTH = 1.5
"""A dip of the eyes' opening below this many standard deviations may be a blink."""
_HALF, _AWAKE = 0.5, 0.15
_LONGEST_SECONDS, _EDGE_SECONDS = 0.6, 0.3
_SHUT_PERCENTILE = 1.0
_JITTER = 0.15
_MOST_LIKELIER, _PRIOR_BLINKS = 2.0, 2.0


@dataclass(frozen=True)
class Blinks:
    """What a clip shows.

    Attributes:
        shapes: float32 [L, U + 6] each, what a blink adds to the upper face's and the eyes' coefficients with open
            eyes, at the clip's frame rate.
        intervals_seconds: float [B], from one blink's start to the next one's.
        in_pauses, in_speech: how fast intervals run, 1 in the clip's mean.
        lowest: float32 [2], the openings of the clip's most closed eyes.
    """

    shapes: tuple[np.ndarray, ...]
    intervals_seconds: np.ndarray
    in_pauses: float
    in_speech: float
    lowest: np.ndarray


def without_blinks(
    upper: np.ndarray, eyes: np.ndarray, run: np.ndarray, frame_rate_hz: float, activity: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, Blinks]:
    """A clip's face with its blinks bridged, and those blinks.

    Args:
        upper: float32 [N, U]; eyes: float32 [N, 6]; run: int [N], frames of one number follow one another.
        activity: float [N], 1 where the person speaks; None where that is not known.

    Returns:
        upper, eyes, blinks.
    """
    both = np.concatenate([upper, eyes], axis=1).astype(np.float32)
    bridged, shapes, starts = both.copy(), [], []
    for first, last in _events(eyes[:, OPENING].mean(axis=1), run, frame_rate_hz):
        share = (np.arange(first, last + 1) - first + 1)[:, None] / np.float32(last - first + 2)
        between = both[first - 1] + share * (both[last + 1] - both[first - 1])
        shapes.append((both[first : last + 1] - between).astype(np.float32))
        bridged[first : last + 1] = between
        starts.append(first)
    at = np.array(starts, np.int64)
    same = run[at[1:]] == run[at[:-1]]
    intervals = np.diff(at)[same] / frame_rate_hz
    if len(at) and not len(intervals):
        intervals = np.array([len(run) / frame_rate_hz / len(at)])
    pauses, speech = _rates(at, activity)
    lowest = both[:, OPENING].min(axis=0) if len(both) else np.zeros(2, np.float32)
    count = upper.shape[1]
    return bridged[:, :count], bridged[:, count:], Blinks(tuple(shapes), intervals, pauses, speech, lowest)


def _events(opening: np.ndarray, run: np.ndarray, frame_rate_hz: float) -> list[tuple[int, int]]:
    """First and last frame of each blink; one frame with open eyes is left on both sides."""
    rest, shut = float(np.median(opening)), float(np.percentile(opening, _SHUT_PERCENTILE))
    if rest - shut < _LEAST_DEPTH:
        return []
    closure = (rest - opening) / (rest - shut)
    edges = np.flatnonzero(np.diff(np.pad((closure > _HALF).astype(np.int8), 1)))
    edge = max(int(np.ceil(_EDGE_SECONDS * frame_rate_hz)), 1)
    found: list[tuple[int, int]] = []
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        first, last = int(start), int(stop) - 1
        if last - first + 1 > _LONGEST_SECONDS * frame_rate_hz:
            continue  # eyes that stay closed, or look down
        for _ in range(edge):
            first -= first > 0 and closure[first - 1] > _AWAKE
            last += last + 1 < len(closure) and closure[last + 1] > _AWAKE
        begun = found[-1][1] + 2 if found else 1
        if first < begun or last + 1 >= len(closure) or run[first - 1] != run[last + 1]:
            continue
        found.append((first, last))
    return found


def _rates(starts: np.ndarray, activity: np.ndarray | None) -> tuple[float, float]:
    """How fast intervals run in pauses and in speech; both 1 where little is known."""
    if activity is None or not len(starts):
        return 1.0, 1.0
    speech = activity > 0.5
    share = float(speech.mean())
    if not 0.02 < share < 0.98:
        return 1.0, 1.0
    mean = len(starts) / len(speech)
    counts = (float((~speech[starts]).sum()), float(speech[starts].sum()))
    lengths = (float((~speech).sum()), float(speech.sum()))
    # Shrunk towards the mean, for a minute has few blinks.
    raw = [(n + _PRIOR_BLINKS) / (frames * mean + _PRIOR_BLINKS) for n, frames in zip(counts, lengths, strict=True)]
    raw = [float(np.clip(r, 1 / _MOST_LIKELIER, _MOST_LIKELIER)) for r in raw]
    level = (1 - share) * raw[0] + share * raw[1]
    return raw[0] / level, raw[1] / level


class BlinkPlayer:
    """Blinks without end, frame after frame.

    Args:
        blinks: the person's.
        clip_rate_hz: frame rate of their shapes.
        frame_rate_hz: of the frames to come.
        seed: which of the endless sequences.
    """

    def __init__(self, blinks: Blinks, clip_rate_hz: float, frame_rate_hz: float, seed: int) -> None:
        self._blinks, self._step, self._rate = blinks, clip_rate_hz / frame_rate_hz, frame_rate_hz
        self._random = np.random.default_rng([seed, 1])
        self._shape: np.ndarray | None = None
        self._position = 0.0
        self._last = -1
        self._waited = 0.0
        self._due = self._interval() * float(self._random.random()) if blinks.shapes else np.inf

    def next(self, activity: float | None, rate: float) -> np.ndarray | None:
        """What the next frame's blink adds to upper face and eyes, float32 [U + 6]; None between blinks.

        Args:
            activity: whether somebody speaks at this frame, 0..1; None where that is not known.
            rate: how many times as often as the person does, from now on; 0 never.
        """
        b = self._blinks
        pace = 1.0 if activity is None else b.in_pauses + activity * (b.in_speech - b.in_pauses)
        self._waited += rate * pace / self._rate
        if self._shape is None:
            if self._waited < self._due or rate <= 0:
                return None
            self._begin()
        assert self._shape is not None
        low = int(self._position)
        share = np.float32(self._position - low)
        # Before its first and after its last frame a blink adds nothing.
        before = self._shape[low - 1] if low else np.zeros_like(self._shape[0])
        after = self._shape[low] if low < len(self._shape) else np.zeros_like(self._shape[0])
        self._position += self._step
        if self._position >= len(self._shape) + 1:
            self._shape = None
        return np.asarray(before + share * (after - before))

    def _begin(self) -> None:
        others = [k for k in range(len(self._blinks.shapes)) if k != self._last] or [self._last]
        self._last = int(self._random.choice(others))
        self._shape, self._position = self._blinks.shapes[self._last], self._step
        self._waited, self._due = 0.0, self._interval()

    def _interval(self) -> float:
        drawn = float(self._random.choice(self._blinks.intervals_seconds))
        return drawn * float(self._random.uniform(1 - _JITTER, 1 + _JITTER))
