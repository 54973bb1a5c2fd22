"""Where a frame is judged: the person, and a square around the mouth."""

from __future__ import annotations

import numpy as np

from avatarfit.evaluation.metrics import SSIM_WINDOW
from avatarfit.model.rig import LIPS_OUTER

MOUTH_ENLARGEMENT = 1.4


def mouth_box(landmarks_px: np.ndarray, width_px: int, height_px: int) -> tuple[int, int, int, int]:
    """A square around the outer lip contour, its side 1.4 times the contour's longer side.

    It is at least one SSIM window wide and is moved (then cut) to lie inside the picture.

    Args:
        landmarks_px: float [478, 2 or more] in pixels of a picture of the given size.

    Returns:
        left, top, right, bottom in whole pixels; right and bottom are exclusive.
    """
    lips = landmarks_px[list(LIPS_OUTER), :2]
    low, high = lips.min(axis=0), lips.max(axis=0)
    side = int(np.ceil(max(float((high - low).max()) * MOUTH_ENLARGEMENT, SSIM_WINDOW + 1)))
    corner = np.rint((low + high) / 2 - side / 2).astype(int)
    left, top = (int(np.clip(c, 0, max(0, n - side))) for c, n in zip(corner, (width_px, height_px), strict=True))
    return left, top, min(left + side, width_px), min(top + side, height_px)


def person_mask(alpha: np.ndarray) -> np.ndarray:
    """bool [H, W]: where the person's soft alpha uint8 [H, W] is above one half."""
    return alpha > 127
