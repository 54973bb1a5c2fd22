"""A small z-buffered triangle rasteriser in numpy.

Triangles are cut into the spans of picture rows that they cover, all at once, so that only covered pixels are ever touched.
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
    corners = points_px[triangles]
    edge_1, edge_2 = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = edge_1[:, 0] * edge_2[:, 1] - edge_1[:, 1] * edge_2[:, 0]
    top, bottom = corners[:, :, 1].min(axis=1), corners[:, :, 1].max(axis=1)
    first_row = np.maximum(np.ceil(top - 0.5), 0).astype(np.int64)
    last_row = np.minimum(np.floor(bottom - 0.5), height_px - 1).astype(np.int64)
    chosen = np.flatnonzero((area > 1e-6) & (last_row >= first_row))
    corners, area = corners[chosen], area[chosen].astype(np.float64)
    rows = (last_row - first_row + 1)[chosen]

    # Barycentric weight k is linear in the picture: weight_k = a_k x + b_k y + c_k.
    x, y = corners[:, :, 0].astype(np.float64), corners[:, :, 1].astype(np.float64)
    nxt, aft = [1, 2, 0], [2, 0, 1]
    a = (y[:, nxt] - y[:, aft]) / area[:, None]
    b = (x[:, aft] - x[:, nxt]) / area[:, None]
    c = (x[:, nxt] * y[:, aft] - x[:, aft] * y[:, nxt]) / area[:, None]

    owner = np.repeat(np.arange(len(chosen)), rows)
    row = first_row[chosen][owner] + _ranks(rows)
    at_row = b[owner] * (row + 0.5)[:, None] + c[owner]
    slope = a[owner]
    with np.errstate(divide="ignore", invalid="ignore"):
        zero = -at_row / slope
    low = np.where(slope > 0, zero, -np.inf).max(axis=1)
    high = np.where(slope < 0, zero, np.inf).min(axis=1)
    level_out = ((slope == 0) & (at_row < 0)).any(axis=1)
    start = np.maximum(np.ceil(low - 0.5), 0)
    stop = np.minimum(np.ceil(high - 0.5), width_px)  # exclusive: a shared edge is drawn once
    count = np.where(level_out, 0, np.maximum(stop - start, 0)).astype(np.int64)

    owner_px = np.repeat(np.arange(len(count)), count)
    column = start.astype(np.int64)[owner_px] + _ranks(count)
    pixel = row[owner_px] * width_px + column
    corner_depth = depth[triangles[chosen]].astype(np.float64)
    depth_step = (a * corner_depth).sum(axis=1)
    depth_row = (at_row * corner_depth[owner]).sum(axis=1) + bias[chosen][owner]
    z = (depth_row[owner_px] + depth_step[owner][owner_px] * (column + 0.5)).astype(np.float32)

    nearest = np.full(width_px * height_px, np.inf, np.float32)
    np.minimum.at(nearest, pixel, z)
    seen = np.flatnonzero(z == nearest[pixel])
    winner = np.full(width_px * height_px, -1, np.int64)
    winner[pixel[seen]] = seen
    covered = np.flatnonzero(winner >= 0)
    span = owner_px[winner[covered]]
    inside = at_row[span] + slope[span] * (column[winner[covered]] + 0.5)[:, None]
    return Fragments(covered, chosen[owner[span]], np.clip(inside, 0, 1).astype(np.float32))


def _ranks(counts: np.ndarray) -> np.ndarray:
    """0, 1, ... counts[0]-1, 0, 1, ... counts[1]-1, ..."""
    total = int(counts.sum())
    return np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
