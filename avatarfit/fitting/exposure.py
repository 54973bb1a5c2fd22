"""A camera that sets its own exposure: each frame's gain is found while fitting, so that the avatar has none of it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_EVERY = 3
_LARGEST = 0.35
"""log of the largest gain: past that, it is no drift."""


class Exposure:
    """Gains of a clip's frames over the clip's own mean, one for each colour channel.

    A gain is that which brings the picture nearest the frame by least squares over the person. Cameras with automatic
    exposure and lamps that flicker change it; per-image appearance codes (Martin-Brualla et al. 2021, NeRF in the Wild)
    are the general form, of which this is the part that cannot hide a wrong shape.

    Attributes:
        log_gain: float32 [T, 3], not centred.
    """

    def __init__(self, count: int, rate: float) -> None:
        """`rate`: how much of a newly measured gain is believed, 0 to 1."""
        self.log_gain = torch.zeros(count, 3)
        self._rate = rate

    def gain(self, frame: int) -> Tensor:
        """float32 [3], positive; 1 is the clip's mean."""
        return torch.exp(self.log_gain[frame] - self.log_gain.mean(0))

    def observe(self, frame: int, image: Tensor, target: Tensor, plate: Tensor, person: np.ndarray) -> None:
        """Brings a frame's gain up to date.

        Args:
            image: float32 [H, W, 4], the avatar's premultiplied colour and alpha, at gain 1.
            target, plate: float32 [H, W, 3], the frame as recorded and the background.
            person: uint8 [H, W], the matte.
        """
        part = slice(None, None, _EVERY), slice(None, None, _EVERY)
        inside = torch.from_numpy(person[part] > 127)
        if not inside.any():
            return
        thin = image[part]
        shown = (thin[:, :, :3] + (1 - thin[:, :, 3:]) * plate[part])[inside]
        ratio = (shown * target[part][inside]).sum(0) / shown.square().sum(0).clamp_min(1e-6)
        measured = ratio.clamp_min(1e-6).log().clamp(-_LARGEST, _LARGEST)
        self.log_gain[frame] = torch.lerp(self.log_gain[frame], measured, self._rate)
