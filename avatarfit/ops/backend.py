"""Which implementation an operation runs on, and why.

`reference` is plain torch (any float dtype, slow); `cpu` and `cuda` are the native libraries (float32 only). `tcnn` and
`nerfacc` are `cuda` but for the operations that tiny-cuda-nn and nerfacc have too, which are theirs. `auto`
takes the library of the tensors' own device wherever it loads, for float32, and `reference` otherwise; it logs once
what it took and why.
"""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass

import torch

from avatarfit.contracts import BackendError
from avatarfit.ops import native, native_cuda, vendor_nerfacc, vendor_tcnn

log = logging.getLogger(__name__)

VENDORS = {"tcnn": vendor_tcnn.describe, "nerfacc": vendor_nerfacc.describe}
"""Others' kernels for some of the operations, on CUDA."""
NAMES = ("auto", "reference", "cpu", "cuda", *VENDORS)
_DESCRIPTIONS = {"cpu": native.describe, "cuda": native_cuda.describe}


@dataclass(frozen=True)
class Choice:
    """The backend that was taken (any of `NAMES` but `auto`) and the reason, for a person to read."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name} ({self.reason})"


@functools.cache
def choose(backend: str = "auto", device_type: str = "cpu") -> Choice:
    """What `backend` (one of `NAMES`) comes to on this machine, for float32 tensors on such a device.

    Raises:
        BackendError: the name is unknown, the native library that was asked for does not load, or there is no GPU.
    """
    if backend == "reference":
        return Choice("reference", "asked for; plain torch")
    if backend in _DESCRIPTIONS:
        try:
            return Choice(backend, f"asked for; {_DESCRIPTIONS[backend]()}")
        except BackendError as error:
            if backend == "cpu":
                raise
            raise BackendError(f"backend 'cuda' was asked for, but {error.came}", error.wanted, error.do) from error
    if backend in VENDORS:
        return Choice(backend, f"asked for; {VENDORS[backend]()}; {_own_cuda(backend)}")
    if backend == "auto" and device_type in _DESCRIPTIONS:
        try:
            choice = Choice(device_type, _DESCRIPTIONS[device_type]())
        except BackendError as error:
            choice = Choice("reference", f"plain torch and slow, since the native kernels cannot be used: {error}")
            log.warning("avatarfit.ops backend on %s: %s", device_type, choice)
        else:
            log.info("avatarfit.ops backend on %s: %s", device_type, choice)
        return choice
    if backend == "auto":
        return Choice("reference", f"plain torch and slow, since there are no kernels for {device_type} tensors")
    raise BackendError(f"backend {backend!r} is unknown", "one of " + ", ".join(NAMES), "choose one of these")


def _own_cuda(vendor: str) -> str:
    try:
        return f"for the rest {native_cuda.describe()}"
    except BackendError as error:
        raise BackendError(f"backend '{vendor}' was asked for, but {error.came}", error.wanted, error.do) from error


def wants_native(backend: str, tensor: torch.Tensor) -> bool:
    """True when a native library is to be called for `tensor`'s dtype and device.

    Raises:
        BackendError: as `choose`; or a native backend was asked for and the tensor is not float32 on its device.
    """
    device_type = tensor.device.type
    if backend == "auto":
        return tensor.dtype == torch.float32 and choose(backend, device_type).name != "reference"
    choice = choose(backend)
    if choice.name == "reference":
        return False
    wanted = "cuda" if choice.name in VENDORS else choice.name
    if tensor.dtype != torch.float32 or device_type != wanted:
        raise BackendError(
            f"backend '{choice.name}' was given a {tensor.dtype} tensor on {tensor.device}",
            f"torch.float32 on {wanted}",
            "convert the tensor or ask for backend 'reference'",
        )
    return True
