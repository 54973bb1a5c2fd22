"""Face landmarks and image motion on the face, frame after frame.

Landmarks come from `mp.solutions.face_mesh` with irises (478), or from `face_landmarker`. Between consecutive
pictures, pyramidal Lucas-Kanade (Bouguet 2001) follows the pixels under the rigid landmarks; the solver fuses both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from avatarfit.capture.face_points import RIGID
from avatarfit.contracts.motion import LANDMARK_COUNT

_FLOW_WINDOW = (15, 15)
_FLOW_LEVELS = 2
_ROUND_TRIP_PX = 0.5


@dataclass(frozen=True)
class Face:
    """What a network says of one face in one picture.

    Attributes:
        landmarks_px: float32 [478, 3]; z on the scale of x, smaller is nearer.
        blendshapes: float32 [52] in 0..1, as `face_landmarker.BUNDLE_BLENDSHAPES` names them; None from the face mesh.
    """

    landmarks_px: np.ndarray
    blendshapes: np.ndarray | None = None


class FaceTracker(Protocol):
    """Finds the faces of pictures in time order: `FaceMeshTracker`, or `face_landmarker.FaceLandmarkerTracker`."""

    def detect(self, rgb: np.ndarray) -> list[Face]:
        """The faces of a picture, uint8 [H, W, 3], largest first."""

    def close(self) -> None:
        """Frees the network."""


@dataclass(frozen=True)
class Detection:
    """One face in one picture.

    Attributes:
        landmarks_px: float32 [478, 3]; z on the scale of x, smaller is nearer.
        flow_px: float32 [R, 2], where the pixels under the R rigid landmarks went, minus where they were, from this
            picture to the next one; NaN where they could not be followed.
        blendshapes: as in `Face`.
    """

    landmarks_px: np.ndarray
    flow_px: np.ndarray
    blendshapes: np.ndarray | None = None


class FaceMeshTracker:
    """Runs the face mesh over pictures in time order; not to be shared between clips."""

    def __init__(self, face_limit: int = 2) -> None:
        import mediapipe as mp

        self._graph = mp.solutions.face_mesh.FaceMesh(
            refine_landmarks=True, static_image_mode=False, max_num_faces=face_limit
        )

    def detect(self, rgb: np.ndarray) -> list[Face]:
        """The faces of a picture, uint8 [H, W, 3], largest first; without blendshapes."""
        found = self._graph.process(rgb)
        height, width = rgb.shape[:2]
        # The network's unit square has pixel centres at (i + 0.5) / width, which is this package's convention too.
        scale = np.array([width, height, width], np.float32)
        faces = []
        for face in found.multi_face_landmarks or []:
            points = np.array([(p.x, p.y, p.z) for p in face.landmark], np.float32)
            if points.shape == (LANDMARK_COUNT, 3) and np.isfinite(points).all():
                faces.append(Face(points * scale))
        return sorted(faces, key=lambda face: face_size_px(face.landmarks_px), reverse=True)

    def close(self) -> None:
        """Frees the graph."""
        self._graph.close()


def face_size_px(landmarks_px: np.ndarray) -> float:
    """Side of the square with the area of the landmarks' bounding box, pixels."""
    span = np.ptp(landmarks_px[:, :2], axis=0)
    return float(np.sqrt(max(span[0] * span[1], 0.0)))


def follow_points(gray: np.ndarray, next_gray: np.ndarray, points_px: np.ndarray) -> np.ndarray:
    """Image motion of points between two pictures.

    Args:
        gray, next_gray: uint8 [H, W].
        points_px: float32 [N, 2], pixel centres at +0.5.

    Returns:
        float32 [N, 2] displacement; NaN where the way there and back does not close within half a pixel.
    """
    import cv2

    start = np.ascontiguousarray(points_px, np.float32)[:, None] - np.float32(0.5)
    window, levels = _FLOW_WINDOW, _FLOW_LEVELS
    end, there, _ = cv2.calcOpticalFlowPyrLK(gray, next_gray, start, start.copy(), winSize=window, maxLevel=levels)
    back, home, _ = cv2.calcOpticalFlowPyrLK(next_gray, gray, end, end.copy(), winSize=window, maxLevel=levels)
    flow = (end - start)[:, 0]
    gap = np.linalg.norm((back - start)[:, 0], axis=1)
    flow[(there[:, 0] == 0) | (home[:, 0] == 0) | (gap > _ROUND_TRIP_PX)] = np.nan
    return flow


def rigid_flow_px(gray: np.ndarray, next_gray: np.ndarray, landmarks_px: np.ndarray) -> np.ndarray:
    """`follow_points` for the rigid landmarks [478, 3] of a face: float32 [R, 2]."""
    return follow_points(gray, next_gray, landmarks_px[RIGID, :2])
