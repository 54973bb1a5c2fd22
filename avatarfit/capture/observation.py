"""The first pass over the clip: everything that needs each picture once, streamed.

Landmarks, image motion and the person network run in a thread each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from avatarfit.capture.face_mesh import Detection, Face, FaceMeshTracker, FaceTracker, rigid_flow_px
from avatarfit.capture.face_points import RIGID
from avatarfit.capture.landmark_source import FACE_MESH, LandmarkSource
from avatarfit.capture.native_logs import quiet_native_stderr
from avatarfit.capture.person_alpha import PersonSegmenter
from avatarfit.contracts import InputError, VideoFrame

_IN_FLIGHT = 6


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


class _FlowThread:
    """Image motion from the picture before to a picture."""

    def __init__(self) -> None:
        self._gray: np.ndarray | None = None

    def step(self, rgb: np.ndarray, former: Future[list[Face]] | None) -> tuple[list[np.ndarray], float]:
        """Flow of the former picture's faces, and the difference to the former picture."""
        import cv2

        gray, before = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), self._gray
        self._gray = gray
        if before is None or former is None:
            return [], np.inf
        difference = float(cv2.absdiff(gray, before).mean())
        return [rigid_flow_px(before, gray, face.landmarks_px) for face in former.result()], difference


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
    """Observations of the pictures, in order; at most a handful of pictures are held.

    Args:
        frames: all of one size.
        source: the network that finds the landmarks.
        face_limit: so many faces are followed at most.

    Raises:
        InputError: the picture size changes within the clip.
        FileFormatError: the source's file holds no networks for faces.
    """
    hush = ExitStack()
    hush.enter_context(quiet_native_stderr())  # the networks load, and say so, until their first picture is done
    try:
        tracker, segmenter, flow_thread = face_tracker(source, face_limit), PersonSegmenter(), _FlowThread()
    except BaseException:
        hush.close()
        raise
    waiting: deque[tuple[float, Future, Future, Future]] = deque()
    former: tuple[float, float, list[Face], np.ndarray] | None = None
    shape: tuple[int, ...] | None = None

    def collect() -> tuple[Observation | None, tuple[float, float, list[Face], np.ndarray]]:
        pts, faces, flow, alpha = waiting.popleft()
        flows, difference = flow.result()
        done = None if former is None else _joined(former, flows)
        return done, (pts, difference, faces.result(), alpha.result())

    with ThreadPoolExecutor(1) as face_pool, ThreadPoolExecutor(1) as flow_pool, ThreadPoolExecutor(1) as person_pool:
        before: Future[list[Face]] | None = None
        try:
            for frame in frames:
                shape = shape or frame.rgb.shape
                if frame.rgb.shape != shape:
                    raise InputError(
                        f"the picture size changes from {shape[1]}x{shape[0]} to "
                        f"{frame.rgb.shape[1]}x{frame.rgb.shape[0]} at {frame.pts_seconds:.2f} s",
                        "one size throughout",
                        "cut or convert the clip to one size",
                    )
                faces = face_pool.submit(tracker.detect, frame.rgb)
                flow = flow_pool.submit(flow_thread.step, frame.rgb, before)
                before = faces
                alpha = person_pool.submit(segmenter.alpha, frame.rgb)
                if former is None and not waiting:
                    faces.result()
                    alpha.result()
                    hush.close()
                waiting.append((frame.pts_seconds, faces, flow, alpha))
                if len(waiting) >= _IN_FLIGHT:
                    done, former = collect()
                    if done is not None:
                        yield done
            while waiting:
                done, former = collect()
                if done is not None:
                    yield done
            if former is not None:
                yield _joined(former, [])
        finally:
            hush.close()
            for pool in (face_pool, flow_pool, person_pool):
                pool.shutdown(wait=True, cancel_futures=True)
            tracker.close()
            segmenter.close()


def _joined(former: tuple[float, float, list[Face], np.ndarray], flows: list[np.ndarray]) -> Observation:
    pts, difference, faces, alpha = former
    if len(flows) != len(faces):
        flows = [np.full((len(RIGID), 2), np.nan, np.float32) for _ in faces]
    found = [Detection(f.landmarks_px, w, f.blendshapes) for f, w in zip(faces, flows, strict=True)]
    return Observation(pts, difference, found, alpha)
