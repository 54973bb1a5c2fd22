"""The native CPU library: where it lies, what it was built for, and the calls it offers."""

from __future__ import annotations

import ctypes
import functools
import importlib.metadata
import os
import sysconfig
import threading
from collections.abc import Iterator
from ctypes import c_char_p, c_double, c_float, c_int32, c_int64, c_void_p
from pathlib import Path
from typing import Any

from avatarfit.contracts import BackendError

ABI_VERSION = 9
LIBRARY_NAME = "libavatarfit_cpu.so"

STATUS_OK = 0
STATUS_BAD_VALUE = 1
STATUS_NO_MEMORY = 2
STATUS_NOT_FINITE = 3

_CAMERA = [c_float, c_float, c_float, c_int32, c_int32]
_RENDER = [c_void_p] * 5 + [c_int64, c_int32, c_int32] + [c_void_p] * 3 + [*_CAMERA, c_void_p, c_void_p]
_GRID = [c_void_p, c_int64, c_int32, c_void_p, c_int32, c_void_p, c_void_p, c_int32]
_MARCH = [c_void_p] * 5 + [c_int64, c_void_p, c_void_p, c_void_p, c_int32, c_float]
_SAMPLES = [c_void_p] * 5 + [c_int64, c_int32]
_LEVELS = [c_void_p, c_int32, c_void_p, c_void_p, c_int32]
_LAYERS = [c_void_p, c_int32, c_void_p]
_MLP = [c_void_p, c_int64, c_void_p, c_int32, c_void_p]
_SIGNATURES: dict[str, tuple[list[Any], Any]] = {
    "af_abi_version": ([], c_int32),
    "af_isa": ([], c_char_p),
    "af_set_isa": ([c_char_p], c_int32),
    "af_threads": ([], c_int32),
    "af_set_threads": ([c_int32], c_int32),
    "af_constant": ([c_char_p], c_double),
    "af_workspace_create": ([], c_void_p),
    "af_workspace_destroy": ([c_void_p], None),
    "af_blend": ([c_void_p] * 4 + [c_int64, c_int32, c_int32, c_void_p], c_int32),
    "af_blend_half": ([c_void_p] * 4 + [c_int64, c_int32, c_int32, c_void_p], c_int32),
    "af_blend_backward": ([c_void_p] * 4 + [c_int64, c_int32, c_int32, c_void_p, c_void_p], c_int32),
    "af_blend_adam_step": (
        [c_void_p] * 9
        + [c_int64, c_int32, c_int32, c_void_p, c_void_p, c_double, c_double]
        + [c_float] * 4
        + [c_void_p],
        c_int32,
    ),
    "af_project": ([c_void_p] * 4 + [c_int64, *_CAMERA, c_void_p], c_int32),
    "af_project_backward": ([c_void_p] * 4 + [c_int64, *_CAMERA] + [c_void_p] * 5, c_int32),
    "af_rasterise": ([c_void_p, c_void_p, c_int64, c_int32, c_int32, c_void_p], c_int32),
    "af_rasterise_backward": (
        [c_void_p, c_void_p, c_int64, c_int32, c_int32, c_void_p, c_void_p, c_void_p],
        c_int32,
    ),
    "af_rasterise_over": ([c_void_p, c_void_p, c_int64, c_int32, c_int32, c_void_p, c_void_p], c_int32),
    "af_render_over": (_RENDER, c_int32),
    "af_render_over_half": (_RENDER, c_int32),
    "af_workspace_profile": ([c_void_p, c_void_p, c_int32], c_int32),
    "af_keep_freed_memory": ([], c_int32),
    "af_l1_dssim": ([c_void_p] * 5 + [c_int32, c_int32, c_float, c_void_p, c_void_p], c_int32),
    "af_hash_encode": ([*_GRID, c_void_p], c_int32),
    "af_hash_encode_backward": ([*_GRID] + [c_void_p] * 3, c_int32),
    "af_march_rays_count": ([c_void_p, *_MARCH, c_int32, c_void_p], c_int32),
    "af_march_rays_write": ([c_void_p, *_MARCH] + [c_void_p] * 4, c_int32),
    "af_composite_rays": (_SAMPLES + [c_void_p] * 4, c_int32),
    "af_composite_rays_backward": (_SAMPLES + [c_void_p] * 7, c_int32),
    "af_fused_mlp": ([c_void_p, *_MLP, c_void_p], c_int32),
    "af_fused_mlp_backward": ([c_void_p, *_MLP] + [c_void_p] * 3, c_int32),
    "af_see_field": (
        [c_void_p] * 4
        + [c_int64, c_void_p, c_void_p, c_int32, *_LEVELS, *_LEVELS, *_LAYERS, *_LAYERS]
        + [c_void_p, c_int32, c_float, c_void_p],
        c_int32,
    ),
    "af_phoneme_rows": ([c_void_p] * 3 + [c_int64, c_void_p, c_void_p, c_int64, c_void_p], c_int32),
    "af_audio_to_landmarks": (
        [c_void_p, c_void_p, c_float, c_float, c_void_p, c_int64, c_void_p, c_int64, c_int64, c_void_p],
        c_int32,
    ),
}


def _folders(library_name: str) -> Iterator[Path]:
    """Folders that may hold a library: beside this file, then wherever an editable install put the package."""
    yield Path(__file__).parent
    import avatarfit.ops

    yield from map(Path, avatarfit.ops.__path__)
    for key in ("platlib", "purelib"):
        yield Path(sysconfig.get_path(key)) / "avatarfit" / "ops"
    try:
        files = importlib.metadata.files("avatarfit") or []
    except importlib.metadata.PackageNotFoundError:
        return
    for file in files:
        if file.name == library_name:
            yield Path(str(file.locate())).parent


def library_places(library_name: str) -> tuple[list[Path], list[Path]]:
    """Where a library lies, the newest first, and every folder that was looked in.

    An editable install and a build by hand may have left one each.
    """
    folders = list(dict.fromkeys(_folders(library_name)))
    found = [folder / library_name for folder in folders if (folder / library_name).is_file()]
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True), folders


def find_library() -> Path:
    """Path of the native library.

    Raises:
        BackendError: it lies nowhere the package looks.
    """
    found, folders = library_places(LIBRARY_NAME)
    if found:
        return found[0]
    raise BackendError(
        f"{LIBRARY_NAME} is in none of " + ", ".join(map(str, folders)),
        "the library that the package build compiles",
        "install the package with `pip install .` on a machine with gcc, or ask for backend 'reference'",
    )


def open_library(
    path: Path, version_call: str, wanted_version: int, signatures: dict[str, tuple[list[Any], Any]], again: str
) -> ctypes.CDLL:
    """A native library with every call's argument types declared.

    Args:
        version_call: the call that gives the library's interface version.
        again: what a person does to get a right one.

    Raises:
        BackendError: not loadable on this machine, or of another interface version.
    """
    try:
        library = ctypes.CDLL(str(path))
        version = getattr(library, version_call)()
    except (OSError, AttributeError) as error:
        raise BackendError(f"{path} does not load ({error})", "a library built for this machine", again) from error
    if version != wanted_version:
        raise BackendError(f"{path} has interface version {version}", f"version {wanted_version}", again)
    for name, (arguments, result) in signatures.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, result
    return library


@functools.cache
def load() -> ctypes.CDLL:
    """The native library, loaded once, with every call's argument types declared.

    Raises:
        BackendError: missing, not loadable on this machine, or built from another version of the package.
    """
    path = find_library()
    again = "rebuild the package (`pip install .`), or ask for backend 'reference'"
    library = open_library(path, "af_abi_version", ABI_VERSION, _SIGNATURES, again)
    wanted_isa = os.environ.get("AVATARFIT_ISA")
    if wanted_isa:
        _set_isa(library, wanted_isa)
    threads = os.environ.get("AVATARFIT_THREADS")
    if threads:
        if not threads.isdigit() or int(threads) < 1:
            raise BackendError(f"AVATARFIT_THREADS is {threads!r}", "a number from 1", "set it so, or unset it")
        library.af_set_threads(int(threads))
    return library


def _set_isa(library: ctypes.CDLL, isa: str) -> None:
    if library.af_set_isa(isa.encode()):
        raise BackendError(
            f"instruction set {isa!r} cannot run here",
            "one of " + ", ".join(available_isas(library)),
            "choose one of these, or leave AVATARFIT_ISA unset",
        )


def available_isas(library: ctypes.CDLL | None = None) -> list[str]:
    """Instruction sets that were built in and that this machine runs, fastest first."""
    library = library or load()
    before = library.af_isa()
    found = [isa for isa in ("avx512", "avx2", "baseline") if library.af_set_isa(isa.encode()) == STATUS_OK]
    library.af_set_isa(before)
    return found


def isa() -> str:
    """Instruction set in use."""
    name: bytes = load().af_isa()
    return name.decode()


def set_isa(name: str) -> None:
    """Force an instruction set: `avx512 | avx2 | baseline`.

    Raises:
        BackendError: this machine or build lacks it.
    """
    _set_isa(load(), name)


def threads() -> int:
    """Threads a native call may use, the calling one among them."""
    return int(load().af_threads())


def set_threads(count: int) -> None:
    """Set how many threads a native call may use (1 to 64).

    Raises:
        ValueError: outside 1..64.
    """
    if not 1 <= count <= 64:
        raise ValueError(f"count came as {count}; wanted 1 to 64 threads")
    load().af_set_threads(count)


def keep_freed_memory() -> bool:
    """Make the C allocator of this process keep freed blocks of up to 1 GiB for reuse; True when it took hold.

    A step allocates several megabyte-sized tensors; giving their pages back each time costs about a millisecond of page
    faults. For programs that loop over steps or frames, not for a library to do behind their back.
    """
    return load().af_keep_freed_memory() == STATUS_OK


def describe() -> str:
    """What the library is, in words: file, instruction set, threads.

    Raises:
        BackendError: as `load`.
    """
    library = load()
    return f"{LIBRARY_NAME}, {library.af_isa().decode()}, {library.af_threads()} threads"


_local = threading.local()


class _Owner:
    """Frees the workspace when its thread ends."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.handle: int | None = library.af_workspace_create()
        self._destroy = library.af_workspace_destroy

    def __del__(self) -> None:
        if self.handle:
            self._destroy(self.handle)


def workspace() -> int:
    """Handle of the calling thread's scratch memory, made on first use and freed with the thread.

    Raises:
        MemoryError: none is left.
    """
    owner: _Owner | None = getattr(_local, "owner", None)
    if owner is None:
        owner = _local.owner = _Owner(load())
    if owner.handle is None:
        raise MemoryError("the native kernels found no memory for a workspace")
    return owner.handle


def check_status(status: int, held_finite: str = "an argument") -> None:
    """Turn a status code into an exception; `held_finite` names what the call holds to be finite.

    Raises:
        MemoryError: the call ran out of memory.
        ValueError: NaN or infinity came.
        RuntimeError: any other failure.
    """
    if status == STATUS_NO_MEMORY:
        raise MemoryError("the native kernels ran out of memory")
    if status == STATUS_NOT_FINITE:
        raise ValueError(f"{held_finite} came with NaN or infinity; wanted finite numbers")
    if status:
        raise RuntimeError(f"the native kernels returned status {status}")
