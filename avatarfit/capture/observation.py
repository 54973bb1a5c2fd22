"""The first pass over the clip: everything that needs each picture once, streamed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from avatarfit.capture.face_mesh import Detection, FaceMeshTracker, FaceTracker, rigid_flow_px
from avatarfit.capture.face_points import RIGID
from avatarfit.capture.landmark_source import FACE_MESH, LandmarkSource
from avatarfit.capture.native_logs import quiet_native_stderr
from avatarfit.capture.person_alpha import PersonSegmenter
from avatarfit.contracts import InputError, VideoFrame


@dataclass(frozen=True)
class Observation:
    """What was seen in one source picture.

    Attributes:
        pts_seconds: its time.
        difference: mean absolute luma difference to the picture before, in 8-bit levels; infinite for the first.
        detections: the faces; each one's `flow_px` leads to the next picture (all NaN on the last).
        alpha: uint8 [256, 256], the person network's mask.
    """

    pts_seconds: float
    difference: float
    detections: list[Detection]
    alpha: np.ndarray


def face_tracker(source: LandmarkSource, face_limit: int = 2) -> FaceTracker:
    """A tracker of the network that `source` names, ready for a clip's first picture; of so many faces at most.

    Raises:
        FileFormatError: the source's file holds no networks for faces.
    """
    if source.bundle is None:
        return FaceMeshTracker(face_limit)
    from avatarfit.capture.face_landmarker import FaceLandmarkerTracker

    return FaceLandmarkerTracker(source.bundle, face_limit)


def observe(
    frames: Iterable[VideoFrame], source: LandmarkSource = FACE_MESH, face_limit: int = 2
) -> Iterator[Observation]:
    """Observations of the pictures, in order, each when the next picture has come.

    Args:
        frames: all of one size.
        source: the network that finds the landmarks.
        face_limit: so many faces are followed at most.

    Raises:
        InputError: the picture size changes within the clip.
        FileFormatError: the source's file holds no networks for faces.
    """
    import cv2

    with ExitStack() as open_graphs, ExitStack() as hush:
        hush.enter_context(quiet_native_stderr())  # the networks load, and say so, until their first picture is done
        tracker = face_tracker(source, face_limit)
        open_graphs.callback(tracker.close)
        segmenter = PersonSegmenter()
        open_graphs.callback(segmenter.close)
        former: Observation | None = None
        gray: np.ndarray | None = None
        for frame in frames:
            if gray is not None and frame.rgb.shape[:2] != gray.shape:
                raise InputError(
                    f"the picture size changes from {gray.shape[1]}x{gray.shape[0]} to "
                    f"{frame.rgb.shape[1]}x{frame.rgb.shape[0]} at {frame.pts_seconds:.2f} s",
                    "one size throughout", "cut or convert the clip to one size",
                )  # fmt: skip
            faces, alpha = tracker.detect(frame.rgb), segmenter.alpha(frame.rgb)
            hush.close()
            before, gray = gray, cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2GRAY)
            difference = np.inf
            if former is not None and before is not None:
                difference = float(cv2.absdiff(gray, before).mean())
                for face in former.detections:
                    face.flow_px[:] = rigid_flow_px(before, gray, face.landmarks_px)
                yield former
            unknown = np.full((len(faces), len(RIGID), 2), np.nan, np.float32)
            found = [Detection(f.landmarks_px, u, f.blendshapes) for f, u in zip(faces, unknown, strict=True)]
            former = Observation(frame.pts_seconds, difference, found, alpha)
        if former is not None:
            yield former
