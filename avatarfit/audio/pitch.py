"""Pitch by Praat's autocorrelation method (Boersma 1993), on the same 10 ms grid as the log-mel bands.

Praat finds the candidates of every hop; they depend on 20 ms of sound on either side and on nothing else. Which of them
is the pitch Praat decides by the cheapest path through a whole recording. Here the path is followed as it comes: at
every hop the best path up to it counts, so that later sound changes nothing. Praat's costs, and its silence threshold
against the running level of the loud parts instead of the recording's highest peak.
"""

from __future__ import annotations

from math import log2

import numpy as np

from avatarfit.audio.log_mel import HOP_SAMPLES, HOP_SECONDS, SAMPLE_RATE_HZ

FLOOR_HZ = 75.0
CEILING_HZ = 500.0
CANDIDATES = 15
REACH_SAMPLES = 320
"""What a hop's candidates hear on either side: half of three periods of the lowest pitch."""
# Praat centres its grid in the sound. A quarter of a hop more than a whole number of hops keeps the count of its frames
# away from rounding; half of it shifts the grid.
_SHIFT_SAMPLES = HOP_SAMPLES // 8
_SILENCE, _VOICING, _OCTAVE, _JUMP, _SWITCH = 0.03, 0.45, 0.01, 0.35, 0.14
"""Praat's defaults: silence threshold, voicing threshold, octave cost, octave-jump cost, voiced/unvoiced cost."""
_CEILING_OCTAVE = log2(CEILING_HZ)
_START_HZ, _START_HOPS, _MEMORY_HOPS = 160.0, 20.0, 6_000.0
_MOST_OCTAVES = 0.5


def pitch_candidates(stretch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the pitch may be at each of k >= 0 hops.

    Args:
        stretch: float32 [(k - 1) * 160 + 640] at 16 kHz, from 20 ms before the first hop to 20 ms after the last.

    Returns:
        float64 [k, CANDIDATES] Hz, 0 where there is none, and their strengths (autocorrelation) of the same shape.
    """
    import parselmouth

    count = (len(stretch) - 2 * REACH_SAMPLES) // HOP_SAMPLES + 1 if len(stretch) else 0
    if count < 1 or not stretch.any():
        return np.zeros((max(count, 0), CANDIDATES)), np.zeros((max(count, 0), CANDIDATES))
    padded = np.zeros(len(stretch) + 2 * _SHIFT_SAMPLES)
    padded[_SHIFT_SAMPLES:-_SHIFT_SAMPLES] = stretch
    track = parselmouth.Sound(padded, SAMPLE_RATE_HZ).to_pitch_ac(
        time_step=HOP_SECONDS, pitch_floor=FLOOR_HZ, pitch_ceiling=CEILING_HZ
    )
    late = abs(track.xs()[0] - (REACH_SAMPLES + _SHIFT_SAMPLES) / SAMPLE_RATE_HZ)
    found = track.to_array()
    if found.shape[1] != count or late > 1e-6:
        raise RuntimeError(f"Praat gave {found.shape[1]} frames {late * 1e3:.2f} ms off the grid; wanted {count} on it")
    frequency, strength = np.zeros((2, count, CANDIDATES))
    for out, told in ((frequency, found["frequency"].T), (strength, found["strength"].T)):
        np.copyto(out[:, : found.shape[0]], told, where=told == told)  # NaN where there is no such candidate
    frequency[frequency >= CEILING_HZ] = 0
    return frequency, strength


class PitchPath:
    """The best path through the candidates so far."""

    def __init__(self) -> None:
        self._octaves: list[float] = []
        self._scores: list[float] = []
        self._unvoiced = 0.0

    def step(self, frequency_hz: np.ndarray, strength: np.ndarray, level_under_loud_db: float) -> float:
        """The pitch at the next hop.

        Args:
            frequency_hz, strength: float64 [CANDIDATES], a row of `pitch_candidates`.
            level_under_loud_db: the hop's level against the loud parts'.

        Returns:
            Hz, 0 where there is no voice.
        """
        # A handful of candidates: plain numbers are several times as fast as arrays.
        intensity = min(10 ** (level_under_loud_db / 20), 1.0)
        unvoiced = _VOICING + max(0.0, 2 - intensity / (_SILENCE / (1 + _VOICING)))
        unvoiced += max([self._unvoiced, *(score - _SWITCH for score in self._scores)])
        octaves, scores = [], []
        best, pitch = unvoiced, 0.0
        before = list(zip(self._octaves, self._scores, strict=True))
        for frequency, own in zip(frequency_hz.tolist(), strength.tolist(), strict=True):
            if frequency <= 0:
                continue
            octave = log2(frequency)
            score = self._unvoiced - _SWITCH
            for other, so_far in before:
                score = max(score, so_far - _JUMP * abs(octave - other))
            score += own - _OCTAVE * (_CEILING_OCTAVE - octave)
            octaves.append(octave)
            scores.append(score)
            if score > best:
                best, pitch = score, frequency
        self._octaves, self._scores, self._unvoiced = octaves, [score - best for score in scores], unvoiced - best
        return pitch


class RunningPitch:
    """Pitch in octaves from the speaker's own middle: a running mean that no outlier moves far.

    It starts at 160 Hz, which counts as 0.2 s of voice, and remembers a minute.
    """

    def __init__(self) -> None:
        self._middle, self._count = log2(_START_HZ), _START_HOPS

    def step(self, pitch_hz: float, weight: float) -> float:
        """The next hop's octaves, within [-1, 1]; 0 without a voice. It counts by `weight`, 0 to 1."""
        if pitch_hz <= 0:
            return 0.0
        octaves = log2(pitch_hz) - self._middle
        self._count = min(self._count + weight, _MEMORY_HOPS)
        moved = weight / self._count * min(max(octaves, -_MOST_OCTAVES), _MOST_OCTAVES)
        self._middle += moved
        return min(max(octaves - moved, -1.0), 1.0)
