"""The driver's benchmark measures what it says, on sound so short that the figures mean nothing."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from avatarfit.contracts import AudioClip
from avatarfit.media import sound_blocks

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("benchmark_driver")


def test_it_writes_every_figure(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    out = tmp_path / "driver.json"
    asked = ["--seconds", "1.5", "--repeats", "1", "--frame-rates", "25", "--hours", "0.001", "--output", str(out)]
    monkeypatch.setattr(sys, "argv", ["benchmark_driver.py", *asked])
    benchmark.main()
    report = json.loads(out.read_text())
    assert report["offline_times_real_time"]["25_fps"]["cpu"] > 0
    assert report["live_20_ms"]["25_fps"]["cpu_median_ms"] > 0
    assert report["live_20_ms"]["25_fps"]["look_ahead_ms"] <= 120
    long = report["long_sound"]
    assert long["frames"] == long["expected_frames"] == 90
    assert long["resident_mb_largest"] >= long["resident_mb_first"] > 0


def test_the_sparse_file_is_long_small_and_speaks_every_ten_minutes(benchmark: ModuleType, tmp_path: Path) -> None:
    speech = AudioClip(0.5 * np.ones(16000, np.float32), 16000)
    benchmark.sparse_wav(tmp_path / "long.wav", speech, 0.18)
    sound = sound_blocks(tmp_path / "long.wav")
    assert (sound.sample_rate_hz, sound.duration_seconds) == (16000, 648.0)
    assert (tmp_path / "long.wav").stat().st_blocks * 512 < 0.5 * (tmp_path / "long.wav").stat().st_size
    loud = np.concatenate([np.abs(block) > 0.1 for block in sound])
    assert loud[: 60 * 16000].all()
    assert not loud[61 * 16000 : 599 * 16000].any()
    assert loud[601 * 16000 : 647 * 16000].all()
