"""LPIPS of two pictures."""

from __future__ import annotations

import numpy as np

from avatarfit.evaluation.scores import Distance
from avatarfit.model.lpips_network import LEAST_PX, lpips_network


def perceptual_distance() -> tuple[Distance | None, str]:
    """LPIPS as `lpips_network` has it, and its sentence.

    The distance takes two pictures float [h, w, 3] in [0, 1]; the smaller side is brought to 64 px where it is less.
    """
    import torch

    network, said = lpips_network()
    if network is None:
        return None, said

    def distance(truth: np.ndarray, picture: np.ndarray) -> float:
        pair = torch.from_numpy(np.stack([truth, picture]).astype(np.float32)).permute(0, 3, 1, 2)
        side = min(pair.shape[2:])
        if side < LEAST_PX:
            size = [round(n * LEAST_PX / side) for n in pair.shape[2:]]
            pair = torch.nn.functional.interpolate(pair, size=size, mode="bilinear", align_corners=False)
        with torch.inference_mode():
            return float(network(pair[:1], pair[1:], normalize=True))

    return distance, said
