"""One of the many mouths that a sound allows: what a prediction leaves open, drawn by flow matching.

A prediction is the mean of all mouths that go with a sound. What remains of the person's own mouths about it is turned
onto its principal axes, and a small network learns the velocity that carries Gaussian noise to it, given the prediction
(conditional flow matching with straight paths: Lipman et al. 2023, eqs. 20-23; rectified flow, Liu et al. 2023). The
noise is a smooth process in time, so what it is carried to moves like a mouth and does not flicker; it is a function of
seed and hop alone, so however sound is cut, the same mouth is drawn.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

STEPS = 4
"""Steps of the midpoint rule from noise to mouth; more change it by less than a hundredth of its spread."""
FARTHEST_REACH_HOPS = 100.0
_WIDTH = 64
_WAVES = 3
_BLOCK = 64
_REACHES = 3.0


class MouthFlow(nn.Module):
    """Noise and prediction -> what the mouth does beside the prediction.

    Buffers:
        axes: float [J, M], residuals on unit axes -> coefficients.
        offset, scale: float [M + 1], what brings a prediction to order one.
        reach_hops: float [1], standard deviation of the Gaussian that smooths the noise.
    """

    axes: Tensor
    offset: Tensor
    scale: Tensor
    reach_hops: Tensor

    def __init__(self, axis_count: int, mouth_count: int) -> None:
        super().__init__()
        self.register_buffer("axes", torch.zeros(axis_count, mouth_count))
        self.register_buffer("offset", torch.zeros(mouth_count + 1))
        self.register_buffer("scale", torch.ones(mouth_count + 1))
        self.register_buffer("reach_hops", torch.ones(1))
        self.network = nn.Sequential(
            nn.Linear(axis_count + mouth_count + 1 + 2 * _WAVES, _WIDTH), nn.SiLU(),
            nn.Linear(_WIDTH, _WIDTH), nn.SiLU(), nn.Linear(_WIDTH, axis_count),
        )  # fmt: skip

    def velocity(self, x: Tensor, time: Tensor, told: Tensor) -> Tensor:
        """float [N, J] at places x [N, J] and times [N] in 0..1, given predictions [N, M + 1]."""
        angle = time[:, None] * (torch.pi * torch.arange(1, _WAVES + 1))
        return self.network(torch.cat([x, (told - self.offset) / self.scale, angle.sin(), angle.cos()], dim=1))

    @torch.inference_mode()
    def sample(self, told: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """What to add to predictions float32 [N, M + 1] for this noise [N, J]: float32 [N, M], coefficients."""
        x, given = torch.from_numpy(noise), torch.from_numpy(told)
        for step in range(STEPS):
            time = torch.full((len(x),), step / STEPS)
            middle = x + self.velocity(x, time, given) / (2 * STEPS)
            x = x + self.velocity(middle, time + 1 / (2 * STEPS), given) / STEPS
        return (x @ self.axes).numpy()


class SmoothNoise:
    """Gaussian noise of unit variance that is smooth in time; its value at a hop depends on seed and hop alone.

    Args:
        seed: which.
        channels: J.
        reach_hops: standard deviation of the Gaussian window by which white noise is smoothed.
    """

    def __init__(self, seed: int, channels: int, reach_hops: float) -> None:
        self._seed, self._channels = seed, channels
        half = max(int(np.ceil(_REACHES * reach_hops)), 1)
        window = np.exp(-0.5 * np.square(np.arange(-half, half + 1) / max(reach_hops, 1e-3)))
        self._window = (window / np.linalg.norm(window)).astype(np.float32)

    def at(self, hops: np.ndarray) -> np.ndarray:
        """float32 [H, J] at hops int64 [H], of either sign."""
        if not len(hops):
            return np.zeros((0, self._channels), np.float32)
        half = len(self._window) // 2
        first, last = (int(hops.min()) - half) // _BLOCK, (int(hops.max()) + half) // _BLOCK
        white = np.concatenate([_white(self._seed, block, self._channels) for block in range(first, last + 1)])
        rows = hops[:, None] - first * _BLOCK + np.arange(-half, half + 1)
        return np.einsum("hkj,k->hj", white[rows], self._window)


@lru_cache(maxsize=16)
def _white(seed: int, block: int, channels: int) -> np.ndarray:
    """float32 [_BLOCK, channels]: white noise of one block of hops, by a counter-based generator."""
    key = np.array([seed % 2**64, block % 2**64], np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).standard_normal((_BLOCK, channels), np.float32)
