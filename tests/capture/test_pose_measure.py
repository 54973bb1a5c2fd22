from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from avatarfit.capture.face_points import RIGID
from avatarfit.capture.face_registration import face_picture
from avatarfit.capture.pose_measure import HELD_OUT_PX, held_out_features, measure_pose
from avatarfit.contracts import HeadPose
from avatarfit.performer import Performance, Performer

COUNT = 40


@pytest.fixture(scope="module")
def scene() -> tuple[Performance, list[np.ndarray]]:
    performer = Performer(seed=0, width_px=256)
    performance = performer.performance(COUNT / 25, 25.0, seed=0)
    grays = [cv2.cvtColor(performer.render(performance, k).rgb, cv2.COLOR_RGB2GRAY) for k in range(COUNT)]
    return performance, grays


def measured(scene: tuple[Performance, list[np.ndarray]], head: HeadPose, apart: tuple[int, ...]) -> list[float]:
    performance, grays = scene

    def pictures() -> Iterator[np.ndarray]:
        return iter(grays)

    found = measure_pose(
        pictures, head, performance.landmarks_cm, performance.landmarks_px, performance.camera, apart
    )  # fmt: skip
    assert [f.frames_apart for f in found] == list(apart)
    assert all(f.features >= 8 for f in found)
    return [f.shared_px for f in found] + [f.rms_px for f in found]


def test_the_true_pose_agrees_with_the_pictures(scene: tuple[Performance, list[np.ndarray]]) -> None:
    step, second, step_rms, second_rms = measured(scene, scene[0].head, (1, 25))
    assert step < 0.1
    assert step_rms < 0.2
    assert second < 0.5
    assert second_rms < 0.7


def test_a_trembling_pose_is_out_by_its_trembling(scene: tuple[Performance, list[np.ndarray]]) -> None:
    performance = scene[0]
    jitter_px = np.random.default_rng(0).normal(0, 1.0, (COUNT, 2))  # at 512
    head = performance.head
    shift = np.zeros((COUNT, 3))
    shift[:, :2] = jitter_px / 2 * head.translation_cm[:, 2:] / performance.camera.focal_px
    trembling = HeadPose(head.rotation_wxyz, (head.translation_cm + shift).astype(np.float32))
    expected = np.sqrt(np.mean((np.diff(jitter_px, axis=0) ** 2).sum(axis=1)))
    step, step_rms = measured(scene, trembling, (1,))
    assert step == pytest.approx(expected, rel=0.1)
    assert step_rms == pytest.approx(expected, rel=0.1)


def test_turns_that_are_not_there_are_seen(scene: tuple[Performance, list[np.ndarray]]) -> None:
    head = scene[0].head
    turn = Rotation.from_euler("y", np.where(np.arange(COUNT) % 2, 1.0, -1.0)[:, None], degrees=True)
    turned = (Rotation.from_quat(head.rotation_wxyz[:, [1, 2, 3, 0]]) * turn).as_quat()[:, [3, 0, 1, 2]]
    steady = measured(scene, head, (1,))
    shaken = measured(scene, HeadPose(turned.astype(np.float32), head.translation_cm), (1,))
    assert shaken[1] > 4 * steady[1]


def test_features_lie_off_the_landmarks_of_the_solve(scene: tuple[Performance, list[np.ndarray]]) -> None:
    performance, grays = scene
    landmarks = performance.landmarks_px[0, :, :2].astype(np.float64)
    picture = face_picture(grays[0], landmarks[RIGID], 2.0)
    assert picture is not None
    features = held_out_features(picture, landmarks)
    assert len(features) >= 8
    gap = np.linalg.norm(features[:, None] - picture.inside(landmarks[RIGID]), axis=2)
    assert gap.min() > HELD_OUT_PX - 1


def test_a_clip_shorter_than_the_distance_gives_nothing_for_it(scene: tuple[Performance, list[np.ndarray]]) -> None:
    performance, grays = scene
    found = measure_pose(
        lambda: iter(grays), performance.head, performance.landmarks_cm, performance.landmarks_px, performance.camera,
        (100,),
    )  # fmt: skip
    assert found == []
