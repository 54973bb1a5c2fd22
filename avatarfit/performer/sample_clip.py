"""A clip of the performer as a file: H.264 and AAC in an MP4, and its truth beside it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np

from avatarfit.contracts import InputError
from avatarfit.contracts.events import Finished, Listener, Progress, Started, silent
from avatarfit.media import VideoWriter
from avatarfit.performer.performance import Performance
from avatarfit.performer.performer import Performer

_STAGE = "sample clip"


def write_sample_clip(
    path: Path | str,
    duration_seconds: float = 20.0,
    *,
    width_px: int = 256,
    frame_rate_hz: float = 25.0,
    seed: int = 0,
    on_event: Listener = silent,
) -> Performance:
    """Render a performance to `path` and write its truth to the same name with `.truth.safetensors`.

    Both files appear only when complete, the video last. The same arguments give the same truth, bit for bit.

    Args:
        path: the MP4 to write; its folder must exist.
        duration_seconds: length of the clip.
        width_px: width and height of the pictures.
        frame_rate_hz: frames a second.
        seed: the person and what they do; 0 is the demo's.
        on_event: told of the progress, frame by frame.

    Returns:
        The performance that was rendered.

    Raises:
        InputError: the size, length or rate cannot be used, or the folder is missing.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise InputError(f"the folder {path.parent} does not exist", "a folder to write the clip in", "create it first")
    began = time.monotonic()
    try:
        performer = Performer(seed, width_px)
        performance = performer.performance(duration_seconds, frame_rate_hz, seed)
    except ValueError as error:
        raise InputError(str(error), "a clip that can be rendered", "change --size, --seconds or --fps") from error
    on_event(Started(_STAGE, len(performance)))
    with VideoWriter(path, width_px, width_px, frame_rate_hz, crf=14, sound=performance.sound) as writer:
        for index in range(len(performance)):
            writer.write(performer.render(performance, index).rgb)
            on_event(Progress(_STAGE, index + 1, len(performance)))
        _write_truth(path.with_suffix(".truth.safetensors"), performance, seed)
    on_event(Finished(_STAGE, time.monotonic() - began, {"frames": len(performance)}))
    return performance


def _write_truth(path: Path, performance: Performance, seed: int) -> None:
    from safetensors.numpy import save

    camera = performance.camera
    about = {
        "format": "avatarfit.performer_truth",
        "version": "1",
        "seed": str(seed),
        "frame_rate_hz": repr(performance.frame_rate_hz),
        "camera": json.dumps(
            {
                "width_px": camera.width_px,
                "height_px": camera.height_px,
                "focal_px": camera.focal_px,
                "center_x_px": camera.center_x_px,
                "center_y_px": camera.center_y_px,
            }
        ),
    }
    part = path.with_name(path.name + ".part")
    tensors = {name: np.ascontiguousarray(array) for name, array in performance.to_tensors().items()}
    part.write_bytes(save(tensors, metadata=about))
    os.replace(part, path)
