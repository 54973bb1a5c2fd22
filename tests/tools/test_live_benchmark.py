from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from avatarfit.pipeline.live_frame import SOUND_HZ, LiveFrame, LiveState

TOOL = Path(__file__).resolve().parents[2] / "tools" / "benchmark_live.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    sys.path.insert(0, str(TOOL.parent))
    spec = importlib.util.spec_from_file_location("benchmark_live", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["benchmark_live"] = module
    spec.loader.exec_module(module)
    sys.path.remove(str(TOOL.parent))
    return module


def test_it_writes_every_figure(tool: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    out = tmp_path / "live.json"
    monkeypatch.setattr(sys, "argv", ["benchmark_live.py", "--seconds", "6", "--size", "128", "--output", str(out)])
    assert tool.main() == 0
    report = json.loads(out.read_text())
    assert report["size"] == [128, 128]
    assert report["memory_mb"]["max"] > 0
    (session,) = report["each"]
    assert session["frames"] > 0
    assert {"sound_ms", "picture_ms", "offset_ms", "beeps_broken", "underruns"} <= set(session)


@pytest.mark.parametrize(("shift", "lost"), [(0, 0), (2, 0), (0, 1)])
def test_a_known_delay_offset_and_break_are_found(tool: ModuleType, shift: int, lost: int) -> None:
    """Frames of which each beep and its flash are known."""
    tone = (0.5 * np.sin(np.arange(8 * 1920) * 2 * np.pi * 220 / SOUND_HZ)).astype(np.float32)
    beeps: Any = tool.Beeps()
    for k in range(100):
        sound = np.zeros(1920, np.float32)
        place = k % 25 - 5
        if place == 0:
            beeps.pushed.append(k / 25 - 0.1)
        if 0 <= place < 3 - lost:
            sound = tone[place * 1920 : (place + 1) * 1920]
        picture = np.zeros((16, 16, 3), np.uint8)
        if shift <= place < 3 + shift:
            picture[:] = 255
        frame = LiveFrame(k, k / 25, picture, k / 25, (32767 * sound).astype(np.int16), LiveState.IDLE)
        beeps.take(frame, k / 25)
    assert len(beeps.sound_ms) == 4
    np.testing.assert_allclose(beeps.sound_ms, 100, atol=1e-6)
    np.testing.assert_allclose(beeps.offset_ms, 40 * shift, atol=4)
    np.testing.assert_allclose(beeps.picture_ms, 100 + 40 * shift, atol=1e-6)
    assert beeps.broken == 4 * lost
