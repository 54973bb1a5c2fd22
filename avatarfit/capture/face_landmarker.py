"""Landmarks and blendshapes from Google's `face_landmarker.task`, by MediaPipe's Tasks interface."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from avatarfit.capture.face_mesh import Face, face_size_px, without_crop_shift
from avatarfit.contracts import FileFormatError
from avatarfit.contracts.motion import LANDMARK_COUNT
from avatarfit.model.blendshapes import ARKIT_NAMES

BUNDLE_BLENDSHAPES = ("_neutral", *(name for name in ARKIT_NAMES if name != "tongueOut"))
"""What the bundle gives, in its order: ARKit's names without tongueOut, and `_neutral`, which stays near 0."""

_STEP_MS = 20
_NETWORK_SIDE_PX = 256


class FaceLandmarkerTracker:
    """Runs the bundle over pictures in time order; not to be shared between clips.

    Raises:
        FileFormatError: `bundle` holds no networks for faces.
    """

    def __init__(self, bundle: Path, face_limit: int = 2) -> None:
        import mediapipe as mp
        from mediapipe.tasks.python import BaseOptions, vision

        self._image, self._format = mp.Image, mp.ImageFormat.SRGB
        options = vision.FaceLandmarkerOptions(
            # The bytes, not the path: the graph's own file reading is confused by some names.
            base_options=BaseOptions(model_asset_buffer=bundle.read_bytes()),
            running_mode=vision.RunningMode.VIDEO,
            # For one face alone the graph would smooth the landmarks over time, which erases real motion.
            num_faces=max(face_limit, 2),
            output_face_blendshapes=True,
        )
        try:
            self._graph = vision.FaceLandmarker.create_from_options(options)
        except (RuntimeError, ValueError) as cause:
            raise FileFormatError(
                f"{bundle} holds no networks for faces ({str(cause).splitlines()[0]})", "a face_landmarker.task",
                "fetch it again: avatarfit fetch landmarker",
            ) from cause  # fmt: skip
        self._clock_ms = 0

    def detect(self, rgb: np.ndarray) -> list[Face]:
        """The faces of a picture, uint8 [H, W, 3], largest first, with blendshapes in `BUNDLE_BLENDSHAPES`' order."""
        picture = self._image(image_format=self._format, data=np.ascontiguousarray(rgb))
        # Without smoothing only the order of the times matters; the clip's own may repeat within a millisecond.
        found = self._graph.detect_for_video(picture, self._clock_ms)
        self._clock_ms += _STEP_MS
        height, width = rgb.shape[:2]
        scale = np.array([width, height, width], np.float32)
        faces = []
        for landmarks, shapes in zip(found.face_landmarks, found.face_blendshapes, strict=True):
            points = np.array([(p.x, p.y, p.z) for p in landmarks], np.float32)
            score = {s.category_name: s.score for s in shapes}
            values = np.array([score[name] for name in BUNDLE_BLENDSHAPES], np.float32)
            if points.shape == (LANDMARK_COUNT, 3) and np.isfinite(points).all() and np.isfinite(values).all():
                faces.append(Face(without_crop_shift(points * scale, _NETWORK_SIDE_PX), values))
        return sorted(faces, key=lambda face: face_size_px(face.landmarks_px), reverse=True)

    def close(self) -> None:
        """Frees the graph."""
        self._graph.close()
