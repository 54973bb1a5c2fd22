"""Pictures as PNG files; a file is replaced only when the new one is whole."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from avatarfit.contracts import InputError


def write_png(path: str | Path, picture: np.ndarray) -> None:
    """Write uint8 [H, W], [H, W, 3] or straight [H, W, 4] as PNG, atomically.

    Raises:
        InputError: the folder does not exist.
        ValueError: not uint8.
    """
    import imageio.v3 as iio

    path = Path(path)
    if picture.dtype != np.uint8:
        raise ValueError(f"write_png came with {picture.dtype}; wanted uint8")
    if not path.parent.is_dir():
        raise InputError(f"there is no folder {path.parent}", "a folder that exists", "make the folder first")
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(iio.imwrite("<bytes>", picture, extension=".png"))
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


class PictureSequence:
    """Numbered PNG files `000000.png`, `000001.png`, ... in a folder, which is made; alpha is stored straight.

    Args:
        folder: made with its parents.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._count = 0

    def write(self, picture: np.ndarray) -> Path:
        """Append uint8 [H, W, 3] or [H, W, 4]; the path of the new file."""
        path = self.folder / f"{self._count:06d}.png"
        write_png(path, picture)
        self._count += 1
        return path
