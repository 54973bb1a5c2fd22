"""How usable a clip's sound is: level, overload, what is heard in the pauses, and whether that is music or noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import median_filter, minimum_filter1d

from avatarfit.audio import level_db, voice_activity
from avatarfit.audio.log_mel import HOP_SAMPLES, HOP_SECONDS, SAMPLE_RATE_HZ, hop_count
from avatarfit.audio.voice_activity import AUDIBLE_DB, loud_level_db
from avatarfit.contracts import AudioClip

_CEILING = 0.95
_PAUSE_EDGE_HOPS = 10
_FEWEST_PAUSE_HOPS = 50
_FFT_SAMPLES = 2048
_TONE_BAND_HZ = (90.0, 5_000.0)
_NEIGHBOUR_BINS = 41
_LINE_OVER_NEIGHBOURS = 10 ** (12 / 10)
"""A line stands 12 dB over its neighbours' median: of noise, a twenty-thousandth of the bins does by chance."""
_MOST_PAUSE_HOPS = 3_000
CURVE_POINTS = 1_200


@dataclass(frozen=True)
class SoundMeasures:
    """Figures of one clip's sound.

    Attributes:
        seconds: its length.
        loud_db: level of its loud parts, decibels of full scale.
        speech_share: share of the time in which someone speaks.
        overload_share: share of the samples of speech within 5 % of the loudest one; speech hardly ever is there, sound
            that was cut off at full scale often.
        pause_seconds: how much quiet there is to judge from.
        pauses_found: False where nobody ever pauses: then the quietest tenth stands in for the pauses.
        speech_over_pauses_db: level of speech over what is heard in the pauses.
        tonal_share: share of the pauses' power (90 Hz to 5 kHz) in spectral lines 12 dB over their neighbourhood;
            noise of any colour has hardly any, music and hum consist of them.
        level_seconds, level_db: the level as a curve for drawing: the loudest hop of each stretch.
    """

    seconds: float
    loud_db: float
    speech_share: float
    overload_share: float
    pause_seconds: float
    pauses_found: bool
    speech_over_pauses_db: float
    tonal_share: float
    level_seconds: np.ndarray
    level_db: np.ndarray

    @property
    def silent(self) -> bool:
        """Nothing can be heard."""
        return self.loud_db < AUDIBLE_DB


def measure_sound(sound: AudioClip) -> SoundMeasures:
    """Figures of a clip's sound, whatever its rate."""
    from avatarfit.media import resample

    samples = resample(sound, SAMPLE_RATE_HZ).samples
    level = level_db(samples)
    speech = voice_activity(level) > 0.5
    # What rings on after a word and what swells before one is no pause.
    quiet = minimum_filter1d(~speech, 2 * _PAUSE_EDGE_HOPS + 1, mode="nearest")
    found = int(quiet.sum()) >= _FEWEST_PAUSE_HOPS
    if not found:
        quiet = level <= np.percentile(level, 10) if len(level) else quiet
    power = 10 ** (level.astype(np.float64) / 10)
    spoken = power[speech].mean() if speech.any() else 0.0
    paused = power[quiet].mean() if quiet.any() else 0.0
    bins = max(1, -(-len(level) // CURVE_POINTS))
    padded = np.pad(level, (0, -len(level) % bins), mode="edge") if len(level) else level
    curve = padded.reshape(-1, bins).max(axis=1)
    return SoundMeasures(
        seconds=sound.duration_seconds,
        loud_db=loud_level_db(level),
        speech_share=float(speech.mean()) if len(speech) else 0.0,
        overload_share=_overload_share(samples, speech),
        pause_seconds=float(quiet.sum() * HOP_SECONDS),
        pauses_found=found,
        speech_over_pauses_db=float(10 * np.log10(max(spoken, 1e-14) / max(paused, 1e-14))),
        tonal_share=_tonal_share(samples, quiet),
        level_seconds=sound.start_seconds + np.arange(len(curve)) * bins * HOP_SECONDS,
        level_db=curve,
    )


def _overload_share(samples: np.ndarray, speech: np.ndarray) -> float:
    """Share of the samples under speech that lie within 5 % of the largest."""
    if not speech.any():
        return 0.0
    spoken = np.repeat(speech, HOP_SAMPLES)[: len(samples)]
    loud = np.abs(samples[: len(spoken)][spoken])
    if not len(loud) or loud.max() <= 0:
        return 0.0
    # Coding lets a few samples shoot over the ceiling that the rest were cut at.
    ceiling = np.quantile(loud, 0.9999)
    return float((loud >= _CEILING * ceiling).mean())


def _tonal_share(samples: np.ndarray, quiet: np.ndarray) -> float:
    hops = np.flatnonzero(quiet[: hop_count(len(samples))])
    hops = hops[:: max(1, len(hops) // _MOST_PAUSE_HOPS)]
    if not len(hops):
        return 0.0
    frequency = np.fft.rfftfreq(_FFT_SAMPLES, 1 / SAMPLE_RATE_HZ)
    band = (frequency >= _TONE_BAND_HZ[0]) & (frequency <= _TONE_BAND_HZ[1])
    window = np.hanning(_FFT_SAMPLES).astype(np.float32)
    half = _FFT_SAMPLES // 2
    padded = np.pad(samples, half)
    lines = total = 0.0
    for hop in hops:
        spectrum = np.abs(np.fft.rfft(padded[hop * HOP_SAMPLES :][:_FFT_SAMPLES] * window)) ** 2
        spectrum = spectrum[band]
        around = median_filter(spectrum, _NEIGHBOUR_BINS, mode="nearest")
        lines += float(spectrum[spectrum > _LINE_OVER_NEIGHBOURS * around].sum())
        total += float(spectrum.sum())
    return lines / total if total > 0 else 0.0
