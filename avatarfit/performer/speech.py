"""Speech-like sound whose mouth shapes are known: syllables of five vowels and a dozen consonants, in phrases.

The sound is a source-filter synthesis: a glottal pulse train through a cascade of formant resonators, with filtered
noise for fricatives and bursts (Klatt, "Software for a cascade/parallel formant synthesizer", 1980). Formants of the
vowels are the men's means of Peterson and Barney, 1952.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.signal import butter, lfilter, sosfilt

from avatarfit.contracts import AudioClip

SAMPLE_RATE_HZ = 16000
CONTROL_RATE_HZ = 200
MOUTH_LEAD_SECONDS = 0.04
"""The mouth moves this much before the sound that it makes."""

VOWEL_FORMANTS_HZ = {
    "a": (730, 1090, 2440), "e": (530, 1840, 2480), "i": (270, 2290, 3010), "o": (570, 840, 2410),
    "u": (300, 870, 2240),
}  # fmt: skip
_CONSONANT_FORMANTS_HZ = {
    "m": (250, 1000, 2200), "b": (250, 900, 2300), "p": (300, 900, 2300), "n": (250, 1500, 2500),
    "t": (300, 1700, 2600), "d": (300, 1700, 2600), "k": (300, 2000, 2400), "g": (300, 2000, 2400),
    "s": (300, 1700, 2600), "S": (300, 1900, 2500), "f": (300, 1200, 2300), "l": (360, 1100, 2700),
    "w": (300, 650, 2300),
}  # fmt: skip
_FORMANTS_HZ = VOWEL_FORMANTS_HZ | _CONSONANT_FORMANTS_HZ
_HIGH_FORMANTS_HZ = (3500.0, 4500.0)
_BANDWIDTHS_HZ = (70.0, 95.0, 130.0, 200.0, 280.0)
_VOICING = dict.fromkeys("aeiou", 1.0) | dict.fromkeys("mn", 0.4) | dict.fromkeys("lw", 0.55)
_VOICING |= dict.fromkeys("bdg", 0.08)
_FRICATION = {"s": ((4500, 7600), 0.11), "S": ((2200, 5200), 0.10), "f": ((1500, 7200), 0.035)}
_BURSTS = {
    "p": (500, 1800), "b": (400, 1500), "t": (3000, 6500), "d": (2600, 5500), "k": (1400, 3000), "g": (1200, 2600),
}  # fmt: skip

BILABIALS = "mbp"
SILENCE = "_"

MOUTH_SHAPES = ("jaw", "wide", "round", "press", "upper_raise", "tuck")
# fmt: off
_VISEMES = {  #  jaw   wide  round press raise tuck
    "a":       (0.62, 0.10, 0.00, 0.00, 0.20, 0.0), "e": (0.36, 0.50, 0.00, 0.00, 0.30, 0.0),
    "i":       (0.18, 0.90, 0.00, 0.00, 0.30, 0.0), "o": (0.42, 0.00, 0.70, 0.00, 0.05, 0.0),
    "u":       (0.22, 0.00, 1.00, 0.00, 0.05, 0.0), "w": (0.14, 0.00, 1.00, 0.00, 0.00, 0.0),
    "m":       (0.00, 0.05, 0.00, 0.80, 0.00, 0.0), "b": (0.00, 0.00, 0.05, 0.90, 0.00, 0.0),
    "p":       (0.00, 0.00, 0.05, 1.00, 0.00, 0.0), "n": (0.16, 0.20, 0.00, 0.00, 0.15, 0.0),
    "t":       (0.13, 0.25, 0.00, 0.00, 0.15, 0.0), "d": (0.16, 0.20, 0.00, 0.00, 0.15, 0.0),
    "k":       (0.24, 0.15, 0.00, 0.00, 0.15, 0.0), "g": (0.24, 0.15, 0.00, 0.00, 0.15, 0.0),
    "s":       (0.09, 0.45, 0.00, 0.00, 0.25, 0.0), "S": (0.12, 0.00, 0.55, 0.00, 0.25, 0.0),
    "f":       (0.18, 0.15, 0.00, 0.00, 0.20, 0.8), "l": (0.22, 0.20, 0.00, 0.00, 0.15, 0.0),
    SILENCE:   (0.00, 0.00, 0.00, 0.00, 0.00, 0.0),
}
# fmt: on


@dataclass(frozen=True)
class Segment:
    """One speech sound: a symbol of `a e i o u m n b p t d k g s S f l w`, or `_` for silence."""

    symbol: str
    start_seconds: float
    stop_seconds: float


def write_phrases(duration_seconds: float, rng: np.random.Generator) -> list[Segment]:
    """Segments that fill the duration: phrases of syllables, silence at both ends and between."""
    segments: list[Segment] = []
    now = 0.0

    def add(symbol: str, length: float) -> None:
        nonlocal now
        segments.append(Segment(symbol, now, now + length))
        now += length

    add(SILENCE, min(0.4, duration_seconds / 2))
    consonants = list("mbpnmbptdkgsSflw")
    while now < duration_seconds - 1.0:
        for _ in range(int(rng.integers(4, 10))):
            if now > duration_seconds - 0.9:
                break
            consonant = str(rng.choice(consonants))
            add(consonant, float(rng.uniform(0.075, 0.11)))
            add(str(rng.choice(list("aaeeiioouu"))), float(rng.uniform(0.11, 0.24)))
            if rng.random() < 0.2:
                add(str(rng.choice(list("nsml"))), float(rng.uniform(0.07, 0.1)))
        add(SILENCE, float(rng.uniform(0.35, 0.8)))
    if now < duration_seconds:
        add(SILENCE, duration_seconds - now)
    last = segments[-1]
    segments[-1] = Segment(last.symbol, last.start_seconds, max(duration_seconds, last.start_seconds))
    return [s for s in segments if s.start_seconds < duration_seconds]


def mouth_coefficients(segments: list[Segment], pts_seconds: np.ndarray) -> np.ndarray:
    """Coefficients [T, len(MOUTH_SHAPES)] at the given times.

    Targets blend into each other over some 90 ms and lead the sound; lips are closed through every m, b, p and pause.
    """
    clock = _clock(segments)
    targets = np.zeros((len(clock), len(MOUTH_SHAPES)))
    for segment in segments:
        targets[_span(clock, segment)] = _VISEMES[segment.symbol]
    smooth = gaussian_filter1d(targets, 0.038 * CONTROL_RATE_HZ, axis=0, mode="nearest")
    track = np.stack([np.interp(pts_seconds + MOUTH_LEAD_SECONDS, clock, c) for c in smooth.T], axis=1)
    closure = np.zeros(len(pts_seconds))
    for segment in segments:
        if segment.symbol in BILABIALS:
            inset, ramp = -0.005, 0.055
        elif segment.symbol == SILENCE:
            inset, ramp = 0.10, 0.10
        else:
            continue
        after = pts_seconds - (segment.start_seconds + inset)
        before = segment.stop_seconds - inset - pts_seconds
        inside = np.clip(1 + np.minimum(after, before) / ramp, 0, 1)
        closure = np.maximum(closure, inside * inside * (3 - 2 * inside))
    for shape in ("jaw", "upper_raise", "tuck"):
        track[:, MOUTH_SHAPES.index(shape)] *= 1 - closure
    return track


def synthesise(segments: list[Segment], rng: np.random.Generator, pitch_hz: float = 118.0) -> AudioClip:
    """The sound of the segments, float32 at 16 kHz, peak 0.7; silence is a faint room tone of some -80 dBFS."""
    clock = _clock(segments)
    formants = np.tile(np.array(VOWEL_FORMANTS_HZ["e"], float), (len(clock), 1))
    voicing = np.zeros(len(clock))
    for segment in segments:
        span = _span(clock, segment)
        if segment.symbol != SILENCE:
            formants[span] = _FORMANTS_HZ[segment.symbol]
        voicing[span] = _VOICING.get(segment.symbol, 0.0)
    formants = gaussian_filter1d(formants, 0.016 * CONTROL_RATE_HZ, axis=0, mode="nearest")
    voicing = gaussian_filter1d(voicing, 0.008 * CONTROL_RATE_HZ, mode="nearest")
    block = SAMPLE_RATE_HZ // CONTROL_RATE_HZ
    count = round(segments[-1].stop_seconds * SAMPLE_RATE_HZ)
    pitch = _pitch_contour(segments, clock, pitch_hz, rng)
    source = _glottal_source(np.repeat(pitch, block), np.repeat(voicing, block), block)
    source += 0.004 * rng.standard_normal(len(source)) * np.repeat(voicing, block)
    voiced = _formant_cascade(source, formants, block)
    sound = 0.5 * voiced / max(float(np.abs(voiced).max()), 1e-9)
    for segment in segments:
        _add_noise(sound, segment, rng)
    sound = sound[:count]
    sound *= 0.7 / max(float(np.abs(sound).max()), 1e-9)
    sound += 1e-4 * rng.standard_normal(len(sound))
    return AudioClip(sound.astype(np.float32), SAMPLE_RATE_HZ)


def _clock(segments: list[Segment]) -> np.ndarray:
    return np.arange(int(np.ceil(segments[-1].stop_seconds * CONTROL_RATE_HZ)) + 1) / CONTROL_RATE_HZ


def _span(clock: np.ndarray, segment: Segment) -> np.ndarray:
    return (clock >= segment.start_seconds) & (clock < segment.stop_seconds)


def _pitch_contour(segments: list[Segment], clock: np.ndarray, pitch_hz: float, rng: np.random.Generator) -> np.ndarray:
    """Falls through each phrase, with an accent of its own on each vowel."""
    contour = np.ones(len(clock))
    phrase_start = 0.0
    for segment in segments:
        span = _span(clock, segment)
        if segment.symbol == SILENCE:
            phrase_start = segment.stop_seconds
        fall = 1.12 - 0.10 * (clock[span] - phrase_start)
        accent = rng.uniform(-0.07, 0.10) if segment.symbol in VOWEL_FORMANTS_HZ else 0.0
        contour[span] = np.clip(fall, 0.8, 1.2) + accent
    contour = gaussian_filter1d(contour, 0.05 * CONTROL_RATE_HZ, mode="nearest")
    wobble = gaussian_filter1d(rng.standard_normal(len(clock)), 3, mode="nearest") * 0.012
    return np.asarray(pitch_hz * (contour + wobble))


def _glottal_source(pitch_hz: np.ndarray, level: np.ndarray, block: int) -> np.ndarray:
    """Differentiated Rosenberg pulses."""
    smooth_level = gaussian_filter1d(level, block / 2, mode="nearest")
    phase = np.cumsum(gaussian_filter1d(pitch_hz, block, mode="nearest") / SAMPLE_RATE_HZ) % 1.0
    rise, fall = 0.40, 0.18
    pulse = np.where(
        phase < rise,
        0.5 - 0.5 * np.cos(np.pi * phase / rise),
        np.where(phase < rise + fall, np.cos(np.pi / 2 * (phase - rise) / fall), 0.0),
    )
    return np.diff(pulse, prepend=0.0) * smooth_level


def _formant_cascade(source: np.ndarray, formants_hz: np.ndarray, block: int) -> np.ndarray:
    """Two-pole resonators in series, their coefficients held for a block and their states carried on."""
    out = source
    tracks = [*formants_hz.T, *(np.full(len(formants_hz), f) for f in _HIGH_FORMANTS_HZ)]
    for track, bandwidth in zip(tracks, _BANDWIDTHS_HZ, strict=True):
        radius = np.exp(-np.pi * bandwidth / SAMPLE_RATE_HZ)
        second = -2 * radius * np.cos(2 * np.pi * track / SAMPLE_RATE_HZ)
        state = np.zeros(2)
        filtered = np.empty_like(out)
        for k in range(len(track)):
            part = slice(k * block, (k + 1) * block)
            denominator = [1.0, second[k], radius * radius]
            filtered[part], state = lfilter([sum(denominator)], denominator, out[part], zi=state)
        out = filtered
    return out


def _add_noise(sound: np.ndarray, segment: Segment, rng: np.random.Generator) -> None:
    start, stop = (round(t * SAMPLE_RATE_HZ) for t in (segment.start_seconds, segment.stop_seconds))
    if segment.symbol in _FRICATION:
        band, level = _FRICATION[segment.symbol]
    elif segment.symbol in _BURSTS:
        band, level = _BURSTS[segment.symbol], 0.10
        start = stop - round(0.014 * SAMPLE_RATE_HZ)
    else:
        return
    count = min(stop, len(sound)) - start
    if count < 32:
        return
    hiss = sosfilt(butter(2, band, "bandpass", fs=SAMPLE_RATE_HZ, output="sos"), rng.standard_normal(count))
    window = np.sin(np.pi * (np.arange(count) + 0.5) / count) ** 0.6
    sound[start : start + count] += level * window * hiss / max(float(hiss.std()), 1e-9) * 0.5
