"""What blendshapes mean, on a face whose movements are known exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from avatarfit.capture.blendshapes import (
    BUNDLE_NAMES,
    blinks,
    bundle_blendshapes,
    described,
    geometry_blendshapes,
)
from avatarfit.capture.face_landmarker import BUNDLE_BLENDSHAPES
from avatarfit.capture.landmark_source import FACE_MESH, LandmarkSource
from avatarfit.model.blendshapes import ARKIT_NAMES, GEOMETRY_NAMES, eye_opening
from avatarfit.performer.face_shape import SHAPES, face_shape

T = 400


def moved(
    *, blink: np.ndarray | float = 0.0, across: np.ndarray | float = 0.0, down: np.ndarray | float = 0.0,
    **coefficients: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Landmarks float32 [T, 478, 3] of a performer who does this, with a network's noise."""
    amounts = np.zeros((T, len(SHAPES)))
    for name, amount in coefficients.items():
        amounts[:, SHAPES.index(name)] = amount
    closure = np.repeat((np.zeros(T) + blink)[:, None], 2, axis=1)
    gaze = np.stack([np.zeros(T) + across, np.zeros(T) + down], axis=1)
    noise = np.random.default_rng(0).normal(0, 0.01, (T, 478, 3))
    return (face_shape(0).landmarks_cm(amounts, closure, gaze) + noise).astype(np.float32)


def pulses(rest_share: float = 0.75) -> np.ndarray:
    """0 most of the time, now and then to 1 and back."""
    wave = np.sin(np.linspace(0, 40, T))
    return np.clip((wave - np.sin(np.pi / 2 * rest_share)) / (1 - np.sin(np.pi / 2 * rest_share)), 0, 1)


def column(landmarks_cm: np.ndarray, name: str) -> np.ndarray:
    found = geometry_blendshapes(landmarks_cm, T)
    return found.values[:, found.names.index(name)]


@pytest.mark.parametrize(
    ("names", "how"),
    [
        (("eyeBlinkLeft", "eyeBlinkRight"), {"blink": 1.0}),
        (("jawOpen",), {"jaw": 0.7}),
        (("browInnerUp",), {"brow_raise": 1.4}),
        (("browDownLeft", "browDownRight"), {"brow_raise": -1.4}),
        (("eyeLookOutLeft", "eyeLookInRight"), {"across": 0.25}),
        (("eyeLookInLeft", "eyeLookOutRight"), {"across": -0.25}),
        (("eyeLookDownLeft", "eyeLookDownRight"), {"down": 0.2}),
        (("eyeLookUpLeft", "eyeLookUpRight"), {"down": -0.2}),
        (("mouthSmileLeft", "mouthSmileRight"), {"wide": 1.0}),
    ],
)
def test_a_movement_shows_in_its_names(names: tuple[str, ...], how: dict[str, float]) -> None:
    amount = pulses()
    landmarks = moved(**{key: most * amount for key, most in how.items()})
    for name in names:
        values = column(landmarks, name)
        assert np.corrcoef(values, amount)[0, 1] > 0.95, name
        assert values[amount > 0.95].mean() > 0.8, name
        assert values[amount == 0].mean() < 0.2, name


def test_a_face_that_keeps_still_stays_near_zero() -> None:
    values = geometry_blendshapes(moved(), T).values
    assert values.mean() < 0.12
    assert values.max() < 0.45
    assert not blinks(GEOMETRY_NAMES, values).any()


def test_a_small_face_and_a_large_one_are_one_person_in_the_eyes() -> None:
    landmarks = moved(blink=pulses())
    np.testing.assert_allclose(eye_opening(landmarks * 3, "Left"), eye_opening(landmarks, "Left"), rtol=1e-4)
    np.testing.assert_allclose(column(landmarks * 3, "eyeBlinkLeft"), column(landmarks, "eyeBlinkLeft"), atol=1e-4)


def test_one_eye_closes_alone() -> None:
    closure = np.stack([pulses(), np.zeros(T)], axis=1)  # the eye at the picture's left is the person's right
    landmarks = face_shape(0).landmarks_cm(np.zeros((T, len(SHAPES))), closure, np.zeros((T, 2))).astype(np.float32)
    assert column(landmarks, "eyeBlinkRight").max() > 0.95
    assert column(landmarks, "eyeBlinkLeft").max() < 0.05


def test_range_comes_from_the_training_frames_alone() -> None:
    amount = pulses() * np.where(np.arange(T) < T // 2, 0.6, 1.0)
    landmarks = moved(jaw=amount)
    found = geometry_blendshapes(landmarks, T // 2)
    changed = landmarks.copy()
    changed[T // 2 :] = landmarks[0]
    again = geometry_blendshapes(changed, T // 2)
    np.testing.assert_array_equal(again.range, found.range)
    np.testing.assert_array_equal(again.values[: T // 2], found.values[: T // 2])
    assert found.values.max() == 1.0


def test_closed_eyes_are_found_to_the_frame() -> None:
    closure = pulses(0.9)
    clear = (closure < 0.3) | (closure > 0.8)  # a half closed eye is neither
    found = blinks(GEOMETRY_NAMES, geometry_blendshapes(moved(blink=closure), T).values)
    np.testing.assert_array_equal(found[clear], closure[clear] > 0.5)
    assert found.any()
    with pytest.raises(ValueError, match="eyeBlinkLeft"):
        blinks(("jawOpen",), np.zeros((3, 1), np.float32))


def test_the_networks_values_are_kept_but_for_the_jaw_that_it_squeezes() -> None:
    rng = np.random.default_rng(0)
    scores = rng.uniform(0, 0.9, (T, len(BUNDLE_BLENDSHAPES))).astype(np.float32)
    jaw = BUNDLE_BLENDSHAPES.index("jawOpen")
    scores[:, jaw] = 0.02 + 0.2 * pulses()
    found = bundle_blendshapes(scores, T)
    for name in ("eyeBlinkLeft", "mouthPucker", "noseSneerRight"):
        np.testing.assert_allclose(
            found.values[:, found.names.index(name)], scores[:, BUNDLE_BLENDSHAPES.index(name)], rtol=1e-6
        )
    opened = found.values[:, found.names.index("jawOpen")]
    np.testing.assert_allclose(found.range[found.names.index("jawOpen")], [0.02, 0.22], atol=0.005)
    assert opened.min() == 0
    assert opened.max() == 1


def test_names_are_given_or_absent_and_never_both() -> None:
    for source in (FACE_MESH, LandmarkSource("face_landmarker.task sha256:0", Path("x.task"))):
        about = described(source)
        assert sorted(about["names"] + about["absent"]) == sorted(ARKIT_NAMES)
    assert len(ARKIT_NAMES) == 52
    assert described(FACE_MESH)["source"] == "geometry"
    assert "mouthPucker" in described(FACE_MESH)["absent"]
    assert len(BUNDLE_NAMES) == 51
