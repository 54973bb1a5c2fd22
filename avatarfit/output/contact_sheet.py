"""Many pictures on one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_GROUND = 32


def contact_sheet(pictures: Sequence[np.ndarray], columns: int = 4, gap_px: int = 4) -> np.ndarray:
    """Pictures in rows of `columns`, on dark grey.

    Args:
        pictures: uint8 [H, W, 3], all of one size; at least one.

    Returns:
        uint8 [rows * (H + gap) + gap, columns * (W + gap) + gap, 3].

    Raises:
        ValueError: no picture, or the sizes differ.
    """
    if not pictures or len({p.shape for p in pictures}) != 1:
        raise ValueError(
            f"contact_sheet came with sizes {sorted({p.shape for p in pictures})}; wanted pictures of one size"
        )
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    height, width = pictures[0].shape[:2]
    sheet = np.full((rows * (height + gap_px) + gap_px, columns * (width + gap_px) + gap_px, 3), _GROUND, np.uint8)
    for number, picture in enumerate(pictures):
        row, column = divmod(number, columns)
        top, left = gap_px + row * (height + gap_px), gap_px + column * (width + gap_px)
        sheet[top : top + height, left : left + width] = picture
    return sheet


def side_by_side(truth: np.ndarray, rendered: np.ndarray, gain: float = 4.0) -> np.ndarray:
    """Truth | render | absolute error times `gain`: uint8 [H, 3 W, 3] from two pictures uint8 [H, W, 3]."""
    error = np.clip(np.abs(truth.astype(np.float32) - rendered.astype(np.float32)) * gain, 0, 255).astype(np.uint8)
    return np.concatenate([truth, rendered, error], axis=1)
