"""From premultiplied float pictures to the numbers that files hold."""

from __future__ import annotations

import numpy as np

_CLEAR = 1 / 1024


def straight(rgba: np.ndarray, spread: bool = False) -> np.ndarray:
    """Premultiplied float32 [H, W, 4] as straight float32 [H, W, 4]; clear pixels are black.

    Args:
        rgba: in [0, 1].
        spread: give clear pixels the mean colour of what is near them instead, so that a lossy coding does not bleed
            black into edges.
    """
    alpha = rgba[..., 3:]
    result = np.empty_like(rgba)
    result[..., 3:] = alpha
    np.divide(rgba[..., :3], alpha, out=result[..., :3], where=alpha > _CLEAR)
    clear = alpha[..., 0] <= _CLEAR
    result[clear, :3] = 0
    if spread and clear.any() and not clear.all():
        import cv2

        near = cv2.blur(rgba, (17, 17))
        weight = near[..., 3:]
        filled = np.divide(near[..., :3], weight, out=np.zeros_like(near[..., :3]), where=weight > 1e-6)
        result[clear, :3] = filled[clear]
    return np.clip(result, 0, 1, out=result)


def coded(picture: np.ndarray, bits: int) -> np.ndarray:
    """Floats in [0, 1] as full-range uint8 or uint16, clipped and rounded to nearest."""
    scale = 255 if bits == 8 else 65535
    return np.rint(np.clip(picture, 0, 1) * np.float32(scale)).astype(np.uint8 if bits == 8 else np.uint16)


def widened(picture: np.ndarray, bits: int) -> np.ndarray:
    """uint8 as full-range uint8 or uint16: 255 becomes 65535."""
    return picture if bits == 8 else picture.astype(np.uint16) * np.uint16(257)


def grey(alpha: np.ndarray) -> np.ndarray:
    """[H, W] as [H, W, 3]."""
    return np.repeat(alpha[..., None], 3, axis=-1)


def linear(colours: np.ndarray) -> np.ndarray:
    """sRGB-coded floats in [0, 1] as linear light (IEC 61966-2-1), float32."""
    low = colours / np.float32(12.92)
    high = ((colours + np.float32(0.055)) / np.float32(1.055)) ** np.float32(2.4)
    return np.where(colours <= 0.04045, low, high).astype(np.float32)
