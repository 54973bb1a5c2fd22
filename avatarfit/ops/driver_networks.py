"""The driver's two networks, each in one native call.

At a live moment they are asked for a few rows, and what forty small operations cost is not their arithmetic but their
being called. No gradients: what trains them is their torch module, which is also their reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ctypes import c_int32
from typing import Any

import numpy as np

from avatarfit.ops import native
from avatarfit.ops.backend import choose

_LANES = 16
"""Columns of a panel, as cpu/simd.h has them."""


def dense_panels(weight: np.ndarray, bias: np.ndarray | None = None) -> list[np.ndarray]:
    """A layer as the kernels read it: its bias, and its weights in panels of 16 outputs, padded with zeros.

    Args:
        weight: float [outputs, depth]; of a convolution the depth goes tap by tap.
        bias: float [outputs]; None for zeros.
    """
    outputs, depth = weight.shape
    count = -(-outputs // _LANES)
    padded = np.zeros((count * _LANES, depth), np.float32)
    padded[:outputs] = weight
    start = np.zeros(count * _LANES, np.float32)
    if bias is not None:
        start[:outputs] = bias
    return [start, np.ascontiguousarray(padded.reshape(count, _LANES, depth).transpose(0, 2, 1)).reshape(-1)]


def padded_columns(columns: int) -> int:
    """How many numbers a row of so many results takes."""
    return -(-columns // _LANES) * _LANES


class NativeNetwork:
    """What both networks are told.

    Args:
        sizes: whole numbers, in the kernel's order.
        parameters: float arrays, in the kernel's order.
    """

    def __init__(self, sizes: Sequence[int], parameters: Iterable[np.ndarray]) -> None:
        self.sizes = (c_int32 * len(sizes))(*sizes)
        self.parameters = np.concatenate([np.asarray(part, np.float32).reshape(-1) for part in parameters])

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        return type(self), (list(self.sizes), [self.parameters])


class PhonemeRows(NativeNetwork):
    """The phoneme encoder (`avatarfit.audio.phoneme_encoder`), row by row; sizes: cuda_ext/cpu/phoneme_rows.h."""

    def empty_past(self) -> np.ndarray:
        """What a stream keeps between calls: float32, zeros. The first rows after it tell nothing yet."""
        inputs, width, _, _, taps, blocks, *pairs = self.sizes
        reaches = 2 * sum(pairs[: 2 * blocks : 2])
        return np.zeros((taps - 1) * inputs + reaches * padded_columns(width), np.float32)

    def __call__(self, past: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """A row for each row.

        Args:
            past: as from `empty_past`; written to.
            rows: float32 [T, inputs].

        Returns:
            float32 [T, bottleneck + classes]: row t tells of the row that lies the network's look-ahead before it.
        """
        rows = np.ascontiguousarray(rows, np.float32)
        out = np.empty((len(rows), self.sizes[2] + self.sizes[3]), np.float32)
        status = native.load().af_phoneme_rows(
            native.workspace(), self.sizes, self.parameters.ctypes.data, self.parameters.size, past.ctypes.data,
            rows.ctypes.data, len(rows), out.ctypes.data,
        )  # fmt: skip
        _check(status)
        return out


class AudioToLandmarksKernel(NativeNetwork):
    """`avatarfit.model.audio_to_landmarks`. Sizes and order: cuda_ext/cpu/audio_to_landmarks.h.

    Args:
        shares: of the two kernel regressions in the mean.
        others: see `NativeNetwork`.
    """

    def __init__(self, sizes: Sequence[int], parameters: Iterable[np.ndarray], shares: tuple[float, float]) -> None:
        super().__init__(sizes, parameters)
        self.shares = shares

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        return type(self), (list(self.sizes), [self.parameters], self.shares)

    def __call__(self, x: np.ndarray, skip: int, tokens: int, values: int) -> np.ndarray:
        """float32 [B, tokens - skip, values] of hops float32 [B, H, D], as the module gives them."""
        x = np.ascontiguousarray(x, np.float32)
        out = np.empty((len(x), tokens - skip, values), np.float32)
        for hops, told in zip(x, out, strict=True):
            status = native.load().af_audio_to_landmarks(
                native.workspace(), self.sizes, *self.shares, self.parameters.ctypes.data, self.parameters.size,
                hops.ctypes.data, len(hops), skip, told.ctypes.data,
            )  # fmt: skip
            _check(status)
        return out


def _check(status: int) -> None:
    if status == native.STATUS_BAD_VALUE:
        raise ValueError("a network's sizes and parameters do not fit each other; wanted those of one network")
    native.check_status(status)


def wants_native_networks(backend: str = "auto") -> bool:
    """Whether the driver's networks run in the native library; elsewhere torch runs them.

    Raises:
        BackendError: it was asked for, and does not load.
    """
    return choose(backend).name == "cpu"
