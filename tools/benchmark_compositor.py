"""The compositor's layers, and a whole drive from sound to H.264, as JSON.

    python tools/benchmark_compositor.py --output compositor.json
    python tools/benchmark_compositor.py --avatar me.avatar --audio speech.wav --output compositor.json

Layers are measured on a made-up head and shoulders with a soft, tinted outline, which every layer has work with; the
renderer is not in it. Medians of wall-clock milliseconds a frame, and the processor's own milliseconds beside them,
which do not grow where others use the machine. The drive is an image background behind the fitted torso.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from avatarfit.compositing.backdrop import Backdrop, Still
from avatarfit.compositing.clean_edges import CleanEdges
from avatarfit.compositing.compositor import Compositor
from avatarfit.compositing.look import ColourMatch, Grain, LightWrap
from avatarfit.compositing.shot import Layer

PLATE_LEVEL = (20, 90, 210)


def made_up_person(size: int) -> np.ndarray:
    """Head and shoulders, float32 [size, size, 4], premultiplied, with the plate's colour in its outline."""
    import cv2

    alpha = np.zeros((size, size), np.float32)
    cv2.ellipse(alpha, (size // 2, round(0.4 * size)), (round(0.2 * size), round(0.3 * size)), 0, 0, 360, (1.0,), -1)
    cv2.ellipse(alpha, (size // 2, size), (round(0.45 * size), round(0.3 * size)), 0, 0, 360, (1.0,), -1)
    soft = cv2.GaussianBlur(alpha, (0, 0), 0.006 * size)
    inner = np.clip(2 * soft - 1, 0, 1)[..., None]
    texture = np.random.default_rng(0).random((size, size, 3), np.float32) * 0.1
    own, plate = np.array([0.7, 0.5, 0.4], np.float32) + texture, np.array(PLATE_LEVEL, np.float32) / 255
    colour = inner * own + (1 - inner) * plate
    return np.dstack([colour * soft[..., None], soft]).astype(np.float32)


def stacks(size: int) -> dict[str, list[Layer]]:
    """What is measured, by name."""
    random = np.random.default_rng(1)
    still = Still(random.integers(0, 256, (size, size, 3), np.uint8))
    plate = np.tile(np.array(PLATE_LEVEL, np.uint8), (size, size, 1))
    back = Backdrop(still)
    return {
        "backdrop": [back],
        "backdrop, clean edges": [back, CleanEdges(plate)],
        "backdrop, light wrap": [back, LightWrap(0.4)],
        "backdrop, grain": [back, Grain(1.5)],
        "backdrop, colour match": [back, ColourMatch(0.3)],
        "all": [back, CleanEdges(plate), ColourMatch(0.3), LightWrap(0.4), Grain(1.5)],
    }


def measure(layers: list[Layer], person: np.ndarray, frames: int) -> dict[str, float]:
    """Milliseconds a frame, the copy that stands for the renderer's fresh picture not counted."""
    compositor = Compositor(*layers)
    wall, used = [], []
    for index in range(frames + 3):
        rgba = person.copy()
        began, worked = time.perf_counter(), time.process_time()
        compositor.compose(rgba, index, index / 25)
        if index >= 3:
            wall.append(1e3 * (time.perf_counter() - began))
            used.append(1e3 * (time.process_time() - worked))
    milliseconds = statistics.median(wall)
    return {
        "wall_ms": round(milliseconds, 3),
        "fastest_ms": round(min(wall), 3),
        "processor_ms": round(statistics.median(used), 3),
        "frames_per_second": round(1e3 / milliseconds, 1),
    }


def whole_drive(avatar_path: Path, audio: Path, size: int) -> dict[str, Any]:
    """An avatar over an image into an MP4: speed from sound to file."""
    import cv2

    from avatarfit.compositing import Background
    from avatarfit.compositing.framing import Framing
    from avatarfit.model.avatar import Avatar
    from avatarfit.pipeline.drive import drive_avatar
    from avatarfit.pipeline.picture import PictureSettings

    # As smooth as a studio's wall: noise would measure the encoder.
    noise = np.random.default_rng(2).integers(0, 256, (size // 16, size // 16, 3), np.uint8)
    picture = cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC)
    avatar = Avatar.load(avatar_path)
    worked = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        report = drive_avatar(
            avatar, audio, Path(folder) / "out.mp4", background=Background(picture, name="image"),
            picture=PictureSettings(Framing(size, size)),
        )  # fmt: skip
    used = time.process_time() - worked
    return {
        "frames": report.frames,
        "size": size,
        "frames_per_second": round(report.frames_per_second, 1),
        "processor_ms_per_frame": round(1e3 * used / report.frames, 2),
        "gaussians": avatar.gaussians.count,
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--avatar", type=Path, help="for the whole drive")
    parser.add_argument("--audio", type=Path, help="for the whole drive")
    parser.add_argument("--output", type=Path, required=True)
    asked = parser.parse_args()
    person = made_up_person(asked.size)
    report: dict[str, Any] = {
        "machine": {"processor": platform.processor() or platform.machine(), "cpus": os.cpu_count(),
                    "load_before": [round(v, 2) for v in os.getloadavg()]},
        "size": asked.size,
        "frames": asked.frames,
        "layers": {name: measure(layers, person, asked.frames) for name, layers in stacks(asked.size).items()},
    }  # fmt: skip
    if asked.avatar is not None and asked.audio is not None:
        report["drive"] = whole_drive(asked.avatar, asked.audio, asked.size)
    asked.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
