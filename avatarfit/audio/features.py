"""The features a driver hears: log-mel bands, loudness and pitch, normalised so that any speaker at any loudness fits.

Each recording is normalised by its own speech: mean and spread of every band over the hops where someone speaks
(cepstral mean and variance normalisation, Viikki & Laurila 1998, here on log-mel bands).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avatarfit.audio.log_mel import BAND_COUNT, HOP_SECONDS, SAMPLE_RATE_HZ, log_mel
from avatarfit.audio.pitch import pitch_track
from avatarfit.audio.voice_activity import AUDIBLE_DB, level_db, voice_activity
from avatarfit.contracts import AudioClip, SoundError

FEATURE_NAME = f"logmel{BAND_COUNT}-level-pitch-voicing/1"
"""What the features are and their version; a driver fitted on others must not be fed with these."""
FEATURE_COUNT = BAND_COUNT + 4
_CLIP = 3.0
_STEADY_DB = 6.0
_RANGE = 5.0 * float(np.log(10))
"""What counts of a band: 50 dB down from its loud parts."""


@dataclass(frozen=True)
class SpeechFeatures:
    """Features of one recording, F hops.

    Attributes:
        values: float32 [F, FEATURE_COUNT]: normalised log-mel bands, level, pitch (octaves from this speaker's median,
            0 where unvoiced), voicing (0 or 1), voice activity; all within [-3, 3].
        activity: float32 [F] in [0, 1], how surely someone speaks.
        start_seconds: time of hop 0 on the sound's clock.
        hop_seconds: time between hops.
        name: which features these are.
    """

    values: np.ndarray
    activity: np.ndarray
    start_seconds: float
    hop_seconds: float = HOP_SECONDS
    name: str = FEATURE_NAME

    def __len__(self) -> int:
        return len(self.values)

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


def speech_features(sound: AudioClip) -> SpeechFeatures:
    """The features of a sound.

    Args:
        sound: mono at 16 kHz; resample with `avatarfit.media.resample` first. Silence is allowed: it gives activity 0.

    Raises:
        ValueError: the sample rate is not 16 kHz. Sound at another rate would give wrong lips and no other sign.
    """
    if sound.sample_rate_hz != SAMPLE_RATE_HZ:
        raise ValueError(
            f"speech_features came with sound at {sound.sample_rate_hz} Hz; wanted {SAMPLE_RATE_HZ} Hz, resample first"
        )
    samples = sound.samples
    level = level_db(samples)
    pitch = pitch_track(samples)
    activity = voice_activity(level)
    if len(level) and np.ptp(np.percentile(level, [5, 95])) < _STEADY_DB and (pitch > 0).mean() < 0.1:
        # A level that never moves, without pitch, is noise however loud; a noise floor alone cannot tell.
        activity = np.zeros_like(activity)
    speaking = activity > 0.5
    bands = _normalised(log_mel(samples), speaking)
    loudness = _normalised((level * (np.log(10) / 10))[:, None], speaking)
    voiced = (pitch > 0) & speaking
    octaves = np.zeros(len(level), np.float32)
    if voiced.any():
        octaves[voiced] = np.clip(np.log2(pitch[voiced] / np.median(pitch[voiced])), -1, 1)
    values = np.concatenate(
        [bands, loudness, octaves[:, None], voiced[:, None].astype(np.float32), activity[:, None]], axis=1
    )
    return SpeechFeatures(np.ascontiguousarray(values, np.float32), activity, sound.start_seconds)


def _normalised(log_power: np.ndarray, speaking: np.ndarray) -> np.ndarray:
    """Columns by mean and spread over the speaking hops; the rest goes down to -3 and no further."""
    if speaking.sum() < 10:
        return np.full_like(log_power, -_CLIP)
    # Digital silence between words would else weigh on mean and spread by how far down the logarithm's floor is.
    lowest = np.percentile(log_power[speaking], 95, axis=0) - _RANGE
    speech = np.maximum(log_power[speaking], lowest)
    spread = np.maximum(speech.std(0), 0.5)
    return np.clip((log_power - speech.mean(0)) / spread, -_CLIP, _CLIP)
