"""Which implementation an operation runs on, and why.

`reference` is plain torch (any float dtype, slow); `cpu` is the native library (float32 only). `auto` takes `cpu` for
float32 tensors wherever the library loads and `reference` otherwise; it logs once what it took and why.
"""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass

import torch

from avatarfit.contracts import BackendError
from avatarfit.ops import native

log = logging.getLogger(__name__)

NAMES = ("auto", "reference", "cpu")


@dataclass(frozen=True)
class Choice:
    """The backend that was taken (`reference` or `cpu`) and the reason, for a person to read."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name} ({self.reason})"


@functools.cache
def choose(backend: str = "auto") -> Choice:
    """What `backend` (`auto | reference | cpu`) comes to on this machine, for float32 tensors.

    Raises:
        BackendError: the name is unknown, is `cuda` (there is no CUDA backend), or the native library does not load.
    """
    if backend == "reference":
        return Choice("reference", "asked for; plain torch")
    if backend == "cpu":
        return Choice("cpu", f"asked for; {native.describe()}")
    if backend == "auto":
        try:
            choice = Choice("cpu", native.describe())
        except BackendError as error:
            choice = Choice("reference", f"plain torch and slow, since the native library is missing: {error}")
            log.warning("avatarfit.ops backend: %s", choice)
        else:
            log.info("avatarfit.ops backend: %s", choice)
        return choice
    if backend == "cuda":
        raise BackendError(
            "backend 'cuda' was asked for but no CUDA kernels are built",
            "'auto', 'cpu' or 'reference'",
            "ask for 'cpu', or 'auto' to take the fastest there is",
        )
    raise BackendError(f"backend {backend!r} is unknown", "one of " + ", ".join(NAMES), "choose one of these")


def wants_native(backend: str, tensor: torch.Tensor) -> bool:
    """True when the native library is to be called for `tensor`'s dtype.

    Raises:
        BackendError: as `choose`; or `cpu` was asked for and the tensor is not float32 in main memory.
    """
    if backend == "auto" and (tensor.dtype != torch.float32 or tensor.device.type != "cpu"):
        return False
    choice = choose(backend)
    if choice.name != "cpu":
        return False
    if tensor.dtype != torch.float32 or tensor.device.type != "cpu":
        raise BackendError(
            f"backend 'cpu' was given a {tensor.dtype} tensor on {tensor.device}",
            "torch.float32 on cpu",
            "convert the tensor or ask for backend 'reference'",
        )
    return True
