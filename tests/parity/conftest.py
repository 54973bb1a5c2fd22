from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from avatarfit.ops import Frame, Gaussians, HashGrid, cuda_kernels, hash_encode_reference, native, native_cuda

ROOT = Path(__file__).resolve().parents[2]
EMULATION = Path(__file__).resolve().parent / "cuda_on_host"


@dataclass(frozen=True)
class Scene:
    """Gaussians and a camera, float64; the same seed gives the same scene."""

    attributes: Tensor
    skin: Tensor
    head: Tensor
    torso: Tensor
    camera: tuple[float, float, float, int, int]

    @property
    def size(self) -> tuple[int, int]:
        return self.camera[4], self.camera[3]

    def inputs(self, dtype: torch.dtype) -> list[Tensor]:
        return [t.to(dtype).clone().requires_grad_() for t in (self.attributes, self.skin, self.head, self.torso)]


def make_scene(seed: int, count: int, height: int, width: int, log_scale: float = -0.7) -> Scene:
    """Overlapping Gaussians of every shape around (0, 0, 60) cm, some of them outside the picture."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    attributes = torch.zeros(count, 14, dtype=torch.float64)
    attributes[:, :3] = normal(count, 3) * torch.tensor([8.0, 8.0, 4.0])
    attributes[:, 3:7] = normal(count, 4)
    attributes[:, 7:10] = log_scale + 0.4 * normal(count, 3)
    attributes[:, 10] = 1.5 * normal(count)
    attributes[:, 11:] = torch.rand(count, 3, generator=random, dtype=torch.float64)
    rotation = torch.linalg.qr(normal(3, 3))[0]
    head = torch.cat([rotation, torch.tensor([[0.3], [-0.2], [60.0]])], 1)
    torso = torch.cat([torch.eye(3) + 0.1 * normal(3, 3), torch.tensor([[0.0], [1.0], [62.0]])], 1)
    skin = torch.rand(count, generator=random, dtype=torch.float64)
    return Scene(attributes, skin, head, torso, (2.4 * width, width / 2 + 0.7, height / 2 - 1.3, width, height))


@pytest.fixture
def scene() -> Callable[..., Scene]:
    return make_scene


def frames_of(sizes: list[tuple[int, int, int]], height: int, width: int) -> list[Frame]:
    frames = []
    for seed, (count, bases, groups) in enumerate(sizes):
        made, random = make_scene(seed, count, height, width), torch.Generator().manual_seed(seed)
        attributes, skin, head, torso = (t.detach() for t in made.inputs(torch.float32))
        deltas = 0.05 * torch.randn(count, bases, 14, generator=random)
        weights = torch.randn(groups, bases, generator=random)
        group = torch.randint(0, groups, (count,), generator=random, dtype=torch.int32)
        background = torch.randint(0, 256, (height, width, 3), generator=random, dtype=torch.uint8)
        still, (focal_px, *center) = Gaussians(attributes, deltas, group, skin), made.camera[:3]
        frames.append(Frame(still, weights, head, torso, focal_px * (1 + 0.1 * seed), *center, background))
    return frames


@pytest.fixture
def make_frames() -> Callable[..., list[Frame]]:
    """Frames of avatars of so many Gaussians, bases and groups; float32 on the CPU."""
    return frames_of


@pytest.fixture(params=["avx512", "avx2", "baseline"])
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each instruction set that this machine runs, forced for the test."""
    before = native.isa()
    if request.param not in native.available_isas():
        pytest.skip(f"this machine or build has no {request.param}")
    native.set_isa(request.param)
    assert native.isa() == request.param
    yield request.param
    native.set_isa(before)


def worst(got: Tensor, want: Tensor) -> float:
    """Largest difference, as a share of the largest wanted magnitude."""
    scale = float(want.abs().max()) if want.numel() else 0.0
    difference = float((got.double() - want.double()).abs().max()) if want.numel() else 0.0
    return difference / scale if scale > 0 else difference


@pytest.fixture
def relative_error() -> Callable[[Tensor, Tensor], float]:
    return worst


def separated_splats(count: int, height: int, width: int, seed: int = 0) -> Tensor:
    """float64 splats so far apart that no two share a pixel."""
    random = torch.Generator().manual_seed(seed)
    side = int(count**0.5)
    assert side * side == count
    grid_y, grid_x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    splats = torch.zeros(count, 10, dtype=torch.float64)
    splats[:, 0] = (grid_x.flatten() + 0.5) * width / side + 0.31
    splats[:, 1] = (grid_y.flatten() + 0.5) * height / side - 0.17
    splats[:, 2] = 0.45 + 0.1 * torch.rand(count, generator=random)
    splats[:, 3] = 0.1 * torch.rand(count, generator=random) - 0.05
    splats[:, 4] = 0.45 + 0.1 * torch.rand(count, generator=random)
    splats[:, 5] = 0.3 + 0.5 * torch.rand(count, generator=random)
    splats[:, 6:9] = torch.rand(count, 3, generator=random)
    splats[:, 9] = 40 + torch.arange(count)
    return splats


@pytest.fixture
def separated() -> Callable[..., Tensor]:
    return separated_splats


@functools.cache
def build(folder: Path) -> Path:
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("NO C++ COMPILER: the CUDA kernels were not run in the emulation")
    library = folder / "libavatarfit_cuda_on_host.so"
    command = [compiler, "-std=c++17", "-O2", "-w", "-shared", "-fPIC", "-I", str(ROOT / "cuda_ext")]
    command += ["-include", str(EMULATION / "cuda_on_host.h"), "-x", "c++", str(ROOT / "cuda_ext/cuda/kernels.cu")]
    subprocess.run([*command, str(EMULATION / "sort_on_host.cpp"), "-o", str(library)], check=True)
    return library


@pytest.fixture(params=["first to last", "last to first"])
def emulation(request, tmp_path_factory, monkeypatch) -> Iterator[None]:
    """The emulated library in place of the real one, and the CPU in place of a GPU; in both orders of the threads."""
    library = build(tmp_path_factory.getbasetemp())
    monkeypatch.setattr(native_cuda, "find_library", lambda: library)
    monkeypatch.setattr(native_cuda, "where", lambda device: (0, 0))
    if request.param == "last to first":
        # os.environ also reaches getenv in C.
        monkeypatch.setenv("AF_REVERSE", "1")
    native_cuda.load.cache_clear()
    cuda_kernels._last_bins.clear()
    yield
    native_cuda.load.cache_clear()
    cuda_kernels._last_bins.clear()


@dataclass(frozen=True)
class EncodeScene:
    """A hash grid, its table, points, some of them outside, and a gradient; float64 that float32 holds exactly."""

    grid: HashGrid
    points: Tensor
    table: Tensor
    grad: Tensor

    def reference(self, dtype: torch.dtype) -> list[Tensor]:
        """Value, and gradients of points and table, by autograd."""
        points, table = (t.to(dtype).clone().requires_grad_() for t in (self.points, self.table))
        out = hash_encode_reference(points, table, self.grid)
        out.backward(self.grad.to(dtype))
        assert points.grad is not None
        assert table.grad is not None
        return [out.detach(), points.grad, table.grad]


def make_encode_scene(count: int, grid: HashGrid, features: int, seed: int = 0) -> EncodeScene:
    random = torch.Generator().manual_seed(seed)
    points = 1.2 * torch.rand(count, grid.dimensions, generator=random) - 0.1
    table = torch.randn(grid.row_count, features, generator=random)
    grad = torch.randn(count, grid.levels * features, generator=random)
    return EncodeScene(grid, points.double(), table.double(), grad.double())


@pytest.fixture
def encode_scene() -> Callable[..., EncodeScene]:
    return make_encode_scene
