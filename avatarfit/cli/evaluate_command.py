"""`avatarfit evaluate`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from avatarfit.cli.types import MaybeInt, MaybePath


@dataclass(frozen=True)
class Evaluate:
    """Measure how much an avatar looks like its person, on frames that it has never seen.

    The last eleventh of the clip is never fitted to. Those frames are rendered with their measured motion and compared,
    beside two answers that cost no fitting: the mean frame, and the training frame nearest in motion.
    """

    avatar: tyro.conf.Positional[Path]
    """The avatar file."""
    clip: Path
    """The clip folder it was fitted from (WORK_DIR/clip after `avatarfit fit`)."""
    json: MaybePath = None
    """A JSON file to write with every figure and what it means."""
    pictures: MaybePath = None
    """A folder for pictures "truth | render | error x 4", the worst frames among them."""
    frames: MaybeInt = None
    """Judge only this many held-out frames, evenly spaced; all if not given."""

    def run(self) -> int:
        """Evaluate; the exit code."""
        from avatarfit.cli.checks import (
            check_clip,
            check_clip_folder,
            check_output_file,
            check_output_folder,
            check_range,
        )

        if self.json is not None:
            check_output_file(self.json, ".json")
        if self.pictures is not None:
            check_output_folder(self.pictures)
        if self.frames is not None:
            check_range("--frames", self.frames, 1, 10_000_000)
        check_clip_folder(self.clip)
        check_clip(self.clip, needs_sound=False)
        from avatarfit.capture import ClipFolder
        from avatarfit.evaluation import evaluate_avatar
        from avatarfit.model.avatar import Avatar
        from avatarfit.pipeline.listeners import Listeners

        avatar = Avatar.load(self.avatar)
        clip = ClipFolder.open(self.clip)
        with Listeners() as on_event:
            result = evaluate_avatar(
                avatar, clip, frames_limit=self.frames, pictures_dir=self.pictures, on_event=on_event
            )
        if self.json is not None:
            import json

            self.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        print(figures_table(result))
        return 0


def figures_table(result: dict[str, Any]) -> str:
    """The figures of `evaluate_avatar` for a person to read."""
    size, frames = result["size"], result["frames"]
    lines = [
        f"{size['width_px']}x{size['height_px']}, {frames['held_out_judged']} held-out frames, "
        f"{frames['training_judged']} training frames; PSNR in dB (higher is better) / SSIM (1 is best)",
        f"{'':<24}{'person':>16}{'mouth':>16}{'whole frame':>16}",
    ]
    rows = (("held out", result), *((n, result[n]) for n in ("train", "baseline_mean", "baseline_nearest")))
    names = {"train": "training", "baseline_mean": "mean frame", "baseline_nearest": "nearest training frame"}
    for name, part in rows:
        cells = []
        for region in ("person", "mouth", "whole_frame"):
            figures = part[region]
            cells.append(f"{figures['psnr_db']:.2f} / {figures['ssim']:.3f}" if figures else "-")
        lines.append(f"{names.get(name, name):<24}" + "".join(f"{cell:>16}" for cell in cells))
    return "\n".join(lines)
