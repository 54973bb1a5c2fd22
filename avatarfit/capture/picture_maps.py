"""Affine maps between pictures: float64 [2, 3], of pixel indices (centres at 0), applied as `A[:, :2] @ p + A[:, 2]`.

Inverses and products are written out, for LAPACK wakes its threads even for two rows, several times a picture.
"""

from __future__ import annotations

import functools

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


def small_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    """(width, height) with `side` pixels on the longer side, but not above `size` and at least 8."""
    scale = min(1.0, side / max(size))
    return max(8, round(size[0] * scale)), max(8, round(size[1] * scale))


def shrunk(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The picture at a smaller size (width, height), by area; in two steps where that is quicker."""
    import cv2

    if picture.shape[1] > 2 * size[0] and picture.shape[0] > 2 * size[1]:
        picture = cv2.resize(picture, (2 * size[0], 2 * size[1]), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))


@functools.lru_cache(maxsize=16)
def pixel_positions(count: int, other: int) -> np.ndarray:
    """float32 [count]: where the pixels of a row of `count` lie in one of `other`, as indices (centres at 0)."""
    return ((np.arange(count) + 0.5) * (other / count) - 0.5).astype(np.float32)


def pixels_of_cells(cells: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns, int32 [P] each, of a picture of `size` (W, H) whose pixels' centres lie in the chosen ones of
    coarser cells [h, w]."""
    rows, columns, whole = _pixels_of_all_cells((cells.shape[1], cells.shape[0]), size)
    chosen = np.flatnonzero(cells)
    rows, columns = rows.take(chosen, axis=0).ravel(), columns.take(chosen, axis=0).ravel()
    if whole:
        return rows, columns
    there = rows >= 0
    return rows[there], columns[there]


@functools.lru_cache(maxsize=4)
def _pixels_of_all_cells(cells: tuple[int, int], size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, bool]:
    """Rows and columns, int32 [h w, most pixels in a cell], -1 where a cell has fewer; whether none has fewer."""
    # The first pixel whose centre lies in a cell.
    firsts = [
        np.ceil(np.arange(n + 1) * (full / n) - 0.5).astype(np.int32) for n, full in zip(cells, size, strict=True)
    ]
    column, row = (f[:-1, None] + np.arange(np.diff(f).max(), dtype=np.int32) for f in firsts)
    column, row = (np.where(v < f[1:, None], v, -1) for v, f in zip((column, row), firsts, strict=True))
    shape = cells[1], cells[0], row.shape[1], column.shape[1]
    rows = np.broadcast_to(row[:, None, :, None], shape).reshape(cells[0] * cells[1], -1)
    columns = np.broadcast_to(column[None, :, None, :], shape).reshape(cells[0] * cells[1], -1)
    missing = (rows < 0) | (columns < 0)
    rows, columns = (np.where(missing, -1, v).astype(np.int32) for v in (rows, columns))
    return rows, columns, not missing.any()


def interpolated(picture: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Bilinear samples [P, C] of a picture [H, W, C] at pixel indices, float32 [P] each; the border goes on outside."""
    import cv2

    width = 1 << 10  # remap's rows may hold at most 32767
    across, down = (np.zeros(-(-len(v) // width) * width, np.float32) for v in (x, y))
    across[: len(x)], down[: len(y)] = x, y
    across, down = across.reshape(-1, width), down.reshape(-1, width)
    found = np.asarray(cv2.remap(picture, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
    return found.reshape(-1, picture.shape[2])[: len(x)]


def resized_map(affine: np.ndarray, size: tuple[int, int], other: tuple[int, int]) -> np.ndarray:
    """A map between pictures of one size, for the same pictures at another size."""
    return chained(chained(scaled_map(other, size), affine), scaled_map(size, other))


class HeadMapper:
    """Maps from one picture's head to others': least squares over the rigid ones of its landmarks [478, 2+].

    The source's share in the normal equations is solved once, so that a map is one product.
    """

    def __init__(self, source_px: np.ndarray) -> None:
        source = source_px[RIGID, :2].astype(np.float64) - 0.5
        origin = source.sum(axis=0) / len(source)
        centred = source - origin
        xx, xy, yy = (float((centred[:, i] * centred[:, j]).sum()) for i, j in ((0, 0), (0, 1), (1, 1)))
        across = (yy * centred[:, 0] - xy * centred[:, 1]) / (xx * yy - xy * xy)
        down = (xx * centred[:, 1] - xy * centred[:, 0]) / (xx * yy - xy * xy)
        shift = 1 / len(source) - across * origin[0] - down * origin[1]
        self._weights = np.stack([across, down, shift])

    def to(self, target_px: np.ndarray) -> np.ndarray:
        """The map to the picture with these landmarks [478, 2+]."""
        target = target_px[RIGID, :2].astype(np.float64) - 0.5
        return np.einsum("in,nj->ji", self._weights, target)


def head_map(source_px: np.ndarray, target_px: np.ndarray) -> np.ndarray:
    """The map that best takes the rigid ones of the landmarks [478, 2+] of one picture to another's (least squares)."""
    return HeadMapper(source_px).to(target_px)
