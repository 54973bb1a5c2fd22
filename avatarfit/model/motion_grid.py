"""A coarse grid of vertices that a frame's motion moves: where the field bends, and what it is told of the motion.

Each vertex has a row at rest and, for each region of the face, a few bases. The frame's motion gives each region's
weights; a learned attention of the vertex says how far it listens to each region or stays still (the region-aware
attention of ER-NeRF, Li et al., ICCV 2023, here of places rather than of samples, so that it is worked out once a
frame). Only vertices near the head have rows; the others are zero.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MotionGrid(nn.Module):
    """Rows of a dense grid of vertices, combined for one frame.

    Args:
        side: cells along each axis; the dense grid has `(side + 1)^3` rows.
        vertices: int64 [V], which rows are kept, rising.
        regions: R.
        basis_count: K, bases for each region.
        features: F, columns of a row.

    Attributes:
        rest: float32 [V, F].
        bases: float32 [V, R * K, F].
        attention: float32 [V, R], logits beside a logit of 0 for staying still.
    """

    vertices: Tensor

    def __init__(self, side: int, vertices: Tensor, regions: int, basis_count: int, features: int) -> None:
        super().__init__()
        self.side = side
        self.register_buffer("vertices", vertices)
        count = len(vertices)
        self.rest = nn.Parameter(torch.zeros(count, features))
        self.bases = nn.Parameter(torch.zeros(count, regions * basis_count, features))
        self.attention = nn.Parameter(torch.zeros(count, regions))

    @property
    def row_count(self) -> int:
        """Rows of the dense grid."""
        return int((self.side + 1) ** 3)

    def shares(self) -> Tensor:
        """How far each vertex listens to each region: [V, R], sums at most 1."""
        return torch.softmax(nn.functional.pad(self.attention, (1, 0)), 1)[:, 1:]

    def forward(self, weights: Tensor) -> Tensor:
        """The dense grid [(side + 1)^3, F] of a frame's weights [R, K]."""
        each = (self.shares()[:, :, None] * weights).reshape(len(self.vertices), 1, -1)
        rows = self.rest + torch.bmm(each, self.bases)[:, 0]
        return rows.new_zeros(self.row_count, rows.shape[1]).index_copy(0, self.vertices, rows)
