from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

# Tests take the same landmarks everywhere, whatever bundle lies in this user's cache.
os.environ["AVATARFIT_FACE_LANDMARKER"] = "none"

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real clips, sound and models; tests that need it are skipped, loudly, where it is absent."""
    if not (SHARED / "clips").is_dir():
        pytest.skip(f"NO REAL CLIPS at {SHARED}: this test was not run")
    return SHARED


RATE = 25.0
COUNT = 1500


def wander(random: np.random.Generator, columns: int, frames: float = 6.0) -> np.ndarray:
    """Smooth noise of unit size, float64 [COUNT, columns]."""
    noise = gaussian_filter1d(random.standard_normal((COUNT, columns)), frames, axis=0, mode="wrap")
    return np.asarray(noise / noise.std(axis=0))


def landmarks_cm(seed: int = 0) -> np.ndarray:
    """A performer who speaks, blinks every few seconds and looks about: float32 [COUNT, 478, 3]."""
    from avatarfit.performer.face_shape import SHAPES, face_shape

    random = np.random.default_rng(seed)
    amounts = np.clip(0.35 * wander(random, len(SHAPES)), -1, 1)
    jaw = SHAPES.index("jaw")
    amounts[:, jaw] = np.clip(0.35 + 0.4 * wander(random, 1)[:, 0], 0, 1)
    closure = np.zeros((COUNT, 2))
    at = 40
    while at < COUNT - 20:
        closure[at : at + 7] = np.sin(np.linspace(0.3, np.pi - 0.3, 7))[:, None]
        at += int(random.integers(60, 120))
    gaze = 0.05 * wander(random, 2)
    noise = random.normal(0, 0.005, (COUNT, 478, 3))
    return np.asarray(face_shape(seed).landmarks_cm(amounts, closure, gaze) + noise, np.float32)


def person(seed: int = 0) -> SimpleNamespace:
    """A made-up person: rig, driver (shapes, habits and rest, no networks), motion and landmarks_cm of one clip."""
    from avatarfit.contracts import HeadPose, Motion, TorsoMotion
    from avatarfit.model.habits import Habits, Stance
    from avatarfit.model.locally_linear import LocallyLinear
    from avatarfit.model.rig import Rig, lip_aperture_cm

    points = landmarks_cm(seed)
    rig = Rig.fit(points)
    face = rig.encode(points)
    random = np.random.default_rng(seed + 100)
    rotation = np.concatenate([np.ones((COUNT, 1)), 0.03 * wander(random, 3, 12)], axis=1)
    rotation /= np.linalg.norm(rotation, axis=1, keepdims=True)
    torso = np.tile(np.eye(2, 3), (COUNT, 1, 1))
    torso[:, :, 2] += 0.01 * wander(random, 2, 12)
    pts = np.arange(COUNT) / RATE
    motion = Motion(
        pts, face, HeadPose(rotation, 0.5 * wander(random, 3, 12) + [0, 0, 60]),
        TorsoMotion(torso, wander(random, 2, 12)),
    )  # fmt: skip
    stance = Stance(
        face.upper, face.eyes, motion.head.rotation_wxyz, motion.head.translation_cm, motion.torso.affine,
        motion.torso.shape,
    )  # fmt: skip
    gap = lip_aperture_cm(points)
    driver: Any = SimpleNamespace(
        shapes=LocallyLinear(face.mouth * rig.mouth_deviation_cm),
        habits=Habits.of(stance, pts, RATE),
        mouth_rest=np.median(face.mouth[gap <= np.percentile(gap, 15)], axis=0).astype(np.float32),
        mouth_deviation_cm=rig.mouth_deviation_cm,
    )
    return SimpleNamespace(rig=rig, driver=driver, motion=motion, landmarks_cm=points)


@pytest.fixture(scope="session")
def someone() -> SimpleNamespace:
    return person()


@pytest.fixture(scope="session")
def another() -> SimpleNamespace:
    return person(1)
