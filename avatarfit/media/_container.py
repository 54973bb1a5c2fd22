"""Opening a file for reading, with one clear sentence for everything that can be wrong with it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from avatarfit.contracts import InputError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_PICTURE_FORMATS = {"image2", "png_pipe", "jpeg_pipe", "webp_pipe", "bmp_pipe", "tiff_pipe", "svg_pipe"}


def check_readable(path: Path, wanted: str, error: type[InputError] = InputError) -> None:
    """Raise unless `path` is a non-empty file that may be read.

    Raises:
        InputError (or `error`): no such file, a folder, an empty file, no permission.
    """
    if path.is_dir():
        raise error(f"{path} is a folder", wanted, "give the path of a file inside it")
    if not path.exists():
        raise error(f"there is no file {path}", wanted, "check the path for a typing mistake")
    if not os.access(path, os.R_OK):
        raise error(f"{path} may not be read", wanted, "change the file's permissions")
    if path.stat().st_size == 0:
        raise error(f"{path} is an empty file", wanted, "copy or record it again")


def is_cut_short(path: Path) -> bool:
    """Whether an MP4, MOV, Matroska or AVI file ends before its own headers say; False where they do not say."""
    with path.open("rb") as file:
        head = file.read(64)
    size = path.stat().st_size
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return int.from_bytes(head[4:8], "little") + 8 > size
    if head[:4] == _EBML:
        return _matroska_is_cut_short(head, size)
    return _boxes_are_cut_short(path, size)


def _matroska_is_cut_short(head: bytes, size: int) -> bool:
    """Whether the file ends before its segment does (RFC 8794, sections 4 and 6; RFC 9559, section 5)."""
    length, start = _ebml_size(head, 4)
    if length is None or head[start + length : start + length + 4] != _SEGMENT:
        return False
    segment, start = _ebml_size(head, start + length + 4)
    return segment is not None and start + segment > size


def _ebml_size(data: bytes, at: int) -> tuple[int | None, int]:
    """A variable-length size at `at` (None where it says "unknown" or lies outside `data`) and where it ends."""
    width = 9 - data[at].bit_length() if at < len(data) and data[at] else 9
    if at + width > len(data) or width > 8:
        return None, at
    value = int.from_bytes(data[at : at + width], "big") & ((1 << 7 * width) - 1)
    return (None if value == (1 << 7 * width) - 1 else value), at + width


def _boxes_are_cut_short(path: Path, size: int) -> bool:
    """Whether an MP4 or MOV file ends before its last top-level box does (ISO/IEC 14496-12, 4.2)."""
    with path.open("rb") as file:
        head = file.read(12)
        if len(head) < 12 or head[4:8] not in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            return False
        position, seen_moov = 0, False
        while position + 8 <= size:
            file.seek(position)
            head = file.read(16)
            length = int.from_bytes(head[:4], "big")
            seen_moov |= head[4:8] == b"moov"
            if length == 1:
                length = int.from_bytes(head[8:16], "big")
            elif length == 0:
                length = size - position
            if length < 8:
                return not seen_moov
            position += length
    return position > size or not seen_moov


@contextmanager
def open_input(path: Path, wanted: str, error: type[InputError] = InputError) -> Iterator[InputContainer]:
    """The opened container of `path`; whatever FFmpeg finds wrong while it is open becomes `error`.

    Raises:
        InputError (or `error`): the file cannot be opened or decoded; the sentence says which.
    """
    import av

    check_readable(path, wanted, error)
    if is_cut_short(path):
        raise error(f"{path} is cut short: its end is missing", wanted, "copy or record the file again")
    try:
        container = av.open(str(path))
    except (av.FFmpegError, ValueError) as cause:
        raise error(
            f"{path} is not a video or sound file that can be read ({_reason(cause)})", wanted,
            "check that it plays in a video player",
        ) from cause  # fmt: skip
    try:
        yield container
    except av.FFmpegError as cause:
        raise error(
            f"{path} is damaged ({_reason(cause)})", wanted, "copy or record the file again, or convert it to MP4"
        ) from cause
    finally:
        container.close()


def _reason(cause: Exception) -> str:
    return getattr(cause, "strerror", None) or str(cause)


def video_stream(container: InputContainer, path: Path) -> VideoStream:
    """The first moving-picture stream.

    Raises:
        InputError: there is none, or the file is a still picture.
    """
    from av.stream import Disposition

    wanted = "a video of one person"
    if set(container.format.name.split(",")) & _PICTURE_FORMATS:
        raise InputError(f"{path} is a still picture", wanted, "give a video file")
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        raise InputError(f"{path} has no video in it", wanted, "give a file with pictures, such as an MP4")
    streams[0].thread_type = "AUTO"
    return streams[0]


def first_picture_seconds(container: InputContainer) -> float | None:
    """Container time of the first picture shown, None where there is no moving picture; decodes one frame."""
    from av.stream import Disposition

    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        return None
    for frame in container.decode(streams[0]):
        return float(frame.time) if frame.time is not None else 0.0
    return None
