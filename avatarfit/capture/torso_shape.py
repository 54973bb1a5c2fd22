"""How the clothes move beyond the torso's affine map: flow against the resting picture, and its principal modes.

A collar follows the neck, lapels follow the arms, a tie swings: half a pixel that an affine map cannot give, at the
picture's sharpest edges. Every picture is warped back by the torso's own map; what motion is left there against the
resting picture (dense inverse search, Kroeger et al. 2016) is averaged over cells, each pixel by its gradient's energy,
and a few principal components over the clip describe it.
"""

from __future__ import annotations

import numpy as np

from avatarfit.capture.picture_maps import resized_map, shrunk, small_size
from avatarfit.contracts import Camera
from avatarfit.model.torso_modes import TorsoModes

_SIDE_PX = 512
_ROWS, _COLUMNS = 16, 32
_RIM_AT_512 = 9
_FARTHEST_PX_AT_512 = 12.0
_STRONGEST_SHARE = 95
_FILL_CELLS = 0.8
_LEAST_WEIGHT = 1e-3
_MODES = 24
_LEAST_VARIANCE = 1e-12
"""Squared, normalised: nothing moves."""
_LARGEST_DEVIATION = 4.0


class TorsoFlow:
    """Measures pictures against the resting one.

    Args:
        gray, body: the resting picture uint8 [H, W], and where its clothes and neck are (non-zero).
        camera: of the pictures.
    """

    def __init__(self, gray: np.ndarray, body: np.ndarray, camera: Camera) -> None:
        import cv2

        self._full = gray.shape[1], gray.shape[0]
        self._size = small_size(self._full, _SIDE_PX)
        small = cv2.resize((body > 0).astype(np.uint8), self._size, interpolation=cv2.INTER_NEAREST)
        scale = max(self._size) / 512
        rim = 2 * round(_RIM_AT_512 * scale / 2) + 1
        inside = cv2.erode(small, np.ones((rim, rim), np.uint8))
        self._farthest_px = _FARTHEST_PX_AT_512 * scale
        rows = np.flatnonzero(inside.any(axis=1))
        self._first, self._last = (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, 0)
        self._focal_px = camera.focal_px * self._size[0] / self._full[0]
        center = camera.center_x_px * self._size[0] / self._full[0], camera.center_y_px * self._size[1] / self._full[1]
        corners = np.array([0, self._first, self._size[0], self._last]) - np.tile(center, 2)
        self.box = (corners / self._focal_px).astype(np.float32)
        """Left, top, right and bottom of the cells, normalised."""
        if self.usable:
            self._rest = np.ascontiguousarray(shrunk(gray, self._size)[self._first : self._last])
            across, down = cv2.Sobel(self._rest, cv2.CV_32F, 1, 0), cv2.Sobel(self._rest, cv2.CV_32F, 0, 1)
            energy = (across * across + down * down) * inside[self._first : self._last]
            strong = float(np.percentile(energy[energy > 0], _STRONGEST_SHARE)) if (energy > 0).any() else 1.0
            weight = np.minimum(energy, strong) / np.float32(strong)
            self._weight = np.repeat(weight[..., None], 2, axis=2)
            self._known = self._cells(self._weight) + np.float32(_LEAST_WEIGHT)

    @property
    def usable(self) -> bool:
        """Whether there are rows enough for the cells."""
        return self._last - self._first >= 2 * _ROWS

    def measure(self, gray: np.ndarray, affine_px: np.ndarray) -> np.ndarray:
        """What is left of the torso's motion in a picture, uint8 [H, W]: float32 [16, 32, 2], normalised.

        Args:
            affine_px: float64 [2, 3], resting picture's pixel index to this one's.
        """
        import cv2

        back = resized_map(affine_px, self._full, self._size)
        back[:, 2] += back[:, 1] * self._first
        size = self._size[0], self._last - self._first
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        seen = cv2.warpAffine(shrunk(gray, self._size), back, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
        finder = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        flow = finder.calc(self._rest, seen, np.zeros((*seen.shape, 2), np.float32))
        weighed = np.clip(flow, -self._farthest_px, self._farthest_px, out=flow) * self._weight
        return np.asarray(self._cells(weighed) / (self._known * np.float32(self._focal_px)), np.float32)

    def _cells(self, values: np.ndarray) -> np.ndarray:
        """Means over the cells, each with a share of its neighbours' so that cells without edges follow those."""
        import cv2

        cells = cv2.resize(values, (_COLUMNS, _ROWS), interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.GaussianBlur(cells, (0, 0), _FILL_CELLS))


def torso_modes(
    left_over: np.ndarray, box: np.ndarray, good: np.ndarray, train_count: int
) -> tuple[TorsoModes, np.ndarray]:
    """Principal modes of what the affine maps leave, and their course.

    Args:
        left_over: float [K, R, C, 2], `TorsoFlow.measure` of each kept picture.
        box: `TorsoFlow.box`.
        good: bool [K], where the torso was found; elsewhere the modes take a course between their neighbours'.
        train_count: the modes are those of the pictures before this one; two of them at least must be good.

    Returns:
        The modes, and float32 [K, S], how far each is moved, in standard deviations over the training pictures.
    """
    rows = left_over.reshape(len(left_over), -1).astype(np.float64)
    train = rows[:train_count][good[:train_count]]
    mean = train.mean(axis=0)
    variance, vectors = np.linalg.eigh((train - mean).T @ (train - mean) / len(train))
    keep = np.argsort(variance)[::-1][: min(_MODES, len(train) - 1)]
    keep = keep[variance[keep] > max(1e-6 * variance[keep[0]], _LEAST_VARIANCE)]
    deviation = np.sqrt(variance[keep])
    course = between_good((rows - mean) @ vectors[:, keep] / deviation, good)
    fields = (vectors[:, keep] * deviation).T.reshape(len(keep), *left_over.shape[1:])
    held = np.clip(course, -_LARGEST_DEVIATION, _LARGEST_DEVIATION)
    return TorsoModes(fields.astype(np.float32), box), held.astype(np.float32)


def between_good(values: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Values [K, ...] with those that are not good [K] put linearly between their neighbours; one at least is good."""
    at = np.arange(len(values))
    columns = [np.interp(at, at[good], column[good]) for column in values.reshape(len(values), -1).T]
    return np.stack(columns, axis=1).reshape(values.shape) if columns else values
