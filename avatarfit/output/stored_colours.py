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
    alpha = rgba[..., 3]
    clear = alpha <= _CLEAR
    share = np.where(clear, np.float32(0), 1 / np.maximum(alpha, np.float32(_CLEAR)))
    result = rgba * share[..., None]
    if spread and clear.any():
        np.copyto(result[..., :3], _nearby_colours(rgba), where=clear[..., None])
    result[..., 3] = alpha
    return np.clip(result, 0, 1, out=result)


def _nearby_colours(rgba: np.ndarray) -> np.ndarray:
    """float32 [H, W, 3]: the mean straight colour within about ten pixels; black where all of them are clear."""
    import cv2

    height, width = rgba.shape[:2]
    small = cv2.resize(rgba, (-(-width // 4), -(-height // 4)), interpolation=cv2.INTER_AREA)
    near = cv2.blur(small, (5, 5))
    weight = near[..., 3:]
    colours = np.divide(near[..., :3], weight, out=np.zeros_like(near[..., :3]), where=weight > 1e-6)
    return np.asarray(cv2.resize(colours, (width, height), interpolation=cv2.INTER_NEAREST))


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
