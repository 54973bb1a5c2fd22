"""Emotions as offsets in a person's rig, for people who showed none in their clip.

Which muscles an emotion moves is told by action units (Ekman and Friesen 1978, Facial Action Coding System; the
combinations are those of their EMFACS); what a muscle does to landmarks by `avatarfit.model.face_actions`; what of that
this face can do by its rig.
"""

from __future__ import annotations

import numpy as np

from avatarfit.contracts import FaceMotion
from avatarfit.driving.face_space import FaceSpace, Range
from avatarfit.model.face_actions import ACTION_NAMES, action_displacements_cm
from avatarfit.model.rig import MOUTH_REGION, UPPER_REGION

_MOST_GAIN = 2.0
"""So much a movement may be enlarged to make up for what the projection onto the rig shrinks."""

_FAR_PERCENTILES = {"mouth": 99.5, "upper": 98.0}
"""Whole movements stay inside what was seen; their parts alone may go `face_space.BEYOND` it. Set by looking: brows and
lids are drawn from fewer frames than mouths, and mottle sooner."""

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
    far = _FAR_PERCENTILES
    mouth = _shown(mouth, space.mouths, space.mouth, far["mouth"])
    upper = _shown(upper, space.uppers, space.upper, far["upper"])
    return FaceMotion(mouth, upper, space.eyes_with(upper))


def _shown(offsets: np.ndarray, seen: np.ndarray, shown: Range, percentile: float) -> np.ndarray:
    """Offsets [E, N] held to the range of each coefficient, and along their own direction to what was seen [T, N]."""
    held = shown.held(shown.rest + offsets, shown.rest[None]) - shown.rest
    length = np.linalg.norm(held, axis=1)
    along = (seen - shown.rest) @ (held / np.maximum(length, 1e-9)[:, None]).T
    most = np.maximum(np.percentile(along, percentile, axis=0), 0)
    return np.asarray(held * np.minimum(1, most / np.maximum(length, 1e-9))[:, None])


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
