"""What shows between the lips: teeth, tongue and dark, by the landmarks of the lips' inner edge and by colour.

The inner edge is seldom off by more than a twentieth of the mouth's width, so far inside and far outside it decides
alone. Near it, what is much darker or much less red than this picture's lips is interior, and what looks like them is
lip.
"""

from __future__ import annotations

import numpy as np

from avatarfit.capture.face_points import INNER_LIPS, MOUTH_CORNERS, OUTER_LIPS

_FINE = 8
_REACH, _INSIDE = 0.04, 1.05
_DARK, _PALE = 0.5, 0.3
_FEWEST_PIXELS = 10
_LUMA_AND_REDNESS = np.array([[1 / 3, 1 / 3, 1 / 3], [1, -0.5, -0.5]], np.float32)


def mouth_interior(rgb: np.ndarray, landmarks_px: np.ndarray) -> tuple[slice, slice, np.ndarray] | None:
    """Rows, columns and bool [h, w] there, true on the interior; None where the mouth lies outside the picture.

    Args:
        rgb: uint8 [H, W, 3].
        landmarks_px: float [478, 2+].
    """
    import cv2

    inner, outer = (landmarks_px[points, :2].astype(np.float64) for points in (INNER_LIPS, OUTER_LIPS))
    low = np.maximum(np.floor(outer.min(axis=0)).astype(int) - 2, 0)
    high = np.minimum(np.ceil(outer.max(axis=0)).astype(int) + 2, rgb.shape[1::-1])
    if (high - low < 3).any():
        return None
    rows, columns = slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0]))
    opening, lips = (covered(points - low, high - low) for points in (inner, outer))
    corners = landmarks_px[list(MOUTH_CORNERS), :2]
    reach = max(1.0, _REACH * float(np.linalg.norm(corners[0] - corners[1])))
    within, without = (cv2.distanceTransform(m.view(np.uint8), cv2.DIST_L2, 5) for m in (opening, ~opening))
    depth = np.asarray(within) - np.asarray(without)
    surely_lip = lips & (depth < -reach)
    if surely_lip.sum() < _FEWEST_PIXELS:
        return rows, columns, opening
    luma, redness = cv2.split(cv2.transform(rgb[rows, columns].astype(np.float32), _LUMA_AND_REDNESS))
    darkest, red = _quantile(luma[surely_lip], 0.02), _quantile(redness[surely_lip], 0.5)
    dark = (_DARK * darkest - luma) / (0.2 * darkest + 1)
    pale = (_PALE * red - redness) / (0.25 * max(red, 0.0) + 1)
    unlike = np.clip(np.maximum(dark, pale), -1, 1)
    found = (_INSIDE * np.clip(depth / reach, -1, 1) + unlike > 0) & (depth > -reach) & lips
    return rows, columns, np.asarray(found)


def _quantile(values: np.ndarray, share: float) -> float:
    place = round(share * (len(values) - 1))
    return float(np.partition(values, place)[place])


def covered(points: np.ndarray, size: np.ndarray) -> np.ndarray:
    """bool [h, w]: pixels of which at least half lies inside the polygon [N, 2]; `size` is (w, h).

    Lips less than half a pixel apart enclose nothing.
    """
    import cv2

    width, height = int(size[0]), int(size[1])
    fine = np.zeros((height * _FINE, width * _FINE), np.uint8)
    # fillPoly takes the border along; half a fine pixel is little.
    cv2.fillPoly(fine, [np.round((points * _FINE - 0.5) * 16).astype(np.int32)], (255,), shift=4)
    return np.asarray(cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA)) >= 128
