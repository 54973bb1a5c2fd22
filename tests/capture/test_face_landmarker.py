"""The two networks behind one interface, on pictures of a real person."""

from __future__ import annotations

import os
import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from avatarfit.capture.face_landmarker import BUNDLE_BLENDSHAPES, FaceLandmarkerTracker
from avatarfit.capture.face_mesh import Face
from avatarfit.capture.landmark_source import BUNDLE_SHA256, FACE_MESH, choose_source
from avatarfit.capture.observation import face_tracker, observe
from avatarfit.contracts import FileFormatError, VideoFrame
from avatarfit.media import read_video

COUNT = 12


@pytest.fixture(scope="module")
def pictures(shared: Path) -> list[VideoFrame]:
    frames = read_video(shared / "clips" / "hdtf_8s.mp4")
    return [next(frames) for _ in range(COUNT)]


@pytest.fixture(scope="module")
def bundle(shared: Path) -> Path:
    path = shared / "models" / "face_landmarker.task"
    if not path.is_file():
        pytest.skip(f"NO BUNDLE at {path}: this test was not run")
    return path


def test_the_shared_bundle_is_the_known_one(bundle: Path) -> None:
    assert choose_source(bundle).name == f"face_landmarker.task sha256:{BUNDLE_SHA256}"


def test_both_networks_see_the_same_face_a_little_apart(bundle: Path, pictures: list[VideoFrame]) -> None:
    found: dict[str, list[Face]] = {}
    for source in (FACE_MESH, choose_source(bundle)):
        tracker = face_tracker(source)
        found[source.name] = [tracker.detect(frame.rgb)[0] for frame in pictures]
        tracker.close()
    mesh, task = found.values()
    assert all(face.blendshapes is None for face in mesh)
    gap = np.array([
        np.linalg.norm(a.landmarks_px[:, :2] - b.landmarks_px[:, :2], axis=1) for a, b in zip(mesh, task, strict=True)
    ])  # fmt: skip
    assert 0.5 < np.median(gap) < 6, "they differ by some pixels: never to be mixed, and never the wrong way round"
    scores = np.stack([face.blendshapes for face in task if face.blendshapes is not None])
    assert scores.shape == (COUNT, len(BUNDLE_BLENDSHAPES))
    assert scores.min() >= 0
    assert scores.max() <= 1
    assert scores[:, BUNDLE_BLENDSHAPES.index("_neutral")].max() < 0.01


def test_landmarks_are_of_each_picture_alone(bundle: Path, pictures: list[VideoFrame]) -> None:
    """No smoothing over time: a picture that is shown again and again gives landmarks that come to rest at once."""
    tracker = FaceLandmarkerTracker(bundle)
    for frame in pictures[:6]:
        tracker.detect(frame.rgb)
    again = [tracker.detect(pictures[-1].rgb)[0].landmarks_px[:, :2] for _ in range(4)]
    tracker.close()
    steps = [np.linalg.norm(b - a, axis=1).max() for a, b in pairwise(again[1:])]
    assert max(steps) < 1.0


def test_two_faces_come_largest_first(bundle: Path, pictures: list[VideoFrame]) -> None:
    import cv2

    large = pictures[0].rgb
    small = cv2.resize(large, None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA)
    both = np.zeros((large.shape[0], large.shape[1] + small.shape[1], 3), np.uint8)
    both[: small.shape[0], : small.shape[1]] = small
    both[:, small.shape[1] :] = large
    tracker = FaceLandmarkerTracker(bundle)
    faces = [tracker.detect(both) for _ in range(3)][-1]
    tracker.close()
    assert len(faces) == 2
    assert np.ptp(faces[0].landmarks_px[:, 1]) > np.ptp(faces[1].landmarks_px[:, 1])
    assert faces[0].landmarks_px[:, 0].min() > small.shape[1] * 0.9


def test_observing_carries_blendshapes_with_their_face(bundle: Path, pictures: list[VideoFrame]) -> None:
    seen = list(observe(iter(pictures), choose_source(bundle)))
    assert [len(s.detections) for s in seen] == [1] * COUNT
    assert all(s.detections[0].blendshapes is not None for s in seen)
    assert np.isnan(seen[-1].detections[0].flow_px).all()
    assert np.isfinite(seen[0].detections[0].flow_px).mean() > 0.5


def test_a_bundle_of_something_else_is_refused_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "hands.task"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hand.tflite", os.urandom(64))
    with pytest.raises(
        FileFormatError, match=r"hands\.task holds no networks for faces .*; wanted a face_landm"
    ) as told:
        FaceLandmarkerTracker(path)
    assert "\n" not in str(told.value)
