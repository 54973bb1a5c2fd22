"""A trainer's state on disk: one safetensors file, replaced in one step."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from avatarfit.contracts import FileFormatError

Scalars = Callable[..., dict[str, Tensor]]


def write_checkpoint(path: Path, tensors: dict[str, Tensor], scalars: Scalars) -> None:
    """Saves `tensors` and what `scalars()` gives."""
    partial = path.with_suffix(".part")
    save_file({name: t.contiguous() for name, t in (tensors | scalars()).items()}, partial)
    os.replace(partial, path)


def read_checkpoint(path: Path, tensors: dict[str, Tensor], scalars: Scalars) -> None:
    """Fills `tensors` in place and hands the rest to `scalars(loaded)`.

    Raises:
        FileFormatError: damaged, or of a fit with other settings.
    """
    do = "remove it, or fit without --resume"
    try:
        loaded = load_file(path)
    except (SafetensorError, OSError) as error:
        raise FileFormatError(f"the checkpoint {path} cannot be read ({error})", "a whole checkpoint", do) from error
    fits = all(name in loaded and loaded[name].shape == tensor.shape for name, tensor in tensors.items())
    if not fits:
        raise FileFormatError(f"the checkpoint {path} is of a fit with other settings", "the same settings", do)
    for name, tensor in tensors.items():
        tensor.copy_(loaded[name])
    scalars(loaded)
