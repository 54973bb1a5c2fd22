"""A fitted audio-to-landmark network as the native library takes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from avatarfit.audio import OTHER_COLUMNS
from avatarfit.model import kernel_regression
from avatarfit.model.audio_to_landmarks import (
    FAR_STEP,
    FAR_TAPS,
    LOOK_AHEAD_HOPS,
    NEAR_TAPS,
    PAST_HOPS,
    AudioToLandmarks,
    AudioToLandmarksConfig,
    Layer,
    Member,
)
from avatarfit.model.kernel_regression import KernelRegression
from avatarfit.ops.driver_networks import AudioToLandmarksKernel, dense_panels, padded_columns, wants_native_networks

Told = Callable[[np.ndarray, int], np.ndarray]
"""Hops float32 [B, H, D] and how many tokens are left out -> float32 [B, T - skip, M + 1], as `AudioToLandmarks`."""


def landmark_kernel(network: AudioToLandmarks, backend: str = "auto") -> Told:
    """What the network tells of arrays; it is not trained any more.

    Args:
        backend: `auto | reference | cpu`.

    Raises:
        BackendError: the backend is not there.
    """
    if not wants_native_networks(backend):
        return partial(_reference, network)
    config = network.config
    kernel = AudioToLandmarksKernel(_sizes(network), _parameters(network), (config.kernel_share, config.beside_share))
    return partial(_native, kernel, config)


@torch.inference_mode()
def _reference(network: AudioToLandmarks, x: np.ndarray, skip: int) -> np.ndarray:
    told: np.ndarray = network(torch.from_numpy(x), skip).numpy()
    return told


def _native(kernel: AudioToLandmarksKernel, config: AudioToLandmarksConfig, x: np.ndarray, skip: int) -> np.ndarray:
    tokens = (x.shape[1] - PAST_HOPS - LOOK_AHEAD_HOPS - 1) // config.stride_hops + 1
    return kernel(x, skip, tokens, config.mouth_count + 1)


def _sizes(network: AudioToLandmarks) -> list[int]:
    c = network.config
    regressions = [network.kernel.centres.shape[1], 0 if network.beside is None else network.beside.centres.shape[1]]
    return [
        c.feature_count, OTHER_COLUMNS, c.main_columns, c.kept_columns, c.beside_columns, c.beside_kept,
        c.mouth_count + 1, c.stride_hops, c.width, c.layers, c.heads, c.past_tokens, c.members, int(c.hear_pitch),
        c.kernel_centres, c.kernel_group, *regressions, PAST_HOPS, LOOK_AHEAD_HOPS, NEAR_TAPS, FAR_TAPS, FAR_STEP,
        kernel_regression.PAST_HOPS, kernel_regression.AHEAD_HOPS, kernel_regression.STEP_HOPS,
    ]  # fmt: skip


@torch.no_grad()
def _parameters(network: AudioToLandmarks) -> Iterator[np.ndarray]:
    if network.config.kept_columns:
        yield from _turn(network.turn, network.offset)
    if network.beside is not None:
        yield from _turn(network.beside_turn, network.beside_offset)
    for member in network.transformers:
        yield from _member(member)
    yield from _regression(network.kernel)
    if network.beside is not None:
        yield from _regression(network.beside)


def _member(member: Member) -> Iterator[np.ndarray]:
    front = member.front
    yield from _convolution(front.near, front.near.weight)
    yield from _convolution(front.far, front.far.weight * front.taper)
    for layer in member.layers:
        assert isinstance(layer, Layer)
        opens, _, _, closes = layer.perceptron
        assert isinstance(opens, nn.Linear)
        assert isinstance(closes, nn.Linear)
        yield from _norm(layer.before_attention)
        yield from _linear(layer.query_key_value)
        yield from _linear(layer.out)
        yield from _norm(layer.before_perceptron)
        yield from _linear(opens)
        yield from _linear(closes)
    yield from _norm(member.norm)
    yield from _linear(member.out)


def _turn(turn: Tensor, offset: Tensor) -> list[np.ndarray]:
    """(x - offset) turn."""
    turn, offset = turn.double(), offset.double()
    return dense_panels(turn.T.numpy(), -(offset @ turn).numpy())


def _convolution(convolution: nn.Conv1d, weight: Tensor) -> list[np.ndarray]:
    assert convolution.bias is not None
    return dense_panels(weight.permute(0, 2, 1).flatten(1).numpy(), convolution.bias.numpy())


def _linear(linear: nn.Linear) -> list[np.ndarray]:
    return dense_panels(linear.weight.numpy(), linear.bias.numpy())


def _norm(norm: nn.LayerNorm) -> list[np.ndarray]:
    return [norm.weight.numpy(), norm.bias.numpy()]


def _regression(kernel: KernelRegression) -> Iterator[np.ndarray]:
    """Windows onto axes; axes z onto z c - c^2 / 2 for each centre c; the centres' votes."""
    scale = kernel.scale.double()
    turn = torch.diag(1 / scale) if not kernel.axes else kernel.turn.double() / scale[:, None]
    yield from _turn(turn, kernel.offset)
    centres = kernel.centres.numpy()
    yield from dense_panels(centres, -0.5 * np.square(centres, dtype=np.float64).sum(axis=1))
    votes = np.pad(kernel.votes.numpy(), ((0, padded_columns(len(centres)) - len(centres)), (0, 0)))
    yield from dense_panels(votes.T, kernel.mean.numpy())
