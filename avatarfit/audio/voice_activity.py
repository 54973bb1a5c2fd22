"""Loudness, and whether anyone speaks in a recording: the level against an adaptive noise floor.

This judges whole recordings. What a driver hears comes hop by hop: see `speech_activity`.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d, maximum_filter1d, percentile_filter

from avatarfit.audio.log_mel import HOP_SAMPLES, WINDOW_SAMPLES, hop_count

QUIETEST_DB = -140.0
AUDIBLE_DB = -60.0
"""A sound whose loud parts stay below this (relative to full scale) counts as silent."""
_FLOOR_WINDOW_HOPS = 600
_COARSE_HOPS = 10
_HANGOVER_HOPS = 6


def level_db(samples: np.ndarray) -> np.ndarray:
    """float32 [hop_count(n)]: root-mean-square level around each hop (25 ms), decibels of full scale, at least -140."""
    half, count = WINDOW_SAMPLES // 2, hop_count(len(samples))
    after = max((count - 1) * HOP_SAMPLES + half - len(samples), 0)
    return level_of_stretch(np.pad(samples, (half, after)) if count else samples)


def level_of_stretch(stretch: np.ndarray) -> np.ndarray:
    """`level_db` of the hops whose windows begin in a stretch every 160 samples, as long as there are 400."""
    if len(stretch) < WINDOW_SAMPLES:
        return np.zeros(0, np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(stretch, WINDOW_SAMPLES)[::HOP_SAMPLES]
    power = np.einsum("ki,ki->k", windows, windows, dtype=np.float64) / WINDOW_SAMPLES
    return (10 * np.log10(np.maximum(power, 10 ** (QUIETEST_DB / 10)))).astype(np.float32)


def loud_level_db(level: np.ndarray) -> float:
    """The level of the loud parts: the 95th percentile."""
    return float(np.percentile(level, 95)) if len(level) else QUIETEST_DB


def voice_activity(level: np.ndarray) -> np.ndarray:
    """How surely someone speaks at each hop.

    The noise floor is the 10th percentile over 6 s around the hop, kept between 50 and 25 dB below the loud parts so
    that neither digital silence nor speech without pauses misleads it. Speech begins 8 dB above it (a third of the
    way up to the loud parts, if that is less) and is held for 60 ms on both sides.

    Args:
        level: float32 [F], decibels per hop, from `level_db`.

    Returns:
        float32 [F] in [0, 1].
    """
    if not len(level):
        return np.zeros(0, np.float32)
    loud = loud_level_db(level)
    if loud < AUDIBLE_DB:
        return np.zeros(len(level), np.float32)
    # Digital silence has no level of its own; without this its depth would shift the edges of speech.
    level = np.maximum(level, loud - 60)
    coarse = np.pad(level, (0, -len(level) % _COARSE_HOPS), mode="edge").reshape(-1, _COARSE_HOPS).mean(1)
    floor = percentile_filter(coarse, 10, size=_FLOOR_WINDOW_HOPS // _COARSE_HOPS, mode="nearest")
    floor = np.repeat(np.clip(floor, loud - 50, loud - 25), _COARSE_HOPS)[: len(level)]
    threshold = floor + np.minimum(8.0, (loud - floor) / 3)
    smooth = gaussian_filter1d(level, 2.0, mode="nearest")
    held = maximum_filter1d(smooth - threshold, 2 * _HANGOVER_HOPS + 1, mode="nearest")
    return (1 / (1 + np.exp(-np.clip(held / 1.5, -30, 30)))).astype(np.float32)
