"""evaluation.html: one page that shows what an evaluation measured; evaluation.json beside it, and a film."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from avatarfit.capture.report.charts import Curve, clock, line_chart
from avatarfit.capture.report.page import Cell, facts, gallery, page, paragraph, section, table
from avatarfit.capture.stages import write_atomically
from avatarfit.evaluation.composites import COMPOSITES
from avatarfit.evaluation.definitions import DEFINITIONS, direction, flat_figures, unit
from avatarfit.evaluation.scores import REGIONS

if TYPE_CHECKING:
    from avatarfit.capture.clip_folder import ClipFolder

PAGE, NUMBERS, FILM = "evaluation.html", "evaluation.json", "evaluation.mp4"
EMBEDDED_BYTES = 6_000_000
"""A film up to this size lies inside the page."""
_METRICS = {"psnr_db": "PSNR, dB", "ssim": "SSIM", "ms_ssim": "MS-SSIM", "lpips": "LPIPS"}
_REGION_NAMES = {"person": "person", "head": "head", "mouth": "mouth", "whole_frame": "whole frame"}
_ROWS = {
    "full": "full synthesis",
    "head_over_true_torso": "head over the true torso",
    "paste_back": "face pasted into the true frame",
    "train": "training frames, full",
    "torso_from_head": "torso guessed from the head",
    "baseline_nearest": "nearest training frame instead",
    "baseline_mean": "mean frame instead",
}
_ARROWS = {"higher": "↑", "lower": "↓", "near 1": "→ 1", "near 0": "→ 0", "": ""}


def write_report(
    folder: Path, result: dict[str, Any], worst: Sequence[tuple[int, float, np.ndarray]], clip: ClipFolder
) -> Path:
    """Writes evaluation.html and evaluation.json into a folder, each whole or not at all; the page's path.

    Args:
        folder: is there; an evaluation.mp4 in it becomes part of the page.
        result: of `evaluate_avatar`.
        worst: (index, PSNR in dB, "truth | render | error x 4" uint8 [H, 3 W, 3]), worst first.
    """
    write_atomically(folder / NUMBERS, (json.dumps(result, indent=2, allow_nan=False) + "\n").encode())
    body = [
        f"<header><h1>Evaluation on {escape(clip.source.name)}</h1>{_outline(result, clip)}</header><main>",
        section("Pictures", *_pictures(result)),
        section("Over time", _moving(result)),
        *([section("Driven by sound", *_driven(result))] if "driven" in result else []),
        section("Film", _film(folder / FILM, bool(result["frames"]["consecutive"]))),
        section("The worst frames", *_worst(worst, clip)),
        section("Frame by frame", *_charts(result)),
        section("What the figures mean", _meanings()),
        "</main>",
    ]
    path = folder / PAGE
    write_atomically(path, page(f"Evaluation on {clip.source.name}", clip.content_hash, body).encode())
    return path


def _outline(result: dict[str, Any], clip: ClipFolder) -> str:
    size, frames, split = result["size"], result["frames"], result["split"]
    stretches = ", ".join(
        f"{clock(float(clip.pts_seconds[a]))} to {clock(float(clip.pts_seconds[b - 1]))}"
        for a, b in split["held_out"][:12]
    )
    names = {"last": "the last eleventh", "blocks": "blocks spread over the clip"}
    rows = [
        ("Size", f"{size['width_px']} x {size['height_px']} px"),
        ("Head", _head(result)),
        ("Held out", f"{frames['held_out']} of {frames['clip']} frames, {names[split['name']]}: {stretches}"),
        ("Judged", f"{frames['held_out_judged']} held-out pictures, {frames['training_judged']} training pictures, "
                   f"{frames['consecutive']} frames in a row"),
        ("Motion", "measured in the clip: pose, expression and torso of each frame are the person's own"),
        *(("Note", note) for note in result["notes"]),
    ]  # fmt: skip
    return facts(rows)


def _head(result: dict[str, Any]) -> str:
    if result["head"] == "gaussian":
        return f"{result['gaussians']} Gaussians, torso and all"
    field = result["field_numbers"] / 1e6
    return f"hash-grid field of {field:.2f} million numbers, over {result['gaussians']} Gaussians of neck and torso"


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.3f}"


def _pictures(result: dict[str, Any]) -> list[str]:
    parts = {name: result["composites"][name] for name in COMPOSITES}
    parts |= {name: result[name] for name in ("train", "torso_from_head", "baseline_nearest", "baseline_mean")}
    out = [
        paragraph(
            "Each row is another picture, never mixed: only full synthesis is the avatar's alone. Mean over the frames "
            "of each frame's figure."
        )
    ]
    for metric, title in _METRICS.items():
        rows = [
            (escape(_ROWS[name]), *(_number(part.get(region, {}).get(metric)) for region in REGIONS))
            for name, part in parts.items()
            if any(metric in part.get(region, {}) for region in REGIONS)
        ]
        if rows:
            head = (f"{title} {_ARROWS[direction(metric)]}", *(_REGION_NAMES[r] for r in REGIONS))
            out.append(table(head, rows))
    return out


_MOVING = (
    ("found_landmarks.lmd_px", None, "LMD: mouth landmarks, at the avatar's size"),
    ("found_landmarks.aperture_r", None, "lip aperture, correlation with the truth's"),
    ("found_landmarks.blink_f1", None, "blinks, F1"),
    ("found_landmarks.expression_error", None, "expression error, blendshape scores"),
    ("found_landmarks.identity", None, "identity: mean landmark layout, in eye distances"),
    ("neck_seam.median", None, "neck seam, median"),
    ("neck_seam.p95", None, "neck seam, 95th percentile"),
    ("pose_jitter.render", "pose_jitter.truth", "pose jitter"),
    ("temporal_flicker.render", "temporal_flicker.truth", "flicker of the face"),
    ("silence_leakage.render", "silence_leakage.truth", "silence leakage"),
    ("lip_sound_offset.render.energy.offset_s", "lip_sound_offset.truth.energy.offset_s", "sound after lips, by level"),
    ("lip_sound_offset.render.energy.r", "lip_sound_offset.truth.energy.r", "its correlation"),
    ("lip_sound_offset.render.spectrum.offset_s", "lip_sound_offset.truth.spectrum.offset_s",
     "sound after lips, by spectrum"),
    ("lip_sound_offset.render.spectrum.r", "lip_sound_offset.truth.spectrum.r", "its correlation"),
    ("sync.render.sync_c", "sync.truth.sync_c", "Sync-C"),
    ("sync.render.sync_d", "sync.truth.sync_d", "Sync-D"),
    ("sync.render.offset_frames", "sync.truth.offset_frames", "SyncNet's offset, frames"),
)  # fmt: skip


def _moving(result: dict[str, Any]) -> str:
    flat = flat_figures(result)
    rows = []
    for name, truth, title in _MOVING:
        if name in flat or (truth is not None and truth in flat):
            better = _ARROWS[direction(name)]
            rows.append((escape(f"{title} {better}"), _with_unit(name, flat.get(name)),
                         "" if truth is None else _with_unit(name, flat.get(truth))))  # fmt: skip
    if not rows:
        return paragraph("Not measured.")
    blinks = result.get("found_landmarks", {}).get("blinks")
    if blinks:
        rows.append(("blinks seen", str(blinks["render"]), str(blinks["truth"])))
    return table(("Figure", "render", "truth"), rows)


def _with_unit(name: str, value: float | None) -> str:
    return _number(value) if value is None else escape(f"{_number(value)} {unit(name)}".strip())


def _driven(result: dict[str, Any]) -> list[str]:
    driver, true_motion = result["driven"]["driver"], result["driven"]["true_motion"]
    titles = {
        "lmd_px": "LMD",
        "aperture_r": "lip aperture, correlation",
        "closure_recall": "closed lips, recall",
        "closure_precision": "closed lips, precision",
        "jitter_above_6hz": "motion above 6 Hz over the truth's",
        "silence_leakage": "silence leakage",
    }
    rows = [
        (escape(f"{title} {_ARROWS[direction(name)]}"), _with_unit(name, driver[name]),
         _with_unit(name, true_motion[name]))
        for name, title in titles.items()
    ]  # fmt: skip
    out = [
        paragraph("The mouth that the avatar's own driver makes of the held-out sound, beside the measured one."),
        table(("Figure", "driven by sound", "true motion"), rows),
    ]
    delay = result["latency"]
    out.append(
        paragraph(
            f"Latency on this machine: {delay['total_ms']:.0f} ms = {delay['look_ahead_ms']:.0f} ms of look-ahead, "
            f"measured by muting sound (the network can hear {delay['network_ms']:.0f} ms ahead) + "
            f"{delay['motion_ms']:.1f} ms for the motion + {delay['picture_ms']:.1f} ms for the picture of a frame."
        )
    )
    return out


def _film(path: Path, made: bool) -> str:
    if not made or not path.is_file():
        return paragraph("None was made.")
    source = path.name
    if path.stat().st_size <= EMBEDDED_BYTES:
        source = f"data:video/mp4;base64,{base64.b64encode(path.read_bytes()).decode()}"
    told = paragraph("The clip at the left, the avatar with the clip's measured motion at the right.")
    return f'{told}<video controls preload="metadata" src="{source}"></video>'


def _worst(worst: Sequence[tuple[int, float, np.ndarray]], clip: ClipFolder) -> list[str]:
    cells = []
    for index, quality, picture in worst:
        caption = f"{clock(float(clip.pts_seconds[index]))} · frame {index} · {quality:.1f} dB on the person"
        cells.append(Cell(picture, f"Truth, render and four times their difference at {caption}", caption))
    return [paragraph("Truth, render, and four times their difference."), gallery(cells, wide=True)]


def _charts(result: dict[str, Any]) -> list[str]:
    pictures, motion = result["per_frame"]["pictures"], result["per_frame"]["motion"]
    out = []

    def chart(title: str, told: str, part: dict[str, Any], names: dict[str, str], low: float | None = None) -> None:
        seconds = _floats(part["pts_seconds"])
        known = {name: label for name, label in names.items() if name in part}
        if not known or not len(seconds):
            return
        holes = np.flatnonzero(np.diff(part["index"]) > max(1, int(np.median(np.diff(part["index"]))))) + 1
        curves = []
        for kind, (name, label) in enumerate(known.items(), start=1):
            values = _floats(part[name])
            values[holes] = np.nan
            curves.append(Curve(label, seconds - seconds[0], values, kind))
        out.append(line_chart(title, told, float(np.ptp(seconds)), curves, low=low))

    person = {f"{name}.person.psnr_db": _ROWS[name] for name in COMPOSITES}
    mouth = {f"{name}.mouth.psnr_db": _ROWS[name] for name in COMPOSITES[:1]}
    sides = {"render": "render", "truth": "truth"}
    chart("PSNR of the person", "dB, higher is better", pictures, person)
    chart("PSNR of the mouth", "dB, higher is better", pictures, mouth)
    chart("Mouth landmarks' distance", "px, lower is better", motion, {"lmd_px": "LMD"}, 0)
    chart("Lip aperture", "px", motion, {f"aperture_px.{k}": v for k, v in sides.items()}, 0)
    chart("Eyes shut", "0 open, 1 shut", motion, {f"eyes_shut.{k}": v for k, v in sides.items()}, 0)
    chart("Expression error", "lower is better", motion, {"expression_error": "mean of 51 scores"}, 0)
    chart("Neck seam", "1 is the truth's; above an edge, below a blur", motion, {"neck_seam": "render over truth"})
    jitter = {f"pose_jitter.{k}": v for k, v in sides.items()}
    chart("Pose jitter", "px/frame at 512, lower is better", motion, jitter, 0)
    flicker = {f"temporal_flicker.{k}": v for k, v in sides.items()}
    chart("Flicker of the face", "levels of 255, lower is better", motion, flicker, 0)
    return out or [paragraph("None.")]


def _floats(values: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if v is None else v for v in values], np.float64)


def _meanings() -> str:
    rows = [
        (escape(name), escape(d.text), escape(d.unit), escape(d.better), escape(d.source if d.unit or d.better else ""))
        for name, d in DEFINITIONS.items()
    ]
    return table(("Name in evaluation.json", "How it is measured", "Unit", "Better", "Source"), rows)
