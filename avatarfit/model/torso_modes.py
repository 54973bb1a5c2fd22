"""How one person's clothes give way beyond an affine map: collar, lapels and tie against the shoulders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TorsoModes:
    """A linear basis of the resting torso's displacement in the image plane at z = 1.

    Attributes:
        fields: float32 [S, R, C, 2], displacement of one standard deviation of each mode, at the middles of R x C
            cells.
        box: float32 [4], left, top, right and bottom of the cells, normalised as in `TorsoMotion`.
    """

    fields: np.ndarray
    box: np.ndarray

    @property
    def count(self) -> int:
        """S."""
        return len(self.fields)

    @staticmethod
    def none() -> TorsoModes:
        """No modes: the torso moves as one affine map."""
        return TorsoModes(np.zeros((0, 1, 1, 2), np.float32), np.array([-1, -1, 1, 1], np.float32))

    def recoded(self, course: np.ndarray, other: TorsoModes) -> np.ndarray:
        """The course of another capture's modes, float [T, S'], in these: float32 [T, S], by least squares."""
        if not self.count or not other.count:
            return np.zeros((len(course), self.count), np.float32)
        _, rows, columns, _ = self.fields.shape
        left, top, right, bottom = self.box
        x = left + (np.arange(columns) + 0.5) / columns * (right - left)
        y = top + (np.arange(rows) + 0.5) / rows * (bottom - top)
        cells = np.stack([*np.broadcast_arrays(x[None, :], y[:, None]), np.ones((rows, columns))], axis=-1)
        theirs = other.displacements_cm(cells.reshape(-1, 3))[:, :, :2].transpose(1, 0, 2).reshape(other.count, -1)
        mine = self.fields.reshape(self.count, -1).astype(np.float64)
        return np.linalg.lstsq(mine.T, (course @ theirs).T, rcond=None)[0].T.astype(np.float32)

    def to_tensors(self) -> dict[str, np.ndarray]:
        """Both arrays by name."""
        return {"fields": self.fields, "box": self.box}

    @staticmethod
    def from_tensors(tensors: Mapping[str, np.ndarray]) -> TorsoModes:
        """The inverse of `to_tensors`.

        Raises:
            KeyError, ValueError: an array is missing or of the wrong shape.
        """
        fields, box = (np.array(tensors[name], np.float32) for name in ("fields", "box"))
        if fields.ndim != 4 or fields.shape[3] != 2 or not all(fields.shape[1:]) or box.shape != (4,):
            raise ValueError(f"torso modes are {list(fields.shape)} in a box of {list(box.shape)}")
        return TorsoModes(fields, box)

    def displacements_cm(self, points_cm: np.ndarray) -> np.ndarray:
        """Where one standard deviation of each mode moves points [N, 3] of rest space: float32 [N, S, 3].

        Bilinear between the cells' middles, constant beyond them; depth is kept.
        """
        _, rows, columns, _ = self.fields.shape
        out = np.zeros((len(points_cm), self.count, 3), np.float32)
        if not self.count:
            return out
        plane = points_cm[:, :2] / points_cm[:, 2:]
        left, top, right, bottom = self.box
        x = np.clip((plane[:, 0] - left) / (right - left) * columns - 0.5, 0, columns - 1)
        y = np.clip((plane[:, 1] - top) / (bottom - top) * rows - 0.5, 0, rows - 1)
        column = np.minimum(x.astype(int), max(columns - 2, 0))
        row = np.minimum(y.astype(int), max(rows - 2, 0))
        across, down = x - column, y - row
        for i, share_y in ((0, 1 - down), (1, down)):
            for j, share_x in ((0, 1 - across), (1, across)):
                at = self.fields[:, np.minimum(row + i, rows - 1), np.minimum(column + j, columns - 1)]
                out[:, :, :2] += (share_y * share_x)[:, None, None] * at.transpose(1, 0, 2)
        out[:, :, :2] *= points_cm[:, None, 2:]
        return out
