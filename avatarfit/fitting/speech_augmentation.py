"""Other voices from one: a minute of one speaker, made to sound like more.

Whole recordings are re-sampled (pitch, formants and tempo together; Ko et al. 2015, speed perturbation) with a little
noise; windows of features are warped along the mel axis (vocal-tract-length perturbation, Jaitly & Hinton 2013),
tilted, made louder or softer, given noise, and masked in time and frequency (SpecAugment, Park et al. 2019).
"""

from __future__ import annotations

import numpy as np

from avatarfit.audio import BAND_COUNT, SAMPLE_RATE_HZ
from avatarfit.contracts import AudioClip

SPEEDS = (0.9, 1.1, 0.95, 1.06)
_NOISE_DB = (-60.0, -40.0)


def at_speed(sound: AudioClip, speed: float, random: np.random.Generator) -> AudioClip:
    """The sound played `speed` times as fast, with faint noise; its start moves so that time t becomes t / speed."""
    positions = np.arange(round(len(sound.samples) / speed)) * speed
    samples = np.interp(positions, np.arange(len(sound.samples)), sound.samples)
    level = float(np.sqrt(np.mean(np.square(samples)))) if len(samples) else 0.0
    noise = 10 ** (random.uniform(*_NOISE_DB) / 20) * level * 10
    samples = samples + noise * random.standard_normal(len(samples))
    return AudioClip(samples.astype(np.float32), SAMPLE_RATE_HZ, sound.start_seconds / speed)


def vary(window: np.ndarray, random: np.random.Generator, noise: float = 0.5) -> np.ndarray:
    """A varied copy of features float32 [H, FEATURE_COUNT]."""
    x = window.copy()
    hops, bands = len(x), np.arange(BAND_COUNT)
    position = (bands - BAND_COUNT / 2) * (1 + random.uniform(-0.06, 0.06)) + BAND_COUNT / 2 + random.uniform(-1.5, 1.5)
    position = np.clip(position, 0, BAND_COUNT - 1.001)
    low = position.astype(np.int64)
    weight = (position - low).astype(np.float32)
    x[:, :BAND_COUNT] = window[:, low] * (1 - weight) + window[:, low + 1] * weight
    tilt = random.normal(0, 0.25) * np.linspace(-1, 1, BAND_COUNT) + random.normal(0, 0.25)
    x[:, :BAND_COUNT] += tilt.astype(np.float32)
    x[:, :BAND_COUNT] += random.standard_normal((hops, BAND_COUNT), np.float32) * np.float32(noise)
    x[:, BAND_COUNT] += np.float32(random.normal(0, 0.25))
    x[:, BAND_COUNT + 1] *= np.float32(random.uniform(0.6, 1.4))
    for _ in range(2):
        width = int(random.integers(0, 10))
        start = int(random.integers(0, BAND_COUNT - width))
        x[:, start : start + width] = 0
        width = int(random.integers(0, min(12, hops)))
        start = int(random.integers(0, hops - width))
        x[start : start + width] = 0
    return x
