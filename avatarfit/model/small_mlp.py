"""A small perceptron with all its numbers in one flat tensor, as a fused kernel reads them."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from avatarfit.ops.fused_mlp import fused_mlp


class SmallMlp(nn.Module):
    """ReLU between the layers, nothing after the last.

    Args:
        widths: of the input, the hidden layers and the output.

    Attributes:
        parameters_flat: float32 [P]; layer after layer its matrix [out, in], then its bias [out].
    """

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.widths = widths
        parts = []
        for inputs, outputs in pairwise(widths):
            reach = math.sqrt(6 / inputs)  # He et al. 2015, uniform
            parts += [torch.empty(outputs * inputs).uniform_(-reach, reach), torch.zeros(outputs)]
        self.parameters_flat = nn.Parameter(torch.cat(parts))

    def forward(self, x: Tensor, backend: str = "auto") -> Tensor:
        """[S, widths[-1]] of [S, widths[0]]."""
        return fused_mlp(x, self.parameters_flat, self.widths, backend=backend)
