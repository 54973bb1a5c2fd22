"""A new face in an old picture: the colours of the footage, and every pixel outside of the mask as it was."""

from __future__ import annotations

import numpy as np

_ODD_LEVELS = 18.0
"""Differences beyond this are of form, not of light, such as an edge that is a pixel off; they count little."""
_SHARE = 4
"""Light varies slowly: it is measured at a quarter of the size where the pictures are large enough."""
_LEAST = 1e-3
_OWN_LEVELS, _FOREIGN_LEVELS = 24.0, 40.0
"""A face that an avatar draws in the footage's own motion is off by less than the first, averaged over a few
millimetres (measured: 16 at most on the anchor's clip, 23 on the newsroom's); a hand or a microphone by more."""
_PARTLY, _MOSTLY = 0.1, 0.25
"""Shares of the mouth's surroundings that are covered: between them the whole picture passes to staying as it is."""
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


def uncovered(original: np.ndarray, own: np.ndarray, may: np.ndarray, must: np.ndarray, spread_px: float) -> np.ndarray:
    """How far nothing stands before the face: float32 [H, W], 0 to 1.

    What the footage shows and the avatar in the footage's own motion does not, but for light, is something else than
    the face: there, and all over the picture where it covers much of the mouth, the footage shall stay.

    Args:
        original, own: as in `colour_match`.
        may, must: float32 [H, W], where the face may be drawn anew, and where it is (`DubRegion.masks`).
        spread_px: positive, of a few millimetres.
    """
    import cv2

    face = may > 0.5
    if not face.any():
        return np.ones(may.shape, np.float32)
    apart = original.astype(np.float32) - own
    # The middle of the differences is light, as long as more than half of the face is seen.
    apart = np.abs(cv2.GaussianBlur(apart - np.median(apart[face], axis=0), (0, 0), spread_px)).max(axis=2)
    foreign = np.clip((apart - _OWN_LEVELS) / (_FOREIGN_LEVELS - _OWN_LEVELS), 0, 1) * face
    reach = max(round(2 * spread_px), 1)
    wide = cv2.dilate(foreign, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1)))
    seen = 1 - cv2.GaussianBlur(wide, (0, 0), spread_px / 2)
    share = float((wide * must).sum() / max(must.sum(), 1.0))
    whole = np.clip((_MOSTLY - share) / (_MOSTLY - _PARTLY), 0, 1)
    return np.asarray(seen * whole * whole * (3 - 2 * whole), np.float32)


def blended(original: np.ndarray, new: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3]: `new` where the mask is 1, exactly `original` where it is 0.

    Args:
        original: uint8 [H, W, 3].
        new: float [H, W, 3], levels of 255.
        mask: float [H, W], 0 to 1.
    """
    step = mask[:, :, None] * (np.clip(new, 0, 255) - original)
    return (original + np.rint(step)).astype(np.uint8)
