"""au.csv and bs.npy: what the AD-NeRF family's readers know of a face beside its pictures, one row per number."""

from __future__ import annotations

import numpy as np

from avatarfit.capture.exchange.adnerf_format import (
    ACTION_UNIT_SOURCES,
    FRAME_RATE_HZ,
    FULL_ACTION_UNIT,
    FULL_BLINK,
)
from avatarfit.model.blendshapes import ARKIT_NAMES


def rows_by_number(values: np.ndarray, slots: list[tuple[int, int]]) -> np.ndarray:
    """Values [T, P] of pictures as rows by number, float64 [last number + 1, P].

    Readers index by number, so numbers without a picture need rows, too: they are interpolated.
    """
    numbers = np.array([number for number, _ in slots])
    taken = values[[index for _, index in slots]].astype(np.float64)
    every = np.arange(numbers[-1] + 1)
    return np.stack([np.interp(every, numbers, column) for column in taken.T], axis=1)


def action_units_csv(names: tuple[str, ...], values: np.ndarray, slots: list[tuple[int, int]]) -> tuple[str, list[str]]:
    """au.csv in OpenFace's form, and the columns that hold only zeros because the clip's blendshapes lack them.

    Args:
        names, values: as `ClipFolder.blendshapes` returns them.
        slots: (number, picture).
    """
    rows = rows_by_number(values, slots)
    columns, empty = [], []
    for unit, sources in ACTION_UNIT_SOURCES.items():
        known = [names.index(source) for source in sources if source in names]
        if not known:
            empty.append(unit)
        full = FULL_BLINK if unit == "AU45_r" else FULL_ACTION_UNIT
        columns.append(full * rows[:, known].mean(axis=1) if known else np.zeros(len(rows)))
    # The blank after each comma is OpenFace's, and the readers look for " AU45_r" with it.
    lines = [", ".join(["frame", "face_id", "timestamp", "confidence", "success", *ACTION_UNIT_SOURCES])]
    seen = {number for number, _ in slots}
    for number, units in enumerate(np.stack(columns, axis=1)):
        sure = int(number in seen)
        about = [str(number + 1), "0", f"{number / FRAME_RATE_HZ:.3f}", f"{0.98 * sure:.2f}", str(sure)]
        lines.append(", ".join([*about, *(f"{unit:.3f}" for unit in units)]))
    return "\n".join(lines) + "\n", empty


def blendshape_rows(names: tuple[str, ...], values: np.ndarray, slots: list[tuple[int, int]]) -> np.ndarray:
    """float32 [last number + 1, 52] in ARKit's order as the landmarker gives it; names that are not known are 0."""
    rows = rows_by_number(values, slots)
    out = np.zeros((len(rows), len(ARKIT_NAMES)), np.float32)
    for column, name in enumerate(names):
        out[:, ARKIT_NAMES.index(name)] = rows[:, column]
    return out
