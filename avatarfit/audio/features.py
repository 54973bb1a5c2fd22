"""The features a driver hears: an encoder's columns, loudness and pitch, so that any speaker at any loudness fits.

Every column is normalised by its own running mean and spread over the hops in which someone speaks; at the start of a
sound the encoder's prior stands in. A row depends on the sound before it and on at most `look_ahead_seconds` after it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avatarfit.audio.encoder import ColumnPrior, RowStream, SpeechEncoder
from avatarfit.audio.hop_windows import HopWindows
from avatarfit.audio.log_mel import HOP_SECONDS, SAMPLE_RATE_HZ, WINDOW_SAMPLES
from avatarfit.audio.log_mel_encoder import LOG_MEL
from avatarfit.audio.pitch import CANDIDATES, REACH_SAMPLES, PitchPath, RunningPitch, pitch_candidates
from avatarfit.audio.running import RunningNormaliser
from avatarfit.audio.speech_activity import SpeechActivity
from avatarfit.audio.voice_activity import AUDIBLE_DB, level_of_stretch
from avatarfit.contracts import AudioClip, SoundError

OTHER_COLUMNS = 4
"""After an encoder's columns: level, pitch, voicing, activity."""
_VERSION = 3
_BLOCK_SAMPLES = 10 * SAMPLE_RATE_HZ
_DB = 10 / float(np.log(10))
_PRIOR_HOPS, _MEMORY_HOPS = 600, 6_000
"""What is known before anything was heard counts as 6 s of speech; a minute of it is remembered."""
_LEVEL_UNDER_LOUD_DB, _LEVEL_SPREAD_DB = -7.0, 8.0


def feature_name(encoder: SpeechEncoder = LOG_MEL) -> str:
    """What the features are and their version; a driver fitted on others must not be fed with these."""
    return f"{encoder.name}-level-pitch-voicing/{_VERSION}"


FEATURE_NAME = feature_name()
FEATURE_COUNT = LOG_MEL.column_count + OTHER_COLUMNS


@dataclass(frozen=True)
class SpeechFeatures:
    """Features of one recording, F hops.

    Attributes:
        values: float32 [F, C + 4]: the encoder's columns, level, pitch (octaves from this speaker's middle, 0 where
            unvoiced), voicing (0 to 1), voice activity; level and pitch, and columns with a prior, within [-3, 3].
        start_seconds: time of hop 0 on the sound's clock.
        hop_seconds: time between hops.
        name: which features these are.
    """

    values: np.ndarray
    start_seconds: float
    hop_seconds: float = HOP_SECONDS
    name: str = FEATURE_NAME

    def __len__(self) -> int:
        return len(self.values)

    @property
    def activity(self) -> np.ndarray:
        """float32 [F] in [0, 1], how surely someone speaks."""
        return self.values[:, -1]

    def at(self, values: np.ndarray, pts_seconds: np.ndarray) -> np.ndarray:
        """`values` [F, ...] (one row a hop) between hops at times [T], linear; beyond the ends the end's value."""
        position = np.clip((pts_seconds - self.start_seconds) / self.hop_seconds, 0, len(values) - 1)
        low = np.floor(position).astype(np.int64)
        high = np.minimum(low + 1, len(values) - 1)
        weight = (position - low).astype(np.float32).reshape(-1, *([1] * (values.ndim - 1)))
        return values[low] * (1 - weight) + values[high] * weight


def require_audible(sound: AudioClip) -> None:
    """Checks that there is something to hear.

    Raises:
        SoundError: the sound is empty, or its loud parts stay below -60 dB of full scale.
    """
    if not len(sound.samples):
        raise SoundError("The sound is empty", "speech", "give a recording in which someone speaks")
    stride = max(sound.sample_rate_hz // 100, 1)
    whole = sound.samples[: len(sound.samples) // stride * stride].reshape(-1, stride)
    if not len(whole):
        raise SoundError(
            f"The sound is {sound.duration_seconds * 1e3:.1f} ms long", "at least 10 ms", "give a longer recording"
        )
    power = np.square(whole, dtype=np.float64).mean(1)
    loud = 10 * np.log10(max(float(np.percentile(power, 95)), 1e-20))
    if loud < AUDIBLE_DB:
        raise SoundError(
            f"The sound is silent (its loud parts reach {max(loud, -200):.0f} dB of full scale)",
            f"speech louder than {AUDIBLE_DB:.0f} dB",
            "check the microphone, the track or the volume and give a recording in which someone speaks",
        )


def speech_features(sound: AudioClip, encoder: SpeechEncoder = LOG_MEL) -> SpeechFeatures:
    """The features of a sound: all of it pushed through a `FeatureStream`.

    Args:
        sound: mono at the encoder's rate; resample with `avatarfit.media.resample` first. Silence gives activity 0.

    Raises:
        ValueError: the sample rate is another. Sound at another rate would give wrong lips and no other sign.
    """
    if sound.sample_rate_hz != encoder.sample_rate_hz:
        raise ValueError(
            f"speech_features came with sound at {sound.sample_rate_hz} Hz; wanted {encoder.sample_rate_hz} Hz, "
            "resample first"
        )
    stream = FeatureStream(encoder)
    values = np.concatenate([stream.push(sound.samples), stream.finish()])
    return SpeechFeatures(values, sound.start_seconds, name=feature_name(encoder))


def look_ahead_seconds(encoder: SpeechEncoder = LOG_MEL) -> float:
    """So much sound after a row's moment can change the row."""
    return max(encoder.look_ahead_seconds, REACH_SAMPLES / SAMPLE_RATE_HZ)


class FeatureStream:
    """Samples in, rows of features out, the same however the sound is cut into pieces (but for rounding).

    Args:
        encoder: of the first columns. Level, pitch, voicing and activity stand beside all.
    """

    def __init__(self, encoder: SpeechEncoder = LOG_MEL) -> None:
        if encoder.sample_rate_hz != SAMPLE_RATE_HZ:
            raise ValueError(f"{encoder.name} takes {encoder.sample_rate_hz} Hz; wanted {SAMPLE_RATE_HZ} Hz")
        self._columns: RowStream = encoder.stream()
        self._levels = HopWindows(WINDOW_SAMPLES // 2, WINDOW_SAMPLES // 2)
        self._pitches = HopWindows(REACH_SAMPLES, REACH_SAMPLES)
        self._path, self._activity = PitchPath(), SpeechActivity()
        prior = encoder.prior
        self._follows_level = prior is not None and prior.follows_level
        own = ColumnPrior(np.zeros(0), np.zeros(0), False) if prior is None else prior
        self._normalised = len(own.mean)
        self._normaliser = RunningNormaliser(
            np.append(own.mean, _LEVEL_UNDER_LOUD_DB), np.append(own.spread, _LEVEL_SPREAD_DB),
            _PRIOR_HOPS, _MEMORY_HOPS,
        )  # fmt: skip
        self._pitch = RunningPitch()
        columns = np.zeros((0, encoder.column_count), np.float32)
        self._waiting: list[np.ndarray] = [columns, np.zeros(0, np.float32), np.zeros((0, 2, CANDIDATES))]

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Rows that have become ready: float32 [k, C + 4], k >= 0. `samples`: float32 [n], any n >= 0, at 16 kHz."""
        parts = self._columns, self._levels, self._pitches
        # Blocks keep Praat's memory constant.
        blocks = [samples[i : i + _BLOCK_SAMPLES] for i in range(0, max(len(samples), 1), _BLOCK_SAMPLES)]
        return np.concatenate([self._rows(*(part.push(block) for part in parts)) for block in blocks])

    def finish(self) -> np.ndarray:
        """All other rows, so that there are `hop_count(samples)` in all."""
        return self._rows(self._columns.finish(), self._levels.finish(), self._pitches.finish())

    def _rows(self, columns: np.ndarray, level_stretch: np.ndarray, pitch_stretch: np.ndarray) -> np.ndarray:
        new = columns, level_of_stretch(level_stretch), np.stack(pitch_candidates(pitch_stretch), axis=1)
        self._waiting = [np.concatenate([old, more]) for old, more in zip(self._waiting, new, strict=True)]
        count = min(len(part) for part in self._waiting)
        columns, levels, candidates = (part[:count] for part in self._waiting)
        self._waiting = [part[count:] for part in self._waiting]
        out = np.empty((count, columns.shape[1] + OTHER_COLUMNS), np.float32)
        for row, column, level, (frequency, strength) in zip(out, columns, levels, candidates, strict=True):
            self._fill(row, column, float(level), frequency, strength)
        return out

    def _fill(
        self, row: np.ndarray, columns: np.ndarray, level: float, frequency: np.ndarray, strength: np.ndarray
    ) -> None:
        self._activity.hear(level)
        loud = self._activity.loud_db
        pitch = self._path.step(frequency, strength, level - loud)
        activity = self._activity.judge(pitch > 0)
        raw = np.append(columns[: self._normalised], level - loud)
        if self._follows_level:
            raw[:-1] -= loud / _DB
        normal = self._normaliser.step(raw, activity)
        row[:-OTHER_COLUMNS] = columns
        row[: self._normalised] = normal[:-1]
        row[-4] = normal[-1]
        row[-3] = self._pitch.step(pitch, activity)
        row[-2] = activity if pitch > 0 else 0.0
        row[-1] = activity
