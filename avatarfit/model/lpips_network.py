"""LPIPS by the lpips package, where it and its weights lie on this machine; nothing is downloaded for it."""

from __future__ import annotations

from pathlib import Path

import torch

NET = "alex"
BACKBONE = "alexnet-owt-7be5be79.pth"
"""The file under which torchvision keeps AlexNet's weights in torch.hub's cache."""
LEAST_PX = 64


def lpips_network() -> tuple[torch.nn.Module | None, str]:
    """LPIPS (Zhang et al., CVPR 2018; version 0.1, AlexNet), a pure number, lower is better; and a sentence about it.

    The network takes two batches float [B, 3, h, w] in [0, 1] and `normalize=True`; pictures under 64 px are too small
    for AlexNet. It is None where package or weights are missing; the sentence says which.
    """
    try:
        import lpips
    except ImportError:
        return None, "LPIPS is off: the lpips package is not installed (pip install lpips)"
    weights = Path(torch.hub.get_dir()) / "checkpoints" / BACKBONE
    if not weights.is_file():
        return None, f"LPIPS is off: AlexNet's weights are not at {weights} (torchvision.models.alexnet fetches them)"
    return lpips.LPIPS(net=NET, verbose=False).eval().requires_grad_(False), f"LPIPS is on: lpips 0.1, {NET}"
