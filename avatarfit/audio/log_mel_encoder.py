"""Log-mel bands as speech features: built in, without any file to fetch."""

from __future__ import annotations

import numpy as np

from avatarfit.audio.encoder import ColumnPrior
from avatarfit.audio.hop_windows import HopWindows
from avatarfit.audio.log_mel import BAND_COUNT, SAMPLE_RATE_HZ, WINDOW_SAMPLES, band_edges_hz, mel_of_stretch

_LTASS_HZ = (
    100, 125, 160, 200, 250, 315, 400, 500, 630, 800,
    1000, 1250, 1600, 2000, 2500, 3150, 4000, 5000, 6300, 8000,
)  # fmt: skip
_LTASS_DB = (
    54.4, 57.7, 56.8, 60.2, 60.3, 59.0, 62.1, 62.1, 60.5, 56.8,
    53.7, 53.0, 52.0, 48.7, 48.1, 46.8, 45.6, 44.5, 44.3, 43.7,
)  # fmt: skip
"""Long-term average speech in bands of a third of an octave, women and men, twelve languages, at 70 dB in all
(Byrne et al. 1994, "An international comparison of long-term average speech spectra", table II)."""
_THIRD_OCTAVE = 2 ** (1 / 6) - 2 ** (-1 / 6)
_MEAN_UNDER_LOUD_DB = 16.0
"""The mean over hops of a band's decibels lies so far under the long-term average of a voice whose loud hops (their
90th percentile) are at 0 dB; measured."""
_SPREAD = 2.7
"""Of a band over the hops of speech, nepers of power (12 dB); measured."""


class LogMelEncoder:
    """See `SpeechEncoder`."""

    name = f"logmel{BAND_COUNT}"
    sample_rate_hz = SAMPLE_RATE_HZ
    column_count = BAND_COUNT
    look_ahead_seconds = WINDOW_SAMPLES / 2 / SAMPLE_RATE_HZ

    @property
    def prior(self) -> ColumnPrior:
        """Average speech."""
        width_hz = np.array(_LTASS_HZ) * _THIRD_OCTAVE
        density_db = np.array(_LTASS_DB) - 70.0 - 10 * np.log10(width_hz)
        at_bands = np.interp(np.log(band_edges_hz()[1:-1]), np.log(_LTASS_HZ), density_db)
        # A Hann window of 400 samples and triangles of area 1 per Hz over bins of 31.25 Hz make this of a density.
        gain = SAMPLE_RATE_HZ / 2 * WINDOW_SAMPLES * 0.375 / (SAMPLE_RATE_HZ / 512)
        mean = (at_bands - _MEAN_UNDER_LOUD_DB) * np.log(10) / 10 + np.log(gain)
        return ColumnPrior(mean.astype(np.float32), np.full(BAND_COUNT, _SPREAD, np.float32), follows_level=True)

    def stream(self) -> _LogMelStream:
        """A fresh stream."""
        return _LogMelStream()


class _LogMelStream:
    def __init__(self) -> None:
        self._windows = HopWindows(WINDOW_SAMPLES // 2, WINDOW_SAMPLES // 2)

    def push(self, samples: np.ndarray) -> np.ndarray:
        return mel_of_stretch(self._windows.push(samples))

    def finish(self) -> np.ndarray:
        return mel_of_stretch(self._windows.finish())


LOG_MEL = LogMelEncoder()
