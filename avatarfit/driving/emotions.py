"""Emotions as offsets in a person's rig, for people who showed none in their clip.

Which muscles an emotion moves is told by action units (Ekman and Friesen 1978, Facial Action Coding System; the
combinations are those of their EMFACS); what a muscle does to landmarks by `avatarfit.model.face_actions`; what of that
this face can do by its rig.
"""

from __future__ import annotations

import numpy as np

from avatarfit.contracts import FaceMotion
from avatarfit.driving.face_space import FaceSpace
from avatarfit.model.face_actions import ACTION_NAMES, action_displacements_cm
from avatarfit.model.rig import MOUTH_REGION, UPPER_REGION

_MOST_GAIN = 2.0
"""So much a movement may be enlarged to make up for what the projection onto the rig shrinks."""

_RECIPES: dict[str, dict[str, float]] = {
    "happy": {"cheekSquint": 0.8, "mouthSmile": 1.0},  # AU 6 + 12
    "sad": {"browInnerUp": 1.0, "browDown": 0.4, "mouthFrown": 1.0},  # AU 1 + 4 + 15
    "angry": {"browDown": 1.0, "eyeWide": 0.4, "eyeSquint": 0.8, "mouthPress": 1.0},  # AU 4 + 5 + 7 + 23
    "surprised": {"browInnerUp": 1.0, "browOuterUp": 1.0, "eyeWide": 1.0, "jawOpen": 0.5},  # AU 1 + 2 + 5 + 26
    "afraid": {
        "browInnerUp": 1.0, "browOuterUp": 0.6, "browDown": 0.4, "eyeWide": 1.0, "mouthStretch": 1.0,
    },  # AU 1 + 2 + 4 + 5 + 20
    "disgusted": {"noseSneer": 1.0, "mouthFrown": 0.7, "mouthLowerDown": 0.5},  # AU 9 + 15 + 16
}  # fmt: skip

EMOTIONS = tuple(_RECIPES)
"""Names of the emotions, in the order of `emotion_offsets`."""


def emotion_offsets(space: FaceSpace) -> FaceMotion:
    """What each of `EMOTIONS` adds to a person's coefficients at full strength: one row each.

    A face's half, mouth or eyes and brows, is enlarged to the table's size along the table's direction, as far as
    `_MOST_GAIN`, and then held to the range that the person has shown about rest.
    """
    actions = action_displacements_cm(space.rig.shape_cm)
    wanted = np.stack([sum(_weight(recipe, name) * a for name, a in zip(ACTION_NAMES, actions, strict=True))
                       for recipe in _RECIPES.values()])  # fmt: skip
    small = space.projected(wanted)
    rig = space.rig
    mouth = _enlarged(small.mouth, wanted, rig.mouth_basis, rig.mouth_deviation_cm, MOUTH_REGION)
    upper = _enlarged(small.upper, wanted, rig.upper_basis, rig.upper_deviation_cm, UPPER_REGION)
    mouth = space.mouth.held(space.mouth.rest + mouth, space.mouth.rest[None]) - space.mouth.rest
    upper = space.upper.held(space.upper.rest + upper, space.upper.rest[None]) - space.upper.rest
    return FaceMotion(mouth, upper, space.eyes_with(upper))


def _weight(recipe: dict[str, float], action: str) -> float:
    return recipe.get(action, recipe.get(action.removesuffix("Left").removesuffix("Right"), 0.0))


def _enlarged(
    coefficients: np.ndarray, wanted_cm: np.ndarray, basis: np.ndarray, deviation_cm: np.ndarray, region: np.ndarray
) -> np.ndarray:
    made = np.einsum("tm,mlc->tlc", coefficients * deviation_cm, basis)
    target = wanted_cm[:, region]
    along = (made * target).sum(axis=(1, 2))
    gain = np.square(target).sum(axis=(1, 2)) / np.maximum(along, 1e-9)
    return coefficients * np.clip(gain, 1, _MOST_GAIN)[:, None]
