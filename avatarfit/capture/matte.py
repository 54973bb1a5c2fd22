"""The person's rim at the picture's own size: how much of each pixel there is person, how much background.

The network's mask holds no detail below its 256 pixels a side, so its edge takes two to four pixels of background
along. Near that edge both sides are known: the background from the plate, corrected by how the wall beside the edge
differs from it in this picture, and the person from what lies just inside. The pixel's colour then tells the mixture,
as in matting against a known background (Smith and Blinn 1996); where the two sides look alike, the network keeps its
say.
"""

from __future__ import annotations

import numpy as np

from avatarfit.capture.picture_maps import interpolated, pixel_positions, pixels_of_cells, shrunk, small_size
from avatarfit.capture.picture_motion import Motion

_SIDE_PX = 128
_CERTAIN, _NEVER = 200, 50
_REACH = 2
_COLOR_DEVIATION = 40.0
_LEAST_PIXELS = 0.5
_CARRIED = 0.25


class RimMatte:
    """Refines masks of pictures in time order against a plate.

    Args:
        plate: uint8 [H, W, 3], the background.
    """

    def __init__(self, plate: np.ndarray) -> None:
        height, width = plate.shape[:2]
        self._size = small_size((width, height), _SIDE_PX)
        self._plate = plate.reshape(-1, 3)
        self._small_plate = shrunk(plate, self._size)
        # Full-size pixel indices to small ones, both with centres at + 0.5.
        self._column, self._row = pixel_positions(width, self._size[0]), pixel_positions(height, self._size[1])
        self._former: np.ndarray | None = None

    def refine(self, rgb: np.ndarray, mask: np.ndarray, motion: Motion | None = None) -> np.ndarray:
        """The person's alpha, uint8 [H, W].

        Args:
            rgb: uint8 [H, W, 3].
            mask: uint8 [H, W], the network's.
            motion: where its pixels lay in the former picture; None for a picture without one.
        """
        import cv2

        # Off the rim the network is right or wrong as a whole; between is only its doubt.
        out = np.asarray(cv2.LUT(mask, _STRETCH))
        former, self._former = self._former, out
        coarse = shrunk(mask, self._size)
        near = np.ones((3, 3), np.uint8)
        inside = cv2.erode(cv2.threshold(coarse, _CERTAIN, 255, cv2.THRESH_BINARY)[1], near)
        outside = cv2.erode(cv2.threshold(coarse, _NEVER - 1, 255, cv2.THRESH_BINARY_INV)[1], near)
        band = cv2.bitwise_not(cv2.bitwise_or(inside, outside))
        size = mask.shape[1], mask.shape[0]
        rows, columns = pixels_of_cells(band, size)
        if not len(rows) or not inside.any() or not outside.any():
            return out
        at = rows * size[0] + columns
        weights, rest = self._mixing(shrunk(rgb, self._size), inside, outside, cv2.dilate(band, near))
        x, y = self._column[columns], self._row[rows]
        weights, rest = interpolated(weights, x, y), interpolated(rest, x, y)
        beside = cv2.subtract(rgb.reshape(-1, 3).take(at, axis=0), self._plate.take(at, axis=0), dtype=cv2.CV_32F)
        mixture = (weights * beside) @ np.ones(3, np.float32) + rest[:, 0]
        # Between a place that knows both sides and one that does not, what is known counts alone.
        known = rest[:, 1] + np.float32(1e-6)
        mixture /= known
        trust = np.minimum(2 * known, 1) * rest[:, 2] / known
        flat = out.reshape(-1)
        value = flat.take(at).astype(np.float32)
        value += trust * (255 * np.minimum(np.maximum(mixture, 0), 1) - value)
        if former is not None and motion is not None:
            # The matte follows the picture's noise; a share of the former one takes most of that out.
            before = interpolated(former[..., None], *motion.origins(rows, columns, size))[:, 0]
            value += np.float32(_CARRIED) * (before - value)
        flat[at] = (value + np.float32(0.5)).astype(np.uint8)
        return out

    def _mixing(
        self, small: np.ndarray, inside: np.ndarray, outside: np.ndarray, wanted: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Two float32 [h, w, 3] at the small size, 0 where one of the sides is not close by.

        The first is what red, green and blue of a pixel's difference from the plate count in its mixture. The second is
        what is added to that, whether both sides are close by (1), and how far they can be told apart (0..1).

        Args:
            small: uint8 [h, w, 3], the picture.
            inside, outside: uint8 [h, w], 255 on what is surely person and surely background.
            wanted: uint8 [h, w], non-zero where the result is looked at.
        """
        import cv2

        cells = np.flatnonzero(wanted)

        def sums(picture: np.ndarray, square: bool = False) -> np.ndarray:
            """Sums over what is close by, float32 [P, C]."""
            side = (2 * _REACH + 1, 2 * _REACH + 1)
            summed = (cv2.sqrBoxFilter if square else cv2.boxFilter)(picture, cv2.CV_32F, side, normalize=False)
            return np.asarray(summed).reshape(wanted.size, -1).take(cells, axis=0)

        person = cv2.copyTo(small, inside)
        beside = cv2.copyTo(cv2.subtract(small, self._small_plate, dtype=cv2.CV_16S), outside)
        seen, bare = (sums(mask) / 255 for mask in (inside, outside))
        front, back = sums(person) / (seen + np.float32(1e-6)), sums(beside) / (bare + np.float32(1e-6))
        both = ((np.minimum(seen, bare) > _LEAST_PIXELS)[:, 0]).astype(np.float32)
        ones = np.ones(3, np.float32)
        doubt = (sums(person, True) / (seen + np.float32(1e-6)) - front * front) @ ones + np.float32(
            _COLOR_DEVIATION**2
        )
        across = front - self._small_plate.reshape(-1, 3).take(cells, axis=0) - back
        length = (across * across) @ ones
        across *= (both / (length + 1))[:, None]
        height, width = wanted.shape
        weights, rest = (np.zeros((height * width, 3), np.float32) for _ in range(2))
        weights[cells] = across
        rest[cells] = np.stack([-(across * back) @ ones, both, both * length / (length + doubt)], axis=1)
        return weights.reshape(height, width, 3), rest.reshape(height, width, 3)


_STRETCH = np.clip((np.arange(256) - 20) * 255 / (235 - 20), 0, 255).round().astype(np.uint8)
