"""The benchmark of a hash-grid head's frame measures what it says; in such small pictures the figures mean nothing."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

from avatarfit.ops import native

TOOLS = Path(__file__).resolve().parents[2] / "tools"
STAGES = {"frame_state", "march", "see"}


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("benchmark_hashgrid_render")


def test_it_writes_every_figure(benchmark, monkeypatch, tmp_path):
    ceilings = importlib.import_module("made_up_scene").Ceilings
    monkeypatch.setattr(ceilings, "measure", lambda: ceilings(1.0, 1.0, 1.0))
    out = tmp_path / "render.json"
    flags = ["--sizes", "32", "--repeats", "1", "--step-rays", "20", "--threads", "1", "2", "--no-keep-freed-memory"]
    monkeypatch.setattr(sys, "argv", ["benchmark_hashgrid_render.py", *flags, "--output", str(out)])
    before = native.threads(), torch.get_num_threads()
    try:
        benchmark.main()
    finally:
        native.set_threads(before[0])
        torch.set_num_threads(before[1])
    (entry,) = json.loads(out.read_text())["scenes"]
    scene = entry["scene"]
    assert 0 < scene["coloured_samples"] <= scene["asked_samples"] <= scene["samples"]
    assert 0 < scene["step_samples"] < scene["samples"]
    assert entry["work"].keys() == STAGES
    for result, threads in zip(entry["native"], (1, 2), strict=True):
        assert result["threads"] == threads
        assert result["ms"].keys() == STAGES | {"frame", "step"}
        assert result["bound_ms"].keys() == STAGES
        assert result["processor_ms"].keys() == {"frame", "step"}
        assert result["frame_bound_ms"] == pytest.approx(sum(result["bound_ms"].values()), abs=0.01)


def test_its_stages_are_the_heads_own_look(benchmark):
    frame = benchmark.Frame.make(benchmark.make_head(benchmark.FieldShape()), 48)
    assert torch.equal(frame.draw({}), frame.head.look(*frame.rays, frame.state))
    counts, samples = frame.counts(), frame.head.march(*frame.rays)
    assert counts["rays"] == len(frame.rays[0])
    assert counts["samples"] == len(samples.t)
    assert 4 < counts["samples"] / counts["rays"] < 14
    assert 0 < counts["coloured_samples"] < counts["asked_samples"] < counts["samples"]
