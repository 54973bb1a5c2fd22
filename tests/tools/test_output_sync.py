"""The measurement of picture against sound, on a few seconds."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from avatarfit.output import OutputOptions

TOOL = Path(__file__).resolve().parents[2] / "tools" / "measure_output_sync.py"


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "h264"), ("a.mov", "prores4444")])
def test_claps_are_found_where_they_were_put(tmp_path: Path, name: str, codec: str) -> None:
    spec = importlib.util.spec_from_file_location("measure_output_sync", TOOL)
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    figures = tool.measure(tmp_path, name, "29.97", 0.1, OutputOptions(codec))
    assert figures["frames"] == 180
    assert figures["claps"] == 2
    assert figures["worst_frames"] < 0.25
    assert figures["pictures_astray_ms"] < 0.001
