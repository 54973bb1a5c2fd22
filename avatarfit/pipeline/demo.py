"""The whole way with a synthetic person: clip, avatar, a video of it speaking other words, figures, a contact sheet."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from avatarfit.contracts.events import Listener, silent
from avatarfit.media import probe, read_video, write_wav
from avatarfit.output import contact_sheet, write_png

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
    from avatarfit.avatarfile import Consent
    from avatarfit.capture import ClipFolder
    from avatarfit.evaluation import evaluate_avatar
    from avatarfit.performer.sample_clip import write_sample_clip
    from avatarfit.performer.speech import synthesise, write_phrases
    from avatarfit.pipeline.drive import drive_avatar
    from avatarfit.pipeline.fit import fit
    from avatarfit.pipeline.presets import load_preset

    began = time.perf_counter()
    clip = folder / "clip.mp4"
    width = max(256, size + size % 2)
    write_sample_clip(clip, clip_seconds, width_px=width, frame_rate_hz=FRAME_RATE_HZ, seed=seed, on_event=on_event)
    speech, words = folder / "speech.wav", np.random.default_rng([seed, 1])
    write_wav(speech, synthesise(write_phrases(speech_seconds, words), words))

    preset = replace(load_preset("cpu"), driver_seconds=_DRIVER_SECONDS)
    work, avatar_path = folder / "work", folder / "performer.avatar"
    nobody = Consent.given("synthetic performer", "anything: nobody real is shown")
    avatar = fit(
        clip, avatar_path, size=size, minutes=minutes, preset=preset, work_dir=work, seed=seed, consent=nobody,
        on_event=on_event,
    )  # fmt: skip
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
