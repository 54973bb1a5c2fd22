"""The contact sheet of a capture: each chosen picture as landmarks, labels and matte, one below the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_GAP, _CAPTION = 6, 18
_GROUND, _INK = (28, 28, 30), (235, 235, 235)


def contact_sheet(columns: Sequence[Sequence[np.ndarray]], captions: Sequence[str]) -> np.ndarray:
    """Columns of pictures under captions, uint8 [H, W, 3].

    Args:
        columns: per column its pictures, uint8 [h, w, 3]; the same number and heights in each.
        captions: one per column, ASCII.
    """
    import cv2

    if not columns or len(captions) != len(columns):
        raise ValueError(f"{len(columns)} columns came with {len(captions)} captions; wanted one caption for each")
    heights = [max(c[row].shape[0] for c in columns) for row in range(len(columns[0]))]
    width = max(picture.shape[1] for column in columns for picture in column)
    sheet = np.empty((
        _GAP + _CAPTION + sum(h + _GAP for h in heights), _GAP + len(columns) * (width + _GAP), 3,
    ), np.uint8)  # fmt: skip
    sheet[:] = _GROUND
    for place, (column, caption) in enumerate(zip(columns, captions, strict=True)):
        left, top = _GAP + place * (width + _GAP), _GAP + _CAPTION
        cv2.putText(sheet, caption, (left, top - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.42, _INK, 1, cv2.LINE_AA)
        for picture, height in zip(column, heights, strict=True):
            sheet[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
            top += height + _GAP
    return sheet
