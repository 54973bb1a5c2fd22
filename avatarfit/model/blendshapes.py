"""ARKit's blendshapes as the face's geometry gives them.

Each name is one measure of the pose-normalised landmarks, brought onto 0..1 by the person's own rest level and range
(robust percentiles over the frames that are learned from). Held against the network's values on three people, a name is
kept only where the two correlate by 0.7 or more on every clip in which the network sees it move; every other name is
absent, for a value without meaning is worse than none. One linear map from landmarks to all names does not generalise
to other people.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

VERSION = 4
"""Of the definitions; capture's stage key holds it."""

# fmt: off
ARKIT_NAMES = (
    "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff",
    "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight",
    "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight",
    "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft", "jawOpen", "jawRight",
    "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel",
    "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthPucker",
    "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft",
    "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight",
    "noseSneerLeft", "noseSneerRight", "tongueOut",
)
"""All 52 names of ARKit, in alphabetical order."""
# fmt: on

_SIDES = ("Left", "Right")
"""The person's own: their left eye is at the picture's right."""

# Per side: outer and inner eye corner, upper lid, lower lid, iris, brow's inner end and half, mouth corner.
_CORNERS = {"Left": (263, 362), "Right": (33, 133)}
_UPPER_LID = {"Left": (386, 385, 387), "Right": (159, 158, 160)}
_LOWER_LID = {"Left": (374, 380, 373), "Right": (145, 153, 144)}
_IRIS = {"Left": 473, "Right": 468}
_BROW_INNER = {"Left": (336, 285), "Right": (107, 55)}
_BROW_KNIT = {"Left": (336, 285, 296, 295), "Right": (107, 55, 66, 65)}
_BROW_ENDS, _NOSE_ROOT = (285, 55), (6, 197)
_MOUTH_CORNER = {"Left": 291, "Right": 61}
_INNER_LIPS, _CHIN = (13, 14), 152

_LID_EXPONENT = 0.8
"""From the synthetic performer's exact lids: the networks draw a half closed eye too open, the mesh more so."""


@dataclass(frozen=True)
class _Definition:
    """How a name is measured: float [T] of landmarks_cm [T, 478, 3], and what counts as rest and as full."""

    measure: Callable[[np.ndarray], np.ndarray]
    rest_percentile: float
    least: float
    """The smallest range from rest to full, in the measure's unit, so that noise of a still face is not blown up."""
    relative: bool = False
    """`least` is a share of the rest level."""
    exponent: float = 1.0
    """Of the share of the range, where the measure does not follow the movement in a straight line."""


def eye_opening(landmarks_cm: np.ndarray, side: str) -> np.ndarray:
    """Eye aspect ratio float [...] (Soukupova and Cech 2016): mean distance of the lids over the eye's width.

    Args:
        landmarks_cm: [..., 478, 3] in the head frame.
        side: "Left" or "Right", the person's.
    """
    gaps = [_distance(landmarks_cm, u, w) for u, w in zip(_UPPER_LID[side], _LOWER_LID[side], strict=True)]
    return np.mean(gaps, axis=0) / _distance(landmarks_cm, *_CORNERS[side])


def _distance(points: np.ndarray, a: int, b: int) -> np.ndarray:
    # Depth is the least certain coordinate, and lids and lips hardly part along it.
    return np.linalg.norm(points[..., a, :2] - points[..., b, :2], axis=-1)


def _mean(points: np.ndarray, indices: tuple[int, ...], axis: int) -> np.ndarray:
    return points[..., list(indices), axis].mean(axis=-1)


def _closure(points: np.ndarray, side: str) -> np.ndarray:
    return -eye_opening(points, side)


def _gaze(points: np.ndarray, axis: int, sign: int) -> np.ndarray:
    """Iris from the middle between the corners, in eye widths, mean of both eyes: they turn together, errors do not."""
    sides = [
        (points[..., _IRIS[side], axis] - _mean(points, _CORNERS[side], axis)) / _distance(points, *_CORNERS[side])
        for side in _SIDES
    ]
    return np.asarray(sign * np.mean(sides, axis=0))


def _brow_down(points: np.ndarray, side: str) -> np.ndarray:
    """How low the brow's inner half is above the root of the nose, and how near the brows are, centimetres."""
    height = _mean(points, _NOSE_ROOT, 1) - _mean(points, _BROW_KNIT[side], 1)
    return np.asarray(-height - _distance(points, *_BROW_ENDS))


def _inner_brows(points: np.ndarray) -> np.ndarray:
    """Height of the brows' inner ends above the eyes' corners, centimetres."""
    heights = [_mean(points, _CORNERS[side], 1) - _mean(points, _BROW_INNER[side], 1) for side in _SIDES]
    return np.asarray(np.mean(heights, axis=0))


def _jaw(points: np.ndarray) -> np.ndarray:
    """The inner lips' gap and the chin's way down, centimetres: lips may part and a jaw may drop alone."""
    return _distance(points, *_INNER_LIPS) + points[..., _CHIN, 1]


def _smile(points: np.ndarray, side: str) -> np.ndarray:
    """Width of the mouth and height of its corner above the lips' middle, centimetres."""
    return _distance(points, 61, 291) / 2 + _mean(points, _INNER_LIPS, 1) - points[..., _MOUTH_CORNER[side], 1]


def _definitions() -> dict[str, _Definition]:
    out = {
        "jawOpen": _Definition(_jaw, 5, 0.8),
        "browInnerUp": _Definition(_inner_brows, 5, 0.4),
    }
    for side in _SIDES:
        outward = 1 if side == "Left" else -1
        out |= {
            f"eyeBlink{side}": _Definition(
                partial(_closure, side=side), 50, 0.65, relative=True, exponent=_LID_EXPONENT
            ),
            f"eyeLookOut{side}": _Definition(partial(_gaze, axis=0, sign=outward), 50, 0.12),
            f"eyeLookIn{side}": _Definition(partial(_gaze, axis=0, sign=-outward), 50, 0.12),
            f"eyeLookUp{side}": _Definition(partial(_gaze, axis=1, sign=-1), 50, 0.12),
            f"eyeLookDown{side}": _Definition(partial(_gaze, axis=1, sign=1), 50, 0.12),
            f"browDown{side}": _Definition(partial(_brow_down, side=side), 5, 0.4),
            f"mouthSmile{side}": _Definition(partial(_smile, side=side), 5, 0.6),
        }
    return {name: out[name] for name in ARKIT_NAMES if name in out}


_DEFINITIONS = _definitions()
GEOMETRY_NAMES = tuple(_DEFINITIONS)
"""What geometry gives; the columns of `geometry_values`."""


def geometry_ranges(landmarks_cm: np.ndarray) -> np.ndarray:
    """What counts as 0 and as 1 for one person, float64 [P, 2], in the unit of each measure.

    Args:
        landmarks_cm: float [T, 478, 3] in the head frame, T >= 1: the frames that are learned from.
    """
    ranges = []
    for definition in _DEFINITIONS.values():
        measured = definition.measure(landmarks_cm.astype(np.float64))
        rest = float(np.percentile(measured, definition.rest_percentile))
        least = definition.least * (abs(rest) if definition.relative else 1)
        ranges.append((rest, full_level(measured, rest, least)))
    return np.array(ranges)


def geometry_values(landmarks_cm: np.ndarray, ranges: np.ndarray) -> np.ndarray:
    """`GEOMETRY_NAMES`, float32 [T, P] in 0..1, of landmarks [T, 478, 3] by a person's `ranges` [P, 2]."""
    points = landmarks_cm.astype(np.float64)
    measured = np.stack([definition.measure(points) for definition in _DEFINITIONS.values()], axis=1)
    exponents = np.array([definition.exponent for definition in _DEFINITIONS.values()], np.float32)
    return np.asarray(scaled(measured, ranges) ** exponents, np.float32)


def full_level(measured: np.ndarray, rest: float, least: float) -> float:
    """What counts as 1: the 99th percentile, at least `least` above rest."""
    return max(float(np.percentile(measured, 99)), rest + least)


def scaled(columns: np.ndarray, ranges: np.ndarray) -> np.ndarray:
    """Columns [T, P] on 0..1 by what counts as 0 and as 1, [P, 2]: float32."""
    return np.clip((columns - ranges[:, 0]) / (ranges[:, 1] - ranges[:, 0]), 0, 1).astype(np.float32)
