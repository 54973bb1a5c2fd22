"""The GPU benchmark's arithmetic, and what it says on a machine without a GPU."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from avatarfit import ops

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture
def benchmark(monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("gpu_benchmark")


def test_without_a_gpu_it_says_so_and_fails(benchmark, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(ops, "choose", ops.choose.__wrapped__)
    monkeypatch.setattr(sys, "argv", ["gpu_benchmark.py"])
    with pytest.raises(SystemExit) as stop:
        benchmark.main()
    # A status that is a text is printed and counts as 1.
    assert str(stop.value.code).startswith("gpu_benchmark: nothing was measured: backend 'cuda' was asked for, but")


def test_work_is_counted_and_held_against_the_slower_ceiling(benchmark):
    ceilings = benchmark.Ceilings(gflops=1000.0, read_gbps=100.0, copy_gbps=100.0)
    # 20 bases of 14 attributes, base, group and skin for each Gaussian; three bytes read and three written for a pixel.
    full = benchmark.frame_work(10**6, 20, 512 * 512, 0, 4)
    assert full.gb == pytest.approx(1e-3 * (20 * 14 * 4 + 14 * 4 + 8) + 6e-9 * 512 * 512)
    assert full.gflop == pytest.approx(1e-3 * (20 * 14 * 2 + 300))
    half = benchmark.frame_work(10**6, 20, 512 * 512, 0, 2)
    assert full.gb - half.gb == pytest.approx(1e-3 * 20 * 14 * 2)
    moved = benchmark.against_bound(50.0, full, ceilings)
    assert moved == {"ms": 50.0, "bound_ms": round(10 * full.gb, 4), "share_of_bound": round(0.2 * full.gb, 3)}
    # Many pairs: now arithmetic bounds. Two frames take twice the work of one.
    busy = benchmark.frame_work(10**6, 20, 512 * 512, 1e9, 4)
    assert benchmark.against_bound(1e6, busy, ceilings)["bound_ms"] == round(busy.gflop, 4) > 1e2
    both = benchmark.frame_work(2 * 10**6, 20, 2 * 512 * 512, 2e9, 4)
    assert (both.gflop, both.gb) == pytest.approx((2 * busy.gflop, 2 * busy.gb))
    assert benchmark.passes_work(1000, 64, 1e6).gflop > benchmark.frame_work(1000, 20, 64 * 64, 1e6, 4).gflop


def test_float_pictures_go_over_bytes_as_the_kernels_do(benchmark):
    splats = torch.tensor([[4.0, 4, 0.1, 0, 0.1, 0.9, 1, 0.5, 0, 7], [9.0, 8, 0.2, 0, 0.3, 0.8, 0, 1, 1, 9]])
    background = torch.randint(0, 256, (17, 19, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    want = ops.rasterise_over(splats, background)
    got = benchmark.over(ops.rasterise(splats, 17, 19), background)
    assert (got.int() - want.int()).abs().max() <= 1


def test_pairs_grow_with_the_picture(benchmark):
    small, large = (benchmark.count_pairs(benchmark.make_scene(300, 2, 3, size)) for size in (32, 64))
    assert 0 < small < large


def test_the_volume_part_measures_all_and_holds_it_against_bounds(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    part = importlib.import_module("volume_on_gpu")
    monkeypatch.setattr(part, "POINTS", 300)
    monkeypatch.setattr(part, "GRID", ops.HashGrid.between(3, 3, 4, 16, 8))
    monkeypatch.setattr(part, "CASE", (24, 16, 1.0))
    calls: list[object] = []

    def measure(call):
        calls.append(call())
        return float(len(calls))

    found = part.volume(measure, part.Ceilings(1.0, 1.0, 1.0), "cpu")
    assert len(calls) == 2 + 3 + 2 * 2
    assert found["hash_encode"]["cpu"] == {"forward": 1, "step": 2}
    assert found["rays"]["cpu"] == {"composite": 3, "march": 4, "composite_step": 5}
    # Torch's own layers took the calls 8 and 9, ours 6 and 7.
    assert found["fused_mlp"]["times_reference"] == {"forward": round(8 / 6, 2), "step": round(9 / 7, 2)}
    for name in ("hash_encode", "rays", "fused_mlp"):
        assert found[name]["bound_ms"].keys() == found[name]["cpu"].keys()
        assert min(found[name]["bound_ms"].values()) > 0
