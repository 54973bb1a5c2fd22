"""Laws of the features and of voice activity in recordings."""

from __future__ import annotations

import numpy as np
import pytest

from avatarfit.audio import (
    BAND_COUNT,
    FEATURE_COUNT,
    FEATURE_NAME,
    LOG_MEL,
    SAMPLE_RATE_HZ,
    FeatureStream,
    feature_name,
    hop_count,
    level_db,
    look_ahead_seconds,
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


def features(samples: np.ndarray) -> np.ndarray:
    return speech_features(AudioClip(samples.astype(np.float32), SAMPLE_RATE_HZ)).values


def test_the_level_of_a_full_square_wave_is_0_db_and_silence_is_the_quietest() -> None:
    np.testing.assert_allclose(level_db(np.ones(16000, np.float32))[5:-5], 0, atol=1e-4)
    np.testing.assert_array_equal(level_db(np.zeros(1600, np.float32)), -140)


def test_activity_is_high_in_speech_and_low_in_long_pauses_at_every_noise_level() -> None:
    speech = babble(8)
    time = np.arange(800) * 0.01
    for noise in (0.0, 1e-4, 3e-3):
        noisy = speech + noise * np.random.default_rng(1).standard_normal(len(speech)).astype(np.float32)
        for activity in (voice_activity(level_db(noisy)), features(noisy)[:, -1]):
            assert activity[(time % 2 > 0.2) & (time % 2 < 1.4)].mean() > 0.9
            assert activity[(time > 0.5) & (time % 2 > 1.75) & (time % 2 < 1.85)].max() < 0.2


def test_silence_is_never_speech() -> None:
    for samples in (np.zeros(16000), 1e-4 * np.random.default_rng(0).standard_normal(16000)):
        assert not voice_activity(level_db(samples.astype(np.float32))).any()
        assert features(samples)[:, -1].max() < 0.01


@pytest.mark.parametrize("gain", [0.003, 0.1, 1.0])
def test_steady_noise_is_no_speech_however_loud_but_a_held_note_is(gain: float) -> None:
    noise = gain * np.random.default_rng(0).standard_normal(48000)
    assert features(noise)[:, -1].max() < 0.05
    note = np.sin(2 * np.pi * 200 * np.arange(48000) / SAMPLE_RATE_HZ)
    assert features(gain * note)[10:, -1].min() > 0.5


def test_a_hum_that_has_a_pitch_is_no_speech_in_a_pause_that_comes_soon_after_the_start() -> None:
    time = np.arange(8 * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    hum = 0.008 * np.sin(2 * np.pi * 100 * time) + 1e-3 * np.random.default_rng(3).standard_normal(len(time))
    speech = babble(8) * ((time < 1.5) | (time > 3.5))
    hops = np.arange(800) * 0.01
    activity = features(speech + hum)[:, -1]
    assert activity[(hops > 1.8) & (hops < 3.3)].max() < 0.3
    assert activity[(hops > 0.2) & (hops < 1.4)].mean() > 0.9


def test_noise_that_sets_in_is_soon_known_for_noise_and_a_voice_in_it_is_heard() -> None:
    noise = 0.05 * np.random.default_rng(0).standard_normal(10 * SAMPLE_RATE_HZ).astype(np.float32)
    noise[: 2 * SAMPLE_RATE_HZ] *= 0.001
    noise[6 * SAMPLE_RATE_HZ :] += 3 * babble(4)
    activity = features(noise)[:, -1]
    assert activity[:195].max() < 0.05
    assert activity[400:595].max() < 0.05
    assert activity[610:740].mean() > 0.8


@pytest.mark.parametrize("gain", [0.05, 0.3, 3.0])
def test_after_a_second_of_speech_loudness_changes_little_and_after_ten_less(gain: float) -> None:
    speech = babble(14)
    plain, loud = features(speech), features(speech * np.float32(gain))
    off = np.abs(plain[:, :BAND_COUNT] - loud[:, :BAND_COUNT]).mean(1)
    assert off[100:].max() < 0.4
    assert off[1000:].max() < 0.1


def test_speaking_hops_come_to_mean_0_and_spread_1_in_every_band() -> None:
    values = features(babble(30))[1500:]
    speaking = values[values[:, -1] > 0.5, :BAND_COUNT]
    # What was taken to be so at first still counts as 6 of some 25 s of speech.
    assert np.abs(speaking.mean(0)).max() < 0.5
    assert speaking.std(0).min() > 0.6
    assert speaking.std(0).max() < 1.2


def test_features_are_bounded_and_count_as_promised() -> None:
    got = speech_features(AudioClip(babble(2), SAMPLE_RATE_HZ, start_seconds=0.25))
    assert got.values.shape == (200, FEATURE_COUNT)
    assert got.values.dtype == np.float32
    assert np.abs(got.values).max() <= 3
    assert (got.start_seconds, got.name) == (0.25, FEATURE_NAME)
    assert LOG_MEL.name in feature_name(LOG_MEL)


@pytest.mark.parametrize("seed", range(6))
def test_how_sound_is_cut_into_pieces_changes_nothing(seed: int) -> None:
    random = np.random.default_rng(seed)
    sound = babble(3.1, seed)[: int(random.integers(1, 3 * SAMPLE_RATE_HZ))]
    whole = features(sound)
    stream, rows, at = FeatureStream(), [], 0
    while at < len(sound):
        size = int(random.choice([1, 2, 159, 160, 161, 320, int(random.integers(1, 9000))]))
        rows.append(stream.push(sound[at : at + size]))
        at += size
    rows.append(stream.push(sound[:0]))
    rows.append(stream.finish())
    np.testing.assert_allclose(np.concatenate(rows), whole, atol=1e-5)
    assert len(whole) == hop_count(len(sound))


def test_samples_one_by_one_are_the_whole() -> None:
    sound = babble(0.3)
    stream = FeatureStream()
    rows = [stream.push(sound[i : i + 1]) for i in range(len(sound))]
    assert max(len(r) for r in rows) == 1
    np.testing.assert_allclose(np.concatenate([*rows, stream.finish()]), features(sound), atol=1e-5)


def test_a_row_is_ready_when_its_look_ahead_is_there_and_later_sound_changes_nothing() -> None:
    ahead = round(look_ahead_seconds() * SAMPLE_RATE_HZ)
    assert ahead == 320
    sound, k = babble(2), 120
    stream = FeatureStream()
    early = stream.push(sound[: 160 * k + ahead])
    assert len(early) == k + 1
    other = sound.copy()
    other[160 * k + ahead :] = np.random.default_rng(9).standard_normal(len(other[160 * k + ahead :]))
    np.testing.assert_allclose(features(other)[: k + 1], early, atol=1e-5)
    assert np.abs(features(other)[k + 4] - features(sound)[k + 4]).max() > 0.1


def test_long_sound_takes_no_more_memory_than_short() -> None:
    stream, piece = FeatureStream(), babble(2)
    sizes = []
    for _ in range(12):
        stream.push(piece)
        sizes.append(
            sum(len(part) for part in stream._waiting) + len(stream._pitches._kept) + len(stream._levels._kept)
        )
    assert max(sizes) < 2000


def test_at_reads_between_hops_on_the_sounds_clock() -> None:
    got = speech_features(AudioClip(babble(1), SAMPLE_RATE_HZ, start_seconds=0.5))
    ramp = np.arange(len(got), dtype=np.float32)
    read = got.at(ramp, np.array([0.0, 0.5, 0.515, 0.7, 99.0]))
    np.testing.assert_allclose(read, [0, 0, 1.5, 20, len(got) - 1], atol=1e-4)


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
