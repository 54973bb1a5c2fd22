"""What every kind of speech features is to the rest: rows of columns, 100 a second, from a stream of samples.

Nothing looks at a whole recording: a row depends on the sound before it and on a bounded stretch after it, so that
sound from a microphone and the same sound from a file give the same rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np


class RowStream(Protocol):
    """Samples in, rows out. Row k stands at 10 ms times k after the first sample."""

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Rows that have become ready: float32 [k, columns], k >= 0.

        Args:
            samples: float32 [n], any n >= 0, at the encoder's rate. How the sound is cut into pieces changes nothing.
        """

    def finish(self) -> np.ndarray:
        """All other rows, so that there are `hop_count(samples)` in all; beyond the sound there is silence."""


@dataclass(frozen=True)
class ColumnPrior:
    """How an encoder's columns usually lie in speech: what running normalisation starts from.

    Attributes:
        mean, spread: float32 [C], over hops with speech; with `follows_level` for speech whose loud parts are at 0 dB.
        follows_level: the columns are natural logarithms of powers, so that they rise and fall with the level.
    """

    mean: np.ndarray
    spread: np.ndarray
    follows_level: bool


class SpeechEncoder(Protocol):
    """One kind of speech features."""

    @property
    def name(self) -> str:
        """What it is, its version, and for weights their hash: the same name means the same columns."""

    @property
    def sample_rate_hz(self) -> int:
        """Of the samples it takes."""

    @property
    def column_count(self) -> int:
        """C."""

    @property
    def look_ahead_seconds(self) -> float:
        """So much sound after a row's moment can change the row."""

    @property
    def prior(self) -> ColumnPrior | None:
        """Where the columns are to be normalised by the speaker's own speech; None leaves them as they are."""

    def stream(self) -> RowStream:
        """A fresh stream, which has heard nothing."""
