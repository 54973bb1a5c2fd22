"""Porter and Duff's "over" (Compositing Digital Images, 1984) on premultiplied, sRGB-coded pictures.

Blending sRGB-coded values is not what light does, but it is what the Gaussians were fitted with and what video players
do.
"""

from __future__ import annotations

import numpy as np


def over(front: np.ndarray, back: np.ndarray) -> np.ndarray:
    """`front` over `back`, both premultiplied: `front + (1 - alpha_front) back`. Associative.

    Args:
        front, back: float32 [..., 4], premultiplied RGBA in [0, 1].

    Returns:
        float32 [..., 4], premultiplied.
    """
    return front + (1 - front[..., 3:]) * back


def composite(rgba: np.ndarray, background: np.ndarray) -> np.ndarray:
    """A premultiplied picture over an opaque background.

    Args:
        rgba: float32 [H, W, 4], premultiplied.
        background: uint8 or float in [0, 1], [H, W, 3] or one colour [3].

    Returns:
        float32 [H, W, 3] in [0, 1] where the inputs are.
    """
    back = background.astype(np.float32) / 255 if background.dtype == np.uint8 else background.astype(np.float32)
    return rgba[..., :3] + (1 - rgba[..., 3:]) * back


def to_uint8(picture: np.ndarray) -> np.ndarray:
    """Floats in [0, 1] as uint8, rounded to nearest and clipped."""
    return np.clip(np.rint(picture * 255), 0, 255).astype(np.uint8)


def to_straight_uint8(rgba: np.ndarray) -> np.ndarray:
    """Premultiplied float [H, W, 4] as straight uint8 RGBA, as PNG stores it; clear pixels are black."""
    alpha = rgba[..., 3:]
    straight = np.divide(rgba[..., :3], alpha, out=np.zeros_like(rgba[..., :3]), where=alpha > 1 / 1024)
    return to_uint8(np.concatenate([straight, alpha], axis=-1))


def key_and_fill(rgba: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a broadcast mixer's linear keyer takes, shaped (premultiplied) video.

    Returns:
        fill uint8 [H, W, 3], premultiplied over black, and key uint8 [H, W], the alpha: `fill + (1 - key) background`.
    """
    return to_uint8(rgba[..., :3]), to_uint8(rgba[..., 3])
