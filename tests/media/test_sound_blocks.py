"""Sound in pieces is the whole sound: resampled, read from a file, handed out."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import resample_poly

from avatarfit.contracts import AudioClip, SoundError
from avatarfit.media import StreamResampler, read_audio, sound_blocks, write_wav
from avatarfit.media.sound_feed import SoundFeed


def noise(count: int, seed: int = 0) -> np.ndarray:
    return (0.2 * np.random.default_rng(seed).standard_normal(count)).astype(np.float32)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000, 192000])
def test_resampling_in_pieces_is_scipys_of_the_whole(rate: int) -> None:
    random = np.random.default_rng(rate)
    samples = noise(int(random.integers(1, rate)))
    common = math.gcd(rate, 16000)
    whole = resample_poly(samples, 16000 // common, rate // common) if rate != 16000 else samples
    stream, parts, at = StreamResampler(rate, 16000), [], 0
    while at < len(samples):
        size = int(random.choice([1, 7, 160, 1000, 9000]))
        parts.append(stream.push(samples[at : at + size]))
        at += size
    got = np.concatenate([*parts, stream.finish()])
    assert len(got) == len(whole) == -(-len(samples) * 16000 // rate)
    np.testing.assert_allclose(got, whole, atol=1e-6)


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
def test_an_output_waits_for_its_look_ahead_and_no_longer(rate: int) -> None:
    stream = StreamResampler(rate, 16000)
    assert stream.look_ahead_seconds < 0.0013
    ready = len(stream.push(noise(rate // 2)))
    assert 0 <= (0.5 - stream.look_ahead_seconds) * 16000 - ready < 3
    with pytest.raises(ValueError, match="wanted positive rates"):
        StreamResampler(0, 16000)


def test_a_file_in_blocks_is_the_file_as_often_as_it_is_read(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", AudioClip(noise(100_000), 22050))
    sound = sound_blocks(tmp_path / "a.wav")
    assert (sound.sample_count, sound.sample_rate_hz) == (100_000, 22050)
    for _ in range(2):
        blocks = list(sound)
        assert len(blocks) > 1
        assert max(len(block) for block in blocks) < 22050
        np.testing.assert_array_equal(np.concatenate(blocks), read_audio(tmp_path / "a.wav").samples)


def test_what_is_no_sound_is_said(tmp_path: Path) -> None:
    with pytest.raises(SoundError, match="there is no file"):
        sound_blocks(tmp_path / "no.wav")


@pytest.mark.parametrize("start", [-0.5, 0.0, 0.25])
def test_a_feed_begins_at_time_0_wherever_the_sound_begins(tmp_path: Path, start: float) -> None:
    clip = AudioClip(noise(20_000), 16000, start)
    write_wav(tmp_path / "a.wav", clip)
    shift = round(start * 16000)
    wanted = np.concatenate([np.zeros(max(shift, 0)), clip.samples[max(-shift, 0) :]])
    for sound in (clip, replace(sound_blocks(tmp_path / "a.wav"), start_seconds=start)):
        feed, parts = SoundFeed(sound, 16000), []
        while len(piece := feed.take(1024)):
            assert len(piece) == 1024
            parts.append(piece)
        parts.append(feed.take(1024, rest=True))
        assert len(feed.take(1, rest=True)) == 0
        np.testing.assert_allclose(np.concatenate(parts), wanted, atol=2e-5)
