"""What is built in: log-mel bands, and beside them what our own encoder of speech makes of the bands."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from avatarfit.audio.encoder import ColumnPrior
from avatarfit.audio.log_mel import BAND_COUNT
from avatarfit.audio.log_mel_encoder import LOG_MEL
from avatarfit.audio.phoneme_encoder import PhonemeEncoder, load_phoneme_encoder


class LogMelAndPhonemes:
    """See `SpeechEncoder`. The bands, which are normalised as they come, then the phoneme encoder's columns."""

    def __init__(self, phonemes: PhonemeEncoder) -> None:
        self._phonemes = phonemes
        self.name = f"{LOG_MEL.name}+{phonemes.name}"
        self.sample_rate_hz = LOG_MEL.sample_rate_hz
        self.column_count = BAND_COUNT + phonemes.column_count
        self.look_ahead_seconds = LOG_MEL.look_ahead_seconds

    @property
    def prior(self) -> ColumnPrior:
        """Of the bands."""
        return LOG_MEL.prior

    def stream(self) -> _Stream:
        """A fresh stream."""
        return _Stream(self._phonemes)


class _Stream:
    def __init__(self, phonemes: PhonemeEncoder) -> None:
        self._bands, self._phonemes = LOG_MEL.stream(), phonemes.stream()

    def push(self, samples: np.ndarray) -> np.ndarray:
        return self._beside(self._bands.push(samples))

    def finish(self) -> np.ndarray:
        return self._beside(self._bands.finish())

    def _beside(self, bands: np.ndarray) -> np.ndarray:
        return np.concatenate([bands, self._phonemes.hear(bands)], axis=1)


@lru_cache(maxsize=1)
def log_mel_and_phonemes() -> LogMelAndPhonemes:
    """The encoder with the network that comes with this package.

    Raises:
        FileFormatError: its file is damaged.
    """
    return LogMelAndPhonemes(load_phoneme_encoder(Path(__file__).with_name("speech_encoder.safetensors")))
