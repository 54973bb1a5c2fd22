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
    if got != shape and (
        len(got) != len(shape) or any(w is not None and w != g for w, g in zip(shape, got, strict=True))
    ):
        want = "[" + ", ".join("any" if s is None else str(s) for s in shape) + "]"
        raise ValueError(f"{name} came with shape {list(got)}; wanted {want}")
    if dtype is not None and tensor.dtype != dtype:
        raise ValueError(f"{name} came as {tensor.dtype}; wanted {dtype}")


CPU = torch.device("cpu")


def pointer(
    name: str,
    tensor: torch.Tensor,
    shape: tuple[int | None, ...],
    dtype: torch.dtype = torch.float32,
    device: torch.device = CPU,
    multiple_of: int = 1,
) -> int:
    """Address of a contiguous tensor on `device` that passed every check; a multiple of `multiple_of` bytes.

    Raises:
        ValueError: wrong shape, dtype, stride or alignment.
        BackendError: the tensor lives on another device.
    """
    check(name, tensor, shape, dtype)
    if tensor.device != device:
        raise BackendError(f"{name} came on {tensor.device}", f"a tensor on {device}", f"move it with .to('{device}')")
    if not tensor.is_contiguous():
        raise ValueError(f"{name} came with strides {tensor.stride()}; wanted a contiguous tensor: call .contiguous()")
    address = tensor.data_ptr()
    if address % multiple_of:
        raise ValueError(f"{name} starts at no multiple of {multiple_of} bytes; wanted one: call .clone()")
    return address


def check_size(name: str, value: int, highest: int = 16384) -> None:
    """Hold a picture side against 1..highest.

    Raises:
        ValueError: outside.
    """
    if not 1 <= value <= highest:
        raise ValueError(f"{name} came as {value}; wanted 1 to {highest}")
