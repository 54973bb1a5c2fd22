"""What composes the truth over its background is told so, and what is off by a known amount by how much."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from avatarfit.performer.performer import Performer, Rendering

TOOLS = Path(__file__).resolve().parents[2] / "tools"
SIZE, CHOSEN = 128, (0, 9)


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("measure_compositing")


@pytest.fixture(scope="module")
def truth() -> tuple[np.ndarray, dict[int, Rendering]]:
    performer = Performer(0, SIZE)
    take = performer.performance(0.5)
    return performer.plate, {index: performer.render(take, index) for index in CHOSEN}


def layer(plate: np.ndarray, made: Rendering) -> np.ndarray:
    front = made.rgb / np.float32(255) - (1 - made.alpha)[..., None] * plate / np.float32(255)
    return np.dstack([front.clip(0, 1), made.alpha]).astype(np.float32)


def test_the_truth_over_its_background_is_the_true_picture(tool: ModuleType, truth: tuple) -> None:
    plate, made = truth
    found = tool.judged(lambda k: layer(plate, made[k]), iter(made.items()), plate)
    assert found["body_psnr_db"] > 48
    assert found["alpha_error"] == 0
    assert min(v for name, v in found.items() if name.endswith("_db")) > 45


def test_what_is_off_is_told_by_how_much_and_where(tool: ModuleType, truth: tuple) -> None:
    plate, made = truth

    def drawn() -> Iterator[tuple[int, np.ndarray]]:
        for index, one in made.items():
            rgba = layer(plate, one)
            inside = tool.regions(one.labels)["inside"]
            rgba[..., :3] -= np.float32(8 / 255) * inside[..., None] * np.sign(rgba[..., :3] - 0.2)
            rgba[..., 3] = np.clip(rgba[..., 3] + 0.01, 0, 1)
            yield index, rgba

    pictures = dict(drawn())
    found = tool.judged(pictures.__getitem__, iter(made.items()), plate)
    assert found["inside_psnr_db"] == pytest.approx(20 * np.log10(255 / 8), abs=0.6)
    assert found["inside_psnr_db"] < found["body_psnr_db"] < found["outline_psnr_db"]
    assert 0 < found["alpha_error"] <= 0.01


def test_the_regions_make_up_the_body(tool: ModuleType, truth: tuple) -> None:
    for one in truth[1].values():
        parts = tool.regions(one.labels)
        assert (sum(parts[name].astype(int) for name in ("outline", "by_head", "inside")) == parts["body"]).all()
        assert all(part.any() for part in parts.values())
