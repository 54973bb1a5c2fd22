"""Clip folders made from the performer's exact truth, for tests of what reads clip folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from avatarfit.capture import ClipFolder
from avatarfit.capture import clip_folder as files
from avatarfit.capture.blendshapes import described, geometry_blendshapes
from avatarfit.capture.frame_selection import new_shots
from avatarfit.capture.landmark_source import FACE_MESH
from avatarfit.capture.stages import save_tensors
from avatarfit.contracts import AudioClip
from avatarfit.media import VideoWriter
from avatarfit.model.rig import Rig
from avatarfit.performer import Performer
from avatarfit.performer.performance import Performance


@dataclass(frozen=True)
class Film:
    """A performance with its pictures: rgb uint8 [T, H, W, 3], alpha and labels uint8 [T, H, W]."""

    performance: Performance
    plate: np.ndarray
    rgb: np.ndarray
    alpha: np.ndarray
    labels: np.ndarray
    sound: AudioClip | None
    frame_rate_hz: float
    rejects: tuple[tuple[float, str], ...] = ()

    def moved(self, down_px: int) -> Film:
        """The camera tilted: everything lies `down_px` lower, what comes in repeats the edge."""
        points = self.performance.landmarks_px + np.array([0, down_px, 0], np.float32)
        shift = np.array([[1, 0, 0], [0, 1, down_px]], np.float32)
        size = self.rgb.shape[2], self.rgb.shape[1]

        def warped(pictures: np.ndarray) -> np.ndarray:
            return np.stack([cv2.warpAffine(p, shift, size, borderMode=cv2.BORDER_REPLICATE) for p in pictures])

        return replace(
            self, performance=replace(self.performance, landmarks_px=points), rgb=warped(self.rgb),
            alpha=warped(self.alpha), labels=warped(self.labels),
        )  # fmt: skip

    def halved(self) -> Film:
        """The same at half the size."""
        height, width = self.rgb.shape[1] // 2, self.rgb.shape[2] // 2

        def small(pictures: np.ndarray, how: int) -> np.ndarray:
            return np.stack([cv2.resize(p, (width, height), interpolation=how) for p in pictures])

        performance = replace(
            self.performance, landmarks_px=self.performance.landmarks_px / 2,
            camera=self.performance.camera.resized(width, height),
        )  # fmt: skip
        return replace(
            self, performance=performance, plate=cv2.resize(self.plate, (width, height)),
            rgb=small(self.rgb, cv2.INTER_AREA), alpha=small(self.alpha, cv2.INTER_AREA),
            labels=small(self.labels, cv2.INTER_NEAREST),
        )  # fmt: skip


def film(performer: Performer, performance: Performance) -> Film:
    pictures = [performer.render(performance, k) for k in range(len(performance))]
    return Film(
        performance, performer.plate, np.stack([p.rgb for p in pictures]),
        np.stack([(p.alpha * 255 + 0.5).astype(np.uint8) for p in pictures]), np.stack([p.labels for p in pictures]),
        performance.sound, performance.frame_rate_hz,
    )  # fmt: skip


def clip_of(take: Film, folder: Path) -> ClipFolder:
    """A clip folder of the film, with its source beside it."""
    folder.mkdir()
    path, source = folder / "clip", folder / "source.mkv"
    path.mkdir()
    count, height, width = take.rgb.shape[:3]
    rate, performance = take.frame_rate_hz, take.performance
    with VideoWriter(source, width, height, rate, codec="ffv1", sound=take.sound) as out:
        for rgb in take.rgb:
            out.write(rgb)
    for name, pictures in ((files.PERSON, take.alpha), (files.LABELS, take.labels)):
        with VideoWriter(path / name, width, height, rate, codec="ffv1", pixel="gray8") as out:
            for picture in pictures:
                out.write(picture)
    cv2.imwrite(str(path / files.PLATE), take.plate[..., ::-1])
    seen = (take.alpha < 10).any(axis=0)
    cv2.imwrite(str(path / files.PLATE_SEEN), seen.astype(np.uint8) * 255)
    landmarks = performance.landmarks_cm
    rig = Rig.fit(landmarks)
    face = rig.encode(landmarks)
    pts = np.arange(count) / rate
    tracks = {
        "pts_seconds": pts, "landmarks_px": performance.landmarks_px, "landmarks_cm": landmarks,
        "head_rotation_wxyz": performance.head.rotation_wxyz, "head_translation_cm": performance.head.translation_cm,
        "torso_affine": performance.torso.affine, "torso_shape": performance.torso.shape,
        "mouth": face.mouth, "upper": face.upper, "eyes": face.eyes,
        "blendshapes": geometry_blendshapes(landmarks, count).values,
    }  # fmt: skip
    save_tensors(path / files.TRACKS, tracks | {f"rig.{k}": v for k, v in rig.to_tensors().items()})
    camera = performance.camera
    gray = take.rgb[..., 1].astype(np.float32)
    manifest: dict[str, Any] = {
        "format": files.FORMAT, "version": files.VERSION,
        "source": {
            "path": str(source), "sha256": "0" * 64, "size_bytes": source.stat().st_size, "width_px": width,
            "height_px": height, "frame_rate_hz": rate, "file_frame_rate_hz": rate, "duration_seconds": count / rate,
            "audio": None if take.sound is None else {"sample_rate_hz": take.sound.sample_rate_hz},
            "rotation_degrees": 0, "interlaced": False, "dynamic_range": "sdr",
        },
        "view": {"x_px": 0, "y_px": 0, "width_px": width, "height_px": height},
        "camera": {"width_px": width, "height_px": height, "focal_px": camera.focal_px,
                   "center_x_px": camera.center_x_px, "center_y_px": camera.center_y_px},
        "landmarks": "the truth", "blendshapes": described(FACE_MESH),
        "stages": {"tracks": {"key": "k", "seconds": 1, "values": {}}},
        "frames": [{"index": k, "pts_seconds": float(p), "source_index": k, "pose_residual_px": 0.1 + 0.01 * (k % 7)}
                   for k, p in enumerate(pts)],
        "cuts": new_shots(np.concatenate([[np.inf], np.abs(np.diff(gray, axis=0)).mean(axis=(1, 2))])).tolist(),
        "rejects": [{"source_index": -1, "pts_seconds": p, "reason": reason} for p, reason in take.rejects],
    }  # fmt: skip
    (path / files.MANIFEST).write_text(json.dumps(manifest))
    return ClipFolder.open(path)


SECONDS, RATE_HZ, SIZE = 60.0, 2 / 3, 256


@pytest.fixture(scope="session")
def performer() -> Performer:
    return Performer(0, SIZE)


@pytest.fixture(scope="session")
def performance(performer: Performer) -> Performance:
    """A minute, looked at twice in three seconds: as telling as all of it, and quickly rendered."""
    return performer.performance(SECONDS, RATE_HZ, seed=0)


@pytest.fixture(scope="session")
def good(performer: Performer, performance: Performance) -> Film:
    return film(performer, performance)


@pytest.fixture(scope="session")
def filmed() -> Callable[[Performer, Performance], Film]:
    return film


@pytest.fixture(scope="session")
def make_clip() -> Callable[[Film, Path], ClipFolder]:
    return clip_of
