"""Direct alignment of the torso: every pixel of it counts, plain cloth and the shoulders' outline included.

Corners sit where the contrast is, on collar and tie; a dark jacket has none, and its shoulders are then extrapolated.
So the map found from corners is improved by inverse-compositional Lucas-Kanade (Baker and Matthews 2004) on locally
normalised pictures, always against the same reference, with robust weights for whatever covers the torso.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avatarfit.capture.picture_maps import chained, inverse_map, scaled_map

_SIDE_PX = 256
_ITERATIONS = 10
_FLOOR_LEVELS = 3.0
_KNEE = 0.7
_INDEPENDENT = 0.05
_IDENTITY_DEVIATION = 0.03
_STEP_DEVIATION = 0.004
_STILL = 0.008
_MARGIN = 12
_ENOUGH_PIXELS = 3000
_NO_MATRIX = np.zeros((0, 0), np.float32)


def locally_normalised(gray: np.ndarray, radius_px: float) -> np.ndarray:
    """float32 [H, W]: grey levels minus their local mean, over their local deviation (plus a floor against noise)."""
    import cv2

    # Two boxes make a fair bell: of deviation r each spans 2.45 r.
    side = (max(3, int(2.45 * radius_px)) | 1,) * 2

    def local_mean(picture: np.ndarray) -> np.ndarray:
        return cv2.blur(cv2.blur(picture, side), side)

    value = gray.astype(np.float32)
    centred = value - local_mean(value)
    # The box filter's running sums leave a trace below zero where a flat part follows a lively one.
    spread = np.sqrt(np.maximum(local_mean(centred * centred), 0))
    return np.asarray(centred / (spread + _FLOOR_LEVELS), np.float32)


@dataclass(frozen=True)
class Alignment:
    """Attributes:
    affine_px: float64 [2, 3], reference pixel index to picture pixel index.
    agreeing: share of the torso's pixels that fit.
    """

    affine_px: np.ndarray
    agreeing: float


class TorsoAligner:
    """Aligns pictures to a reference.

    Args:
        gray: uint8 [H, W], the reference picture.
        torso: uint8 [H, W], non-zero on the resting torso.
        person: uint8 [H, W], non-zero on the person; what is person but not torso is kept out, with a margin.
    """

    def __init__(self, gray: np.ndarray, torso: np.ndarray, person: np.ndarray) -> None:
        import cv2

        height, width = gray.shape
        scale = min(1.0, _SIDE_PX / max(height, width))
        self._size = (max(8, round(width * scale)), max(8, round(height * scale)))
        # Full-size pixel index to working index, both with centres at + 0.5.
        self._down = scaled_map((width, height), self._size)
        body = cv2.resize((torso > 0).astype(np.uint8), self._size, interpolation=cv2.INTER_NEAREST)
        other = cv2.resize(((person > 0) & (torso == 0)).astype(np.uint8), self._size, interpolation=cv2.INTER_NEAREST)
        around, near = np.ones((7, 7), np.uint8), np.ones((9, 9), np.uint8)
        wanted = (cv2.dilate(body, around) > 0) & (cv2.dilate(other, near) == 0)
        wanted[:3] = wanted[-3:] = False
        wanted[:, :3] = wanted[:, -3:] = False
        # Only the rows that the torso can reach are looked at.
        self._first = max(int(np.flatnonzero(wanted.any(axis=1))[0]) - _MARGIN, 0) if wanted.any() else 0
        self._band = (self._size[0], self._size[1] - self._first)
        self._down[1, 2] -= self._first
        self._up = inverse_map(self._down)
        wanted = wanted[self._first :]
        if wanted.sum() > 2 * _ENOUGH_PIXELS:
            wanted = wanted & (np.indices(wanted.shape).sum(axis=0) % 2 == 0)
        self._rows, self._columns = np.nonzero(wanted)
        self._length = max(self._size) / 4
        if not len(self._rows):
            return
        self._template = self._picture(gray)
        self._middle = np.array([self._columns.mean(), self._rows.mean()])
        across = cv2.Scharr(self._template, cv2.CV_32F, 1, 0)[wanted] / 32
        down = cv2.Scharr(self._template, cv2.CV_32F, 0, 1)[wanted] / 32
        x, y = (self._columns - self._middle[0]) / self._length, (self._rows - self._middle[1]) / self._length
        # Derivatives by the linear part (scaled by the length) and the shift.
        self._steepest = np.stack([across * x, across * y, across, down * x, down * y, down], axis=1).astype(np.float32)
        self._steepest_t = np.ascontiguousarray(self._steepest.T)
        self._wanted = np.flatnonzero(wanted)
        self._values = self._template[wanted]

    @property
    def pixel_count(self) -> int:
        """Torso pixels at the working size."""
        return len(self._rows)

    def _picture(self, gray: np.ndarray) -> np.ndarray:
        import cv2

        small = cv2.resize(gray, self._size, interpolation=cv2.INTER_AREA)[self._first :]
        return locally_normalised(small, max(self._size) / 40)

    def align(self, gray: np.ndarray, start_px: np.ndarray, former_px: np.ndarray) -> Alignment:
        """The map of one picture.

        Args:
            gray: uint8 [H, W].
            start_px: [2, 3], where to begin: within a few pixels.
            former_px: [2, 3], the former picture's map; its linear part is a weak prior.
        """
        import cv2

        picture = self._picture(gray)
        affine, former = self._inside(start_px), self._inside(former_px)
        error = np.zeros(0, np.float32)
        knee = 2 * _KNEE
        for _ in range(_ITERATIONS):
            warped = cv2.warpAffine(
                picture, affine, self._band, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderValue=(1e3,)
            )
            error = warped.ravel()[self._wanted] - self._values
            weight = _INDEPENDENT / np.square(1 + np.square(error * np.float32(1 / knee))) / np.float32(_KNEE**2)
            weight[error > 50] = 0  # outside the picture
            scaled = self._steepest_t * weight
            # OpenCV's product, for numpy's would wake BLAS's threads at every step.
            normal = cv2.gemm(scaled, self._steepest, 1, _NO_MATRIX, 0).astype(np.float64)
            right = cv2.gemm(scaled, error[:, None], 1, _NO_MATRIX, 0)[:, 0].astype(np.float64)
            # Priors on the linear part: near the former picture's, and not far from none.
            for target, deviation in ((former[:, :2], _STEP_DEVIATION), (np.eye(2), _IDENTITY_DEVIATION)):
                precision = 1 / (deviation * self._length) ** 2
                gap = (affine[:, :2] - target) * self._length
                for row in range(2):
                    for column in range(2):
                        k = 3 * row + column
                        normal[k, k] += precision
                        right[k] += precision * gap[row, column]
            step = cv2.solve(normal + 1e-9 * np.eye(6), right, flags=cv2.DECOMP_CHOLESKY)[1].reshape(2, 3)
            change = np.eye(2, 3)
            change[:, :2] += step[:, :2] / self._length
            change[:, 2] = self._middle + step[:, 2] - (change[:, :2] * self._middle).sum(axis=1)
            affine = chained(inverse_map(change), affine)
            knee = max(_KNEE, 0.8 * knee)
            if np.abs(step).max() < _STILL:
                break
        return Alignment(chained(chained(self._down, affine), self._up), float((np.abs(error) < _KNEE).mean()))

    def _inside(self, affine_px: np.ndarray) -> np.ndarray:
        return chained(chained(self._up, affine_px), self._down)
