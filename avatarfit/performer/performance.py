"""What a performer does over time, exactly: pose, expression, blinks, gaze, body and sound."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from avatarfit.contracts import AudioClip, Camera, HeadPose, TorsoMotion
from avatarfit.performer import face_shape as fs
from avatarfit.performer.speech import MOUTH_SHAPES, Segment, mouth_coefficients, synthesise, write_phrases
from avatarfit.performer.surface import smooth_step

_NECK_PIVOT_CM = np.array([0.0, 9.5, 7.5])


@dataclass(frozen=True)
class Performance:
    """T frames of truth.

    Attributes:
        pts_seconds: float64 [T], `index / frame_rate_hz`.
        frame_rate_hz: frames a second.
        camera: the camera of the pictures.
        head: pose of the head in the camera's frame.
        torso: the upper body's motion; rest is where it is when the head is at `Performer.rest_translation_cm`.
        coefficients: float64 [T, len(SHAPES)], see `face_shape.SHAPES`.
        blink: float64 [T, 2], closure in 0..1 of the eye at the picture's left, right.
        gaze: float64 [T, 2], radians in the head frame: to the picture's right, and down. Both eyes the same.
        landmarks_cm: float32 [T, 478, 3] in the head frame.
        landmarks_px: float32 [T, 478, 3]; x and y in pixels, z in pixels of the scale at the head's origin, from there.
        mouth_open_cm: float64 [T], distance of landmarks 13 and 14.
        segments: the speech sounds.
        sound: their sound.
    """

    pts_seconds: np.ndarray
    frame_rate_hz: float
    camera: Camera
    head: HeadPose
    torso: TorsoMotion
    coefficients: np.ndarray
    blink: np.ndarray
    gaze: np.ndarray
    landmarks_cm: np.ndarray
    landmarks_px: np.ndarray
    mouth_open_cm: np.ndarray
    segments: list[Segment]
    sound: AudioClip

    def __len__(self) -> int:
        return len(self.pts_seconds)

    def to_tensors(self) -> dict[str, np.ndarray]:
        """The truth as named arrays; the segments as `segment_symbol` (code points) and their start and stop."""
        return {
            "pts_seconds": self.pts_seconds,
            "landmarks_cm": self.landmarks_cm,
            "landmarks_px": self.landmarks_px,
            "head_rotation_wxyz": self.head.rotation_wxyz,
            "head_translation_cm": self.head.translation_cm,
            "torso_affine": self.torso.affine,
            "coefficients": self.coefficients.astype(np.float32),
            "blink": self.blink.astype(np.float32),
            "gaze": self.gaze.astype(np.float32),
            "mouth_open_cm": self.mouth_open_cm.astype(np.float32),
            "segment_symbol": np.array([ord(s.symbol) for s in self.segments], np.int32),
            "segment_start_seconds": np.array([s.start_seconds for s in self.segments]),
            "segment_stop_seconds": np.array([s.stop_seconds for s in self.segments]),
        }


def perform(
    shape: fs.FaceShape,
    camera: Camera,
    rest_translation_cm: np.ndarray,
    duration_seconds: float,
    frame_rate_hz: float,
    seed: int,
) -> Performance:
    """A performance of `duration_seconds` drawn from `seed`.

    Raises:
        ValueError: the duration is shorter than a frame, or the rate is not positive.
    """
    if not frame_rate_hz > 0 or not duration_seconds * frame_rate_hz >= 1:
        raise ValueError(f"{duration_seconds} s at {frame_rate_hz} frames a second came; wanted one frame at least")
    streams = [np.random.default_rng([seed, 10 + k]) for k in range(6)]
    count = round(duration_seconds * frame_rate_hz)
    pts = np.arange(count) / frame_rate_hz
    segments = write_phrases(count / frame_rate_hz, streams[0])
    mouth = mouth_coefficients(segments, pts)
    coefficients = np.zeros((count, len(fs.SHAPES)))
    for k, name in enumerate(MOUTH_SHAPES):
        coefficients[:, fs.SHAPES.index(name)] = mouth[:, k]
    brows = _drift(pts, streams[1], 2, fastest_hz=0.6)
    coefficients[:, fs.SHAPES.index("brow_raise")] = 0.8 * np.clip(brows[:, 0] - 0.15, 0, 1)
    coefficients[:, fs.SHAPES.index("brow_furrow")] = 0.7 * np.clip(brows[:, 1] - 0.25, 0, 1)

    angles = _drift(pts, streams[2], 3, fastest_hz=0.45) * np.deg2rad([14.0, 6.5, 4.5])
    angles[:, 1] += np.deg2rad(2.0) * _drift(pts, streams[2], 1, fastest_hz=1.3)[:, 0]
    rotation = Rotation.from_euler("yxz", angles * [-1, 1, 1])
    wander = _drift(pts, streams[3], 3, fastest_hz=0.3) * [0.9, 0.5, 1.6]
    translation = rest_translation_cm + _NECK_PIVOT_CM - rotation.apply(_NECK_PIVOT_CM) + wander
    x, y, z, w = rotation.as_quat().T
    quaternion = np.stack([w, x, y, z], axis=1)
    quaternion *= np.where(quaternion[:, :1] < 0, -1, 1)
    head = HeadPose(quaternion, translation)
    torso = _torso(pts, wander, angles, rest_translation_cm, streams[4])

    blink = np.repeat(_blinks(pts, streams[5])[:, None], 2, axis=1)
    gaze = _gaze(pts, angles[:, :2], streams[5])
    landmarks = shape.landmarks_cm(coefficients, blink, gaze).astype(np.float32)
    pixels = project_landmarks(landmarks, head, camera)
    opening = np.linalg.norm(landmarks[:, 13].astype(np.float64) - landmarks[:, 14], axis=1)
    sound = synthesise(segments, np.random.default_rng([seed, 20]))
    return Performance(
        pts, float(frame_rate_hz), camera, head, torso, coefficients, blink, gaze, landmarks, pixels, opening, segments,
        sound,
    )  # fmt: skip


def project_landmarks(landmarks_cm: np.ndarray, head: HeadPose, camera: Camera) -> np.ndarray:
    """Landmarks float32 [T, 478, 3] in pixels: posed and projected; z relative to the head's origin, at its scale."""
    pose = head.matrices().astype(np.float64)
    posed = np.einsum("tij,tpj->tpi", pose[:, :, :3], landmarks_cm.astype(np.float64)) + pose[:, None, :, 3]
    origin = pose[:, None, 2, 3]
    depth = (posed[..., 2] - origin) * camera.focal_px / origin
    return np.concatenate([camera.project(posed), depth[..., None]], axis=2).astype(np.float32)


def _drift(pts: np.ndarray, rng: np.random.Generator, channels: int, fastest_hz: float) -> np.ndarray:
    """Smooth wandering [T, channels] within -1..1: sums of slow sines."""
    waves = 6
    frequency = np.geomspace(0.06, fastest_hz, waves)[:, None] * rng.uniform(0.8, 1.2, (waves, channels))
    strength = frequency**-0.45
    phase = rng.uniform(0, 2 * np.pi, (waves, channels))
    total = (strength * np.sin(2 * np.pi * frequency * pts[:, None, None] + phase)).sum(axis=1)
    return np.tanh(1.25 * total / np.sqrt((strength**2).sum(axis=0)))


def _blinks(pts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Closure [T] in 0..1: every 2 to 5.5 s the lids close within 0.1 s, rest for 0.04 s and open within 0.16 s."""
    closure = np.zeros(len(pts))
    start = rng.uniform(0.8, 2.5)
    while start < pts[-1] + 1:
        t = pts - start
        closure = np.maximum(closure, smooth_step(t, 0, 0.10) * (1 - smooth_step(t, 0.14, 0.30)))
        start += rng.uniform(2.0, 5.5)
    return closure


def _gaze(pts: np.ndarray, head_angles: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Angles [T, 2]: mostly at the camera, against the head's turning, with glances aside."""
    glance = np.zeros((len(pts), 2))
    start, current = 0.0, np.zeros(2)
    while start < pts[-1]:
        target = np.deg2rad(rng.normal(size=2) * [5.0, 2.5]) if rng.random() < 0.55 else np.zeros(2)
        arrived = smooth_step(pts, start, start + 0.06)[:, None]
        glance += arrived * (target - current)
        current = target
        start += rng.uniform(0.5, 2.2)
    limit = np.deg2rad([17.0, 11.0])
    return np.clip(glance - head_angles * [0.85, 0.7], -limit, limit)


def _torso(
    pts: np.ndarray, wander_cm: np.ndarray, angles: np.ndarray, rest_cm: np.ndarray, rng: np.random.Generator
) -> TorsoMotion:
    """Breathing, and a part of the head's wandering and roll, as an affine map at z = 1 about the pit of the neck."""
    breath = np.sin(2 * np.pi * (0.24 * pts + rng.uniform()))
    roll = 0.10 * angles[:, 2] + np.deg2rad(0.6) * _drift(pts, rng, 1, fastest_hz=0.25)[:, 0]
    distance = rest_cm[2]
    center = (rest_cm[:2] + [0, 22.0]) / distance
    grow = 1 + 0.004 * breath
    matrix = np.empty((len(pts), 2, 2))
    matrix[:, 0, 0] = matrix[:, 1, 1] = np.cos(roll) * grow
    matrix[:, 1, 0] = np.sin(roll) * grow
    matrix[:, 0, 1] = -matrix[:, 1, 0]
    shift = wander_cm[:, :2] * [0.45, 0.30] / distance
    shift[:, 1] -= 0.12 * breath / distance
    offset = center + shift - matrix @ center
    return TorsoMotion(np.concatenate([matrix, offset[:, :, None]], axis=2))
