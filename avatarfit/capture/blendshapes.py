"""Blendshapes, by ARKit's names: from the bundle's network, or those that the face's geometry gives honestly
(avatarfit.model.blendshapes)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from avatarfit.capture.face_landmarker import BUNDLE_BLENDSHAPES
from avatarfit.capture.landmark_source import LandmarkSource
from avatarfit.model.blendshapes import (
    ARKIT_NAMES,
    GEOMETRY_NAMES,
    VERSION,
    full_level,
    geometry_ranges,
    geometry_values,
    scaled,
)

_SIDES = ("Left", "Right")
_CLOSED = 0.4
"""From the synthetic performer's exact lids: the networks draw a half closed eye too open, the mesh more so."""

BUNDLE_NAMES = ARKIT_NAMES[:-1]
"""What the bundle gives; the columns of `bundle_blendshapes`."""


@dataclass(frozen=True)
class Blendshapes:
    """Blendshapes of T frames.

    Attributes:
        names: P of `ARKIT_NAMES`.
        values: float32 [T, P] in 0..1.
        range: float32 [P, 2]: what counted as 0 and as 1, in the unit of the measure or the network's score.
    """

    names: tuple[str, ...]
    values: np.ndarray
    range: np.ndarray


def geometry_blendshapes(landmarks_cm: np.ndarray, fit_count: int) -> Blendshapes:
    """The names that geometry gives.

    Args:
        landmarks_cm: float32 [T, 478, 3] in the head frame.
        fit_count: rest and range are taken from the first `fit_count` frames.
    """
    ranges = geometry_ranges(landmarks_cm[:fit_count])
    return Blendshapes(GEOMETRY_NAMES, geometry_values(landmarks_cm, ranges), ranges.astype(np.float32))


def bundle_blendshapes(scores: np.ndarray, fit_count: int) -> Blendshapes:
    """The network's values; jawOpen alone is stretched to the person's own range, for the network squeezes it.

    Args:
        scores: float32 [T, 52] in the order of `BUNDLE_BLENDSHAPES`.
        fit_count: jawOpen's range is taken from the first `fit_count` frames.
    """
    columns = scores[:, [BUNDLE_BLENDSHAPES.index(name) for name in BUNDLE_NAMES]].astype(np.float64)
    ranges = np.tile([0.0, 1.0], (len(BUNDLE_NAMES), 1))
    jaw = BUNDLE_NAMES.index("jawOpen")
    rest = np.percentile(columns[:fit_count, jaw], 5)
    ranges[jaw] = rest, full_level(columns[:fit_count, jaw], rest, 0.1)
    return Blendshapes(BUNDLE_NAMES, scaled(columns, ranges), ranges.astype(np.float32))


def described(source: LandmarkSource) -> dict[str, Any]:
    """What clip.json says of the blendshapes of a clip whose landmarks come from `source`."""
    names = GEOMETRY_NAMES if source.bundle is None else BUNDLE_NAMES
    return {
        "source": "geometry" if source.bundle is None else source.name,
        "version": VERSION,
        "names": list(names),
        "absent": [name for name in ARKIT_NAMES if name not in names],
    }


def blinks(names: tuple[str, ...] | list[str], values: np.ndarray) -> np.ndarray:
    """Frames in which the eyes are closed: bool [T].

    The mean of both eyes' eyeBlink is more than 0.4 of the way from open (its median) to closed (its 99th percentile,
    or 0.6 above open where the person hardly closes the eyes), which agrees best with "more than half closed" of the
    synthetic performer's exact lids.

    Args:
        names, values: as `ClipFolder.blendshapes` returns them.

    Raises:
        ValueError: eyeBlinkLeft or eyeBlinkRight is not among the names.
    """
    closure = eye_closure(names, values)
    return closure > blink_threshold(closure) if len(closure) else np.zeros(0, bool)


def eye_closure(names: tuple[str, ...] | list[str], values: np.ndarray) -> np.ndarray:
    """The mean of both eyes' eyeBlink, float [T].

    Raises:
        ValueError: eyeBlinkLeft or eyeBlinkRight is not among the names.
    """
    columns = [list(names).index(f"eyeBlink{side}") for side in _SIDES]
    return np.asarray(values[:, columns].mean(axis=1))


def blink_threshold(closure: np.ndarray) -> float:
    """The closure [T], at least one frame, above which `blinks` calls the eyes closed."""
    rest = float(np.median(closure))
    return rest + _CLOSED * (full_level(closure, rest, 0.6) - rest)
