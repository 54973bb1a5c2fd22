"""LPIPS by the lpips package, where it and its weights lie on this machine; nothing is downloaded for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from avatarfit.evaluation.scores import Distance

NET = "alex"
BACKBONE = "alexnet-owt-7be5be79.pth"
"""The file under which torchvision keeps AlexNet's weights in torch.hub's cache."""
LEAST_PX = 64


def perceptual_distance() -> tuple[Distance | None, str]:
    """LPIPS (Zhang et al., CVPR 2018; version 0.1, AlexNet), a pure number, lower is better; and a sentence about it.

    The distance takes two pictures float [h, w, 3] in [0, 1]; the smaller side is brought to 64 px where it is less,
    for AlexNet's sake. It is None where package or weights are missing; the sentence says which.
    """
    try:
        import lpips
    except ImportError:
        return None, "LPIPS is off: the lpips package is not installed (pip install lpips)"
    import torch

    weights = Path(torch.hub.get_dir()) / "checkpoints" / BACKBONE
    if not weights.is_file():
        return None, f"LPIPS is off: AlexNet's weights are not at {weights} (torchvision.models.alexnet fetches them)"
    network = lpips.LPIPS(net=NET, verbose=False).eval()

    def distance(truth: np.ndarray, picture: np.ndarray) -> float:
        pair = torch.from_numpy(np.stack([truth, picture]).astype(np.float32)).permute(0, 3, 1, 2)
        side = min(pair.shape[2:])
        if side < LEAST_PX:
            size = [round(n * LEAST_PX / side) for n in pair.shape[2:]]
            pair = torch.nn.functional.interpolate(pair, size=size, mode="bilinear", align_corners=False)
        with torch.inference_mode():
            return float(network(pair[:1], pair[1:], normalize=True))

    return distance, f"LPIPS is on: lpips 0.1, {NET}"
