"""The native CUDA library: where it lies, whether it can be used here, and the calls it offers.

It holds a CUDA runtime of its own, so it loads on a machine without a driver, whatever CUDA torch was built for.
Calls go onto torch's current stream and return at once; their scratch memory is torch's.
"""

from __future__ import annotations

import ctypes
import functools
from ctypes import c_char_p, c_double, c_float, c_int32, c_int64, c_void_p
from pathlib import Path
from typing import Any

import torch

from avatarfit.contracts import BackendError
from avatarfit.ops.native import library_places, open_library

ABI_VERSION = 1
LIBRARY_NAME = "libavatarfit_cuda.so"
OLDEST_CAPABILITY = (8, 0)
"""Compute capability that the kernels are compiled for at least: Ampere."""

_CAMERA = [c_float, c_float, c_float, c_int32, c_int32]
_WHERE = [c_int32, c_void_p]
_WORKSPACE = [c_void_p, c_int64]
_SIGNATURES: dict[str, tuple[list[Any], Any]] = {
    "af_cuda_abi_version": ([], c_int32),
    "af_cuda_architectures": ([], c_char_p),
    "af_cuda_status_text": ([c_int32], c_char_p),
    "af_cuda_blend": ([c_void_p] * 4 + [c_int64, c_int32, c_int32, c_void_p, *_WHERE], c_int32),
    "af_cuda_blend_workspace": ([c_int64, c_int32, c_int32], c_int64),
    "af_cuda_blend_backward": (
        [c_void_p] * 4 + [c_int64, c_int32, c_int32] + [c_void_p] * 3 + _WHERE,
        c_int32,
    ),
    "af_cuda_blend_adam_step": (
        [c_void_p] * 9
        + [c_int64, c_int32, c_int32, c_void_p, c_void_p, c_double, c_double]
        + [c_float] * 4
        + [c_void_p] * 2
        + _WHERE,
        c_int32,
    ),
    "af_cuda_project": ([c_void_p] * 4 + [c_int64, *_CAMERA, c_void_p, *_WHERE], c_int32),
    "af_cuda_project_workspace": ([c_int64], c_int64),
    "af_cuda_project_backward": ([c_void_p] * 4 + [c_int64, *_CAMERA] + [c_void_p] * 6 + _WHERE, c_int32),
    "af_cuda_rasterise_workspace": ([c_int64, c_int32, c_int32, c_int32, c_void_p], c_int32),
    "af_cuda_rasterise": ([c_void_p, c_int64, c_int32, c_int32, c_void_p, *_WORKSPACE, *_WHERE], c_int32),
    "af_cuda_rasterise_over": (
        [c_void_p, c_int64, c_int32, c_int32, c_void_p, c_void_p, *_WORKSPACE, *_WHERE],
        c_int32,
    ),
    "af_cuda_rasterise_backward": (
        [c_void_p, c_int64, c_int32, c_int32] + [c_void_p] * 3 + [c_int32, *_WORKSPACE, *_WHERE],
        c_int32,
    ),
    "af_cuda_l1_dssim_workspace": ([c_int32] * 3, c_int64),
    "af_cuda_l1_dssim": ([c_void_p] * 4 + [c_int32, c_int32, c_float] + [c_void_p] * 3 + _WHERE, c_int32),
}


def find_library() -> Path:
    """Path of the CUDA library.

    Raises:
        BackendError: it was not built, or lies nowhere the package looks.
    """
    found, folders = library_places(LIBRARY_NAME)
    if found:
        return found[0]
    raise BackendError(
        f"the CUDA kernels are not built: {LIBRARY_NAME} is in none of " + ", ".join(map(str, folders)),
        "the library that the package build compiles where nvcc is",
        "install the package with `AVATARFIT_CUDA=1 pip install .` on a machine with nvcc, or ask for backend 'cpu'",
    )


@functools.cache
def load() -> ctypes.CDLL:
    """The CUDA library, loaded once, with every call's argument types declared. Needs no GPU.

    Raises:
        BackendError: missing, not loadable on this machine, or built from another version of the package.
    """
    path = find_library()
    again = "rebuild the package with AVATARFIT_CUDA=1, or ask for backend 'cpu'"
    return open_library(path, "af_cuda_abi_version", ABI_VERSION, _SIGNATURES, again)


def architectures() -> list[str]:
    """What the library was compiled for, as CMake names it: `90` also holds PTX for what is newer.

    Raises:
        BackendError: as `load`.
    """
    names: bytes = load().af_cuda_architectures()
    return names.decode().split()


def device_name() -> str:
    """Name and compute capability of the GPU in use.

    Raises:
        BackendError: there is none that the kernels run on.
    """
    do = "ask for backend 'cpu' or 'auto'"
    if not torch.cuda.is_available():
        build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        raise BackendError(
            f"there is no CUDA device: torch {torch.__version__}, {build}, sees none",
            "an NVIDIA GPU with its driver and a torch built for CUDA",
            do,
        )
    capability = torch.cuda.get_device_capability()
    name = f"{torch.cuda.get_device_name()}, compute capability {capability[0]}.{capability[1]}"
    if capability < OLDEST_CAPABILITY:
        raise BackendError(f"the GPU is too old: {name}", "compute capability 8.0 (Ampere) or newer", do)
    return name


def describe() -> str:
    """What the CUDA kernels would run on, in words: file, architectures, GPU.

    Raises:
        BackendError: the library or the device is missing; the message says which.
    """
    return f"{LIBRARY_NAME} for {', '.join(architectures())}, on {device_name()}"


def where(device: torch.device) -> tuple[int, int]:
    """Number of a CUDA device and the handle of torch's current stream there."""
    return device.index, torch.cuda.current_stream(device).cuda_stream


def call(name: str, device: torch.device, *arguments: object) -> None:
    """Put the named call onto the device's current stream.

    Raises:
        ValueError: a size is out of range.
        RuntimeError: CUDA refused it; the message is CUDA's own.
    """
    library = load()
    if device.type == "cuda" and torch.cuda.current_device() != device.index:
        with torch.cuda.device(device):
            status = getattr(library, name)(*arguments, *where(device))
    else:
        status = getattr(library, name)(*arguments, *where(device))
    check_status(name, status)


def check_status(name: str, status: int) -> None:
    """Turn a status into an exception.

    Raises:
        ValueError: a size is out of range.
        RuntimeError: any other failure, in CUDA's own words.
    """
    if not status:
        return
    text = load().af_cuda_status_text(status).decode()
    if status == 1:
        raise ValueError(f"{name}: {text}")
    raise RuntimeError(f"{name} failed: {text}")


def scratch(byte_count: int, device: torch.device) -> torch.Tensor:
    """Scratch memory of torch's allocator, which hands it out again in the order of the stream."""
    return torch.empty(byte_count, dtype=torch.uint8, device=device)
