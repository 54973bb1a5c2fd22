"""What single movements of a face do to its landmarks: a small table of our own, for movements a clip does not show.

Movements carry ARKit's names. Each is a few displacements of named landmarks with a smooth falloff around them, in
centimetres of a face whose outer eye corners are 8.9 cm apart, x away from the face's middle, y down, z away from the
camera, at full strength. The muscles behind them are those of the action units of Ekman and Friesen 1978 (Facial Action
Coding System); sizes were set by eye. They are meant to be projected onto a person's rig, which knows how that person's
face really moves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avatarfit.contracts.motion import LANDMARK_COUNT
from avatarfit.model.rig import (
    BROWS,
    JAW,
    LEFT_EYE,
    LIDS,
    LIPS_BETWEEN,
    LIPS_INNER,
    LIPS_OUTER,
    LOWER_CHEEKS,
    RIGHT_EYE,
)

_SIDES = ("Left", "Right")

# Lips' rings run from the right corner along the lower lip to the left one and back along the upper lip.
_RINGS = (LIPS_OUTER, LIPS_BETWEEN[:20], LIPS_BETWEEN[20:], LIPS_INNER)
_LOWER_LIP = frozenset(ring[k] for ring in _RINGS for k in range(1, 10))
_UPPER_LIP = frozenset(ring[k] for ring in _RINGS for k in range(11, 20))
_CORNERS = frozenset(ring[k] for ring in _RINGS for k in (0, 10))
_JAW = frozenset(JAW)
_CHEEKS = frozenset(LOWER_CHEEKS)
_BROWS = frozenset(BROWS)
# Contours of the eyes and the rings of lids around them: outer corner, lower lid, inner corner, upper lid.
_EYE_RINGS = {"Left": (LEFT_EYE, LIDS[16:]), "Right": (RIGHT_EYE, LIDS[:16])}
_LOWER_LID = frozenset(ring[k] for rings in _EYE_RINGS.values() for ring in rings for k in range(1, 8))
_UPPER_LID = frozenset(ring[k] for rings in _EYE_RINGS.values() for ring in rings for k in range(9, 16))
_LIPS = _LOWER_LIP | _UPPER_LIP | _CORNERS
_MOUTH = _LIPS | _JAW | _CHEEKS

# Anchors, (left, right).
_CORNER = ((291,), (61,))
_BROW_INNER, _BROW_HALF = ((336, 285), (107, 55)), ((336, 285, 296, 295), (107, 55, 66, 65))
_BROW_OUTER = ((334, 293, 300, 282, 283, 276), (105, 63, 70, 52, 53, 46))
_LIDS_UPPER, _LIDS_LOWER = ((386, 385, 387), (159, 158, 160)), ((374, 380, 373), (145, 153, 144))
_UPPER_LIP_SIDE, _LOWER_LIP_SIDE = ((270, 269, 310), (40, 39, 80)), ((321, 405, 318), (91, 181, 88))
_UPPER_LIP_MIDDLE, _LOWER_LIP_MIDDLE = (0, 11, 12, 13), (17, 16, 15, 14)
_CHIN, _CHIN_LINE = (152, 199, 200), (152, 175, 199, 148, 377, 176, 400)
_NOSE_WING = ((391, 393), (165, 167))
_CHEEK = ((425, 426, 427), (205, 206, 207))


@dataclass(frozen=True)
class _Part:
    """Points of `region` within `radius_cm` of an anchor move by `move_cm`, less the farther from it they are."""

    anchors: tuple[int, ...]
    region: frozenset[int]
    radius_cm: float
    move_cm: tuple[float, float, float]


def _sides(
    name: str, *parts: tuple[tuple[tuple[int, ...], tuple[int, ...]], frozenset[int], float, tuple[float, float, float]]
) -> dict[str, tuple[_Part, ...]]:
    """A movement of either half of the face: its parts' anchors are (left, right), x points outwards."""
    out = {}
    for k, side in enumerate(_SIDES):
        sign = 1 if k == 0 else -1
        out[name + side] = tuple(_Part(a[k], region, r, (sign * x, y, z)) for a, region, r, (x, y, z) in parts)
    return out


def _whole(
    *parts: tuple[tuple[int, ...] | tuple[tuple[int, ...], tuple[int, ...]], frozenset[int], float, tuple[float, ...]],
) -> tuple[_Part, ...]:
    """A movement of the whole face; anchors that come as (left, right) move outwards on both sides."""
    out = []
    for anchors, region, radius, (x, y, z) in parts:
        if isinstance(anchors[0], tuple):
            for k, sign in ((0, 1), (1, -1)):
                out.append(_Part(anchors[k], region, radius, (sign * x, y, z)))  # type: ignore[arg-type]
        else:
            out.append(_Part(anchors, region, radius, (x, y, z)))  # type: ignore[arg-type]
    return tuple(out)


_ACTIONS: dict[str, tuple[_Part, ...]] = {
    "browInnerUp": _whole((_BROW_INNER, _BROWS, 2.6, (0.0, -0.8, 0.0))),  # AU 1
    **_sides("browOuterUp", (_BROW_OUTER, _BROWS, 1.8, (0.0, -0.7, 0.0))),  # AU 2
    **_sides("browDown", (_BROW_HALF, _BROWS, 2.2, (-0.25, 0.5, 0.0))),  # AU 4
    **_sides("eyeWide", (_LIDS_UPPER, _UPPER_LID, 1.6, (0.0, -0.22, 0.0))),  # AU 5
    **_sides(
        "cheekSquint",  # AU 6
        (_LIDS_LOWER, _LOWER_LID, 1.6, (0.0, -0.16, 0.0)),
        (_CHEEK, _CHEEKS, 1.8, (0.1, -0.3, -0.1)),
    ),
    **_sides(
        "eyeSquint",  # AU 7
        (_LIDS_LOWER, _LOWER_LID, 1.6, (0.0, -0.12, 0.0)),
        (_LIDS_UPPER, _UPPER_LID, 1.6, (0.0, 0.08, 0.0)),
    ),
    **_sides(
        "noseSneer",  # AU 9
        (_NOSE_WING, _CHEEKS | _UPPER_LIP, 1.8, (0.05, -0.5, 0.0)),
        (_BROW_INNER, _BROWS, 1.6, (-0.1, 0.3, 0.0)),
    ),
    **_sides("mouthUpperUp", (_UPPER_LIP_SIDE, _UPPER_LIP | _CHEEKS, 1.8, (0.0, -0.4, 0.0))),  # AU 10
    **_sides(
        "mouthSmile",  # AU 12
        (_CORNER, _LIPS | _JAW, 2.4, (0.55, -0.75, 0.25)),
        (_CHEEK, _CHEEKS, 2.0, (0.2, -0.3, -0.1)),
    ),
    **_sides("mouthDimple", (_CORNER, _LIPS | _CHEEKS, 1.4, (0.3, 0.0, 0.3))),  # AU 14
    **_sides("mouthFrown", (_CORNER, _LIPS | _JAW | _CHEEKS, 2.2, (0.1, 0.6, 0.05))),  # AU 15
    **_sides("mouthLowerDown", (_LOWER_LIP_SIDE, _LOWER_LIP | _JAW, 1.8, (0.05, 0.4, 0.0))),  # AU 16
    "mouthShrugLower": _whole((_CHIN, _JAW, 2.2, (0, -0.4, -0.1)), (_LOWER_LIP_MIDDLE, _LIPS, 2.2, (0, -0.3, -0.2))),
    "mouthShrugUpper": _whole((_UPPER_LIP_MIDDLE, _UPPER_LIP | _CHEEKS, 2.2, (0, -0.3, -0.15))),
    "mouthPucker": _whole(  # AU 18
        (_CORNER, _MOUTH, 2.4, (-0.7, 0, -0.35)),
        (_UPPER_LIP_MIDDLE + _LOWER_LIP_MIDDLE, _LIPS, 1.4, (0, 0, -0.35)),
    ),
    **_sides("mouthStretch", (_CORNER, _MOUTH, 2.4, (0.6, 0.15, 0.2))),  # AU 20
    "mouthFunnel": _whole(  # AU 22
        (_CORNER, _MOUTH, 2.2, (-0.45, 0, -0.3)),
        (_UPPER_LIP_MIDDLE, _UPPER_LIP, 1.8, (0, -0.25, -0.35)),
        (_LOWER_LIP_MIDDLE, _LOWER_LIP, 1.8, (0, 0.3, -0.35)),
    ),
    **_sides(
        "mouthPress",  # AU 23, 24
        (_UPPER_LIP_SIDE, _UPPER_LIP, 1.6, (-0.08, 0.12, 0.12)),
        (_LOWER_LIP_SIDE, _LOWER_LIP, 1.6, (-0.08, -0.12, 0.12)),
    ),
    "jawOpen": _whole(  # AU 26
        (_CHIN_LINE, _JAW, 6.0, (0, 1.5, 0.3)),
        (_LOWER_LIP_MIDDLE, _LOWER_LIP, 3.2, (0, 1.4, 0.2)),
        (_CORNER, _CORNERS, 1.0, (-0.15, 0.5, 0.0)),
    ),
    "mouthRollLower": _whole((_LOWER_LIP_MIDDLE, _LOWER_LIP, 2.4, (0, -0.25, 0.25))),  # AU 28
    "mouthRollUpper": _whole((_UPPER_LIP_MIDDLE, _UPPER_LIP, 2.4, (0, 0.25, 0.25))),
    "jawForward": _whole((_CHIN_LINE, _JAW, 6.0, (0, 0.05, -0.6)), (_LOWER_LIP_MIDDLE, _LOWER_LIP, 3.0, (0, 0, -0.5))),
    "jawLeft": _whole((_CHIN_LINE, _JAW, 6.0, (0.7, 0, 0)), (_LOWER_LIP_MIDDLE, _LOWER_LIP, 3.0, (0.5, 0, 0))),
    "jawRight": _whole((_CHIN_LINE, _JAW, 6.0, (-0.7, 0, 0)), (_LOWER_LIP_MIDDLE, _LOWER_LIP, 3.0, (-0.5, 0, 0))),
    "mouthLeft": _whole((_UPPER_LIP_MIDDLE + _LOWER_LIP_MIDDLE, _LIPS | _CHEEKS, 3.6, (0.6, 0, 0))),
    "mouthRight": _whole((_UPPER_LIP_MIDDLE + _LOWER_LIP_MIDDLE, _LIPS | _CHEEKS, 3.6, (-0.6, 0, 0))),
}

ACTION_NAMES = tuple(_ACTIONS)
"""Movements that are known, by ARKit's names."""


def action_displacements_cm(shape_cm: np.ndarray) -> np.ndarray:
    """What each of `ACTION_NAMES` does to a face at rest, float64 [A, 478, 3].

    Args:
        shape_cm: float [478, 3], the face's landmarks in the head's frame.
    """
    out = np.zeros((len(_ACTIONS), LANDMARK_COUNT, 3))
    for action, parts in zip(out, _ACTIONS.values(), strict=True):
        for part in parts:
            region = np.array(sorted(part.region))
            apart = np.linalg.norm(shape_cm[region, None, :2] - shape_cm[None, list(part.anchors), :2], axis=2).min(1)
            # One at the anchors, zero with zero slope at the radius.
            share = np.square(np.clip(1 - np.square(apart / part.radius_cm), 0, 1))
            action[region] += share[:, None] * np.array(part.move_cm)
    return out
