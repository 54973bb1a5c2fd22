"""Checks made before any pointer is passed: dtype, device, shape, stride, each told in one sentence."""

from __future__ import annotations

import torch

from avatarfit.contracts import BackendError


def check(
    name: str,
    tensor: torch.Tensor,
    shape: tuple[int | None, ...],
    dtype: torch.dtype | None = None,
) -> None:
    """Hold `tensor` against a shape (`None`: any length) and, where given, a dtype.

    Raises:
        ValueError: something differs; the message gives what came and what was wanted.
    """
    got = tensor.shape
    if len(got) != len(shape) or any(w is not None and w != g for w, g in zip(shape, got, strict=True)):
        want = "[" + ", ".join("any" if s is None else str(s) for s in shape) + "]"
        raise ValueError(f"{name} came with shape {list(got)}; wanted {want}")
    if dtype is not None and tensor.dtype != dtype:
        raise ValueError(f"{name} came as {tensor.dtype}; wanted {dtype}")


def pointer(name: str, tensor: torch.Tensor, shape: tuple[int | None, ...], dtype: torch.dtype = torch.float32) -> int:
    """Address of a contiguous CPU tensor that passed every check.

    Raises:
        ValueError: wrong shape, dtype or stride.
        BackendError: the tensor lives on another device than the CPU.
    """
    check(name, tensor, shape, dtype)
    if tensor.device.type != "cpu":
        raise BackendError(f"{name} came on {tensor.device}", "a tensor on cpu", "move it with .cpu()")
    if not tensor.is_contiguous():
        raise ValueError(f"{name} came with strides {tensor.stride()}; wanted a contiguous tensor: call .contiguous()")
    return tensor.data_ptr()


def check_size(name: str, value: int, highest: int = 16384) -> None:
    """Hold a picture side against 1..highest.

    Raises:
        ValueError: outside.
    """
    if not 1 <= value <= highest:
        raise ValueError(f"{name} came as {value}; wanted 1 to {highest}")
