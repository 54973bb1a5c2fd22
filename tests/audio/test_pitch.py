"""Laws of the pitch track."""

from __future__ import annotations

import numpy as np
import pytest

from avatarfit.audio.log_mel import SAMPLE_RATE_HZ, hop_count
from avatarfit.audio.pitch import pitch_track


def pulses(frequency_hz: float, seconds: float) -> np.ndarray:
    """Band-limited pulses: all harmonics below 4 kHz, in phase."""
    t = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    harmonics = np.arange(1, int(4000 / frequency_hz) + 1)
    wave = np.cos(2 * np.pi * frequency_hz * harmonics[:, None] * t).sum(0)
    return (0.3 * wave / len(harmonics)).astype(np.float32)


@pytest.mark.parametrize("frequency_hz", [90.0, 137.0, 220.0, 410.0])
def test_the_pitch_of_a_pulse_train_is_right_within_one_percent(frequency_hz: float) -> None:
    track = pitch_track(pulses(frequency_hz, 1.0))
    inside = track[10:-10]
    assert (inside > 0).all()
    np.testing.assert_allclose(inside, frequency_hz, rtol=0.01)


def test_a_step_of_pitch_lies_within_5_ms_of_its_place() -> None:
    late = []
    for seconds in (0.5, 0.503, 0.507):
        track = pitch_track(np.concatenate([pulses(150, seconds), pulses(300, 0.6)]))
        voiced = np.flatnonzero(track > 0)
        crossing = np.interp(225.0, track[voiced][30:70], voiced[30:70] * 0.01)
        late.append(crossing - seconds)
    assert abs(np.mean(late)) <= 0.005


def test_a_voice_between_silences_is_centred_where_it_is() -> None:
    samples = np.zeros(2 * SAMPLE_RATE_HZ, np.float32)
    samples[16000:24000] = pulses(200, 0.5)
    voiced = np.flatnonzero(pitch_track(samples) > 0) * 0.01
    assert abs((voiced[0] + voiced[-1]) / 2 - 1.25) <= 0.005


@pytest.mark.parametrize("count", [1, 100, 160, 161, 3333, 16000, 16001])
def test_there_is_one_value_a_hop_whatever_the_length(count: int) -> None:
    assert len(pitch_track(pulses(120, 2.0)[:count])) == hop_count(count)


def test_silence_and_noise_have_no_pitch() -> None:
    assert not pitch_track(np.zeros(8000, np.float32)).any()
    noise = np.random.default_rng(0).standard_normal(16000).astype(np.float32) * 0.1
    assert (pitch_track(noise) > 0).mean() < 0.1


def test_blocks_of_long_sounds_leave_no_seam() -> None:
    track = pitch_track(pulses(180, 21.0))
    np.testing.assert_allclose(track[10:-10], 180, rtol=0.01)
    assert len(track) == 2100
