"""What the face did over a clip, as curves a person can read: the head's turning, the blinks, the mouth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avatarfit.capture.blendshapes import blinks
from avatarfit.contracts import Camera, HeadPose, rotations
from avatarfit.model.rig import LIPS_INNER, LIPS_OUTER, lip_aperture_cm

LONGEST_BLINK_SECONDS = 0.8
"""Eyes that stay shut for longer rest or look down; blinks of people who speak take 0.1 to 0.4 s."""
SHAPE_STEP_CM = 0.12
"""Two mouths are different shapes from this root-mean-square distance of their lips' landmarks on: six times the
landmarks' own noise (0.02 cm), and about what tells "ee" from "eh"."""


@dataclass(frozen=True)
class FaceCurves:
    """Curves over T kept pictures.

    Attributes:
        pts_seconds: float64 [T].
        angles_degrees: float64 [T, 3]: yaw (positive: the face turns to the picture's right), pitch (positive: down),
            roll (positive: clockwise as seen), against the camera's axis.
        translation_cm: float64 [T, 3], the head's place in the camera's frame.
        closure: float64 [T] in [0, 1], how far the eyes are shut: mean of both eyes' eyeBlink.
        blinks: (start, stop) in seconds, one per blink.
        aperture_cm: float64 [T], height of the inner lips' gap, not below 0.
        mouth_shapes: how many shapes of the mouth are `SHAPE_STEP_CM` apart.
    """

    pts_seconds: np.ndarray
    angles_degrees: np.ndarray
    translation_cm: np.ndarray
    closure: np.ndarray
    blinks: list[tuple[float, float]]
    aperture_cm: np.ndarray
    mouth_shapes: int

    @staticmethod
    def of(
        pts_seconds: np.ndarray, head: HeadPose, landmarks_cm: np.ndarray, names: tuple[str, ...], values: np.ndarray
    ) -> FaceCurves:
        """Curves from head poses, pose-normalised landmarks [T, 478, 3] and blendshapes: `names` of `values` [T, P]."""
        return FaceCurves(
            pts_seconds,
            head_angles_degrees(head),
            head.translation_cm.astype(np.float64),
            values[:, [names.index(f"eyeBlink{side}") for side in ("Left", "Right")]].mean(axis=1).astype(np.float64),
            blink_spans(pts_seconds, blinks(names, values)),
            np.maximum(lip_aperture_cm(landmarks_cm).astype(np.float64), 0),
            count_mouth_shapes(landmarks_cm),
        )


def head_angles_degrees(head: HeadPose) -> np.ndarray:
    """Yaw, pitch and roll, float64 [T, 3] in degrees; see `FaceCurves`."""
    # The face looks along -z; turning about y (which points down) by +a swings it to the picture's left.
    turn = rotations(head.rotation_wxyz).as_euler("YXZ", degrees=True)
    return turn * np.array([-1.0, 1.0, 1.0])


def blink_spans(pts_seconds: np.ndarray, shut: np.ndarray) -> list[tuple[float, float]]:
    """(start, stop) of every stretch of shut eyes, bool [T], that is no longer than a blink."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], shut, [False]]).astype(int)))
    found = [(float(pts_seconds[a]), float(pts_seconds[b - 1])) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    return [(a, b) for a, b in found if b - a <= LONGEST_BLINK_SECONDS]


def count_mouth_shapes(landmarks_cm: np.ndarray) -> int:
    """Greedy count of the lip shapes that differ by `SHAPE_STEP_CM` from all counted before."""
    lips = landmarks_cm[:, [*LIPS_OUTER, *LIPS_INNER]].astype(np.float32)
    flat = lips.reshape(len(lips), -1)
    radius2 = SHAPE_STEP_CM**2 * lips.shape[1]
    nearest = np.full(len(flat), np.inf, np.float32)
    count = 0
    while True:
        far = np.flatnonzero(nearest > radius2)
        if not len(far):
            return count
        count += 1
        nearest = np.minimum(nearest, np.square(flat - flat[far[0]]).sum(axis=1))


def edge_gap(landmarks_px: np.ndarray, camera: Camera) -> np.ndarray:
    """Least distance of the face's landmarks from the picture's edge, float64 [T], in face heights; < 0 outside."""
    points = landmarks_px[:, :468, :2]
    low, high = points.min(axis=1), points.max(axis=1)
    gap = np.minimum(low, np.array([camera.width_px, camera.height_px]) - high).min(axis=1)
    return (gap / face_height_px(landmarks_px)).astype(np.float64)


def face_height_px(landmarks_px: np.ndarray) -> np.ndarray:
    """Hairline to chin, float64 [T] in pixels."""
    return np.maximum(np.linalg.norm(landmarks_px[:, 10, :2] - landmarks_px[:, 152, :2], axis=1), 1).astype(np.float64)
