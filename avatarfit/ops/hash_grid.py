"""What a multi-resolution hash grid is made of (Müller et al. 2022, "Instant Neural Graphics Primitives", section 3).

The native side states the same rules and numbers in `cuda_ext/shared/hash_grid.h`; a test compares the numbers.
"""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from avatarfit.ops._checks import pointer

GRID_LEVELS_MAX = 32
GRID_FEATURES_MAX = 16
"""Features of a level that the native kernels take."""
GRID_RESOLUTION_MAX = 65536
"""Finer cells would leave a float32 coordinate fewer than 8 bits within one."""
GRID_ROWS_LOG2_MAX = 30

HASH_PRIME_Y, HASH_PRIME_Z = 2654435761, 805459861
"""The paper's primes of the second and third axis; the first axis' is 1."""


@dataclass(frozen=True)
class HashGrid:
    """The levels of a grid over [0, 1]^D and where each lies in the table.

    Level l has `resolutions[l]` cells along each axis, so `resolutions[l] + 1` vertices, and the table's rows from
    `offsets[l]` to before `offsets[l + 1]`. With as many rows as vertices it is dense: vertex v lies at
    `v_0 + s v_1 + s^2 v_2`, s = resolution + 1. Otherwise the rows are a power of two and the vertex lies at the
    paper's hash, `(v_0 xor 2654435761 v_1 xor 805459861 v_2) mod rows`.

    Raises:
        ValueError: these are no such levels, or more or larger ones than can be; the message says which.
    """

    dimensions: int
    """D, 2 or 3."""
    resolutions: tuple[int, ...]
    """Cells along each axis, 1 to 65536, for each of 1 to 32 levels."""
    offsets: tuple[int, ...]
    """First row of each level, from 0; one more tells the table's rows."""

    def __post_init__(self) -> None:
        levels = len(self.resolutions)
        if self.dimensions not in (2, 3):
            raise ValueError(f"dimensions came as {self.dimensions}; wanted 2 or 3")
        if not 1 <= levels <= GRID_LEVELS_MAX:
            raise ValueError(f"resolutions came for {levels} levels; wanted 1 to {GRID_LEVELS_MAX}")
        if len(self.offsets) != levels + 1 or self.offsets[0]:
            raise ValueError(f"offsets came as {self.offsets}; wanted {levels + 1} numbers, the first of them 0")
        for level, resolution in enumerate(self.resolutions):
            if not 1 <= resolution <= GRID_RESOLUTION_MAX:
                raise ValueError(f"level {level} came with resolution {resolution}; wanted 1 to {GRID_RESOLUTION_MAX}")
            rows = self.rows(level)
            wanted = f"{self.vertices(level)}, one for each vertex, or a power of two"
            if rows < 1 or (not self.is_dense(level) and rows & (rows - 1)):
                raise ValueError(f"level {level} came with {rows} rows; wanted {wanted}")
            if rows > 1 << GRID_ROWS_LOG2_MAX:
                raise ValueError(f"level {level} came with {rows} rows; wanted at most 2^{GRID_ROWS_LOG2_MAX}")

    @classmethod
    def of(cls, dimensions: int, resolutions: Sequence[int], rows_log2: int) -> HashGrid:
        """Levels of these resolutions: dense where the vertices fit 2^`rows_log2` rows, hashed into so many otherwise.

        Raises:
            ValueError: as the class, or `rows_log2` lies outside 0..30.
        """
        if not 0 <= rows_log2 <= GRID_ROWS_LOG2_MAX:
            raise ValueError(f"rows_log2 came as {rows_log2}; wanted 0 to {GRID_ROWS_LOG2_MAX}")
        offsets = [0]
        for resolution in resolutions:
            offsets.append(offsets[-1] + min((resolution + 1) ** dimensions, 1 << rows_log2))
        return cls(dimensions, tuple(resolutions), tuple(offsets))

    @classmethod
    def growing(cls, dimensions: int, levels: int, coarsest: int, growth: float, rows_log2: int) -> HashGrid:
        """Level l has `floor(coarsest * growth^l)` cells along each axis (the paper's equation 2).

        Raises:
            ValueError: as `of`, or `growth` lies below 1.
        """
        if not growth >= 1:
            raise ValueError(f"growth came as {growth}; wanted 1 or more")
        # Rounding must not make a level that is meant to be whole one less.
        resolutions = [math.floor(coarsest * growth**level * (1 + 1e-12)) for level in range(levels)]
        return cls.of(dimensions, resolutions, rows_log2)

    @classmethod
    def between(cls, dimensions: int, levels: int, coarsest: int, finest: int, rows_log2: int) -> HashGrid:
        """Resolutions from `coarsest` to `finest`, each the same factor above the last (the paper's equation 3).

        Raises:
            ValueError: as `growing`, or `coarsest` is not 1 or more.
        """
        if coarsest < 1:
            raise ValueError(f"coarsest came as {coarsest}; wanted 1 or more")
        growth = (finest / coarsest) ** (1 / (levels - 1)) if levels > 1 else 1.0
        return cls.growing(dimensions, levels, coarsest, growth, rows_log2)

    @property
    def levels(self) -> int:
        """L."""
        return len(self.resolutions)

    @property
    def row_count(self) -> int:
        """Rows of the whole table."""
        return self.offsets[-1]

    def rows(self, level: int) -> int:
        """Rows of one level."""
        return self.offsets[level + 1] - self.offsets[level]

    def vertices(self, level: int) -> int:
        """Vertices of one level."""
        return int((self.resolutions[level] + 1) ** self.dimensions)

    def is_dense(self, level: int) -> bool:
        """Whether every vertex of the level has a row to itself, in order."""
        return self.rows(level) == self.vertices(level)

    def row_of(self, level: int, vertex: Tensor) -> Tensor:
        """Row in the whole table of vertices, int64 [..., D] with entries 0..resolution; int64 [...]."""
        parts = vertex.unbind(-1)
        if self.is_dense(level):
            side = self.resolutions[level] + 1
            row = parts[0] + side * parts[1] + (side * side * parts[2] if self.dimensions == 3 else 0)
            return row + self.offsets[level]
        row = parts[0] ^ (HASH_PRIME_Y * parts[1])
        if self.dimensions == 3:
            row = row ^ (HASH_PRIME_Z * parts[2])
        # The lowest bits of the products are those of 32-bit ones.
        return torch.bitwise_and(row, self.rows(level) - 1) + self.offsets[level]


@functools.lru_cache(maxsize=64)
def _level_arrays(
    resolutions: tuple[int, ...], offsets: tuple[int, ...]
) -> tuple[ctypes.Array[ctypes.c_int32], ctypes.Array[ctypes.c_int64]]:
    return (ctypes.c_int32 * len(resolutions))(*resolutions), (ctypes.c_int64 * len(offsets))(*offsets)


def grid_arguments(
    points: Tensor, table: Tensor, resolutions: Sequence[int], offsets: Sequence[int]
) -> tuple[object, ...]:
    """What every native call on a grid begins with; tensors on the points' device.

    Raises:
        ValueError, BackendError: as `_checks.pointer`.
    """
    dimensions, features, device = points.shape[1], table.shape[1], points.device
    return (
        pointer("points", points, (None, dimensions), device=device), points.shape[0], dimensions,
        pointer("table", table, (offsets[-1], features), device=device), features,
        *_level_arrays(tuple(resolutions), tuple(offsets)), len(resolutions),
    )  # fmt: skip


def empty_gradients(points: Tensor, table: Tensor, want_table: bool, want_points: bool) -> tuple[Tensor, Tensor]:
    """Room for the table's gradient and the points'; none for one that is not wanted."""
    return (
        torch.empty_like(table) if want_table else table.new_empty(0),
        torch.empty_like(points) if want_points else points.new_empty(0),
    )
