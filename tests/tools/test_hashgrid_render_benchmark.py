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
STAGES = {"frame_state", "march", "motion", "encode", "density", "composite", "colour"}


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
    assert 0 < entry["scene"]["coloured_samples"] <= entry["scene"]["samples"]
    assert 0 < entry["scene"]["step_samples"] < entry["scene"]["samples"]
    assert entry["work"].keys() == STAGES
    for result, threads in zip(entry["native"], (1, 2), strict=True):
        assert result["threads"] == threads
        assert result["ms"].keys() == STAGES | {"frame", "step"}
        assert result["bound_ms"].keys() == STAGES
        assert result["processor_ms"].keys() == {"frame", "step"}
        assert result["frame_bound_ms"] == pytest.approx(sum(result["bound_ms"].values()), abs=0.01)


def test_its_stages_are_the_heads_own_look(benchmark):
    frame = benchmark.Frame.make(benchmark.make_head(benchmark.FieldShape()), 48)
    counts = frame.draw({})
    samples = frame.head.march(*frame.rays)
    assert counts["rays"] == len(frame.rays[0])
    assert counts["samples"] == len(samples.t)
    assert 4 < counts["samples"] / counts["rays"] < 14
    sigma = frame.head.density_at(samples.positions, frame.state)[0]
    rest = samples.t, samples.lengths, samples.offsets
    weights = benchmark.ops.composite_rays(sigma, sigma[:, None], *rest).weights
    assert counts["coloured_samples"] == int((weights > benchmark.COLOUR_FROM).sum())
