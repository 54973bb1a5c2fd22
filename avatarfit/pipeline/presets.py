"""Presets: TOML files in configs/ that say how to fit."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import avatarfit
from avatarfit.contracts import InputError
from avatarfit.fitting.gaussian_settings import GaussianSettings
from avatarfit.fitting.hashgrid_settings import HashgridSettings


@dataclass(frozen=True)
class Preset:
    """How to fit one avatar."""

    size: int = 256
    """Picture width, pixels."""
    driver_seconds: float | None = 90.0
    """Time for the driver."""
    driver_steps: int | None = None
    """Steps for the driver instead of seconds."""
    gaussian: GaussianSettings = field(default_factory=GaussianSettings)
    """How the Gaussians of a Gaussian avatar are fitted."""
    hashgrid: HashgridSettings = field(default_factory=HashgridSettings)
    """How a hash-grid avatar is fitted."""

    def with_choices(self, *, size: int | None, minutes: float | None, steps: int | None, seed: int) -> Preset:
        """The preset with what was asked for on the command line.

        Raises:
            InputError: a choice out of range.
        """
        if size is not None and not 32 <= size <= 4096:
            raise InputError(f"--size came as {size}", "a width from 32 to 4096 pixels", "choose such as 256 or 512")
        chosen: dict[str, Any] = {"seed": seed}
        if steps is not None:
            chosen |= {"steps": steps, "minutes": None}
        elif minutes is not None:
            chosen |= {"steps": None, "minutes": minutes}
        gaussian, hashgrid = replace(self.gaussian, **chosen), replace(self.hashgrid, **chosen)
        return replace(self, size=size or self.size, gaussian=gaussian, hashgrid=hashgrid)


DEFAULTS = {"gaussian": "cpu", "hashgrid": "hashgrid"}
"""The preset of each head, where none is named."""
_TABLES: dict[str, Any] = {"gaussian": GaussianSettings, "hashgrid": HashgridSettings}


def preset_folder() -> Path:
    """Where the presets lie: beside the package in a checkout, within it when installed."""
    inside = Path(avatarfit.__file__).parent / "configs"
    return inside if inside.is_dir() else Path(avatarfit.__file__).parents[1] / "configs"


def load_preset(name: str) -> Preset:
    """The preset of that name, or in that file.

    Raises:
        InputError: no such preset, not TOML, or an unknown key or wrong type in it.
    """
    path = Path(name) if name.endswith(".toml") else preset_folder() / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in preset_folder().glob("*.toml")))
        raise InputError(f"there is no preset {name!r}", f"one of {known}, or a .toml file", "choose one of them")
    try:
        values = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not TOML ({error})", "a preset as those in configs/", "mend the file") from error
    tables = {name: values.pop(name, {}) for name in _TABLES}
    for given, owner in ((values, Preset), *((tables[name], owner) for name, owner in _TABLES.items())):
        known_keys = {f.name for f in fields(owner)} - set(_TABLES)
        wrong = [k for k, v in given.items() if k not in known_keys or type(v) not in (int, float)]
        if wrong:
            raise InputError(
                f"{path} sets {wrong[0]!r}", f"numbers for {', '.join(sorted(known_keys))}", "mend the file"
            )
    try:
        return replace(Preset(), **values, **{name: owner(**tables[name]) for name, owner in _TABLES.items()})
    except ValueError as error:
        raise InputError(
            f"{path} asks for what cannot be: {error}", "a preset as those in configs/", "mend it"
        ) from error
