"""Log-mel bands on a 10 ms grid: hop k is centred at k * 10 ms, whatever the length of the sound.

Mel scale of Slaney, "Auditory Toolbox" (Interval Research Technical Report 1998-010): linear below 1 kHz, logarithmic
above (a factor of 6.4 in 27 steps), triangles of equal area.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

SAMPLE_RATE_HZ = 16_000
HOP_SAMPLES = 160
HOP_SECONDS = HOP_SAMPLES / SAMPLE_RATE_HZ
WINDOW_SAMPLES = 400
FFT_SAMPLES = 512
BAND_COUNT = 64
_BLOCK_HOPS = 2_000
_POWER_FLOOR = 1e-16

_LINEAR_STEP_HZ = 200.0 / 3
_BREAK_HZ = 1_000.0
_BREAK_MEL = _BREAK_HZ / _LINEAR_STEP_HZ
_LOG_STEP = np.log(6.4) / 27
_HANN = (0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(WINDOW_SAMPLES) + 0.5) / WINDOW_SAMPLES)).astype(np.float32)


def hz_to_mel(frequency_hz: np.ndarray | float) -> np.ndarray:
    """Slaney's mel of a frequency."""
    f = np.asarray(frequency_hz, np.float64)
    return np.where(
        f < _BREAK_HZ, f / _LINEAR_STEP_HZ, _BREAK_MEL + np.log(np.maximum(f, _BREAK_HZ) / _BREAK_HZ) / _LOG_STEP
    )


def mel_to_hz(mel: np.ndarray | float) -> np.ndarray:
    """The frequency of a Slaney mel; inverse of `hz_to_mel`."""
    m = np.asarray(mel, np.float64)
    return np.where(m < _BREAK_MEL, m * _LINEAR_STEP_HZ, _BREAK_HZ * np.exp(_LOG_STEP * (m - _BREAK_MEL)))


def band_edges_hz(band_count: int = BAND_COUNT, low_hz: float = 50.0, high_hz: float = 7_600.0) -> np.ndarray:
    """float64 [band_count + 2]: band b rises from edge b to its peak at edge b + 1 and falls to edge b + 2."""
    return mel_to_hz(np.linspace(hz_to_mel(low_hz), hz_to_mel(high_hz), band_count + 2))


@lru_cache(maxsize=4)
def mel_filters(band_count: int = BAND_COUNT) -> np.ndarray:
    """float32 [band_count, FFT_SAMPLES // 2 + 1]: triangles over the power spectrum, each of area 1 (per Hz)."""
    edges = band_edges_hz(band_count)
    bins_hz = np.arange(FFT_SAMPLES // 2 + 1) * (SAMPLE_RATE_HZ / FFT_SAMPLES)
    low, peak, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    triangles = np.maximum(0, np.minimum((bins_hz - low) / (peak - low), (high - bins_hz) / (high - peak)))
    filters = (triangles * 2 / (high - low)).astype(np.float32)
    filters.setflags(write=False)
    return filters


def hop_count(sample_count: int) -> int:
    """Hops of a sound of `sample_count` samples: one at its start, one every 10 ms while samples last."""
    return 1 + max(sample_count - 1, 0) // HOP_SAMPLES if sample_count else 0


def log_mel(samples: np.ndarray, band_count: int = BAND_COUNT) -> np.ndarray:
    """Natural logarithm of the mel band powers.

    Args:
        samples: float32 [n] at 16 kHz. Beyond both ends there is silence.

    Returns:
        float32 [hop_count(n), band_count]; row k sees samples [160 k - 200, 160 k + 200) and nothing else.
    """
    count = hop_count(len(samples))
    return mel_of_stretch(_padded(samples, count), band_count)


def mel_of_stretch(stretch: np.ndarray, band_count: int = BAND_COUNT) -> np.ndarray:
    """`log_mel` of the hops whose windows fill a stretch of (k - 1) * 160 + 400 samples: float32 [k, band_count]."""
    if not len(stretch):
        return np.empty((0, band_count), np.float32)
    # Blocks keep the spectra's memory constant: an hour at once would be 0.7 GB of them.
    out = []
    frames = np.lib.stride_tricks.sliding_window_view(stretch, WINDOW_SAMPLES)[::HOP_SAMPLES]
    for start in range(0, len(frames), _BLOCK_HOPS):
        spectrum = np.fft.rfft(frames[start : start + _BLOCK_HOPS] * _HANN, FFT_SAMPLES)
        power = spectrum.real**2 + spectrum.imag**2
        out.append(np.log(power.astype(np.float32) @ mel_filters(band_count).T + _POWER_FLOOR))
    return np.concatenate(out)


def _padded(samples: np.ndarray, count: int) -> np.ndarray:
    """The samples that `count` hops from the first see, with silence where the sound has none."""
    half = WINDOW_SAMPLES // 2
    after = (count - 1) * HOP_SAMPLES + half - len(samples)
    return np.pad(samples, (half, max(after, 0)))[: (count - 1) * HOP_SAMPLES + 2 * half] if count else samples[:0]
