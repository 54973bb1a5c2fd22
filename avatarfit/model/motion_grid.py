"""A coarse grid of vertices that a frame's motion moves: where the field bends, and what it is told of the motion.

Each vertex has a row at rest and a few bases, blended as a Gaussian's attributes are (RGBAvatar, Li et al. 2025), once
a frame, and places between the vertices are interpolated. A learned attention says how far the vertices of each zone
listen to each region of the face or stay still (the region-aware attention of ER-NeRF, Li et al., ICCV 2023, of zones
rather than of samples). Only vertices near the head have rows; the others are zero.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from avatarfit import ops

COLUMNS = 14
"""Of a row, as many as a Gaussian's attributes: the kernels that blend those blend these."""
ZONES = ("lower_face", "upper_face", "elsewhere")
_STARTS = ((4.0, 0.0), (0.0, 4.0), (0.0, 0.0))
"""Each zone's first attention to lower and upper face."""


class MotionGrid(nn.Module):
    """Rows of a dense grid of vertices, combined for one frame.

    Args:
        side: cells along each axis; the dense grid has `(side + 1)^3` rows.
        vertices: int64 [V], which rows are kept, rising.
        basis_count: K.

    Attributes:
        rest: float32 [V, 14].
        bases: float32 [V, K, 14].
        zone: int32 [V], index into `ZONES`.
        attention: float32 [3, 2], logits of each zone for lower and upper face, beside a logit of 0 for staying still.
    """

    vertices: Tensor
    rest: Tensor
    bases: Tensor
    zone: Tensor

    def __init__(self, side: int, vertices: Tensor, basis_count: int) -> None:
        super().__init__()
        self.side = side
        count = len(vertices)
        self.register_buffer("vertices", vertices)
        # Buffers: their gradient is an outer product that only the fused optimiser step forms.
        self.register_buffer("rest", torch.zeros(count, COLUMNS))
        self.register_buffer("bases", torch.zeros(count, basis_count, COLUMNS))
        self.register_buffer("zone", torch.zeros(count, dtype=torch.int32))
        self.attention = nn.Parameter(torch.tensor(_STARTS))

    @property
    def row_count(self) -> int:
        """Rows of the dense grid."""
        return int((self.side + 1) ** 3)

    def zone_weights(self, weights: Tensor) -> Tensor:
        """Weights of the zones' bases [3, K] from those of the regions [2, K]."""
        return torch.softmax(nn.functional.pad(self.attention, (1, 0)), 1)[:, 1:] @ weights

    def rows(self, zone_weights: Tensor, backend: str = "auto") -> Tensor:
        """The kept rows [V, 14]; no gradients."""
        with torch.no_grad():
            return ops.blend(self.rest, self.bases, zone_weights.detach(), self.zone, backend=backend)

    def spread(self, rows: Tensor) -> Tensor:
        """The dense grid [(side + 1)^3, 14] of the kept rows."""
        return rows.new_zeros(self.row_count, COLUMNS).index_copy(0, self.vertices, rows)
