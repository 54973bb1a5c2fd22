"""Clean speech made to sound like any microphone, room, line and neighbour; bands made to look like other throats."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.fft import irfft, next_fast_len, rfft, rfftfreq
from torch import Tensor

from avatarfit.audio.log_mel import SAMPLE_RATE_HZ


def spoil(samples: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """float32 [n] at 16 kHz -> the same length through a room, colour, noise, a codec's losses and another loudness."""
    level = float(np.sqrt(np.mean(np.square(samples)))) + 1e-9
    x = samples / level * 0.1
    if random.random() < 0.6:
        x = _room(x, random)
    if random.random() < 0.8:
        x = _coloured(x, random)
    if random.random() < 0.2:
        x = np.tanh(x * random.uniform(1, 8)) / 4
    noise = _noise(len(x), random)
    x = x + noise * float(np.sqrt(np.mean(np.square(x)))) * 10 ** (-random.uniform(8, 55) / 20)
    if random.random() < 0.25:
        x = _band_limited(x, random)
    if random.random() < 0.15:
        # Companding of telephones (ITU-T G.711, mu = 255), 8 bit.
        peak = np.abs(x).max() + 1e-9
        y = np.sign(x) * np.log1p(255 * np.abs(x) / peak) / np.log(256)
        y = np.round(y * 127) / 127
        x = np.sign(y) * np.expm1(np.abs(y) * np.log(256)) / 255 * peak
    return (x * 10 ** (random.uniform(-30, 6) / 20)).astype(np.float32)


def shaped(
    x: np.ndarray, gain_of_hz: Callable[[np.ndarray], np.ndarray], rate_hz: float = SAMPLE_RATE_HZ
) -> np.ndarray:
    """float [n] with its spectrum multiplied, on a length that a fast transform likes."""
    length = next_fast_len(len(x), real=True)
    spectrum = rfft(x, length)
    return np.asarray(irfft(spectrum * gain_of_hz(rfftfreq(length, 1 / rate_hz)), length)[: len(x)])


def _convolved(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    from scipy.signal import fftconvolve

    return np.asarray(fftconvolve(x, kernel)[: len(x)])


def _room(x: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Direct sound and a tail of noise that falls by 60 dB in 0.1 to 0.7 s, 0 to 20 dB below it."""
    seconds = random.uniform(0.1, 0.7)
    t = np.arange(int(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    tail = random.standard_normal(len(t)) * 10 ** (-3 * t / seconds) * (t > random.uniform(0.001, 0.01))
    tail *= 10 ** (-random.uniform(0, 20) / 20) / (np.sqrt(np.square(tail).sum()) + 1e-9)
    tail[0] = 1
    return _convolved(x, tail)


def _coloured(x: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A smooth curve over frequency: tilt to 9 dB an octave range's end, six points of 4 dB spread."""
    places = np.linspace(0, 1, 8)
    gains = random.normal(0, 4, 8) + random.uniform(-12, 12) * (places - 0.5)

    def gain(hz: np.ndarray) -> np.ndarray:
        return 10 ** (np.interp(np.log2(np.maximum(hz, 60) / 60) / np.log2(8000 / 60), places, gains) / 20)

    return shaped(x, gain)


def _band_limited(x: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A telephone's band, or the top cut off."""
    low, high = (300.0, 3400.0) if random.random() < 0.5 else (0.0, random.uniform(3500, 7500))
    return shaped(x, lambda hz: 10 ** (-np.minimum(np.maximum(low - hz, hz - high).clip(0) / 100 * 12, 50) / 20))


def _noise(count: int, random: np.random.Generator) -> np.ndarray:
    """Noise of power 1 whose spectrum falls by 0 to 9 dB an octave, sometimes with a hum."""
    fall = random.uniform(0, 1.5)
    x = shaped(random.standard_normal(count), lambda hz: (np.maximum(hz, 50) / 1000) ** -fall)
    if random.random() < 0.2:
        x = x / x.std() + np.sin(2 * np.pi * random.uniform(50, 400) * np.arange(count) / SAMPLE_RATE_HZ)
    return x / (x.std() + 1e-9)


def vary_bands(x: Tensor, random: np.random.Generator) -> Tensor:
    """Levelled bands float32 [B, BANDS, H], varied: other throats, other sharpness of formants, noise, holes.

    Vocal-tract-length perturbation (Jaitly & Hinton 2013) and masks (SpecAugment, Park et al. 2019).
    """
    count, bands, hops = x.shape
    place = torch.linspace(-1, 1, bands)

    def of(*size: int) -> Tensor:
        return torch.from_numpy(random.standard_normal((count, *size)).astype(np.float32))

    def uniform(low: float, high: float) -> Tensor:
        return torch.from_numpy(random.uniform(low, high, (count, 1)).astype(np.float32))

    position = ((place * uniform(0.9, 1.1) + uniform(-0.08, 0.08)) + 1) / 2 * (bands - 1)
    position = position.clamp(0, bands - 1.001)
    low = position.long()
    part = (position - low)[..., None]
    spread = low[..., None].expand(-1, -1, hops)
    x = x.gather(1, spread) * (1 - part) + x.gather(1, spread + 1) * part
    # Formants of throats are wider or narrower than the synthesiser's.
    blurred = torch.nn.functional.avg_pool1d(x.transpose(1, 2), 5, 1, 2, count_include_pad=False).transpose(1, 2)
    x = x + (blurred - x) * uniform(-0.4, 1.0)[..., None]
    x = x * uniform(0.75, 1.25)[..., None] + 0.25 * of(1, 1) + 0.35 * of(1, 1) * place[:, None]
    smooth = torch.nn.functional.interpolate(of(6)[:, None], bands, mode="linear")[:, 0]
    x = x + 0.3 * smooth[..., None]
    # Floors of noise cover what is weak.
    floor = (
        uniform(-4.0, -1.2)[..., None]
        + 0.5 * torch.nn.functional.interpolate(of(5)[:, None], bands, mode="linear")[:, 0, :, None]
    )
    x = torch.logaddexp(2 * x, 2 * floor) / 2
    x = x + of(bands, hops) * uniform(0.0, 0.35)[..., None]
    for row in range(count):
        for _ in range(2):
            width = int(random.integers(0, 12))
            start = int(random.integers(0, bands - width))
            x[row, start : start + width] = 0
        width = int(random.integers(0, 8))
        start = int(random.integers(0, hops - width))
        x[row, :, start : start + width] = 0
    return x.clamp(-4, 4)
