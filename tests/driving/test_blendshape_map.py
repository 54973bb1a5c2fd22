"""Rig -> ARKit's names -> rig, with the error that is stated; and what foreign takes mean."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from avatarfit.avatarfile.live_link import ANGLE_NAMES, LIVE_LINK_NAMES, LiveLinkTake
from avatarfit.contracts import HeadPose
from avatarfit.driving.blendshape_map import BlendshapeMap
from avatarfit.driving.face_space import FaceSpace
from avatarfit.model.rig import MOUTH_REGION, lip_aperture_cm


@pytest.fixture(scope="module")
def shapes(someone: SimpleNamespace) -> BlendshapeMap:
    return BlendshapeMap(FaceSpace.of(someone.rig, someone.driver), someone.driver)


def named(count: int = 1, **values: float) -> LiveLinkTake:
    out = LiveLinkTake(np.arange(count) / 25, np.zeros((count, 52), np.float32), np.zeros((count, 9), np.float32))
    for name, value in values.items():
        names, array = (LIVE_LINK_NAMES, out.values) if name in LIVE_LINK_NAMES else (ANGLE_NAMES, out.angles)
        array[:, names.index(name)] = value
    return out


def test_round_trip(someone: SimpleNamespace, shapes: BlendshapeMap) -> None:
    """The stated error: 40 % of the mouth's motion at most (rms), blinks and gaze within half a deviation."""
    motion = someone.motion
    take = shapes.take(motion.pts_seconds, motion.face, motion.head)
    assert (take.values >= 0).all()
    assert (take.values <= 1).all()
    back = shapes.face(take)
    there, here = (someone.rig.landmarks_cm(face)[:, MOUTH_REGION] for face in (motion.face, back))
    error = np.sqrt(np.square(there - here).mean())
    assert error < 0.4 * np.sqrt(np.square(there - there.mean(axis=0)).mean())
    gaps = [lip_aperture_cm(someone.rig.landmarks_cm(face)) for face in (motion.face, back)]
    assert np.corrcoef(*gaps)[0, 1] > 0.9
    assert np.sqrt(np.square(back.eyes - motion.face.eyes).mean(axis=0)).max() < 0.5
    np.testing.assert_allclose(shapes.rotation_wxyz(take) @ motion.head.rotation_wxyz[0],
                               motion.head.rotation_wxyz @ motion.head.rotation_wxyz[0], atol=1e-5)  # fmt: skip


def test_names_mean_what_they_say(someone: SimpleNamespace, shapes: BlendshapeMap) -> None:
    rig = someone.rig

    def face(**values: float) -> np.ndarray:
        return rig.landmarks_cm(shapes.face(named(**values)))[0]

    rest = face()
    gap = lip_aperture_cm(rest)
    assert lip_aperture_cm(face(jawOpen=0.8)) > gap + 0.3
    assert lip_aperture_cm(face(jawOpen=0.8, mouthClose=0.8)) < gap + 0.15
    lids = face(eyeBlinkLeft=1, eyeBlinkRight=1)
    assert lids[386, 1] - rest[386, 1] > 0.2
    assert lids[159, 1] - rest[159, 1] > 0.2
    # The person's left is the picture's right.
    assert face(eyeLookOutLeft=1, eyeLookInRight=1)[473, 0] > rest[473, 0] + 0.05
    assert face(leftEyeYaw=0.2, rightEyeYaw=0.2)[473, 0] > rest[473, 0] + 0.05
    assert face(browInnerUp=1)[[107, 336], 1].mean() < rest[[107, 336], 1].mean() - 0.1


def test_angles_are_about_the_persons_own_rest(someone: SimpleNamespace, shapes: BlendshapeMap) -> None:
    habits = someone.driver.habits
    rest = habits.stance(habits.rest()[None])
    np.testing.assert_allclose(np.abs(shapes.rotation_wxyz(named()) @ rest.rotation_wxyz[0]), 1, atol=1e-6)
    turned = HeadPose(shapes.rotation_wxyz(named(headYaw=0.3)), np.zeros((1, 3))).matrices()[0, :, :3]
    nose = turned @ np.array([0, 0, -1])
    assert nose[0] > 0.2  # to the person's left: the picture's right
    nod = HeadPose(shapes.rotation_wxyz(named(headPitch=0.3)), np.zeros((1, 3))).matrices()[0, :, :3]
    assert (nod @ np.array([0, 0, -1]))[1] > 0.2  # down


def test_nothing_goes_beyond_what_the_person_has_shown(shapes: BlendshapeMap) -> None:
    random = np.random.default_rng(0)
    wild = LiveLinkTake(
        np.arange(50) / 25, random.random((50, 52)).astype(np.float32), random.normal(0, 1, (50, 9)).astype(np.float32)
    )
    face = shapes.face(wild)
    for name in ("mouth", "upper", "eyes"):
        part, values = getattr(shapes.space, name), getattr(face, name)
        assert (values <= part.high + 1e-4).all()
        assert (values >= part.low - 1e-4).all()
