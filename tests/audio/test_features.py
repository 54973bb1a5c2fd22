"""Laws of voice activity and of the features."""

from __future__ import annotations

import numpy as np
import pytest

from avatarfit.audio import (
    BAND_COUNT,
    FEATURE_COUNT,
    SAMPLE_RATE_HZ,
    level_db,
    require_audible,
    speech_features,
    voice_activity,
)
from avatarfit.contracts import AudioClip, SoundError


def babble(seconds: float, seed: int = 0) -> np.ndarray:
    """Bursts of shaped noise and tone with pauses, about four a second; 0.4 s of silence in every 2 s."""
    random = np.random.default_rng(seed)
    t = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    envelope = (0.55 + 0.45 * np.sin(2 * np.pi * 4 * t)) * ((t % 2) < 1.6)
    wave = np.sign(np.sin(2 * np.pi * 140 * t)) * 0.3 + random.standard_normal(len(t)) * 0.1
    return (0.3 * envelope * wave).astype(np.float32)


def test_the_level_of_a_full_square_wave_is_0_db_and_silence_is_the_quietest() -> None:
    np.testing.assert_allclose(level_db(np.ones(16000, np.float32))[5:-5], 0, atol=1e-4)
    np.testing.assert_array_equal(level_db(np.zeros(1600, np.float32)), -140)


def test_activity_is_high_in_speech_and_low_in_long_pauses_at_every_noise_level() -> None:
    speech = babble(8)
    time = np.arange(800) * 0.01
    for noise in (0.0, 1e-4, 3e-3):
        noisy = speech + noise * np.random.default_rng(1).standard_normal(len(speech)).astype(np.float32)
        activity = voice_activity(level_db(noisy))
        assert activity[(time % 2 > 0.2) & (time % 2 < 1.4)].mean() > 0.9
        assert activity[(time % 2 > 1.75) & (time % 2 < 1.85)].max() < 0.2


def test_silence_is_never_speech() -> None:
    for samples in (np.zeros(16000), 1e-4 * np.random.default_rng(0).standard_normal(16000)):
        assert not voice_activity(level_db(samples.astype(np.float32))).any()


def test_steady_noise_is_no_speech_however_loud_but_a_held_note_is() -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(48000).astype(np.float32)
    assert not speech_features(AudioClip(noise, SAMPLE_RATE_HZ)).activity.any()
    note = np.sin(2 * np.pi * 200 * np.arange(48000) / SAMPLE_RATE_HZ).astype(np.float32)
    assert speech_features(AudioClip(note, SAMPLE_RATE_HZ)).activity.min() > 0.5


@pytest.mark.parametrize("gain", [0.05, 0.3, 3.0])
def test_loudness_changes_nothing(gain: float) -> None:
    speech = babble(4)
    plain = speech_features(AudioClip(speech, SAMPLE_RATE_HZ)).values
    loud = speech_features(AudioClip(speech * np.float32(gain), SAMPLE_RATE_HZ)).values
    np.testing.assert_allclose(plain[:, :BAND_COUNT], loud[:, :BAND_COUNT], atol=0.02)
    # Praat may decide otherwise on a single hop at the edge of a voice.
    assert (np.abs(plain[:, BAND_COUNT:] - loud[:, BAND_COUNT:]) > 0.02).mean() < 0.002


def test_speaking_hops_have_mean_0_and_spread_1_in_every_band() -> None:
    features = speech_features(AudioClip(babble(6), SAMPLE_RATE_HZ))
    speaking = features.values[features.activity > 0.5, :BAND_COUNT]
    assert np.abs(speaking.mean(0)).max() < 0.15
    assert speaking.std(0).max() < 1.1


def test_features_are_bounded_and_count_as_promised() -> None:
    features = speech_features(AudioClip(babble(2), SAMPLE_RATE_HZ, start_seconds=0.25))
    assert features.values.shape == (200, FEATURE_COUNT)
    assert features.values.dtype == np.float32
    assert np.abs(features.values).max() <= 3
    assert features.start_seconds == 0.25


def test_at_reads_between_hops_on_the_sounds_clock() -> None:
    features = speech_features(AudioClip(babble(1), SAMPLE_RATE_HZ, start_seconds=0.5))
    ramp = np.arange(len(features), dtype=np.float32)
    got = features.at(ramp, np.array([0.0, 0.5, 0.515, 0.7, 99.0]))
    np.testing.assert_allclose(got, [0, 0, 1.5, 20, len(features) - 1], atol=1e-4)


def test_sound_at_another_rate_is_refused() -> None:
    with pytest.raises(ValueError, match="44100 Hz; wanted 16000 Hz, resample first"):
        speech_features(AudioClip(np.zeros(44100, np.float32), 44100))


@pytest.mark.parametrize(
    ("samples", "text"),
    [
        (np.zeros(0), "The sound is empty; wanted speech"),
        (np.zeros(48000), r"The sound is silent \(its loud parts reach -200 dB of full scale\)"),
        (np.full(100, 0.5), "The sound is 2.1 ms long"),
    ],
)
def test_nothing_to_hear_is_said(samples: np.ndarray, text: str) -> None:
    with pytest.raises(SoundError, match=text):
        require_audible(AudioClip(samples.astype(np.float32), 48000))
