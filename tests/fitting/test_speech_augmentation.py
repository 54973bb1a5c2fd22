"""Laws of what one recording is made to sound like."""

from __future__ import annotations

import numpy as np
import pytest

from avatarfit.audio import SAMPLE_RATE_HZ, log_mel
from avatarfit.contracts import AudioClip
from avatarfit.fitting.speech_augmentation import VOICES, Voice, as_voice, vary


def vowel(seconds: float = 3.0, pitch_hz: float = 120.0) -> AudioClip:
    """Syllables of a buzz with a formant at 700 Hz, four in a second, the pitch gliding a little."""
    t = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    phase = 2 * np.pi * pitch_hz * (t + 0.01 * np.sin(2 * np.pi * t) / (2 * np.pi))
    buzz = sum(np.exp(-0.5 * ((k * pitch_hz - 700) / 250) ** 2) * np.sin(k * phase) for k in range(1, 30))
    samples = 0.1 * buzz * (0.5 - 0.5 * np.cos(2 * np.pi * 4 * t))
    return AudioClip(samples.astype(np.float32), SAMPLE_RATE_HZ, 1.0)


def pitch_hz(sound: AudioClip) -> float:
    import parselmouth

    track = parselmouth.Sound(sound.samples.astype(np.float64), SAMPLE_RATE_HZ).to_pitch_ac(pitch_ceiling=400)
    found = track.selected_array["frequency"]
    return float(np.median(found[found > 0]))


def formant_hz(sound: AudioClip) -> float:
    power = np.abs(np.fft.rfft(sound.samples)) ** 2
    hz = np.fft.rfftfreq(len(sound.samples), 1 / SAMPLE_RATE_HZ)
    return float((power * hz).sum() / power.sum())


def envelope(sound: AudioClip) -> np.ndarray:
    return np.exp(log_mel(sound.samples) / 2).sum(axis=1)


def test_pitch_and_formants_change_each_for_itself() -> None:
    plain, random = vowel(), np.random.default_rng(0)
    higher = as_voice(plain, Voice(pitch=1.5), random)
    assert pitch_hz(higher) == pytest.approx(1.5 * pitch_hz(plain), rel=0.05)
    assert formant_hz(higher) == pytest.approx(formant_hz(plain), rel=0.1)
    smaller = as_voice(plain, Voice(formants=1.2), random)
    assert pitch_hz(smaller) == pytest.approx(pitch_hz(plain), rel=0.05)
    assert formant_hz(smaller) == pytest.approx(1.2 * formant_hz(plain), rel=0.08)


@pytest.mark.parametrize("voice", [*VOICES, Voice(line="mp3"), Voice(line="telephone")])
def test_nothing_moves_in_time_but_by_the_speed(voice: Voice) -> None:
    plain = vowel()
    other = as_voice(plain, voice, np.random.default_rng(0))
    assert other.start_seconds == pytest.approx(1.0 / voice.speed)
    assert other.duration_seconds == pytest.approx(3.0 / voice.speed, abs=0.001)
    assert np.isfinite(other.samples).all()
    before, after = envelope(plain), envelope(other)
    after = np.interp(np.arange(len(before)) / voice.speed, np.arange(len(after)), after)
    shifts = range(-8, 9)
    agree = [np.corrcoef(before[20:-20], np.roll(after, k)[20:-20])[0, 1] for k in shifts]
    assert abs(shifts[int(np.argmax(agree))]) <= (2 if voice.reverberation_seconds else 1)
    assert max(agree) > 0.8


def test_noise_has_the_level_that_was_asked_for() -> None:
    plain = vowel()
    noise = as_voice(plain, Voice(noise_db=-20), np.random.default_rng(0)).samples - plain.samples
    high = np.abs(np.fft.rfft(noise))[len(noise) // 4 :]  # the white part
    level = float(np.sqrt(np.square(plain.samples).mean()))
    assert np.sqrt(np.square(high).mean() / len(noise)) == pytest.approx(level / 10, rel=0.1)


def test_windows_are_varied_and_the_given_one_is_left_alone() -> None:
    random = np.random.default_rng(0)
    for mel, columns in ((True, 68), (False, 9)):
        window = random.standard_normal((60, columns)).astype(np.float32)
        before = window.copy()
        a, b = vary(window, random, mel), vary(window, random, mel)
        np.testing.assert_array_equal(window, before)
        assert a.shape == window.shape
        assert np.abs(a - b).mean() > 0.1
