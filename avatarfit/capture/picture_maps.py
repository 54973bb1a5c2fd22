"""Affine maps between pictures: float64 [2, 3], of pixel indices (centres at 0), applied as `A[:, :2] @ p + A[:, 2]`.

Inverses and products are written out, for LAPACK wakes its threads even for two rows, several times a picture.
"""

from __future__ import annotations

import numpy as np

from avatarfit.capture.face_points import RIGID


def inverse_map(affine: np.ndarray) -> np.ndarray:
    """The map back."""
    (a, b, x), (c, d, y) = affine.tolist()
    scale = 1 / (a * d - b * c)
    a, b, c, d = d * scale, -b * scale, -c * scale, a * scale
    return np.array([[a, b, -(a * x + b * y)], [c, d, -(c * x + d * y)]])


def chained(first: np.ndarray, then: np.ndarray) -> np.ndarray:
    """One map for two, the first applied first."""
    (a, b, x), (c, d, y) = first.tolist()
    (e, f, u), (g, h, v) = then.tolist()
    return np.array(
        [
            [e * a + f * c, e * b + f * d, e * x + f * y + u],
            [g * a + h * c, g * b + h * d, g * x + h * y + v],
        ]
    )


def between_maps(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The map from `source`'s picture to `target`'s, both given as maps from one reference."""
    return chained(inverse_map(source), target)


def scaled_map(size: tuple[int, int], other: tuple[int, int]) -> np.ndarray:
    """The map from pixel indices at one size (width, height) to those at another."""
    sx, sy = other[0] / size[0], other[1] / size[1]
    return np.array([[sx, 0, sx / 2 - 0.5], [0, sy, sy / 2 - 0.5]])


def resized_map(affine: np.ndarray, size: tuple[int, int], other: tuple[int, int]) -> np.ndarray:
    """A map between pictures of one size, for the same pictures at another size."""
    return chained(chained(scaled_map(other, size), affine), scaled_map(size, other))


def head_map(source_px: np.ndarray, target_px: np.ndarray) -> np.ndarray:
    """The map that best takes the rigid ones of the landmarks [478, 2+] of one picture to another's (least squares)."""
    source, target = (points[RIGID, :2].astype(np.float64) - 0.5 for points in (source_px, target_px))
    origin, place = source.mean(axis=0), target.mean(axis=0)
    centred = source - origin
    (xx, xy), (_, yy) = np.einsum("ni,nj->ij", centred, centred).tolist()
    cross = np.einsum("ni,nj->ij", target - place, centred)
    linear = np.einsum("ij,jk->ik", cross, np.array([[yy, -xy], [-xy, xx]]) / (xx * yy - xy * xy))
    return np.concatenate([linear, (place - np.einsum("ij,j->i", linear, origin))[:, None]], axis=1)


def moved_by_parts(picture: np.ndarray, head: np.ndarray, body: np.ndarray, row: int) -> np.ndarray:
    """The picture [H, W] moved by the head's map above a row and by the body's from it on."""
    import cv2

    height, width = picture.shape
    row = min(max(row, 0), height)
    parts = []
    for affine, first, last in ((head, 0, row), (body, row, height)):
        if first < last:
            shifted = affine.copy()
            shifted[1, 2] -= first
            parts.append(cv2.warpAffine(picture, shifted, (width, last - first), borderMode=cv2.BORDER_REPLICATE))
    return np.concatenate(parts)
