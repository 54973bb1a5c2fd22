"""What a face and a body do over time: the only thing that passes between a driver and a renderer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avatarfit.contracts._checks import as_array
from avatarfit.contracts.geometry import HeadPose, TorsoMotion

LANDMARK_COUNT = 478
"""MediaPipe's face mesh with irises: 468 + 2 x 5."""


@dataclass(frozen=True)
class FaceLandmarks:
    """The face mesh of one picture.

    Attributes:
        points_px: float32 [478, 3]; x and y in pixels, z in pixels of the same scale, smaller is nearer.
    """

    points_px: np.ndarray

    def __post_init__(self) -> None:
        points = as_array("FaceLandmarks.points_px", self.points_px, (LANDMARK_COUNT, 3), np.float32)
        object.__setattr__(self, "points_px", points)


@dataclass(frozen=True)
class FaceMotion:
    """Expression over T frames, as coefficients of one person's rig (avatarfit.model.rig), in standard deviations.

    Attributes:
        mouth: float32 [T, M], mouth, jaw and lower cheeks.
        upper: float32 [T, U], eyelids and brows.
        eyes: float32 [T, 6]: gaze left x, y, gaze right x, y, opening left, right; left and right are the person's.
    """

    mouth: np.ndarray
    upper: np.ndarray
    eyes: np.ndarray

    def __post_init__(self) -> None:
        mouth = as_array("FaceMotion.mouth", self.mouth, (None, None), np.float32)
        object.__setattr__(self, "mouth", mouth)
        object.__setattr__(self, "upper", as_array("FaceMotion.upper", self.upper, (len(mouth), None), np.float32))
        object.__setattr__(self, "eyes", as_array("FaceMotion.eyes", self.eyes, (len(mouth), 6), np.float32))

    def __len__(self) -> int:
        return len(self.mouth)

    def __getitem__(self, index: slice | np.ndarray) -> FaceMotion:
        return FaceMotion(self.mouth[index], self.upper[index], self.eyes[index])


@dataclass(frozen=True)
class Motion:
    """Everything that moves, for T frames.

    Attributes:
        pts_seconds: float64 [T], rising.
        face: expression.
        head: head pose.
        torso: upper-body motion.
    """

    pts_seconds: np.ndarray
    face: FaceMotion
    head: HeadPose
    torso: TorsoMotion

    def __post_init__(self) -> None:
        pts = as_array("Motion.pts_seconds", self.pts_seconds, (None,), np.float64)
        object.__setattr__(self, "pts_seconds", pts)
        counts = {len(pts), len(self.face), len(self.head), len(self.torso)}
        if len(counts) != 1:
            raise ValueError(f"Motion came with parts of different lengths {sorted(counts)}; wanted one length")
        if len(pts) > 1 and not (np.diff(pts) > 0).all():
            raise ValueError("Motion.pts_seconds does not rise; wanted rising time stamps")

    def __len__(self) -> int:
        return len(self.pts_seconds)

    def __getitem__(self, index: slice | np.ndarray) -> Motion:
        return Motion(self.pts_seconds[index], self.face[index], self.head[index], self.torso[index])
