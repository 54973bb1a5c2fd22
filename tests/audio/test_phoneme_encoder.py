"""Laws of our own speech encoder: causal, the same however it is cut, deaf to loudness."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from avatarfit.audio import SAMPLE_RATE_HZ
from avatarfit.audio.log_mel import BAND_COUNT, hop_count, log_mel
from avatarfit.audio.phoneme_encoder import (
    Leveller,
    PhonemeEncoder,
    PhonemeNetwork,
    PhonemeNetworkConfig,
    load_phoneme_encoder,
)
from avatarfit.contracts import FileFormatError

SPECTRUM = np.linspace(-2, -10, BAND_COUNT).astype(np.float32)
CONFIG = PhonemeNetworkConfig(mouth_count=5, sound_count=7, width=12, bottleneck=6)


def babble(seconds: float, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    t = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    envelope = (0.55 + 0.45 * np.sin(2 * np.pi * 4 * t)) * ((t % 2) < 1.6)
    return (0.1 * envelope * (np.sign(np.sin(2 * np.pi * 140 * t)) + random.standard_normal(len(t)))).astype(np.float32)


@pytest.fixture
def encoder() -> PhonemeEncoder:
    torch.manual_seed(0)
    network = PhonemeNetwork(CONFIG)
    with torch.no_grad():
        for _ in range(5):
            network(torch.randn(4, BAND_COUNT, 100))
    return PhonemeEncoder(network, SPECTRUM, "made-here")


def rows(encoder: PhonemeEncoder, samples: np.ndarray, piece: int | None = None) -> np.ndarray:
    stream, size = encoder.stream(), piece or max(len(samples), 1)
    return np.concatenate(
        [*(stream.push(samples[i : i + size]) for i in range(0, len(samples), size)), stream.finish()]
    )


@pytest.mark.parametrize("seconds", [0.0, 0.0005, 0.013, 0.3, 2.5])
def test_a_row_a_hop_however_the_sound_is_cut(encoder: PhonemeEncoder, seconds: float) -> None:
    samples = babble(seconds)
    whole = rows(encoder, samples)
    assert whole.shape == (hop_count(len(samples)), 6 + 5)
    for piece in (160, 320, 997):
        np.testing.assert_allclose(rows(encoder, samples, piece), whole, atol=2e-5)


def test_the_stream_is_the_network_over_the_whole(encoder: PhonemeEncoder) -> None:
    samples = babble(3)
    levelled = Leveller(SPECTRUM).push(log_mel(samples))
    padded = np.pad(levelled, ((CONFIG.past_hops + CONFIG.look_ahead_hops, 0), (0, 0)), constant_values=-4)
    with torch.no_grad():
        narrow, mouth, sound = encoder.network(torch.from_numpy(padded.T[None].copy()))
    assert sound.shape == (1, 7, len(levelled))
    want = torch.cat([narrow, mouth.softmax(1)], 1)[0].T.numpy()
    np.testing.assert_allclose(rows(encoder, samples), want, atol=2e-5)


def test_a_row_hears_just_as_far_ahead_as_is_said(encoder: PhonemeEncoder) -> None:
    samples = babble(2)
    other = samples.copy()
    other[16000:] = babble(1, seed=4)
    change = np.abs(rows(encoder, other) - rows(encoder, samples)).max(1)
    first = int(np.argmax(change > 0))
    ahead = 1.0 - first * 0.01
    assert encoder.look_ahead_seconds - 0.011 < ahead <= encoder.look_ahead_seconds + 1e-9
    stream = encoder.stream()
    assert len(stream.push(samples[:16000])) == 99


@pytest.mark.parametrize("gain_db", [-30.0, -6.0, 20.0])
def test_loudness_changes_nothing(gain_db: float) -> None:
    samples = babble(4)
    plain = Leveller(SPECTRUM).push(log_mel(samples))
    loud = Leveller(SPECTRUM).push(log_mel(samples * np.float32(10 ** (gain_db / 20))))
    np.testing.assert_allclose(loud, plain, atol=1e-3)


def test_a_microphones_colour_goes_away_with_time() -> None:
    bands = log_mel(babble(40))
    colour = np.linspace(-2, 2, BAND_COUNT).astype(np.float32)
    gone = np.abs(Leveller(SPECTRUM).push(bands + colour) - Leveller(SPECTRUM).push(bands)).mean(1)
    assert gone[-300:].mean() < 0.45 * gone[:20].mean()


def test_levelled_bands_are_bounded_and_silence_stays_silent() -> None:
    for samples in (babble(1), np.zeros(16000, np.float32), 1e4 * babble(1)):
        levelled = Leveller(SPECTRUM).push(log_mel(samples))
        assert np.isfinite(levelled).all()
        assert np.abs(levelled).max() <= 4
    assert (Leveller(SPECTRUM).push(log_mel(np.zeros(16000, np.float32))) == -4).all()


def test_a_file_gives_the_network_back(encoder: PhonemeEncoder, tmp_path: Path) -> None:
    path = tmp_path / "encoder.safetensors"
    weights = encoder.network.state_dict() | {"spectrum": torch.from_numpy(SPECTRUM)}
    save_file(weights, path, {"config": json.dumps(asdict(CONFIG))})
    loaded = load_phoneme_encoder(path)
    np.testing.assert_array_equal(rows(loaded, babble(1)), rows(encoder, babble(1)))
    assert loaded.name == load_phoneme_encoder(path).name
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(FileFormatError, match="is no speech encoder"):
        load_phoneme_encoder(path)
