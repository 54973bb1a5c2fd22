"""Checks shared by the records: shape and finiteness, told in one sentence."""

from __future__ import annotations

import numpy as np


def as_array(name: str, value: object, shape: tuple[int | None, ...], dtype: type[np.generic]) -> np.ndarray:
    """`value` as a read-only array of `dtype`; `None` in `shape` stands for any length.

    Raises:
        ValueError: the shape differs, or a number is not finite.
    """
    array = np.array(value, dtype=dtype)
    if array.ndim != len(shape) or any(w not in (None, g) for w, g in zip(shape, array.shape, strict=True)):
        want = "[" + ", ".join("any" if s is None else str(s) for s in shape) + "]"
        raise ValueError(f"{name} came with shape {list(array.shape)}; wanted {want}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinity; wanted finite numbers")
    array.setflags(write=False)
    return array
