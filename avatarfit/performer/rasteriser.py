"""A small z-buffered triangle rasteriser in numpy.

Triangles are cut into the spans of picture rows that they cover, all at once, so that only covered pixels
are ever touched.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Fragments:
    """The nearest surface at each covered pixel.

    Attributes:
        pixel: int64 [P], flat index `row * width + column`, each at most once, rising.
        triangle: int64 [P], index of the triangle seen there.
        weights: float32 [P, 3], barycentric weights of the triangle's corners.
    """

    pixel: np.ndarray
    triangle: np.ndarray
    weights: np.ndarray


def rasterise(
    points_px: np.ndarray,  # [N, 2], pixel centres at +0.5
    depth: np.ndarray,  # [N], smaller is nearer
    triangles: np.ndarray,  # [F, 3]
    bias: np.ndarray,  # [F], added to the depth of a triangle in the depth test
    width_px: int,
    height_px: int,
) -> Fragments:
    """Nearest front-facing triangles. A triangle faces the front when its corners run clockwise in the picture."""
    # Columns, not rows: numpy is slow at reductions along an axis of three.
    x, y = (tuple(points_px[:, k].astype(np.float64)[triangles[:, c]] for c in range(3)) for k in range(2))
    area = (x[1] - x[0]) * (y[2] - y[0]) - (y[1] - y[0]) * (x[2] - x[0])
    top, bottom = np.minimum(np.minimum(*y[:2]), y[2]), np.maximum(np.maximum(*y[:2]), y[2])
    first_row = np.maximum(np.ceil(top - 0.5), 0).astype(np.int64)
    last_row = np.minimum(np.floor(bottom - 0.5), height_px - 1).astype(np.int64)
    chosen = np.flatnonzero((area > 1e-6) & (last_row >= first_row))
    x, y, area = tuple(v[chosen] for v in x), tuple(v[chosen] for v in y), area[chosen]
    rows = (last_row - first_row + 1)[chosen]

    # Barycentric weight k is linear in the picture: weight_k = slope_k * x + at_row_k along a row.
    owner = np.repeat(np.arange(len(chosen)), rows)
    row = first_row[chosen][owner] + _ranks(rows)
    slopes, at_rows = [], []
    low, high = np.full(len(row), -np.inf), np.full(len(row), np.inf)
    for k in range(3):
        n, m = (k + 1) % 3, (k + 2) % 3
        slope = ((y[n] - y[m]) / area)[owner]
        at_row = ((x[m] - x[n]) / area)[owner] * (row + 0.5) + ((x[n] * y[m] - x[m] * y[n]) / area)[owner]
        with np.errstate(divide="ignore", invalid="ignore"):
            zero = -at_row / slope
        low = np.where(slope > 0, np.maximum(low, zero), low)
        high = np.where(slope < 0, np.minimum(high, zero), high)
        high = np.where((slope == 0) & (at_row < 0), -np.inf, high)
        slopes.append(slope)
        at_rows.append(at_row)
    start = np.clip(np.ceil(low - 0.5), 0, width_px)
    stop = np.clip(np.ceil(high - 0.5), 0, width_px)  # exclusive: a shared edge is drawn once
    count = np.maximum(stop - start, 0).astype(np.int64)

    owner_px = np.repeat(np.arange(len(count)), count)
    column = start.astype(np.int64)[owner_px] + _ranks(count)
    pixel = row[owner_px] * width_px + column
    corner_depth = [depth[triangles[chosen, k]][owner] for k in range(3)]
    depth_step = sum(s * d for s, d in zip(slopes, corner_depth, strict=True))
    depth_row = sum(r * d for r, d in zip(at_rows, corner_depth, strict=True)) + bias[chosen][owner]
    z = (depth_row[owner_px] + depth_step[owner_px] * (column + 0.5)).astype(np.float32)

    nearest = np.full(width_px * height_px, np.inf, np.float32)
    np.minimum.at(nearest, pixel, z)
    seen = np.flatnonzero(z == nearest[pixel])
    winner = np.full(width_px * height_px, -1, np.int64)
    winner[pixel[seen]] = seen
    covered = np.flatnonzero(winner >= 0)
    span = owner_px[winner[covered]]
    middle = column[winner[covered]] + 0.5
    weights = np.stack([r[span] + s[span] * middle for r, s in zip(at_rows, slopes, strict=True)], axis=1)
    return Fragments(covered, chosen[owner[span]], np.clip(weights, 0, 1).astype(np.float32))


def _ranks(counts: np.ndarray) -> np.ndarray:
    """0, 1, ... counts[0]-1, 0, 1, ... counts[1]-1, ..."""
    total = int(counts.sum())
    return np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
