from __future__ import annotations

from pathlib import Path

import pytest

from avatarfit.contracts import InputError
from avatarfit.pipeline.presets import Preset, load_preset, preset_folder


@pytest.mark.parametrize("path", sorted(preset_folder().glob("*.toml")), ids=lambda p: p.stem)
def test_every_shipped_preset_loads_by_name(path: Path) -> None:
    preset = load_preset(path.stem)
    assert preset.gaussian.minutes
    assert preset.hashgrid.minutes
    assert preset == load_preset(str(path))


def test_choices_override_the_preset() -> None:
    chosen = Preset().with_choices(size=128, minutes=None, steps=7, seed=3)
    assert (chosen.size, chosen.gaussian.steps, chosen.gaussian.minutes, chosen.gaussian.seed) == (128, 7, None, 3)
    assert (chosen.hashgrid.steps, chosen.hashgrid.minutes, chosen.hashgrid.seed) == (7, None, 3)
    chosen = Preset().with_choices(size=None, minutes=2.5, steps=None, seed=0)
    assert (chosen.size, chosen.gaussian.steps, chosen.gaussian.minutes) == (256, None, 2.5)


def test_each_head_has_a_table(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("size = 64\n[hashgrid]\nhash_levels = 3\nmlp_rate = 0.5\n[gaussian]\ncount = 9\n")
    preset = load_preset(str(path))
    assert (preset.size, preset.hashgrid.hash_levels, preset.hashgrid.mlp_rate, preset.gaussian.count) == (
        64,
        3,
        0.5,
        9,
    )
    assert preset.hashgrid.plane_levels == Preset().hashgrid.plane_levels


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("hash_levles = 3", "sets 'hash_levles'"),
        ("occupancy_side = 100000", "occupancy_side came as 100000; wanted 4 to 512"),
        ("hash_levels = 2.5", "hash_levels came as 2.5; wanted a whole number"),
        ("gaussians = true", "sets 'gaussians'"),
    ],
)
def test_what_a_field_cannot_be_is_named(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f"[hashgrid]\n{line}\n")
    with pytest.raises(InputError, match=said):
        load_preset(str(path))


def test_bad_presets_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no preset 'nope'; wanted one of cpu"):
        load_preset("nope")
    bad = tmp_path / "bad.toml"
    bad.write_text("size = [")
    with pytest.raises(InputError, match="is not TOML"):
        load_preset(str(bad))
    bad.write_text("[gaussian]\ncuont = 3\n")
    with pytest.raises(InputError, match="sets 'cuont'"):
        load_preset(str(bad))
    with pytest.raises(InputError, match="--size came as 5"):
        Preset().with_choices(size=5, minutes=None, steps=None, seed=0)
