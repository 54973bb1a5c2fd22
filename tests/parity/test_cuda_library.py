"""The CUDA library compiles, loads without a GPU and offers what Python calls; and what is said where it is missing."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from avatarfit import ops
from avatarfit.contracts import BackendError
from avatarfit.ops import native_cuda

CUDA_EXT = Path(__file__).resolve().parents[2] / "cuda_ext"


@pytest.fixture
def library(monkeypatch, tmp_path):
    """The library of this build; one compiled here and now where nvcc is but the build left CUDA out."""
    try:
        native_cuda.find_library()
    except BackendError:
        if shutil.which("nvcc") is None:
            pytest.skip("NO CUDA COMPILER and no library of an earlier build: the CUDA library was not tried")
        built = tmp_path / native_cuda.LIBRARY_NAME
        command = ["nvcc", "-std=c++17", "-arch=sm_90", "-shared", "-Xcompiler", "-fPIC", "-I", str(CUDA_EXT)]
        sources = [str(CUDA_EXT / "cuda" / name) for name in ("kernels.cu", "sort.cu")]
        subprocess.run([*command, *sources, "-o", str(built)], check=True)
        monkeypatch.setattr(native_cuda, "find_library", lambda: built)
    native_cuda.load.cache_clear()
    yield native_cuda.load()
    native_cuda.load.cache_clear()


def test_the_library_loads_without_a_gpu_and_has_every_call(library):
    assert library.af_cuda_abi_version() == native_cuda.ABI_VERSION
    for name in native_cuda._SIGNATURES:
        assert isinstance(getattr(library, name), ctypes._CFuncPtr)
    assert library.af_cuda_status_text(0) == b"no error"
    assert library.af_cuda_status_text(2) == b"the workspace is too small"


def test_without_a_gpu_a_call_returns_cudas_own_words(library):
    size = ctypes.c_int64()
    status = library.af_cuda_rasterise_workspace(10, 4, 4, 0, ctypes.byref(size))
    if status == 0:
        assert size.value > 10 * 64
        pytest.skip("this machine has a GPU: there was nothing to complain of")
    assert status > 1000
    with pytest.raises(RuntimeError, match=r"af_cuda_rasterise_workspace failed: .*(driver|device)"):
        native_cuda.check_status("af_cuda_rasterise_workspace", status)


def test_asking_for_cuda_without_a_device_says_so(library, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BackendError, match=r"'cuda' was asked for, but there is no CUDA device: torch .* sees none"):
        ops.choose.__wrapped__("cuda")


def test_asking_for_cuda_without_the_library_says_what_to_do(monkeypatch):
    monkeypatch.setattr(native_cuda, "LIBRARY_NAME", "libnothing.so")
    native_cuda.load.cache_clear()
    with pytest.raises(BackendError, match=r"CUDA kernels are not built: libnothing.so .*AVATARFIT_CUDA=1 pip install"):
        ops.choose.__wrapped__("cuda")
    assert ops.choose.__wrapped__("auto", "cuda").name == "reference"
    assert ops.choose.__wrapped__("auto", "cpu").name == "cpu"


def test_an_old_gpu_is_refused_by_name(library, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some Turing")
    with pytest.raises(BackendError, match=r"too old: Some Turing, compute capability 7.5; wanted .*8.0"):
        native_cuda.device_name()
