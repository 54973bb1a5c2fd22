"""Pictures as PNG and EXR files; a file is replaced only when the new one is whole."""

from __future__ import annotations

import errno
import os
from fractions import Fraction
from pathlib import Path

import numpy as np

from avatarfit.contracts import InputError
from avatarfit.media.timecode import Timecode

_BT709_WHITE_D65 = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290)
"""x and y of red, green, blue and white (ITU-R BT.709-6, item 1.3 and 1.4)."""


def png_bytes(picture: np.ndarray) -> bytes:
    """uint8 [H, W], [H, W, 3] or [H, W, 4] as a PNG file, without loss."""
    import cv2

    order = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}.get(picture.shape[2] if picture.ndim == 3 else 1)
    done, data = cv2.imencode(".png", picture if order is None else cv2.cvtColor(picture, order))
    assert done
    return data.tobytes()


def write_exr(path: Path, picture: np.ndarray, rate: Fraction | None = None, timecode: Timecode | None = None) -> None:
    """Write linear float [H, W, 1 | 3 | 4] as an OpenEXR file of half floats, ZIP, with BT.709 primaries.

    Args:
        path: the file.
        picture: grey, RGB or RGBA; with alpha as it shall be stored (premultiplied, by OpenEXR's convention).
        rate: frames a second, kept as `framesPerSecond`.
        timecode: of this picture, kept as `timeCode`.

    Raises:
        OSError: it cannot be written.
    """
    import OpenEXR

    header: dict[str, object] = {
        "compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage, "chromaticities": _BT709_WHITE_D65,
    }  # fmt: skip
    if rate is not None:
        header["framesPerSecond"] = rate
    if timecode is not None:
        header["timeCode"] = OpenEXR.TimeCode(*timecode.fields, int(timecode.drop_frame), *[0] * 13)
    half = np.ascontiguousarray(picture.astype(np.float16))
    channels = {"Y": half[..., 0].copy()} if half.shape[2] == 1 else {"RGBA"[: half.shape[2]]: half}
    # OpenEXR tells of a failed write in words only; opening the file ourselves gives most of the system's errors.
    path.touch()
    try:
        with OpenEXR.File(header, channels) as file:
            file.write(str(path))
    except RuntimeError as error:
        known = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        number = next((number for number in known if os.strerror(number) in str(error)), errno.EIO)
        raise OSError(number, str(error), str(path)) from error


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
