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


def _one_in(count: int, shape: tuple[int, ...]) -> np.ndarray:
    """bool [H, W]: every `count`th pixel, in slanting rows that spread them well."""
    rows, columns = np.indices(shape)
    return np.asarray((columns + round(0.382 * count) * rows) % count == 0)


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
        thinning = max(1, int(wanted.sum()) // _ENOUGH_PIXELS)
        wanted = wanted & _one_in(thinning, wanted.shape)
        # Neighbours tell much the same; what is left out is told by those that stay.
        self._independent = _INDEPENDENT * max(1.0, thinning / 2)
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
        self._values = self._template[wanted]
        self._grid = np.stack([self._columns, self._rows, np.ones_like(self._rows)]).astype(np.float32)

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
        # Priors on the linear part: near the former picture's, and not far from none.
        length2 = self._length**2
        near, plain = 1 / (_STEP_DEVIATION**2 * length2), 1 / (_IDENTITY_DEVIATION**2 * length2)
        aim = (near * former[:, :2] + plain * np.eye(2)) / (near + plain)
        stiffness = np.diag([near + plain, near + plain, 0.0] * 2) + 1e-9 * np.eye(6)
        for _ in range(_ITERATIONS):
            error = self._sampled(picture, affine) - self._values
            weight = error * np.float32(1 / knee)
            weight *= weight
            weight += 1
            weight *= weight
            weight = np.float32(self._independent / _KNEE**2) / weight
            weight[error > 50] = 0  # outside the picture
            scaled = self._steepest_t * weight
            normal = (scaled @ self._steepest).astype(np.float64)
            right = (scaled @ error).astype(np.float64)
            pull = np.zeros((2, 3))
            pull[:, :2] = (near + plain) * self._length * (affine[:, :2] - aim)
            step = cv2.solve(normal + stiffness, right + pull.ravel(), flags=cv2.DECOMP_CHOLESKY)[1].reshape(2, 3)
            change = np.eye(2, 3)
            change[:, :2] += step[:, :2] / self._length
            change[:, 2] = self._middle + step[:, 2] - (change[:, :2] * self._middle).sum(axis=1)
            affine = chained(inverse_map(change), affine)
            knee = max(_KNEE, 0.8 * knee)
            if np.abs(step).max() < _STILL:
                break
        return Alignment(chained(chained(self._down, affine), self._up), float((np.abs(error) < _KNEE).mean()))

    def _sampled(self, picture: np.ndarray, affine: np.ndarray) -> np.ndarray:
        """float32 [P]: the picture where the map takes the reference's pixels; far from all values outside of it."""
        import cv2

        x, y = affine.astype(np.float32) @ self._grid
        return np.asarray(cv2.remap(picture, x[None], y[None], cv2.INTER_LINEAR, borderValue=(1e3,)))[0]

    def _inside(self, affine_px: np.ndarray) -> np.ndarray:
        return chained(chained(self._up, affine_px), self._down)
