"""Fresh starts cover the sound, and each is what a session that begins there hears."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from avatarfit.audio import HOP_SECONDS, SAMPLE_RATE_HZ, speech_features
from avatarfit.contracts import AudioClip
from avatarfit.fitting.fresh_starts import LONGEST_SECONDS, SHORTEST_SECONDS, fresh_starts


def sound(seconds: float) -> AudioClip:
    t = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    wave = 0.2 * np.sign(np.sin(2 * np.pi * 150 * t)) * (np.sin(2 * np.pi * 2 * t) > 0)
    return AudioClip(wave.astype(np.float32), SAMPLE_RATE_HZ, 1.5)


def test_the_stretches_follow_each_other_over_the_whole_sound() -> None:
    whole = sound(30.0)
    parts = fresh_starts(whole, np.random.default_rng(0))
    assert parts[0].start_seconds == 1.5
    for before, after in itertools.pairwise(parts):
        assert abs(before.start_seconds + len(before) * HOP_SECONDS - after.start_seconds) <= HOP_SECONDS
    lengths = np.array([len(part) * HOP_SECONDS for part in parts])
    assert lengths.sum() == pytest.approx(30.0, abs=0.1)
    assert lengths.min() >= SHORTEST_SECONDS - 0.01
    assert lengths.max() <= LONGEST_SECONDS + SHORTEST_SECONDS


def test_each_begins_as_if_nothing_had_been_heard() -> None:
    whole = sound(20.0)
    late = fresh_starts(whole, np.random.default_rng(1))[1]
    first = round((late.start_seconds - 1.5) * SAMPLE_RATE_HZ)
    alone = speech_features(AudioClip(whole.samples[first : first + 3 * SAMPLE_RATE_HZ], SAMPLE_RATE_HZ))
    np.testing.assert_allclose(late.values[:290], alone.values[:290], atol=1e-5)
    assert np.abs(late.values[50:290] - speech_features(whole).values[first // 160 + 50 :][:240]).max() > 0.05


def test_a_short_sound_stays_whole() -> None:
    assert len(fresh_starts(sound(5.0), np.random.default_rng(0))) == 1
    assert fresh_starts(AudioClip(np.zeros(0, np.float32), SAMPLE_RATE_HZ), np.random.default_rng(0)) == []
