"""The driver's networks in one native call each against torch: values, any cut of the sound, any sizes."""

from __future__ import annotations

import pickle
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch

from avatarfit.audio import OTHER_COLUMNS
from avatarfit.audio.log_mel import BAND_COUNT
from avatarfit.audio.phoneme_encoder import PhonemeNetwork, PhonemeNetworkConfig, PhonemeStream, phoneme_kernel
from avatarfit.model.audio_to_landmarks import LOOK_AHEAD_HOPS, PAST_HOPS, AudioToLandmarks, AudioToLandmarksConfig
from avatarfit.model.kernel_regression import KernelRegression
from avatarfit.model.landmark_kernel import landmark_kernel

pytestmark = pytest.mark.usefixtures("isa")
MADE: list[dict[str, Any]] = [
    {},
    {"layers": 3, "past_tokens": 2, "members": 2, "width": 48, "heads": 3},
    {"stride_hops": 1, "hear_pitch": False, "kernel_centres": 0},
    {"kept_columns": 7, "kernel_group": 1, "kernel_axes": 9},
    {
        "beside_columns": 6,
        "beside_kept": 5,
        "kernel_group": 2,
        "beside_axes": 11,
        "hear_pitch": False,
        "mouth_count": 15,
    },
]


def made_network(**sizes: Any) -> AudioToLandmarks:
    """A network of random numbers in which every part speaks about as loudly."""
    torch.manual_seed(3)
    given = {"feature_count": 22, "mouth_count": 5, "width": 16, "heads": 2, "kernel_centres": 37, "kernel_group": 3}
    if "beside_columns" in sizes:
        given["feature_count"] = 20 + OTHER_COLUMNS
    network = AudioToLandmarks(AudioToLandmarksConfig(**given | {"kernel_axes": 0} | sizes)).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if "before_" in name or "norm" in name:
                value.add_(0.2 * torch.randn_like(value))
            elif "members" in name:
                value.copy_(torch.randn_like(value) * 0.7 / max(value[0].numel(), 1) ** 0.5)
            elif value.dtype.is_floating_point and not name.endswith("taper"):
                value.copy_(0.3 * torch.randn_like(value))
        for kernel in (network.kernel, network.beside):
            if isinstance(kernel, KernelRegression):
                kernel.scale.uniform_(4, 6)
                kernel.votes.mul_(4)
    return network


@pytest.mark.parametrize("sizes", MADE)
@pytest.mark.parametrize(("tokens", "skip"), [(1, 0), (9, 8), (40, 3)])
def test_network_is_torchs(sizes: dict[str, Any], tokens: int, skip: int) -> None:
    network = made_network(**sizes)
    hops = PAST_HOPS + (tokens - 1) * network.config.stride_hops + LOOK_AHEAD_HOPS + 1
    x = torch.randn(2, hops, network.config.feature_count)
    want = deepcopy(network).double()(x.double(), skip).detach().numpy()
    got = landmark_kernel(network, "cpu")(x.numpy(), skip)
    assert got.shape == want.shape
    assert np.abs(want).max() > 0.1
    np.testing.assert_allclose(got, want, atol=2e-5)


def test_network_knows_no_neighbours() -> None:
    """A token hears what torch lets it hear, and the last bit does not hang on how many are asked for."""
    network = made_network()
    tell, past = landmark_kernel(network, "cpu"), network.config.past_tokens_total
    x = np.random.default_rng(0).standard_normal((1, PAST_HOPS + 29 * 4 + LOOK_AHEAD_HOPS + 1, 22)).astype(np.float32)
    every = tell(x, past)[0]
    alone = [
        tell(x[:, 4 * t : 4 * (t + past) + PAST_HOPS + LOOK_AHEAD_HOPS + 1], past)[0, 0] for t in range(len(every))
    ]
    # Positions turn by another angle, which cancels but for rounding.
    np.testing.assert_allclose(alone, every, atol=2e-6)
    twice = tell(np.concatenate([x, x]), past)
    assert np.array_equal(twice[0], every)
    assert np.array_equal(twice[1], every)


def test_network_passes_through_a_pickle() -> None:
    network = made_network(**MADE[4])
    x = np.ones((1, 33, 24), np.float32)
    tell = landmark_kernel(network, "cpu")
    assert np.array_equal(pickle.loads(pickle.dumps(tell))(x, 0), tell(x, 0))  # noqa: S301 - our own


def made_encoder(**sizes: Any) -> PhonemeNetwork:
    torch.manual_seed(5)
    network = PhonemeNetwork(
        PhonemeNetworkConfig(mouth_count=5, sound_count=7, **{"width": 20, "bottleneck": 6} | sizes)
    )
    with torch.no_grad():
        for _ in range(5):
            network(torch.randn(4, BAND_COUNT, 100))
    return network.eval().requires_grad_(False)


@pytest.mark.parametrize("sizes", [{}, {"width": 16, "bottleneck": 40}, {"dilations": (3, 1), "aheads": (6, 0)}])
def test_encoder_is_torchs(sizes: dict[str, Any]) -> None:
    network, spectrum = made_encoder(**sizes), np.linspace(-2, -10, BAND_COUNT).astype(np.float32)
    bands = np.random.default_rng(1).normal(-6, 3, (150, BAND_COUNT)).astype(np.float32)
    want = PhonemeStream(network, spectrum).hear(bands)
    assert want.shape == (150, 5 + network.config.bottleneck)
    assert want.std(axis=0).min() > 1e-3
    for piece in (1, 7, 40, 150):
        stream = PhonemeStream(network, spectrum, phoneme_kernel(network))
        got = np.concatenate([stream.hear(bands[at : at + piece]) for at in range(0, 150, piece)])
        np.testing.assert_allclose(got, want, atol=3e-6)
        if piece == 1:
            first = got
        assert np.array_equal(got, first)


def test_parameters_of_another_network_are_refused() -> None:
    kernel = phoneme_kernel(made_encoder())
    kernel.parameters = kernel.parameters[:-16]
    with pytest.raises(ValueError, match="do not fit"):
        kernel(kernel.empty_past(), np.zeros((1, BAND_COUNT), np.float32))


def test_nan_stays_where_it_is_heard() -> None:
    x = np.zeros((1, PAST_HOPS + 200 + LOOK_AHEAD_HOPS + 1, 22), np.float32)
    network = made_network()
    hop, stride = 80, network.config.stride_hops
    x[0, hop] = np.nan
    told = np.isnan(landmark_kernel(network, "cpu")(x, 0)[0]).any(axis=1)
    at = np.arange(len(told)) * stride + PAST_HOPS
    hears = (at + LOOK_AHEAD_HOPS >= hop) & (at - PAST_HOPS - network.config.past_tokens_total * stride <= hop)
    assert 0 < hears.sum() < len(hears)
    assert np.array_equal(told, hears)
