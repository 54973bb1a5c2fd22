from __future__ import annotations

import numpy as np
import pytest

from avatarfit.model.rig import MOUTH_REGION, UPPER_REGION, Rig, eye_measures, lip_aperture_cm


@pytest.fixture(scope="module")
def landmarks() -> np.ndarray:
    """Faces that move in five mouth and three upper-face directions, so a small basis can be exact."""
    generator = np.random.default_rng(0)
    shape = generator.normal(size=(478, 3)) * 3
    out = np.repeat(shape[None], 120, axis=0)
    for region, count in ((MOUTH_REGION, 5), (UPPER_REGION, 3)):
        directions = generator.normal(size=(count, len(region), 3)) * 0.1
        out[:, region] += np.einsum("tk,klc->tlc", generator.normal(size=(120, count)), directions)
    return out.astype(np.float32)


def test_a_basis_as_large_as_the_motion_loses_nothing(landmarks: np.ndarray) -> None:
    rig = Rig.fit(landmarks, mouth_count=5, upper_count=3)
    back = rig.landmarks_cm(rig.encode(landmarks))
    np.testing.assert_allclose(back[:, MOUTH_REGION], landmarks[:, MOUTH_REGION], atol=2e-4)
    np.testing.assert_allclose(back[:, UPPER_REGION], landmarks[:, UPPER_REGION], atol=2e-4)


def test_coefficients_are_in_standard_deviations_and_uncorrelated(landmarks: np.ndarray) -> None:
    face = Rig.fit(landmarks, mouth_count=5, upper_count=3).encode(landmarks)
    np.testing.assert_allclose(np.cov(face.mouth.T, bias=True), np.eye(5), atol=2e-3)
    np.testing.assert_allclose(face.eyes.std(axis=0), 1, atol=1e-3)


def test_mouth_and_upper_face_do_not_meddle(landmarks: np.ndarray) -> None:
    rig = Rig.fit(landmarks)
    moved = landmarks.copy()
    moved[:, MOUTH_REGION, 1] += 0.3
    before, after = rig.encode(landmarks), rig.encode(moved)
    np.testing.assert_array_equal(before.upper, after.upper)
    np.testing.assert_array_equal(before.eyes, after.eyes)
    assert not np.allclose(before.mouth, after.mouth)


def test_irises_follow_the_gaze(landmarks: np.ndarray) -> None:
    rig = Rig.fit(landmarks, mouth_count=5, upper_count=3)
    back = rig.landmarks_cm(rig.encode(landmarks))
    np.testing.assert_allclose(eye_measures(back)[:, :4], eye_measures(landmarks)[:, :4], atol=2e-3)


def test_aperture_is_the_gap_of_the_inner_lips() -> None:
    landmarks = np.zeros((2, 478, 3), np.float32)
    landmarks[1, 14, 1] = 0.7
    np.testing.assert_allclose(lip_aperture_cm(landmarks), [0, 0.7])


def test_tensors_round_trip(landmarks: np.ndarray) -> None:
    rig = Rig.fit(landmarks)
    again = Rig.from_tensors(rig.to_tensors())
    np.testing.assert_array_equal(again.encode(landmarks).mouth, rig.encode(landmarks).mouth)


def test_one_frame_is_no_clip(landmarks: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"wanted \[T >= 2, 478, 3\]"):
        Rig.fit(landmarks[:1])
