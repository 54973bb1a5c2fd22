"""What the benchmarks share: a made-up scene, the machine's name and measured ceilings, the kernels' own profile."""

from __future__ import annotations

import ctypes
import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from avatarfit import ops
from avatarfit.ops import native

STAGES = (
    "blend", "project", "sort", "bin", "fill", "composite", "backward", "gather", "loss_moments", "loss_gradient",
)  # fmt: skip
"""The order of AF_STAGE_* in cuda_ext/cpu/workspace.h."""


@dataclass
class Scene:
    """Every tensor of a step; shapes as in `avatarfit.ops`."""

    base: torch.Tensor
    deltas: torch.Tensor
    weights: torch.Tensor
    group: torch.Tensor
    skin: torch.Tensor
    head: torch.Tensor
    torso: torch.Tensor
    target: torch.Tensor
    weight: torch.Tensor
    background: torch.Tensor
    size_px: int

    @property
    def camera(self) -> tuple[float, float, float, int, int]:
        """Arguments of `project` after the matrices."""
        return 2.34 * self.size_px, self.size_px / 2, self.size_px / 2, self.size_px, self.size_px

    def in_view(self) -> int:
        """How many Gaussians the picture may show."""
        with torch.no_grad():
            attributes = ops.blend(self.base, self.deltas, self.weights, self.group)
            return int((ops.project(attributes, self.skin, self.head, self.torso, *self.camera)[:, 9] > 0).sum())

    def describe(self) -> dict[str, int]:
        """Its sizes, for a report."""
        return {
            "size_px": self.size_px,
            "gaussians": len(self.base),
            "gaussians_in_view": self.in_view(),
            "bases": self.deltas.shape[1],
            "groups": len(self.weights),
        }


def make_scene(gaussians: int, bases: int, groups: int, size_px: int, seed: int = 0) -> Scene:
    """A head-like shell (60 % of the Gaussians) over shoulders, 60 cm away, of opaque-ish splats of a few pixels."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random)

    direction = torch.nn.functional.normalize(normal(gaussians, 3), dim=1)
    on_head = torch.arange(gaussians) < 0.6 * gaussians
    radii = torch.where(on_head[:, None], torch.tensor([7.5, 10.5, 9.0]), torch.tensor([20.0, 8.0, 9.0]))
    center = torch.where(on_head[:, None], torch.tensor([0.0, -4.0, 60.0]), torch.tensor([0.0, 16.0, 62.0]))
    base = torch.zeros(gaussians, 14)
    base[:, :3] = center + radii * direction * (1 + 0.02 * normal(gaussians, 1))
    base[:, 3:7] = normal(gaussians, 4)
    base[:, 7:10] = math.log(0.25 * math.sqrt(12000 / gaussians)) + 0.4 * normal(gaussians, 3)
    base[:, 10] = 1 + normal(gaussians)
    base[:, 11:] = torch.rand(gaussians, 3, generator=random)
    identity = torch.eye(3, 4)
    return Scene(
        base=base,
        deltas=0.01 * normal(gaussians, bases, 14),
        weights=normal(groups, bases),
        group=torch.randint(0, groups, (gaussians,), generator=random, dtype=torch.int32),
        skin=on_head.float(),
        head=identity.clone(),
        torso=identity.clone(),
        target=torch.rand(size_px, size_px, 3, generator=random),
        weight=torch.ones(size_px, size_px),
        background=torch.zeros(size_px, size_px, 3, dtype=torch.uint8),
        size_px=size_px,
    )


def median_seconds(call: Callable[[], object], repeats: int, warm_up: int = 1) -> float:
    """Median wall-clock seconds of `call`."""
    for _ in range(warm_up):
        call()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


@contextmanager
def add_time(times: dict[str, list[float]], name: str) -> Iterator[None]:
    """Adds the block's wall-clock milliseconds to `times` under `name`."""
    start = time.perf_counter()
    yield
    times.setdefault(name, []).append(1e3 * (time.perf_counter() - start))


def set_threads(kernels: int, by_torch: int = 1) -> None:
    """Threads of the native kernels and of torch. Torch has one beside them, as in the trainer: when it has more, those
    that wait spin on the cores that the kernels want."""
    native.set_threads(kernels)
    torch.set_num_threads(by_torch)


def profile() -> dict[str, float]:
    """The kernels' own figures of their last runs: milliseconds by stage, `pairs_binned` and `pairs_composited`."""
    numbers = (ctypes.c_double * (len(STAGES) + 2))()
    count = native.load().af_workspace_profile(native.workspace(), numbers, len(numbers))
    if count != len(numbers):
        raise RuntimeError(f"the library profiles {count} numbers; this tool knows {len(numbers)}")
    out = {name: 1e3 * value for name, value in zip(STAGES, numbers, strict=False)}
    return out | {"pairs_binned": numbers[len(STAGES)], "pairs_composited": numbers[len(STAGES) + 1]}


@dataclass(frozen=True)
class Ceilings:
    """What this machine gave in this run, for one number of threads."""

    gflops: float
    """float32 matrix product: 10^9 operations a second, a multiply-add being two."""
    read_gbps: float
    """Sum over an array far larger than the caches: 10^9 bytes read a second."""
    copy_gbps: float
    """Copy of such an array: bytes read and written."""

    @classmethod
    def measure(cls) -> Ceilings:
        """With as many threads as torch was given; takes about a second."""
        side = 768
        a, b = torch.rand(side, side), torch.rand(side, side)
        product = torch.empty(side, side)
        flops = 2 * side**3 / min(median_seconds(lambda: torch.mm(a, b, out=product), 5) for _ in range(3))
        large, other = torch.ones(48 << 20), torch.empty(48 << 20)
        size = large.numel() * 4
        read = size / min(median_seconds(lambda: large.sum(), 1) for _ in range(4))
        copy = 2 * size / min(median_seconds(lambda: other.copy_(large), 1) for _ in range(4))
        return cls(flops / 1e9, read / 1e9, copy / 1e9)

    def bound_ms(self, gflop: float, read_gb: float, changed_gb: float = 0.0) -> float:
        """Least milliseconds for so much work: the longer of computing and of moving, as if they overlapped wholly.

        Args:
            gflop: 10^9 operations.
            read_gb: 10^9 bytes that are only read.
            changed_gb: 10^9 bytes that are read and written back, counted twice by a copy.
        """
        return 1e3 * max(gflop / self.gflops, read_gb / self.read_gbps + 2 * changed_gb / self.copy_gbps)

    def describe(self) -> dict[str, float]:
        """For a report."""
        return {
            "matrix_product_gflops": round(self.gflops, 1),
            "read_gb_per_s": round(self.read_gbps, 1),
            "copy_gb_per_s": round(self.copy_gbps, 1),
        }


def processor() -> str:
    """The processor's name, as the system gives it, with family and model where the name does not tell them."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        parts = [line.partition(":") for line in cpuinfo.read_text().splitlines()]
        fields = {key.strip(): value.strip() for key, _, value in parts}
        if "model name" in fields:
            numbers = ", ".join(f"{k.removeprefix('cpu ')} {fields[k]}" for k in ("cpu family", "model") if k in fields)
            return f"{fields['model name']} ({numbers})" if numbers else fields["model name"]
    return platform.processor() or platform.machine()


def machine() -> dict[str, object]:
    """Processor, instruction sets, versions and how busy other programs keep it, for a report."""
    return {
        "processor": processor(),
        "cpus": native.threads(),
        "instruction_sets": native.available_isas(),
        "torch": torch.__version__,
        "load_average_before": [round(load, 2) for load in os.getloadavg()],
    }


SPLAT_BYTES, ATTRIBUTE_BYTES = 40, 56
FORWARD_FLOPS_PER_LANE = 29
"""Of one pixel of one (splat, 4x4 block) pair: exponent 8, exp2 13, alpha 2, colour and transmittance 6 (the fewest
operations of this formulation, multiply-adds as two where they can be one instruction)."""
BACKWARD_FLOPS_PER_LANE = 29 + 32
"""The same again, and the gradient's sums."""
LANES = 16


def raster_gflop(pairs: float, flops_per_lane: int) -> float:
    """10^9 operations of compositing `pairs` (splat, block) pairs, or of its gradient."""
    return 1e-9 * pairs * LANES * flops_per_lane


def loss_gflop(size_px: int) -> float:
    """10^9 operations of L1 + DSSIM and gradient: seven blurs, each an 11-tap multiply-add along both axes."""
    return 1e-9 * size_px * size_px * 3 * (7 * 2 * 11 * 2 + 60)


def start_report(
    benchmark: str, repeats: int, keep_freed_memory: bool, threads: list[int]
) -> tuple[dict[str, Any], dict[int, Ceilings]]:
    """The head of a benchmark's JSON, and the ceilings measured for each number of threads."""
    report: dict[str, Any] = {
        "benchmark": benchmark,
        "machine": machine(),
        "keep_freed_memory": native.keep_freed_memory() if keep_freed_memory else False,
        "unit": "ms, median",
        "repeats": repeats,
        "ceilings": {},
        "scenes": [],
    }
    ceilings: dict[int, Ceilings] = {}
    for count in threads:
        set_threads(count, count)
        ceilings[count] = Ceilings.measure()
        report["ceilings"][f"{count}_threads"] = ceilings[count].describe()
    return report, ceilings


def tell_gain_of_threads(results: list[dict[str, Any]], milliseconds: Callable[[dict[str, Any]], float]) -> None:
    """Adds to each of the results, which differ in threads alone, how many times faster it is than one thread."""
    one = next((milliseconds(result) for result in results if result["threads"] == 1), None)
    for result in results:
        if one is not None and result["threads"] > 1:
            result["gain_over_one_thread"] = round(one / milliseconds(result), 2)


def write_report(report: dict[str, Any], path: Path | None) -> None:
    """Prints a benchmark's JSON and, where a path is given, writes it there."""
    text = json.dumps(report, indent=2)
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    sys.stdout.write(text + "\n")
