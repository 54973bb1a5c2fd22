"""Other voices, rooms and lines from one recording: a minute of one speaker, made to sound like more.

Whole recordings are given another pitch and other formants, each for itself (overlap-add of periods and re-sampling:
Moulines & Charpentier 1990, Praat's "Change gender"), another tempo (Ko et al. 2015), a room (exponentially decaying
noise behind the direct sound, Polack 1988), noise, a telephone's or a codec's loss, and another loudness. Windows of
features are warped along the mel axis (vocal-tract-length perturbation, Jaitly & Hinton 2013), tilted, made louder or
softer, given noise, and masked in time and frequency (SpecAugment, Park et al. 2019).
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from scipy.signal import butter, fftconvolve, sosfilt

from avatarfit.audio import BAND_COUNT, SAMPLE_RATE_HZ
from avatarfit.contracts import AudioClip

_PITCH_FLOOR_HZ, _PITCH_CEILING_HZ = 75.0, 600.0


@dataclass(frozen=True)
class Voice:
    """What becomes of a recording.

    Attributes:
        pitch, formants: factors, 1 for the speaker's own.
        speed: how much faster it is played; time t becomes t / speed, and pitch and formants rise with it.
        reverberation_seconds: in which the room's echo falls by 60 dB; 0 for none.
        noise_db: of white and low noise over the speech's own level; None for none.
        line: "" for none, "telephone" (300 to 3400 Hz, 8 bit mu-law) or "mp3" (16 kbit/s there and back).
    """

    pitch: float = 1.0
    formants: float = 1.0
    speed: float = 1.0
    reverberation_seconds: float = 0.0
    noise_db: float | None = None
    line: str = ""


VOICES = (
    Voice(pitch=1.6, formants=1.14, noise_db=-35),
    Voice(pitch=0.75, formants=0.92, speed=0.94, reverberation_seconds=0.3),
    Voice(pitch=1.25, formants=0.88, speed=1.08, line="telephone"),
    Voice(speed=0.9, noise_db=-25),
    Voice(speed=1.1, line="mp3"),
    Voice(pitch=0.85, formants=1.08, reverberation_seconds=0.5, noise_db=-30),
)
"""What one speaker's recording is turned into."""


def as_voice(sound: AudioClip, voice: Voice, random: np.random.Generator) -> AudioClip:
    """A sound, mono at 16 kHz, as another voice in another place; its start moves so that time t becomes t / speed."""
    samples = sound.samples.astype(np.float64)
    if voice.pitch != 1 or voice.formants != 1:
        samples = _revoiced(samples, voice.pitch, voice.formants)
    if voice.speed != 1:
        positions = np.arange(round(len(samples) / voice.speed)) * voice.speed
        samples = np.interp(positions, np.arange(len(samples)), samples)
    level = float(np.sqrt(np.mean(np.square(samples)))) if len(samples) else 0.0
    if voice.reverberation_seconds:
        samples = _in_room(samples, voice.reverberation_seconds, random)
    if voice.noise_db is not None:
        white = random.standard_normal(len(samples))
        low = sosfilt(butter(1, 200, fs=SAMPLE_RATE_HZ, output="sos"), random.standard_normal(len(samples)))
        samples = samples + level * 10 ** (voice.noise_db / 20) * (white + 4 * low)
    if voice.line == "telephone":
        samples = _mu_law(sosfilt(butter(4, (300, 3400), "bandpass", fs=SAMPLE_RATE_HZ, output="sos"), samples))
    elif voice.line == "mp3":
        samples = _mp3(samples)
    return AudioClip(samples.astype(np.float32), SAMPLE_RATE_HZ, sound.start_seconds / voice.speed)


def _revoiced(samples: np.ndarray, pitch: float, formants: float) -> np.ndarray:
    """Pitch and formants by factors; the length stays."""
    import parselmouth
    from parselmouth.praat import call

    sound = parselmouth.Sound(samples, SAMPLE_RATE_HZ)
    track = sound.to_pitch_ac(pitch_floor=_PITCH_FLOOR_HZ, pitch_ceiling=_PITCH_CEILING_HZ)
    frequency = track.selected_array["frequency"]
    if not (frequency > 0).any():
        return samples
    median = float(np.median(frequency[frequency > 0]))
    out = call(
        [sound, track], "Change gender", formants, float(np.clip(median * pitch, 60, 500)), 1.0, 1.0
    ).values[0]  # fmt: skip
    return np.resize(out, len(samples)) if len(out) >= len(samples) else np.pad(out, (0, len(samples) - len(out)))


def _in_room(samples: np.ndarray, seconds: float, random: np.random.Generator) -> np.ndarray:
    """The direct sound and, 12 dB below it in all, a decaying noise from 5 ms later on."""
    count = max(round(seconds * SAMPLE_RATE_HZ), 1)
    tail = random.standard_normal(count) * 10 ** (-3 * np.arange(count) / count)
    tail[: round(0.005 * SAMPLE_RATE_HZ)] = 0
    tail *= 0.25 / max(float(np.sqrt(np.square(tail).sum())), 1e-12)
    return samples + fftconvolve(samples, tail)[: len(samples)]


def _mu_law(samples: np.ndarray) -> np.ndarray:
    """Eight bits with mu-law companding, ITU-T G.711's curve."""
    peak = max(float(np.abs(samples).max(initial=0)), 1e-12)
    x = samples / peak
    coded = np.round(np.sign(x) * np.log1p(255 * np.abs(x)) / np.log(256) * 127) / 127
    return np.sign(coded) * np.expm1(np.abs(coded) * np.log(256)) / 255 * peak


def _mp3(samples: np.ndarray) -> np.ndarray:
    """Coded at 16 kbit/s and decoded, moved back to where it was and to its own length."""
    import av

    peak = max(float(np.abs(samples).max(initial=0)), 1e-12)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp3") as container:
        stream = container.add_stream("libmp3lame", rate=SAMPLE_RATE_HZ, layout="mono")
        stream.bit_rate = 16_000
        frame = av.AudioFrame.from_ndarray(
            np.round(samples / peak * 32_000).astype(np.int16)[None], format="s16", layout="mono"
        )
        frame.sample_rate = SAMPLE_RATE_HZ
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    buffer.seek(0)
    with av.open(buffer, "r") as coded:
        parts = [part.to_ndarray().astype(np.float64).reshape(-1) for part in coded.decode(audio=0)]
    out = np.concatenate(parts) if parts else np.zeros(0)
    out = out / max(float(np.abs(out).max(initial=0)), 1e-12) * peak
    late = _delay(samples, out)
    out = out[late:]
    return np.pad(out, (0, max(len(samples) - len(out), 0)))[: len(samples)]


def _delay(before: np.ndarray, after: np.ndarray, most: int = 4_000) -> int:
    """By how many samples `after` comes later, 0 to `most`: a coder's delay, where the two agree best."""
    count = min(len(before), len(after), 10 * SAMPLE_RATE_HZ)
    if count <= 2 * most:
        return 0
    agreement = fftconvolve(after[:count], before[: count - most][::-1], mode="valid")
    return int(np.argmax(agreement))


def vary(window: np.ndarray, random: np.random.Generator, mel: bool = True, noise: float = 0.5) -> np.ndarray:
    """A varied copy of features float32 [H, C + 4].

    Args:
        mel: the C columns are mel bands; else only noise and masks are put on them.
        noise: standard deviation, where a column's own is 1.
    """
    x = window.copy()
    hops, count = x.shape[0], x.shape[1] - 4
    if mel and count == BAND_COUNT:
        bands = np.arange(BAND_COUNT)
        middle = BAND_COUNT / 2
        position = (bands - middle) * (1 + random.uniform(-0.06, 0.06)) + middle + random.uniform(-1.5, 1.5)
        position = np.clip(position, 0, BAND_COUNT - 1.001)
        low = position.astype(np.int64)
        weight = (position - low).astype(np.float32)
        x[:, :count] = window[:, low] * (1 - weight) + window[:, low + 1] * weight
        tilt = random.normal(0, 0.25) * np.linspace(-1, 1, count) + random.normal(0, 0.25)
        x[:, :count] += tilt.astype(np.float32)
    x[:, :count] += random.standard_normal((hops, count), np.float32) * np.float32(noise)
    x[:, count] += np.float32(random.normal(0, 0.25))
    x[:, count + 1] *= np.float32(random.uniform(0.6, 1.4))
    for _ in range(2):
        width = int(random.integers(0, min(10, count)))
        start = int(random.integers(0, count - width))
        x[:, start : start + width] = 0
        width = int(random.integers(0, min(12, hops)))
        start = int(random.integers(0, hops - width))
        x[start : start + width] = 0
    return x
