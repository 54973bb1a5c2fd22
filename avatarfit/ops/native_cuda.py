"""The native CUDA library: where it lies, whether it can be used here, and the calls it offers.

It holds a CUDA runtime of its own, so it loads on a machine without a driver, whatever CUDA torch was built for.
Calls go onto torch's current stream and return at once; their scratch memory is torch's.
"""

from __future__ import annotations

import ctypes
import functools
from contextlib import AbstractContextManager, nullcontext
from ctypes import c_char_p, c_double, c_float, c_int32, c_int64, c_void_p
from pathlib import Path
from typing import Any

import torch

from avatarfit.contracts import BackendError
from avatarfit.ops.native import library_places, open_library

ABI_VERSION = 5
LIBRARY_NAME = "libavatarfit_cuda.so"
OLDEST_CAPABILITY = (8, 0)
"""Compute capability that the kernels are compiled for at least: Ampere."""


class FrameEntry(ctypes.Structure):
    """`frame` of cuda_ext/cuda/frame.cuh: addresses on the device, sizes, and a camera's focal length and centre."""

    _fields_ = [
        *((name, c_void_p) for name in ("base", "deltas", "weights", "group", "skin", "head", "torso", "background")),
        *((name, c_int32) for name in ("n", "k", "groups", "half", "first")),
        *((name, c_float) for name in ("focal_px", "center_x_px", "center_y_px")),
        ("rest_of_camera", c_float * 6),
    ]


_CAMERA = [c_float, c_float, c_float, c_int32, c_int32]
_WHERE = [c_int32, c_void_p]
_WORKSPACE = [c_void_p, c_int64]
_GRID = [c_void_p, c_int64, c_int32, c_void_p, c_int32, c_void_p, c_void_p, c_int32]
_MARCH = [c_void_p] * 5 + [c_int64, c_void_p, c_void_p, c_void_p, c_int32, c_float]
_SAMPLES = [c_void_p] * 5 + [c_int64, c_int32]
_MLP = [c_void_p, c_int64, c_void_p, c_int32, c_void_p]
_SIGNATURES: dict[str, tuple[list[Any], Any]] = {
    "af_cuda_abi_version": ([], c_int32),
    "af_cuda_architectures": ([], c_char_p),
    "af_cuda_status_text": ([c_int32], c_char_p),
    "af_cuda_blend": ([c_void_p] * 4 + [c_int64, c_int32, c_int32, c_int32, c_void_p, *_WHERE], c_int32),
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
    "af_cuda_render_workspace": ([c_void_p] + [c_int32] * 4 + [c_void_p], c_int32),
    "af_cuda_render_frames": ([c_void_p] + [c_int32] * 3 + [c_void_p, *_WORKSPACE, *_WHERE], c_int32),
    "af_cuda_rasterise_backward": (
        [c_void_p, c_int64, c_int32, c_int32] + [c_void_p] * 3 + [c_int32, *_WORKSPACE, *_WHERE],
        c_int32,
    ),
    "af_cuda_l1_dssim_workspace": ([c_int32] * 3, c_int64),
    "af_cuda_l1_dssim": ([c_void_p] * 4 + [c_int32, c_int32, c_float] + [c_void_p] * 3 + _WHERE, c_int32),
    "af_cuda_hash_encode": ([*_GRID, c_void_p, *_WHERE], c_int32),
    "af_cuda_hash_encode_backward": ([*_GRID] + [c_void_p] * 3 + _WHERE, c_int32),
    "af_cuda_march_rays_count": ([*_MARCH, c_int32, c_void_p, c_void_p, *_WHERE], c_int32),
    "af_cuda_march_rays_write": (_MARCH + [c_void_p] * 5 + _WHERE, c_int32),
    "af_cuda_composite_rays": (_SAMPLES + [c_void_p] * 4 + _WHERE, c_int32),
    "af_cuda_composite_rays_backward": (_SAMPLES + [c_void_p] * 7 + _WHERE, c_int32),
    "af_cuda_fused_mlp": ([*_MLP, c_void_p, *_WHERE], c_int32),
    "af_cuda_fused_mlp_workspace": ([c_int64, c_void_p, c_int32], c_int64),
    "af_cuda_fused_mlp_backward": ([*_MLP] + [c_void_p] * 4 + _WHERE, c_int32),
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


def _current(device: torch.device) -> AbstractContextManager[object]:
    # A call makes its device the thread's current one, for torch as well; this puts another one back.
    if device.type == "cuda" and torch.cuda.current_device() != device.index:
        return torch.cuda.device(device)
    return nullcontext()


def call(name: str, device: torch.device, *arguments: object) -> None:
    """Put the named call onto the device's current stream.

    Raises:
        ValueError: a size is out of range.
        RuntimeError: CUDA refused it; the message is CUDA's own.
    """
    with _current(device):
        check_status(name, getattr(load(), name)(*arguments, *where(device)))


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


def sized_scratch(name: str, device: torch.device, *arguments: object) -> torch.Tensor:
    """Scratch memory of as many bytes as the named call says these arguments take on that device.

    Raises:
        ValueError, RuntimeError: as `call`.
    """
    byte_count = c_int64()
    with _current(device):
        check_status(name, getattr(load(), name)(*arguments, where(device)[0], ctypes.byref(byte_count)))
    return scratch(byte_count.value, device)
