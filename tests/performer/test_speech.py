from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from avatarfit.performer.speech import (
    BILABIALS,
    MOUTH_SHAPES,
    SAMPLE_RATE_HZ,
    SILENCE,
    VOWEL_FORMANTS_HZ,
    Segment,
    mouth_coefficients,
    synthesise,
    write_phrases,
)


def _rms(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(samples.astype(np.float64)))))


def test_segments_fill_the_time_without_gaps() -> None:
    for seed in range(20):
        segments = write_phrases(7.3, np.random.default_rng(seed))
        assert segments[0].start_seconds == 0
        assert segments[-1].stop_seconds == pytest.approx(7.3)
        for before, after in pairwise(segments):
            assert before.stop_seconds == after.start_seconds
            assert before.stop_seconds > before.start_seconds
        assert segments[0].symbol == segments[-1].symbol == SILENCE


@pytest.mark.parametrize("vowel", list(VOWEL_FORMANTS_HZ))
def test_a_steady_vowel_has_its_formants(vowel: str) -> None:
    """The first two resonances, read off a 14th-order linear prediction of half a second, lie where authored."""
    segments = [Segment(vowel, 0.0, 0.7)]
    samples = synthesise(segments, np.random.default_rng(0), pitch_hz=100.0).samples[1600:9600].astype(np.float64)
    emphasised = np.append(samples[0], samples[1:] - 0.95 * samples[:-1]) * np.hanning(len(samples))
    spectrum = np.abs(np.fft.rfft(emphasised, 16384)) ** 2
    correlation = np.fft.irfft(spectrum)[:15]
    toeplitz = correlation[np.abs(np.subtract.outer(np.arange(14), np.arange(14)))]
    predictor = np.linalg.solve(toeplitz, correlation[1:15])
    roots = np.roots(np.concatenate([[1], -predictor]))
    roots = roots[roots.imag > 0]
    frequency = np.angle(roots) * SAMPLE_RATE_HZ / (2 * np.pi)
    bandwidth = -np.log(np.abs(roots)) * SAMPLE_RATE_HZ / np.pi
    resonances = np.sort(frequency[(bandwidth < 450) & (frequency > 150)])
    for authored in VOWEL_FORMANTS_HZ[vowel][:2]:
        assert np.abs(resonances - authored).min() < max(60, 0.06 * authored), (vowel, resonances)


def test_a_steady_vowel_has_its_pitch() -> None:
    samples = synthesise([Segment("a", 0.0, 0.8)], np.random.default_rng(1), pitch_hz=120.0).samples[3200:9600]
    samples = samples.astype(np.float64)
    correlation = np.correlate(samples, samples, "full")[len(samples) - 1 :]
    lag = 80 + int(np.argmax(correlation[80:240]))
    assert 100 < SAMPLE_RATE_HZ / lag < 150


def test_loud_on_vowels_silent_in_pauses() -> None:
    segments = write_phrases(8.0, np.random.default_rng(5))
    sound = synthesise(segments, np.random.default_rng(6))
    assert sound.sample_rate_hz == SAMPLE_RATE_HZ
    assert len(sound.samples) == 8 * SAMPLE_RATE_HZ
    assert np.abs(sound.samples).max() <= 0.71
    for segment in segments:
        if segment.stop_seconds - segment.start_seconds < 0.1:
            continue
        cut = slice(int((segment.start_seconds + 0.04) * 16000), int((segment.stop_seconds - 0.04) * 16000))
        level = _rms(sound.samples[cut])
        if segment.symbol in VOWEL_FORMANTS_HZ:
            assert level > 0.01, segment
        elif segment.symbol == SILENCE and segment.stop_seconds - segment.start_seconds > 0.2:
            assert level < 5e-4, segment


def test_lips_are_shut_through_bilabials_and_pauses_and_open_on_vowels() -> None:
    segments = write_phrases(12.0, np.random.default_rng(7))
    jaw = MOUTH_SHAPES.index("jaw")
    for segment in segments:
        middle = np.array([(segment.start_seconds + segment.stop_seconds) / 2])
        amount = mouth_coefficients(segments, middle)[0, jaw]
        if segment.symbol in BILABIALS:
            assert amount == 0, segment
        elif segment.symbol == "a" and segment.stop_seconds - segment.start_seconds > 0.15:
            assert amount > 0.3, segment


def test_vowels_have_their_own_mouths() -> None:
    shape = {v: mouth_coefficients([Segment(v, 0, 1)], np.array([0.5]))[0] for v in "aeiou"}
    jaw, wide, rounded = (MOUTH_SHAPES.index(n) for n in ("jaw", "wide", "round"))
    assert max("aeiou", key=lambda v: shape[v][jaw]) == "a"
    assert max("aeiou", key=lambda v: shape[v][wide]) == "i"
    assert max("aeiou", key=lambda v: shape[v][rounded]) == "u"


def test_the_mouth_leads_the_sound() -> None:
    """Half of the way from i to a is done before the sound changes."""
    segments = [Segment("i", 0, 0.5), Segment("a", 0.5, 1.0)]
    jaw = mouth_coefficients(segments, np.linspace(0, 1, 1001))[:, MOUTH_SHAPES.index("jaw")]
    half_way = np.flatnonzero(jaw > (jaw[200] + jaw[900]) / 2)[0] / 1000
    assert 0.44 < half_way < 0.48
