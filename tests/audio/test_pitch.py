"""Laws of the pitch track, and its agreement with Praat's own path."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from avatarfit.audio.hop_windows import HopWindows
from avatarfit.audio.log_mel import HOP_SAMPLES, SAMPLE_RATE_HZ, hop_count
from avatarfit.audio.pitch import CEILING_HZ, FLOOR_HZ, REACH_SAMPLES, PitchPath, RunningPitch, pitch_candidates
from avatarfit.audio.voice_activity import level_db, loud_level_db


def pitch_track(samples: np.ndarray) -> np.ndarray:
    """Hz [hop_count(n)], 0 without a voice; silence is judged against the whole sound's loud parts."""
    windows, path = HopWindows(REACH_SAMPLES, REACH_SAMPLES), PitchPath()
    parts = [pitch_candidates(stretch) for stretch in (windows.push(samples), windows.finish())]
    frequency, strength = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    level = level_db(samples)
    loud = loud_level_db(level)
    rows = zip(frequency, strength, level, strict=True)
    return np.array([path.step(f, s, float(here) - loud) for f, s, here in rows])


def pulses(frequency_hz: float, seconds: float) -> np.ndarray:
    """Band-limited pulses: all harmonics below 4 kHz, in phase."""
    t = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    harmonics = np.arange(1, int(4000 / frequency_hz) + 1)
    wave = np.cos(2 * np.pi * frequency_hz * harmonics[:, None] * t).sum(0)
    return (0.3 * wave / len(harmonics)).astype(np.float32)


@pytest.mark.parametrize("frequency_hz", [90.0, 137.0, 220.0, 410.0])
def test_the_pitch_of_a_pulse_train_is_right_within_one_percent(frequency_hz: float) -> None:
    inside = pitch_track(pulses(frequency_hz, 1.0))[10:-10]
    assert (inside > 0).all()
    np.testing.assert_allclose(inside, frequency_hz, rtol=0.01)


def test_steps_of_pitch_lie_within_5_ms_of_their_places() -> None:
    late = []
    for seconds in np.arange(0.5, 0.51, 0.001):
        for low, high in ((150, 190), (190, 150), (110, 150), (220, 270)):
            track = pitch_track(np.concatenate([pulses(low, seconds), pulses(high, 0.6)]))[30:70]
            hops = 0.01 * np.arange(30, 70)
            middle = (low + high) / 2
            after = int(np.argmax((track > middle) == (high > low)))
            late.append(
                np.interp(0, np.sort(track[after - 1 : after + 1] - middle), hops[after - 1 : after + 1]) - seconds
            )
    assert abs(np.mean(late)) <= 0.005


def test_a_voice_between_silences_is_centred_where_it_is() -> None:
    for start in (16000, 16040, 16080, 16120):
        samples = np.zeros(2 * SAMPLE_RATE_HZ, np.float32)
        samples[start : start + 8000] = pulses(200, 0.5)
        voiced = np.flatnonzero(pitch_track(samples) > 0) * 0.01
        assert abs((voiced[0] + voiced[-1]) / 2 - (start + 4000) / SAMPLE_RATE_HZ) <= 0.0051


@pytest.mark.parametrize("count", [1, 100, 160, 161, 3333, 16000, 16001])
def test_there_is_one_value_a_hop_whatever_the_length(count: int) -> None:
    assert len(pitch_track(pulses(120, 2.0)[:count])) == hop_count(count)


def test_silence_and_noise_have_no_pitch() -> None:
    assert not pitch_track(np.zeros(8000, np.float32)).any()
    noise = np.random.default_rng(0).standard_normal(16000).astype(np.float32) * 0.1
    assert (pitch_track(noise) > 0).mean() < 0.1


def test_candidates_hear_20_ms_on_either_side_and_nothing_else() -> None:
    x = pulses(150, 0.5) + 0.05 * np.random.default_rng(0).standard_normal(8000).astype(np.float32)
    many, strengths = pitch_candidates(x)
    for hop in (0, 7, 20):
        one, strength = pitch_candidates(x[hop * HOP_SAMPLES : hop * HOP_SAMPLES + 2 * REACH_SAMPLES])
        np.testing.assert_allclose(np.sort(one[0]), np.sort(many[hop]), atol=1e-6)
        np.testing.assert_allclose(np.sort(strength[0]), np.sort(strengths[hop]), atol=1e-9)


def test_real_voices_get_the_pitch_that_praat_gives_with_the_whole_recording_before_it(shared: Path) -> None:
    import parselmouth

    from avatarfit.media import read_audio, resample

    for name in ("english_male_8s.wav", "chinese_news.wav", "singing_female_10s.wav"):
        samples = resample(read_audio(shared / "audio" / name), SAMPLE_RATE_HZ).samples
        mine = pitch_track(samples)
        track = parselmouth.Sound(samples.astype(np.float64), SAMPLE_RATE_HZ).to_pitch_ac(0.01, FLOOR_HZ)
        hops = np.rint(track.xs() / 0.01).astype(int)
        theirs = np.interp(hops * 0.01, track.xs(), track.selected_array["frequency"])
        mine = mine[hops]
        assert ((mine > 0) == (theirs > 0)).mean() > 0.88
        both = (mine > 0) & (theirs > FLOOR_HZ) & (theirs < CEILING_HZ)
        assert (np.abs(np.log2(mine[both] / theirs[both])) < 0.1).mean() > 0.93


def test_the_running_pitch_finds_the_speakers_middle_and_stays_bounded() -> None:
    pitch = RunningPitch()
    assert pitch.step(0.0, 1.0) == 0.0
    for _ in range(300):
        last = pitch.step(240.0, 1.0)
    assert abs(last) < 0.06
    assert pitch.step(480.0, 1.0) == pytest.approx(1.0, abs=0.06)
    assert pitch.step(75.0, 1.0) == -1.0
