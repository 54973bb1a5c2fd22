from __future__ import annotations

import numpy as np
import pytest

from avatarfit.capture.expression_fit import REGIONS, unexplained_px
from avatarfit.contracts import Camera, HeadPose
from avatarfit.model.rig import Rig

CAMERA = Camera(512, 512, 1200.0, 256.0, 256.0)
COUNT = 60


def talking(extra_cm: float) -> tuple[Rig, HeadPose, np.ndarray, np.ndarray]:
    """A face that moves along three directions, and its upper lip's middle along `extra_cm` the basis never saw."""
    rng = np.random.default_rng(0)
    rest = rng.uniform([-7, -5, -4], [7, 8, 4], (478, 3))
    landmarks = rest + np.einsum("tc,cni->tni", rng.normal(size=(COUNT, 3)), rng.normal(0, 0.1, (3, 478, 3)))
    rig = Rig.fit(landmarks, mouth_count=3, upper_count=3)
    seen = landmarks.copy()
    seen[:, REGIONS["mouth"], 0] += extra_cm * np.where(np.arange(len(REGIONS["mouth"])) % 2, 1, -1)
    head = HeadPose(np.tile([1.0, 0, 0, 0], (COUNT, 1)), np.tile([0.0, 0, 80], (COUNT, 1)))
    return rig, head, landmarks.astype(np.float32), CAMERA.project(seen + [0, 0, 80])


def test_motion_that_lies_in_the_basis_is_explained() -> None:
    rig, head, landmarks, pixels = talking(0)
    found = unexplained_px(rig, rig.encode(landmarks), head, pixels, CAMERA)
    assert set(found) == {f"{name}_unexplained_{kind}" for name in REGIONS for kind in ("px", "p95_px")}
    assert max(found.values()) < 0.01


def test_what_the_basis_lacks_is_told_in_pixels_and_for_its_region_only() -> None:
    rig, head, landmarks, pixels = talking(0.2)
    found = unexplained_px(rig, rig.encode(landmarks), head, pixels, CAMERA)
    assert found["mouth_unexplained_px"] == pytest.approx(0.2 * 1200 / 80, rel=0.05)
    assert found["mouth_unexplained_p95_px"] >= found["mouth_unexplained_px"]
    assert found["eyes_unexplained_p95_px"] < 0.01
    assert found["brows_unexplained_p95_px"] < 0.01
