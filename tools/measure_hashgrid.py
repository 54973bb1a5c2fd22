"""Held-out PSNR of a hash-grid avatar against minutes of fitting, beside a Gaussian avatar of the same clip.

    python tools/measure_hashgrid.py CLIP_FOLDER GAUSSIAN.avatar -o table.json [--work DIR] [--preset hashgrid]

One fit, looked at after each of the minutes; what the looks take is not counted. The rates fall to the end of the last.
Both avatars are judged on the same held-out frames in the clip's measured motion, and on as many training frames. An
interrupted run goes on from the work folder's checkpoint with --resume.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from avatarfit.capture import ClipFolder
from avatarfit.compositing import composite
from avatarfit.contracts.events import Event, Progress
from avatarfit.evaluation.composites import head_matte
from avatarfit.evaluation.metrics import psnr_db
from avatarfit.evaluation.regions import mouth_box, person_mask
from avatarfit.fitting.frame_store import FrameStore
from avatarfit.fitting.hashgrid_trainer import HashgridTrainer
from avatarfit.model.avatar import Avatar
from avatarfit.model.rig import lip_aperture_cm
from avatarfit.pipeline.presets import load_preset
from avatarfit.rendering.gaussian_renderer import GaussianRenderer
from avatarfit.rendering.hashgrid_renderer import HashgridRenderer

REGIONS = ("whole_frame", "person", "head", "mouth")


def scores(draw: Callable[[int], np.ndarray], clip: ClipFolder, frames: FrameStore, indices: list[int]) -> dict:
    """Mean PSNR, dB, of each region over frames; `draw` gives float [H, W, 3]."""
    width, height = frames.camera.width_px, frames.camera.height_px
    scale = np.array([width / clip.camera.width_px, height / clip.camera.height_px])
    found: dict[str, list[float]] = {region: [] for region in REGIONS}
    for index in indices:
        frame, picture = frames[index], np.clip(draw(index), 0, 1)
        truth = frame.rgb.astype(np.float32) / 255
        left, top, right, bottom = mouth_box(clip.landmarks_px[index, :, :2] * scale, width, height)
        mouth = np.zeros((height, width), bool)
        mouth[top:bottom, left:right] = True
        head = head_matte(np.asarray(frame.person), np.asarray(frame.labels), width, height) > 0.5
        masks = {"whole_frame": None, "person": person_mask(frame.person), "head": head, "mouth": mouth}
        for region, mask in masks.items():
            if mask is None or mask.any():
                found[region].append(psnr_db(truth, picture, mask))
    return {region: round(float(np.mean(values)), 3) for region, values in found.items() if values}


def main() -> int:
    """Fits, looks and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("gaussian", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--work", type=Path, help="for frames and checkpoint; beside the output where not given")
    parser.add_argument("--preset", default="hashgrid")
    parser.add_argument("--minutes", type=float, nargs="+", default=[5.0, 15.0, 30.0, 60.0])
    parser.add_argument("--every", type=int, default=2, help="judge every so-manieth held-out frame")
    parser.add_argument("--resume", action="store_true")
    args = parser.parse_args()
    minutes = sorted(args.minutes)
    work = args.work or args.output.with_suffix(".work")
    work.mkdir(parents=True, exist_ok=True)

    clip, preset = ClipFolder.open(args.clip), load_preset(args.preset)
    frames = FrameStore.build(clip, preset.size, work / f"frames-{preset.size}")
    motion, count, camera = clip.motion(), clip.train_count, frames.camera
    plate = cv2.resize(clip.plate(), (camera.width_px, camera.height_px), interpolation=cv2.INTER_AREA)
    held_out = list(range(count, len(clip), args.every))
    train = np.linspace(0, count - 1, len(held_out)).round().astype(int).tolist()

    def judge(render: Callable[[int], np.ndarray]) -> dict:
        def over_plate(index: int) -> np.ndarray:
            return composite(render(index), plate)

        return {
            "held_out": scores(over_plate, clip, frames, held_out),
            "train": scores(over_plate, clip, frames, train),
        }

    def say(event: Event) -> None:
        if isinstance(event, Progress) and event.step % 500 == 0:
            print(f"step {event.step}", {k: round(v, 4) for k, v in event.values.items()}, flush=True)

    beside = GaussianRenderer(Avatar.load(args.gaussian).gaussians, camera)
    before = json.loads(args.output.read_text()) if args.resume and args.output.is_file() else {}
    rows: list[dict] = before.get("hashgrid", [])
    table = {"gaussian": judge(partial(beside.render, motion)), "hashgrid": rows}
    print(json.dumps(table["gaussian"]), flush=True)
    landmarks_cm = np.asarray(clip.landmarks_cm)[:count]
    settings = replace(preset.hashgrid, minutes=minutes[-1], steps=None)
    trainer = HashgridTrainer(
        motion[:count], landmarks_cm, lip_aperture_cm(landmarks_cm), frames.only(np.arange(count)), plate,
        clip.torso_modes(), settings, checkpoint=work / "hashgrid.checkpoint", resume=args.resume, on_event=say,
    )  # fmt: skip
    for mark in minutes:
        if any(row["minutes"] == mark for row in rows):
            continue
        gaussians, head = trainer.run(until_seconds=mark * 60)
        renderer = HashgridRenderer(head, gaussians, camera)
        start = time.monotonic()
        row = {"minutes": mark, "steps": trainer.state.step} | judge(partial(renderer.render, motion))
        row["look_seconds"] = round(time.monotonic() - start, 1)
        rows.append(row)
        print(json.dumps(row), flush=True)
        args.output.write_text(json.dumps(table, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
