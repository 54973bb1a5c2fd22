"""`avatarfit compare`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from avatarfit.cli.types import MaybeInt, MaybePath


@dataclass(frozen=True)
class Compare:
    """Judge two avatars of one person on the same held-out frames, and tell which is better in what."""

    a: tyro.conf.Positional[Path]
    """The first avatar file."""
    b: tyro.conf.Positional[Path]
    """The second avatar file, of the same size and fitted from the same clip."""
    clip: Path
    """The clip folder they were fitted from (WORK_DIR/clip after `avatarfit fit`)."""
    json: MaybePath = None
    """A JSON file to write with both evaluations and every difference."""
    frames: MaybeInt = None
    """Judge only this many held-out frames, evenly spaced; all if not given."""
    syncnet: MaybePath = None
    """The weights of SyncNet (syncnet_v2.model), for Sync-C and Sync-D."""

    def run(self) -> int:
        """Compare; the exit code."""
        from avatarfit.cli.checks import check_output_file
        from avatarfit.cli.evaluate_command import check_judging

        if self.json is not None:
            check_output_file(self.json, ".json")
        check_judging(self.clip, self.frames, self.syncnet)
        from avatarfit.capture import ClipFolder
        from avatarfit.evaluation import compare_avatars
        from avatarfit.model.avatar import Avatar
        from avatarfit.pipeline.listeners import Listeners

        a, b = Avatar.load(self.a), Avatar.load(self.b)
        clip = ClipFolder.open(self.clip)
        with Listeners() as on_event:
            result = compare_avatars(a, b, clip, frames_limit=self.frames, syncnet=self.syncnet, on_event=on_event)
        if self.json is not None:
            import json

            self.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        print(differences_table(result, self.a.name, self.b.name))
        return 0


def differences_table(result: dict[str, Any], a: str, b: str) -> str:
    """The figures of `compare_avatars` for a person to read."""
    told = {"a": "A", "b": "B", "equal": "equal", "unclear": "not sure", "": ""}
    lines = [f"A is {a}, B is {b}", f"{'':<48}{'A':>10}{'B':>10}{'B - A':>10}  better   95 % interval of B - A"]
    for name, row in result["figures"].items():
        if row["a"] is None and row["b"] is None:
            continue
        cells = "".join("         -" if row[k] is None else f"{row[k]:>10.3f}" for k in ("a", "b", "difference"))
        interval = row["interval"]
        sure = f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else ""
        lines.append(f"{name:<48}{cells}  {told[row['better']]:<9}{sure}".rstrip())
    return "\n".join(lines)
