"""Landmarks found anew in pictures, true or rendered, by the network that gave the clip its own."""

from __future__ import annotations

import importlib
from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np

from avatarfit.contracts import AvatarfitError
from avatarfit.contracts.motion import LANDMARK_COUNT

if TYPE_CHECKING:
    from avatarfit.capture.face_mesh import FaceTracker


class LandmarkFinder:
    """Follows one face through pictures in time order.

    Args:
        tracker: finds the faces.

    Attributes:
        points_px: one float32 [478, 3] a picture; NaN where no face was found.
        blendshapes: one float32 [52] a picture, NaN where none; empty where the network gives none.
    """

    def __init__(self, tracker: FaceTracker) -> None:
        self._tracker = tracker
        self.points_px: list[np.ndarray] = []
        self.blendshapes: list[np.ndarray] = []

    def add(self, rgb: np.ndarray, near_px: np.ndarray) -> None:
        """Look at the next picture, uint8 [H, W, 3]; of several faces the one nearest to `near_px` [478, 2] counts."""
        from avatarfit.capture.face_landmarker import BUNDLE_BLENDSHAPES
        from avatarfit.capture.native_logs import quiet_native_stderr

        with ExitStack() as hush:
            if not self.points_px:  # the networks load, and say so, until their first picture is done
                hush.enter_context(quiet_native_stderr())
            faces = self._tracker.detect(rgb)
        middle = near_px.mean(axis=0)
        face = min(faces, key=lambda f: np.hypot(*(f.landmarks_px[:, :2].mean(axis=0) - middle)), default=None)
        self.points_px.append(np.full((LANDMARK_COUNT, 3), np.nan, np.float32) if face is None else face.landmarks_px)
        scores = None if face is None else face.blendshapes
        self.blendshapes.append(np.full(len(BUNDLE_BLENDSHAPES), np.nan, np.float32) if scores is None else scores)

    def close(self) -> None:
        """Frees the network."""
        self._tracker.close()


def landmark_finders(network: str, count: int) -> tuple[list[LandmarkFinder], str | None]:
    """`count` finders of the network that clip.json names; none and a sentence where it cannot run here."""
    try:
        importlib.import_module("mediapipe")
    except ImportError:
        return [], "figures from landmarks are absent: mediapipe is not installed"
    from avatarfit.capture.landmark_source import FACE_MESH, FACE_MESH_NAME, choose_source
    from avatarfit.capture.native_logs import quiet_native_stderr
    from avatarfit.capture.observation import face_tracker

    source = FACE_MESH
    if network != FACE_MESH_NAME:
        try:
            source = choose_source("auto")
        except AvatarfitError as cause:
            return [], f"figures from landmarks are absent: {cause}"
        if source.name != network:
            return [], f"figures from landmarks are absent: the clip's network ({network}) is not on this machine"
    with quiet_native_stderr():
        return [LandmarkFinder(face_tracker(source)) for _ in range(count)], None
