"""Pitch by Praat's autocorrelation method (Boersma 1993), on the same 10 ms grid as the log-mel bands."""

from __future__ import annotations

import numpy as np

from avatarfit.audio.log_mel import HOP_SAMPLES, HOP_SECONDS, SAMPLE_RATE_HZ, hop_count

FLOOR_HZ = 75.0
CEILING_HZ = 500.0
_BLOCK_HOPS = 1_000
_MARGIN_HOPS = 50
# Praat analyses windows of three periods of the lowest pitch (4 hops at 75 Hz) and centres its grid in the sound. A
# quarter of a hop more than a whole number of hops keeps that count away from rounding; half of it shifts the grid.
_FIRST_FRAME_SAMPLES = 2 * HOP_SAMPLES + HOP_SAMPLES // 8


def pitch_track(samples: np.ndarray) -> np.ndarray:
    """Fundamental frequency.

    Args:
        samples: float32 [n] at 16 kHz.

    Returns:
        float32 [hop_count(n)], Hz, 0 where there is no voice. Long sounds are analysed in blocks of 10 s with half
        a second of margin on each side, always on the same grid.
    """
    count = hop_count(len(samples))
    out = np.zeros(count, np.float32)
    for start in range(0, count, _BLOCK_HOPS):
        stop = min(start + _BLOCK_HOPS, count)
        first, last = max(start - _MARGIN_HOPS, 0), min(stop + _MARGIN_HOPS, count)
        block = _block(samples[first * HOP_SAMPLES : last * HOP_SAMPLES], last - first)
        out[start:stop] = block[start - first : stop - first]
    return out


def _block(samples: np.ndarray, count: int) -> np.ndarray:
    """The pitch of `count` hops of `samples`, the first at its first sample."""
    import parselmouth

    total = (count + 3) * HOP_SAMPLES + HOP_SAMPLES // 4
    padded = np.zeros(total, np.float64)
    padded[_FIRST_FRAME_SAMPLES : _FIRST_FRAME_SAMPLES + len(samples)] = samples[: total - _FIRST_FRAME_SAMPLES]
    if not padded.any():
        return np.zeros(count, np.float32)
    track = parselmouth.Sound(padded, SAMPLE_RATE_HZ).to_pitch_ac(
        time_step=HOP_SECONDS, pitch_floor=FLOOR_HZ, pitch_ceiling=CEILING_HZ
    )
    frequency = track.selected_array["frequency"].astype(np.float32)
    late = abs(track.xs()[0] - _FIRST_FRAME_SAMPLES / SAMPLE_RATE_HZ)
    if len(frequency) != count or late > 1e-6:
        raise RuntimeError(f"Praat gave {len(frequency)} frames {late * 1e3:.2f} ms off the grid; wanted {count} on it")
    return frequency
