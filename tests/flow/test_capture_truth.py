"""What capture measures on the synthetic performer, against the exact truth."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from safetensors.numpy import load_file
from scipy.spatial.transform import Rotation

from avatarfit.capture import ClipFolder, capture_clip
from avatarfit.capture.clip_folder import FACE, HAIR, HEAD, NECK, TORSO
from avatarfit.capture.face_points import RIGID
from avatarfit.capture.pose_measure import measure_pose
from avatarfit.performer import Performer, write_sample_clip

SECONDS, RATE_HZ, SIZE = 4.0, 25.0, 256


@pytest.fixture(scope="module")
def truth_and_clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, np.ndarray], ClipFolder]:
    folder: Path = tmp_path_factory.mktemp("truth")
    write_sample_clip(folder / "clip.mp4", SECONDS, width_px=SIZE, frame_rate_hz=RATE_HZ, seed=0)
    return load_file(folder / "clip.truth.safetensors"), capture_clip(folder / "clip.mp4", folder / "clip")


def test_every_frame_is_kept_with_its_time(truth_and_clip: tuple[dict[str, np.ndarray], ClipFolder]) -> None:
    truth, clip = truth_and_clip
    assert len(clip) == SECONDS * RATE_HZ
    np.testing.assert_allclose(clip.pts_seconds, truth["pts_seconds"], atol=1e-3)


def test_head_pose(truth_and_clip: tuple[dict[str, np.ndarray], ClipFolder]) -> None:
    truth, clip = truth_and_clip
    head = clip.motion().head
    solved, true = (Rotation.from_quat(q[:, [1, 2, 3, 0]]) for q in (head.rotation_wxyz, truth["head_rotation_wxyz"]))
    # Which way a head faces "squarely" is a convention; the turn between the two frames is one for the whole clip.
    frame = true.inv() * solved
    error_degrees = np.degrees((frame.mean().inv() * frame).magnitude())
    assert np.median(error_degrees) < 0.3
    assert np.quantile(error_degrees, 0.95) < 0.8
    shift = head.translation_cm - truth["head_translation_cm"]
    distance = truth["head_translation_cm"][:, 2]
    assert np.median(np.linalg.norm(shift, axis=1) / distance) < 0.005


def test_landmarks(truth_and_clip: tuple[dict[str, np.ndarray], ClipFolder]) -> None:
    truth, clip = truth_and_clip
    error_px = (clip.landmarks_px[:, :, :2] - truth["landmarks_px"][:, :, :2]) * (512 / SIZE)
    assert np.median(np.linalg.norm(error_px, axis=2)) < 2.0
    # Where on a forehead a landmark lies is the network's own idea; that it stays there is the pose's doing.
    moving_px = error_px - error_px.mean(axis=0)
    assert np.median(np.linalg.norm(moving_px[:, RIGID], axis=2)) < 1.0
    assert np.median(np.linalg.norm(moving_px, axis=2)) < 1.1


def test_the_pose_moves_as_skin_it_was_not_solved_on(truth_and_clip: tuple[dict[str, np.ndarray], ClipFolder]) -> None:
    _, clip = truth_and_clip

    def grays() -> Iterator[np.ndarray]:
        for frame in clip.frames():
            yield cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2GRAY)

    step, second = measure_pose(
        grays, clip.motion().head, clip.landmarks_cm, clip.landmarks_px, clip.camera, frames_apart=(1, 25)
    )
    assert step.rms_px < 0.2
    assert step.shared_px < 0.1
    assert second.rms_px < 0.9


def test_torso_motion(truth_and_clip: tuple[dict[str, np.ndarray], ClipFolder]) -> None:
    truth, clip = truth_and_clip
    focal_px = clip.camera.focal_px
    x, y = np.meshgrid(np.linspace(-90, 90, 5), np.linspace(80, 120, 3))
    shoulders = np.stack([x.ravel(), y.ravel()], axis=1) / focal_px
    paths = []
    for affine in (clip.motion().torso.affine, truth["torso_affine"]):
        path = np.einsum("tij,nj->tni", affine[:, :, :2], shoulders) + affine[:, None, :, 2]
        paths.append((path - path.mean(axis=0)) * focal_px)
    assert np.sqrt((paths[1] ** 2).sum(axis=2).mean()) > 1, "the torso hardly moves: nothing is tested"
    assert np.sqrt(((paths[0] - paths[1]) ** 2).sum(axis=2).mean()) < 0.2


def test_masks(truth_and_clip: tuple[dict[str, np.ndarray], ClipFolder]) -> None:
    _, clip = truth_and_clip
    performer = Performer(seed=0, width_px=SIZE)
    performance = performer.performance(SECONDS, RATE_HZ, seed=0)

    def overlap(a: np.ndarray, b: np.ndarray) -> float:
        return float((a & b).sum() / (a | b).sum())

    for index, (alpha, labels) in enumerate(clip.masks()):
        if index % 20:
            continue
        true = performer.render(performance, index)
        assert np.abs(alpha / 255 - true.alpha).mean() < 0.006
        assert overlap(alpha > 127, true.alpha > 0.5) > 0.985
        assert overlap(np.isin(labels, HEAD), np.isin(true.labels, HEAD)) > 0.975
        for label, least in ((TORSO, 0.97), (FACE, 0.92), (HAIR, 0.83), (NECK, 0.8)):
            assert overlap(labels == label, true.labels == label) > least, label
