"""A new face in an old picture: the colours of the footage, and every pixel outside of the mask as it was."""

from __future__ import annotations

import numpy as np

_ODD_LEVELS = 18.0
"""Differences beyond this are of form, not of light, such as an edge that is a pixel off; they count little."""
_SHARE = 4
"""Light varies slowly: it is measured at a quarter of the size where the pictures are large enough."""
_LEAST = 1e-3
_UNSEEN_LEVELS, _SEEN_LEVELS = 3.0, 12.0
"""Differences of less are none to the eye; from the larger on a pixel is wholly drawn anew."""


def colour_match(original: np.ndarray, own: np.ndarray, spread_px: float) -> np.ndarray:
    """What light and camera of the footage add to the avatar's picture: float32 [H, W, 3], levels of 255.

    The avatar is drawn with the very motion that the footage shows; what is then left between the two, averaged over
    its surroundings (a Gaussian of `spread_px`, normalised convolution, Knutsson and Westin 1993), where large
    differences count less (Geman and McClure's weights, 1987), is colour and shading, not form.

    Args:
        original: uint8 [H, W, 3], the footage.
        own: uint8 [H, W, 3], the avatar in the footage's own motion, over the footage's background.
        spread_px: positive.
    """
    import cv2

    height, width = original.shape[:2]
    share = _SHARE if spread_px >= 2 * _SHARE else 1
    size = max(width // share, 1), max(height // share, 1)
    apart = original.astype(np.float32) - own
    odd = np.square(apart).mean(axis=2, keepdims=True) / _ODD_LEVELS**2
    weight = 1 / np.square(1 + odd)
    sums = cv2.resize(np.concatenate([apart * weight, weight], axis=2), size, interpolation=cv2.INTER_AREA)
    sums = cv2.GaussianBlur(sums, (0, 0), spread_px / share)
    match = sums[:, :, :3] / np.maximum(sums[:, :, 3:], _LEAST)
    return np.asarray(cv2.resize(match, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def changed(own: np.ndarray, new: np.ndarray, reach_px: float) -> np.ndarray:
    """Where the new mouth makes a difference: float32 [H, W], 0 to 1, spread by about `reach_px`.

    Args:
        own, new: uint8 [H, W, 3], the avatar with the footage's mouth and with the new one.
        reach_px: so far the footage's own edges may lie from where the avatar has them.
    """
    import cv2

    apart = cv2.absdiff(own, new).max(axis=2)
    reach = max(round(reach_px), 1)
    spread = cv2.dilate(apart, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1)))
    spread = cv2.GaussianBlur(spread.astype(np.float32), (0, 0), reach / 2)
    along = np.clip((spread - _UNSEEN_LEVELS) / (_SEEN_LEVELS - _UNSEEN_LEVELS), 0, 1)
    return np.asarray(along * along * (3 - 2 * along), np.float32)


def blended(original: np.ndarray, new: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3]: `new` where the mask is 1, exactly `original` where it is 0.

    Args:
        original: uint8 [H, W, 3].
        new: float [H, W, 3], levels of 255.
        mask: float [H, W], 0 to 1.
    """
    step = mask[:, :, None] * (np.clip(new, 0, 255) - original)
    return (original + np.rint(step)).astype(np.uint8)
