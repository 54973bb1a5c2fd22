"""The whole way with a synthetic person: clip, avatar, a video of it speaking other words, figures, a contact sheet."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from avatarfit.contracts.events import Finished, Listener, Progress, Started, silent
from avatarfit.media import VideoWriter, probe, read_video, write_wav
from avatarfit.output import VideoFile, contact_sheet, write_png

CLIP_SECONDS = 40.0
SPEECH_SECONDS = 8.0
FRAME_RATE_HZ = 25.0
_DRIVER_SECONDS = 45.0
_COLUMNS = 6


@dataclass(frozen=True)
class DemoResult:
    """Where everything is.

    Attributes:
        clip: the synthetic clip.
        avatar: the avatar file.
        video: the avatar speaking.
        contact_sheet: PNG; rows: the clip; held-out frames as truth, render and error; the spoken video.
        figures_path: JSON of `figures`.
        figures: of avatarfit.evaluation.evaluate_avatar, with `seconds` of the whole demo.
    """

    clip: Path
    avatar: Path
    video: Path
    contact_sheet: Path
    figures_path: Path
    figures: dict[str, Any]


def run_demo(
    folder: Path,
    *,
    minutes: float = 2.0,
    size: int = 256,
    seed: int = 0,
    clip_seconds: float = CLIP_SECONDS,
    speech_seconds: float = SPEECH_SECONDS,
    on_event: Listener = silent,
) -> DemoResult:
    """Everything into `folder`, which exists.

    The performer's looks come from `seed`; the clip and the driving speech are different words of the same voice.

    Args:
        minutes: for the Gaussians; everything else comes on top.
        size: the avatar's width in pixels, even; the clip is made at least 256 wide.
    """
    from avatarfit.capture import ClipFolder
    from avatarfit.evaluation import evaluate_avatar
    from avatarfit.performer.performer import Performer
    from avatarfit.pipeline.drive import drive_avatar
    from avatarfit.pipeline.fit import fit
    from avatarfit.pipeline.presets import load_preset

    began = time.perf_counter()
    performer = Performer(seed, max(256, size + size % 2))
    clip = folder / "clip.mp4"
    _write_clip(performer, clip, clip_seconds, seed, on_event)
    speech = folder / "speech.wav"
    write_wav(speech, performer.performance(speech_seconds, FRAME_RATE_HZ, seed + 1).sound)

    preset = replace(load_preset("cpu"), driver_seconds=_DRIVER_SECONDS)
    work, avatar_path = folder / "work", folder / "performer.avatar"
    avatar = fit(
        clip, avatar_path, size=size, minutes=minutes, preset=preset, work_dir=work, seed=seed, on_event=on_event
    )
    video = folder / "talking.mp4"
    report = drive_avatar(avatar, speech, video, seed=seed, on_event=on_event)

    clip_folder = ClipFolder.open(work / "clip")
    pictures = folder / "pictures"
    figures = evaluate_avatar(avatar, clip_folder, pictures_dir=pictures, on_event=on_event)
    figures["drive"] = report.as_dict()
    figures["seconds"] = round(time.perf_counter() - began, 1)
    figures_path = folder / "figures.json"
    figures_path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    sheet = folder / "contact_sheet.png"
    write_png(sheet, _sheet(clip, video, pictures, size))
    return DemoResult(clip, avatar_path, video, sheet, figures_path, figures)


def _write_clip(performer: Any, path: Path, seconds: float, seed: int, on_event: Listener) -> None:
    stage, began = "sample clip", time.perf_counter()
    performance = performer.performance(seconds, FRAME_RATE_HZ, seed)
    total, width = len(performance.pts_seconds), performer.camera.width_px
    on_event(Started(stage, total))
    writer = VideoWriter(path, width, performer.camera.height_px, FRAME_RATE_HZ, sound=performance.sound, crf=12)
    with VideoFile(writer) as sink:
        for index in range(total):
            sink.write(performer.render(performance, index).rgb)
            on_event(Progress(stage, index + 1, total))
    on_event(Finished(stage, time.perf_counter() - began))


def _evenly_from(video: Path, count: int) -> list[np.ndarray]:
    """`count` pictures of a video, evenly spaced."""
    total = probe(video).frame_count_estimate
    wanted = {round((k + 0.5) * total / count) for k in range(count)}
    return [frame.rgb for index, frame in enumerate(read_video(video)) if index in wanted]


def _sheet(clip: Path, video: Path, pictures: Path, size: int) -> np.ndarray:
    import cv2
    import imageio.v3 as iio

    rows = [np.asarray(iio.imread(p)) for p in sorted(pictures.glob("frame_*.png"))]
    chosen = [rows[k] for k in np.linspace(0, len(rows) - 1, 2).round().astype(int)]
    compared = [part for row in chosen for part in np.split(row, 3, axis=1)]
    shown = [*_evenly_from(clip, _COLUMNS), *compared, *_evenly_from(video, 2 * _COLUMNS)]
    square = [cv2.resize(p, (size, size), interpolation=cv2.INTER_AREA) for p in shown]
    return contact_sheet(square, columns=_COLUMNS)
