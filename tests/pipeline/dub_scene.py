"""The synthetic performer as footage, and an avatar that draws the truth: what a dub makes can then be compared with
the picture that the camera would have taken had the performer said something else."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
from safetensors.numpy import save_file

from avatarfit.contracts import Camera, FaceMotion, Motion, TorsoMotion
from avatarfit.media import VideoWriter
from avatarfit.model.habits import Habits, Stance
from avatarfit.model.rig import Rig
from avatarfit.model.torso_modes import TorsoModes
from avatarfit.performer.face_shape import SHAPES
from avatarfit.performer.performance import Performance
from avatarfit.performer.performer import Performer

RATE, COUNT, SIZE = 25.0, 24, 160
NETWORK = "mediapipe-0.10.21 face_mesh"
WARMER = np.array([9, 4, -6])
"""How the avatar's colours are off those of the footage, levels of 255."""


@dataclass
class Scene:
    """One take, said twice: `films[0]` as it was, `films[1]` with another mouth; uint8 [T, H, W, 3]."""

    performer: Performer
    performance: Performance
    films: tuple[np.ndarray, np.ndarray]
    mouths: tuple[np.ndarray, np.ndarray]
    alphas: np.ndarray
    rig: Rig

    def avatar(self) -> Any:
        """An avatar of the performer, as far as dubbing asks for one, that `TruthRenderer` draws."""
        take = self.performance
        face = self.rig.encode(take.landmarks_cm)
        stance = Stance(
            face.upper, face.eyes, take.head.rotation_wxyz, take.head.translation_cm, take.torso.affine,
            np.zeros((COUNT, 0), np.float32),
        )  # fmt: skip
        habits = Habits.of(stance, take.pts_seconds, RATE)
        driver = SimpleNamespace(habits=habits, mouth_rest=np.zeros_like(self.mouths[0][0]), feature_name="")
        return SimpleNamespace(
            rig=self.rig, driver=driver, camera=take.camera, made={"landmarks": NETWORK}, gaussians=self, field=None,
            torso_modes=TorsoModes.none(), file_sha256="0" * 64, consent=None,
        )  # fmt: skip

    def new_motion(self) -> Motion:
        """What the performer would have said."""
        take = self.performance
        face = replace(self.rig.encode(take.landmarks_cm), mouth=self.mouths[1])
        return Motion(take.pts_seconds, face, take.head, take.torso)


def make_scene(seed: int = 3) -> Scene:
    """A second of the performer."""
    performer = Performer(seed, SIZE)
    played = performer.performance(COUNT / RATE, RATE, seed)
    swing = np.sin(np.arange(COUNT) * np.array([[0.45], [0.8]]))
    take = _saying(performer, played, {"jaw": 0.4 + 0.35 * swing[0], "wide": 0.3 * swing[1]})
    said = _saying(performer, played, {"jaw": 0.4 - 0.35 * swing[0], "round": 0.4 + 0.4 * swing[1]})
    drawn = [[performer.render(one, k) for k in range(COUNT)] for one in (take, said)]
    rig = Rig.fit(np.concatenate([take.landmarks_cm, said.landmarks_cm]))
    return Scene(
        performer, take, (np.stack([p.rgb for p in drawn[0]]), np.stack([p.rgb for p in drawn[1]])),
        (rig.encode(take.landmarks_cm).mouth, rig.encode(said.landmarks_cm).mouth),
        np.stack([np.rint(255 * p.alpha) for p in drawn[0]]).astype(np.uint8), rig,
    )  # fmt: skip


def _saying(performer: Performer, take: Performance, mouth: dict[str, np.ndarray]) -> Performance:
    """The same take with another mouth."""
    amounts = take.coefficients.copy()
    amounts[:, [SHAPES.index(n) for n in ("jaw", "wide", "round", "press", "upper_raise", "tuck")]] = 0
    for name, values in mouth.items():
        amounts[:, SHAPES.index(name)] = values
    landmarks = performer.shape.landmarks_cm(amounts, take.blink, take.gaze)
    pose = take.head.matrices().astype(np.float64)
    placed = np.einsum("tij,tlj->tli", pose[:, :, :3], landmarks) + pose[:, None, :, 3]
    pixels = np.concatenate([take.camera.project(placed), take.landmarks_px[:, :, 2:]], axis=2)
    return replace(
        take, coefficients=amounts, landmarks_cm=landmarks.astype(np.float32), landmarks_px=pixels.astype(np.float32),
        mouth_open_cm=landmarks[:, 14, 1] - landmarks[:, 13, 1],
    )  # fmt: skip


class TruthRenderer:
    """Draws the scene's own films, in wrong colours."""

    def __init__(self, scene: Scene, camera: Camera, backend: str = "auto") -> None:
        self.scene, self.camera = scene, camera

    def render_over(self, motion: Motion, index: int, background: np.ndarray) -> np.ndarray:
        frame = round(float(motion.pts_seconds[index]) * RATE)
        whole = self.scene.performance.camera
        left, top = (round(a - b) for a, b in zip(
            (whole.center_x_px, whole.center_y_px), (self.camera.center_x_px, self.camera.center_y_px), strict=True
        ))  # fmt: skip
        said = [np.abs(mouths[frame] - motion.face.mouth[index]).max() for mouths in self.scene.mouths]
        film = self.scene.films[int(np.argmin(said))][frame]
        part = film[top : top + self.camera.height_px, left : left + self.camera.width_px]
        return np.clip(part + WARMER, 0, 255).astype(np.uint8)


def write_folder(scene: Scene, folder: Path, *, rejects: dict[int, str] | None = None, cuts: list[int] | None = None,
                 file_rate: float = RATE) -> Path:  # fmt: skip
    """A clip folder as capture would make it of the scene's first film, measured without error; the film beside it."""
    folder.mkdir()
    video, take = folder.parent / f"{folder.name}.mkv", scene.performance
    with VideoWriter(video, SIZE, SIZE, file_rate, codec="ffv1") as writer:
        for picture in scene.films[0]:
            writer.write(picture)
    left = rejects or {}
    kept = np.array([k for k in range(COUNT) if k not in left])
    with VideoWriter(folder / "person.mkv", SIZE, SIZE, RATE, codec="ffv1", pixel="gray8") as writer:
        for k in kept:
            writer.write(scene.alphas[k])
    cv2.imwrite(str(folder / "plate.png"), np.ascontiguousarray(scene.performer.plate[:, :, ::-1]))
    face: FaceMotion = scene.rig.encode(take.landmarks_cm)
    torso: TorsoMotion = take.torso
    tensors = {
        "pts_seconds": take.pts_seconds, "landmarks_px": take.landmarks_px, "landmarks_cm": take.landmarks_cm,
        "head_rotation_wxyz": take.head.rotation_wxyz, "head_translation_cm": take.head.translation_cm,
        "torso_affine": torso.affine, "torso_shape": np.zeros((COUNT, 0), np.float32), "mouth": face.mouth,
        "upper": face.upper, "eyes": face.eyes, "blendshapes": np.zeros((COUNT, 0), np.float32),
    }  # fmt: skip
    tensors = {name: np.ascontiguousarray(value[kept]) for name, value in tensors.items()}
    tensors |= {f"rig.{name}": value for name, value in scene.rig.to_tensors().items()}
    tensors |= {"torso_modes.fields": np.zeros((0, 1, 1, 2), np.float32),
                "torso_modes.box": np.array([-1, -1, 1, 1], np.float32)}  # fmt: skip
    save_file(tensors, folder / "tracks.safetensors")
    manifest = {
        "format": "avatarfit.clip", "version": 3, "landmarks": NETWORK, "camera": asdict(take.camera),
        "blendshapes": {"names": []}, "stages": {}, "cuts": cuts or [],
        "source": {
            "path": str(video), "sha256": hashlib.sha256(video.read_bytes()).hexdigest(),
            "size_bytes": video.stat().st_size, "width_px": SIZE, "height_px": SIZE, "audio": None,
            "frame_rate_hz": RATE, "file_frame_rate_hz": file_rate,
        },
        "view": {"x_px": 0, "y_px": 0, "width_px": SIZE, "height_px": SIZE, "frame_rate_hz": None},
        "frames": [{"index": i, "pts_seconds": float(take.pts_seconds[k])} for i, k in enumerate(kept)],
        "rejects": [{"pts_seconds": float(take.pts_seconds[k]), "reason": why} for k, why in left.items()],
    }  # fmt: skip
    (folder / "clip.json").write_text(json.dumps(manifest))
    return folder
