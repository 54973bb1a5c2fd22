"""How one person's clothes give way beyond an affine map: collar, lapels and tie against the shoulders."""

from __future__ import annotations

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
