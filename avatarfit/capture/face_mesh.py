"""Face landmarks and image motion on the face, frame after frame.

Landmarks come from `mp.solutions.face_mesh` with irises (478), or from `face_landmarker`. Between consecutive
pictures, pyramidal Lucas-Kanade (Bouguet 2001) follows the pixels under the rigid landmarks; the solver fuses both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from avatarfit.capture.face_points import OUTER_EYE_CORNERS, RIGID
from avatarfit.contracts.motion import LANDMARK_COUNT

_NETWORK_SIDE_PX = 192
_CROP_SIZE = 1.5
_FLOW_WINDOW = (15, 15)
_FLOW_LEVELS = 2
_FLOW_ENOUGH = (3, 20, 0.02)  # iterations, and the step in pixels after which a point counts as found
_FLOW_MARGIN_PX = 40
_ROUND_TRIP_PX = 0.5

LOOK_EVERY = 12
"""A second face is looked for in every so manyth picture."""


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
    """Runs the face mesh over pictures in time order; not to be shared between clips.

    A graph that may follow more faces than it sees searches every picture for them, a third of its time. So while one
    face alone shows, a graph for one follows it, and others are looked for now and then; an unknown face is reported up
    to `LOOK_EVERY` pictures late.

    Args:
        face_limit: so many faces are followed at most; above two, all are searched for in every picture.
    """

    def __init__(self, face_limit: int = 2) -> None:
        self._limit = face_limit
        self._alone: Any = None
        self._several: Any = None
        self._finder: Any = None
        self._until_look, self._lonely = 0, 0

    def detect(self, rgb: np.ndarray) -> list[Face]:
        """The faces of a picture, uint8 [H, W, 3], largest first; without blendshapes."""
        if self._limit == 2 and self._several is None:
            if self._until_look == 0 and self._count(rgb) > 1:
                self._leave("_alone")
                self._lonely = 0
            else:
                self._until_look = (self._until_look or LOOK_EVERY) - 1
                self._alone = self._alone or _face_mesh(1)
                return _faces(self._alone, rgb)
        self._several = self._several or _face_mesh(self._limit)
        faces = _faces(self._several, rgb)
        self._lonely = 0 if len(faces) > 1 else self._lonely + 1
        if self._limit == 2 and self._lonely >= LOOK_EVERY:
            self._leave("_several")
            self._until_look = LOOK_EVERY
        return faces

    def _count(self, rgb: np.ndarray) -> int:
        import mediapipe as mp

        self._finder = self._finder or mp.solutions.face_detection.FaceDetection(model_selection=0)
        return len(self._finder.process(rgb).detections or [])

    def _leave(self, name: str) -> None:
        """Frees a graph: what it remembers of where faces are would mislead it later."""
        graph = getattr(self, name)
        if graph is not None:
            graph.close()
        setattr(self, name, None)

    def close(self) -> None:
        """Frees the graphs."""
        for name in ("_alone", "_several", "_finder"):
            self._leave(name)


def _face_mesh(face_limit: int) -> Any:
    import mediapipe as mp

    return mp.solutions.face_mesh.FaceMesh(refine_landmarks=True, static_image_mode=False, max_num_faces=face_limit)


def _faces(graph: Any, rgb: np.ndarray) -> list[Face]:
    height, width = rgb.shape[:2]
    # The network's unit square has pixel centres at (i + 0.5) / width, which is this package's convention too.
    scale = np.array([width, height, width], np.float32)
    faces = []
    for face in graph.process(rgb).multi_face_landmarks or []:
        points = np.array([(p.x, p.y, p.z) for p in face.landmark], np.float32)
        if points.shape == (LANDMARK_COUNT, 3) and np.isfinite(points).all():
            faces.append(Face(without_crop_shift(points * scale, _NETWORK_SIDE_PX)))
    return sorted(faces, key=lambda face: face_size_px(face.landmarks_px), reverse=True)


def without_crop_shift(landmarks_px: np.ndarray, network_side_px: int) -> np.ndarray:
    """Landmarks [478, 3] freed of the half pixel by which MediaPipe's crops are off.

    The network sees a square around the landmarks of the picture before, half as large again and turned with the eyes.
    MediaPipe's `ImageToTensor` lays the square's corner on the middle of the crop's first pixel instead of on its
    corner, which moves every landmark by half a pixel of the crop, less half a pixel of the picture, to the right and
    downwards: 0.5 px on a face that fills a 512-pixel picture. Seen by mirroring pictures: at 256, 512 and 1024 pixels
    mirrored landmarks of a real clip lie 0.05, 1.05 and 3.07 px aside, and by this formula 0.04, 1.08 and 3.16.
    """
    left, right = landmarks_px[list(OUTER_EYE_CORNERS), :2]
    cosine, sine = (right - left) / max(float(np.linalg.norm(right - left)), 1e-6)
    half = _CROP_SIZE * float(np.ptp(landmarks_px[:, :2], axis=0).max()) / network_side_px / 2
    out = landmarks_px.copy()
    out[:, :2] -= [half * (cosine - sine) - 0.5, half * (sine + cosine) - 0.5]
    return out


def face_size_px(landmarks_px: np.ndarray) -> float:
    """Side of the square with the area of the landmarks' bounding box, pixels."""
    span = np.ptp(landmarks_px[:, :2], axis=0)
    return float(np.sqrt(max(span[0] * span[1], 0.0)))


def follow_points(gray: np.ndarray, next_gray: np.ndarray, points_px: np.ndarray) -> np.ndarray:
    """Image motion of points between two pictures.

    Args:
        gray, next_gray: uint8 [H, W].
        points_px: float32 [N, 2], pixel centres at +0.5, all near each other: only the pictures around them are looked
            at.

    Returns:
        float32 [N, 2] displacement; NaN where the way there and back does not close within half a pixel.
    """
    import cv2

    flow = np.full(points_px.shape, np.nan, np.float32)
    size = np.array(gray.shape[::-1])
    first = np.clip(np.floor(points_px.min(axis=0)) - _FLOW_MARGIN_PX, 0, size).astype(int)
    last = np.clip(np.ceil(points_px.max(axis=0)) + _FLOW_MARGIN_PX, 0, size).astype(int)
    if (last - first < _FLOW_WINDOW).any():
        return flow
    here, there = (np.ascontiguousarray(g[first[1] : last[1], first[0] : last[0]]) for g in (gray, next_gray))
    start = np.ascontiguousarray(points_px - first - 0.5, np.float32)[:, None]
    end, left, _ = cv2.calcOpticalFlowPyrLK(
        here, there, start, start.copy(), winSize=_FLOW_WINDOW, maxLevel=_FLOW_LEVELS, criteria=_FLOW_ENOUGH
    )
    # The way back begins half way: from its end nothing would be tested, and from afar it would need the pyramid again.
    back, home, _ = cv2.calcOpticalFlowPyrLK(
        there, here, end, (start + end) / 2, winSize=_FLOW_WINDOW, maxLevel=0, criteria=_FLOW_ENOUGH,
        flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
    )  # fmt: skip
    good = (left[:, 0] == 1) & (home[:, 0] == 1) & (np.linalg.norm((back - start)[:, 0], axis=1) <= _ROUND_TRIP_PX)
    flow[good] = (end - start)[good, 0]
    return flow


def rigid_flow_px(gray: np.ndarray, next_gray: np.ndarray, landmarks_px: np.ndarray) -> np.ndarray:
    """`follow_points` for the rigid landmarks [478, 3] of a face: float32 [R, 2]."""
    return follow_points(gray, next_gray, landmarks_px[RIGID, :2])
