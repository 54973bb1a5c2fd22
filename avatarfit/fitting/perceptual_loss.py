"""LPIPS in the loss: what looks alike to a network that was trained to see, on one patch of the person at a time."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from avatarfit.model.lpips_network import LEAST_PX


class PerceptualLoss:
    """Adds the gradient of LPIPS (Zhang et al. 2018), of a square patch around a pixel of the person, to a picture's.

    Args:
        network: LPIPS; takes two float [1, 3, h, w] in [0, 1] and `normalize=True`.
        weight: of the loss beside the others.
        side_px: the patch's side, at least 64.
    """

    def __init__(self, network: nn.Module, weight: float, side_px: int = 128) -> None:
        self._network, self._weight, self._side = network, weight, max(side_px, LEAST_PX)

    def add_to(
        self, gradient: Tensor, image: Tensor, target: Tensor, plate: Tensor, person: np.ndarray,
        generator: torch.Generator,
    ) -> float:  # fmt: skip
        """Adds to `gradient` in place; the weighed loss, 0 where there is no person or the picture is too small.

        Args:
            gradient, image: float32 [H, W, 4], premultiplied colour and alpha.
            target, plate: float32 [H, W, 3], the truth and the background.
            person: uint8 [H, W], the matte.
            generator: chooses the patch.
        """
        found = np.flatnonzero(person.reshape(-1) > 127)
        height, width = person.shape
        if not len(found) or min(height, width) < LEAST_PX:
            return 0.0
        row, column = divmod(int(found[int(torch.randint(len(found), (1,), generator=generator))]), width)
        tall, wide = min(self._side, height), min(self._side, width)
        top = min(max(row - tall // 2, 0), height - tall)
        left = min(max(column - wide // 2, 0), width - wide)
        part = slice(top, top + tall), slice(left, left + wide)
        patch = image[part].detach().requires_grad_()
        shown = patch[:, :, :3] + (1 - patch[:, :, 3:]) * plate[part]
        pair = [p.clamp(0, 1).permute(2, 0, 1)[None] for p in (shown, target[part])]
        loss = self._weight * self._network(*pair, normalize=True).mean()
        loss.backward()
        assert patch.grad is not None
        gradient[part] += patch.grad
        return float(loss.detach())
