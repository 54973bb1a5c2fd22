"""The volume benchmark measures what it says, on pictures so small that the figures mean nothing."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

from avatarfit.ops import native

TOOLS = Path(__file__).resolve().parents[2] / "tools"


def test_it_writes_every_figure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(TOOLS))
    benchmark = importlib.import_module("benchmark_volume")
    ceilings = benchmark.Ceilings(1.0, 1.0, 1.0)
    monkeypatch.setattr(benchmark.Ceilings, "measure", lambda: ceilings)
    out = tmp_path / "volume.json"
    asked = ["--cases", "32:16:1.0", "--repeats", "1", "--reference-repeats", "1", "--threads", "1", "2"]
    flags = ["--no-keep-freed-memory", "--output", str(out)]
    monkeypatch.setattr(sys, "argv", ["benchmark_volume.py", *asked, *flags])
    before = native.threads(), torch.get_num_threads()
    try:
        benchmark.main()
    finally:
        native.set_threads(before[0])
        torch.set_num_threads(before[1])
    (entry,) = json.loads(out.read_text())["scenes"]
    assert 0 < entry["scene"]["samples"] < entry["scene"]["samples_without_grid"]
    assert [result["threads"] for result in entry["native"]] == [1, 2]
    for part in ("march", "composite", "composite_backward"):
        assert entry["native"][0]["ms"][part] > 0
        assert entry["native"][0]["bound_ms"][part] > 0
        assert entry["reference_over_native"][part] > 0
