"""`avatarfit evaluate`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from avatarfit.cli.types import MaybeInt, MaybePath, MaybeText

_BESIDE = {
    "train": "training", "torso_from_head": "guessed torso", "baseline_mean": "mean frame",
    "baseline_nearest": "nearest training frame",
}  # fmt: skip


@dataclass(frozen=True)
class Evaluate:
    """Measure how much an avatar looks, moves and speaks like its person, on frames that it has never seen.

    The last eleventh of the clip is never fitted to. Those frames are rendered with their measured motion and compared,
    beside two answers that cost no fitting: the mean frame, and the training frame nearest in motion. Lips, lids, neck,
    trembling and flicker are measured in the moving pictures, and the driver's lips on the sound of those frames.
    """

    avatar: tyro.conf.Positional[Path]
    """The avatar file."""
    clip: Path
    """The clip folder it was fitted from (WORK_DIR/clip after `avatarfit fit`)."""
    json: MaybePath = None
    """A JSON file to write with every figure and what it means."""
    pictures: MaybePath = None
    """A folder for pictures "truth | render | error x 4", the worst frames among them."""
    report: MaybePath = None
    """A folder for evaluation.html, a page with everything, evaluation.json and evaluation.mp4."""
    frames: MaybeInt = None
    """Judge only this many held-out frames, evenly spaced; all if not given."""
    split: MaybeText = None
    """last or blocks, to insist on which frames were held out; if not given, those that the avatar has not seen."""
    syncnet: MaybePath = None
    """The weights of SyncNet (syncnet_v2.model), for Sync-C and Sync-D."""
    features: MaybeText = None
    """What the avatar's driver hears, if it is a network: its folder or its name on the hub, as fit was told."""
    poses_from: MaybePath = None
    """Another clip folder, or a motion file, whose head poses the neck is judged in, too."""

    def run(self) -> int:
        """Evaluate; the exit code."""
        from avatarfit.cli.checks import check_output_file, check_output_folder

        if self.json is not None:
            check_output_file(self.json, ".json")
        for folder in (self.pictures, self.report):
            if folder is not None:
                check_output_folder(folder)
        if self.split is not None and self.split not in ("last", "blocks"):
            from avatarfit.contracts import InputError

            raise InputError(f"--split came as {self.split}", "last or blocks", "change it, or leave it away")
        check_judging(self.clip, self.frames, self.syncnet)
        from avatarfit.capture import ClipFolder
        from avatarfit.evaluation import evaluate_avatar
        from avatarfit.model.avatar import Avatar
        from avatarfit.pipeline.listeners import Listeners

        if self.poses_from is not None:
            from avatarfit.pipeline.motion_files import check_motion_file

            check_motion_file(self.poses_from)
        from avatarfit.pipeline.seams import FRAMES, neck_seams

        avatar = Avatar.load(self.avatar)
        clip = ClipFolder.open(self.clip)
        with Listeners() as on_event:
            result = evaluate_avatar(
                avatar, clip, frames_limit=self.frames, pictures_dir=self.pictures, report_dir=self.report,
                split=self.split, syncnet=self.syncnet, features=self.features, on_event=on_event,
                seams=lambda: neck_seams(avatar, clip, self.poses_from, min(self.frames or FRAMES, FRAMES)),
            )  # fmt: skip
        if self.json is not None:
            import json

            self.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        print(figures_table(result))
        print(motion_lines(result))
        return 0


def check_judging(clip: Path, frames: int | None, syncnet: Path | None) -> None:
    """Raise unless a clip folder, a number of frames and SyncNet's file may be what they should be.

    Raises:
        InputError: one is not.
    """
    from avatarfit.cli.checks import check_clip, check_clip_folder, check_range
    from avatarfit.contracts import InputError

    if frames is not None:
        check_range("--frames", frames, 1, 10_000_000)
    check_clip_folder(clip)
    check_clip(clip, needs_sound=False)
    if syncnet is not None and not syncnet.is_file():
        raise InputError(f"--syncnet came as {syncnet}, where no file is", "syncnet_v2.model", "check the path")


def motion_lines(result: dict[str, Any]) -> str:
    """The figures of `evaluate_avatar` that are not pictures', a line each, for a person to read."""
    from avatarfit.evaluation.definitions import direction, flat_figures, unit

    lines = []
    for name, value in flat_figures(result).items():
        if name.split(".")[0] in ("composites", *_BESIDE) or value is None:
            continue
        told = ", ".join(
            part for part in (unit(name), f"{direction(name)} is better" if direction(name) else "") if part
        )
        lines.append(f"{name:<46}{value:>10.3f}" + (f"   {told}" if told else ""))
    return "\n".join([*lines, *(f"note: {note}" for note in result["notes"])])


def figures_table(result: dict[str, Any]) -> str:
    """The figures of `evaluate_avatar` for a person to read."""
    size, frames = result["size"], result["frames"]
    lines = [
        f"{size['width_px']}x{size['height_px']}, {result['head']} head, {frames['held_out_judged']} held-out frames, "
        f"{frames['training_judged']} training frames; PSNR in dB (higher is better) / SSIM (1 is best)",
        f"{'':<24}{'person':>16}{'mouth':>16}{'whole frame':>16}",
    ]
    for name, part in (("held out", result), *((told, result[key]) for key, told in _BESIDE.items())):
        cells = []
        for region in ("person", "mouth", "whole_frame"):
            figures = part[region]
            cells.append(f"{figures['psnr_db']:.2f} / {figures['ssim']:.3f}" if figures else "-")
        lines.append(f"{name:<24}" + "".join(f"{cell:>16}" for cell in cells))
    return "\n".join(lines)
