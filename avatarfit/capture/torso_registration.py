"""The upper body's motion: an affine map of the picture per frame, measured against one resting picture.

Corners on the clothes of a reference picture are found again in every other picture by pyramidal Lucas-Kanade, started
from the former frame's map; a robust affine map is fitted to them. Always against the same reference, so nothing
drifts. Where the body has moved so far that the reference no longer matches, a second (third ...) reference is taken,
itself registered to the first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avatarfit.contracts.geometry import Camera

_CORNERS = 300
_WINDOW = 21
_LEVELS = 3
_MIN_POINTS = 8
_KNEE_PX_AT_512 = 0.6
_LINEAR_DEVIATION = 0.03
_MAX_KEYFRAMES = 8


@dataclass
class _Keyframe:
    gray: np.ndarray
    corners_px: np.ndarray  # [N, 2] in this picture
    rest_px: np.ndarray  # [N, 2] the same points in the reference picture


@dataclass(frozen=True)
class Registration:
    """One picture's result.

    Attributes:
        affine_px: float64 [2, 3], reference pixel to this picture's pixel.
        agreeing: share of the corners that were found and agree with the map.
        residual_px: median distance of the agreeing corners from the map; NaN with too few.
        moved_px: median distance of the same corners from their resting place.
    """

    affine_px: np.ndarray
    agreeing: float
    residual_px: float
    moved_px: float


class TorsoRegistrar:
    """Registers pictures, given in time order, to a reference.

    Args:
        gray: uint8 [H, W], the reference picture.
        torso: uint8 [H, W], non-zero on the resting torso.
    """

    def __init__(self, gray: np.ndarray, torso: np.ndarray) -> None:
        self._pixel = max(gray.shape) / 512
        self._torso = torso
        corners = self._corners(gray, torso)
        self._keyframes = [_Keyframe(gray, corners, corners.copy())]
        self._last = np.eye(2, 3)
        self._middle = corners.mean(axis=0) if len(corners) else np.array([gray.shape[1] / 2, gray.shape[0] / 2])

    @property
    def corner_count(self) -> int:
        """Corners found on the reference; below a handful the torso cannot be tracked."""
        return len(self._keyframes[0].corners_px)

    @property
    def usable(self) -> bool:
        """Whether there are corners enough."""
        return self.corner_count >= _MIN_POINTS

    def _corners(self, gray: np.ndarray, torso: np.ndarray) -> np.ndarray:
        import cv2

        # Away from the outline (background moves otherwise) and the picture's border.
        reach = max(3, int(7 * self._pixel)) | 1
        inner = cv2.erode((torso > 0).astype(np.uint8), np.ones((reach, reach), np.uint8))
        edge = int(np.ceil(6 * self._pixel))
        inner[:edge] = inner[-edge:] = 0
        inner[:, :edge] = inner[:, -edge:] = 0
        found = cv2.goodFeaturesToTrack(gray, _CORNERS, 0.003, 6 * self._pixel, mask=inner, blockSize=7)
        return np.zeros((0, 2), np.float32) if found is None else found[:, 0].astype(np.float32)

    def register(self, gray: np.ndarray) -> Registration:
        """The next picture, uint8 [H, W]."""
        if not self.usable:
            return Registration(np.eye(2, 3), 0.0, np.nan, np.nan)
        best: Registration | None = None
        for keyframe in self._nearest_keyframes():
            found = self._match(keyframe, gray)
            if best is None or found.agreeing > best.agreeing:
                best = found
            if best.agreeing > 0.5:
                break
        assert best is not None
        if best.agreeing > 0.2:
            self._last = best.affine_px
            if best.agreeing < 0.45 and len(self._keyframes) < _MAX_KEYFRAMES:
                self._add_keyframe(gray, best.affine_px)
        return best

    def follow(self, affine_px: np.ndarray) -> None:
        """Takes a better map of the last picture as the place to start from in the next one."""
        self._last = affine_px

    def _nearest_keyframes(self) -> list[_Keyframe]:
        """The reference first, then others by how near their body is to the last one seen."""
        here = self._last[:, :2] @ self._middle + self._last[:, 2]

        def distance(k: _Keyframe) -> float:
            return float(np.linalg.norm(k.corners_px.mean(axis=0) - here))

        return [self._keyframes[0], *sorted(self._keyframes[1:], key=distance)[:2]]

    def _add_keyframe(self, gray: np.ndarray, affine_px: np.ndarray) -> None:
        import cv2

        torso = cv2.warpAffine(self._torso, affine_px, gray.shape[::-1], flags=cv2.INTER_NEAREST)
        corners = self._corners(gray, torso)
        if len(corners) >= _MIN_POINTS:
            rest = (corners - affine_px[:, 2]) @ np.linalg.inv(affine_px[:, :2]).T
            self._keyframes.append(_Keyframe(gray, corners, rest.astype(np.float32)))

    def _match(self, keyframe: _Keyframe, gray: np.ndarray) -> Registration:
        import cv2

        start = keyframe.corners_px[:, None]
        rest = keyframe.rest_px.astype(np.float64)
        guess = (rest @ self._last[:, :2].T + self._last[:, 2]).astype(np.float32)[:, None]
        end, found, error = cv2.calcOpticalFlowPyrLK(
            keyframe.gray, gray, start, guess.copy(), winSize=(_WINDOW, _WINDOW), maxLevel=_LEVELS,
            flags=cv2.OPTFLOW_USE_INITIAL_FLOW, criteria=(3, 20, 0.01), minEigThreshold=1e-4,
        )  # fmt: skip
        good = (found[:, 0] > 0) & (error[:, 0] < 25)
        inside = (end[:, 0] > 2).all(axis=1) & (end[:, 0] < np.array(gray.shape[::-1]) - 3).all(axis=1)
        good &= inside
        if good.sum() < _MIN_POINTS:
            return Registration(self._last, 0.0, np.nan, np.nan)
        source, target = rest[good], end[good, 0].astype(np.float64)
        affine = fit_affine(source, target, self._middle, self._last, _KNEE_PX_AT_512 * self._pixel)
        gap = np.linalg.norm(source @ affine[:, :2].T + affine[:, 2] - target, axis=1)
        agree = gap < 2 * _KNEE_PX_AT_512 * self._pixel
        residual = float(np.median(gap[agree])) if agree.any() else np.nan
        moved = float(np.median(np.linalg.norm(target - source, axis=1)[agree])) if agree.any() else np.nan
        return Registration(affine, float(agree.sum()) / len(start), residual, moved)


def fit_affine(
    source: np.ndarray, target: np.ndarray, middle: np.ndarray, start: np.ndarray, knee_px: float
) -> np.ndarray:
    """Robust affine map of points.

    Iterated reweighting by Geman-McClure with a falling scale, so that a coherent majority wins over moving arms. The
    linear part has a weak prior at the identity, which decides where corners lie too close together to tell.

    Args:
        source, target: float [N, 2].
        middle: [2], the point about which the linear part is written.
        start: [2, 3], where to begin.
        knee_px: distance at which a point counts a quarter.

    Returns:
        float64 [2, 3].
    """
    centred = source - middle
    design = np.concatenate([centred, np.ones((len(source), 1))], axis=1)
    coefficients = np.concatenate([start[:, :2].T, [start[:, :2] @ middle + start[:, 2]]])
    coefficients[2] += np.median(target - design @ coefficients, axis=0)
    prior = np.diag([1 / _LINEAR_DEVIATION**2] * 2 + [0.0])
    rest = np.concatenate([np.eye(2), np.zeros((1, 2))])
    for scale in (8.0, 4.0, 2.0, 2.0, 1.0, 1.0, 1.0):
        gap = ((design @ coefficients - target) ** 2).sum(axis=1)
        weight = 1 / (1 + gap / (scale * knee_px) ** 2) ** 2 / knee_px**2
        gram = (design * weight[:, None]).T @ design + prior + 1e-9 * np.eye(3)
        coefficients = np.linalg.solve(gram, (design * weight[:, None]).T @ target + prior @ rest)
    linear = coefficients[:2].T
    return np.concatenate([linear, (coefficients[2] - linear @ middle)[:, None]], axis=1)


def normalised(affine_px: np.ndarray, camera: Camera) -> np.ndarray:
    """The same maps [T, 2, 3] on coordinates `(x_px - c) / f`; `affine_px` is on pixel indices (centres at 0)."""
    # Index i is at i + 0.5 here; u = (index + 0.5 - c) / f.
    center = np.array([camera.center_x_px, camera.center_y_px]) - 0.5
    out = affine_px.astype(np.float64).copy()
    out[:, :, 2] = (np.einsum("tij,j->ti", affine_px[:, :, :2], center) + affine_px[:, :, 2] - center) / camera.focal_px
    return out


def rested(affine: np.ndarray, train_count: int) -> np.ndarray:
    """The maps [T, 2, 3] against the median map of the training frames instead of against the reference picture."""
    median = np.median(affine[:train_count], axis=0)
    inverse = np.linalg.inv(median[:, :2])
    out = affine.copy()
    out[:, :, :2] = affine[:, :, :2] @ inverse
    out[:, :, 2] = affine[:, :, 2] - np.einsum("tij,j->ti", out[:, :, :2], median[:, 2])
    return out
