"""`avatarfit inspect` and `avatarfit doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Inspect:
    """Say what is in an avatar file."""

    avatar: tyro.conf.Positional[Path]
    """The avatar file."""
    json: bool = False
    """Print the whole header as JSON instead."""

    def run(self) -> int:
        """Print; the exit code."""
        from avatarfit.avatarfile import header_consent, read_avatar

        header, tensors = read_avatar(self.avatar)
        if self.json:
            import json

            shapes = {k: f"{v.dtype} {list(v.shape)}" for k, v in sorted(tensors.items())}
            print(json.dumps({"header": header, "tensors": shapes}, indent=2))
            return 0
        camera, made = header.get("camera", {}), header.get("made", {})
        rows = {
            "file": f"{self.avatar}, {self.avatar.stat().st_size / 1e6:.1f} MB, "
            f"{header['format']} version {header['version']}",
            "picture": f"{camera.get('width_px')}x{camera.get('height_px')} px "
            f"at {header.get('frame_rate_hz', 0):g} frames a second",
            "head": _head(str(header.get("head")), tensors),
            "consent": str(header_consent(self.avatar, header) or "none is recorded"),
            **{str(k).replace("_", " "): str(v) for k, v in made.items()},
        }
        width = max(map(len, rows))
        for name, text in rows.items():
            print(f"{name:<{width}}  {text}")
        print(f"{'tensors':<{width}}  {len(tensors)}, {sum(v.nbytes for v in tensors.values()) / 1e6:.1f} MB")
        for key, value in sorted(tensors.items(), key=lambda item: -item[1].nbytes)[:8]:
            print(f"{'':<{width}}  {key} {value.dtype} {list(value.shape)}")
        return 0


def _head(kind: str, tensors: dict[str, np.ndarray]) -> str:
    """What the head is made of, and of how much."""
    count = len(tensors["gaussians.base"]) if "gaussians.base" in tensors else 0
    if kind != "hashgrid":
        return f"{kind}, {count} Gaussians"
    numbers = sum(values.size for name, values in tensors.items() if name.startswith("field."))
    return f"{kind}, {numbers / 1e6:.2f} million numbers; neck and torso: {count} Gaussians"


@dataclass(frozen=True)
class Doctor:
    """Say what is installed and built, which backend pictures run on, and why anything is missing."""

    def run(self) -> int:
        """Print; 0 where everything needed is here, else 1."""
        from avatarfit.pipeline.doctor import examine, report

        findings = examine()
        print(report(findings))
        return 1 if any(f.state == "missing" for f in findings) else 0
