"""Decoding pictures: upright 8-bit RGB with square pixels at true times, whatever the file holds."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from avatarfit.contracts import InputError, VideoFrame
from avatarfit.media._container import open_input, video_stream
from avatarfit.media._outline import Outline, outline_of
from avatarfit.media._picture import Crop, PictureMaker, deinterlaced

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream

_WANTED = "a video of one person"
_REACH = 16
"""Pictures by which reading starts early: deinterlacing looks at neighbours, and a file's index tells when a picture is
decoded, which may be that much before it is shown."""


@contextmanager
def _opened(path: Path, wanted: str = _WANTED) -> Iterator[tuple[InputContainer, VideoStream, Outline]]:
    """The file, its pictures' stream, not yet decoded from, and that stream's outline."""
    with open_input(path, wanted) as container:
        outline = outline_of(container, video_stream(container, path))
    if outline is None:
        raise InputError(f"{path} holds no picture that can be decoded", wanted, "copy or record the file again")
    with open_input(path, wanted) as container:
        yield container, video_stream(container, path), outline


def _decode_from(
    container: InputContainer, stream: VideoStream, outline: Outline, start_seconds: float
) -> Iterator[tuple[float, av.VideoFrame]]:
    """(seconds since the first picture, frame) from `start_seconds` on; a jump unless that is the start."""
    rate = float(stream.average_rate or stream.guessed_rate or 25)
    # Some containers store no times: then the stream's rate gives them, counted from the first picture.
    origin = outline.origin
    tick = float(stream.time_base) if stream.time_base is not None else 1 / rate
    jump = start_seconds - _REACH / rate
    if origin is not None and jump > 0:
        container.seek(origin + int(jump / tick), stream=stream, backward=True)
    frames: Iterator[av.VideoFrame] = container.decode(stream)
    if outline.interlaced:
        frames = deinterlaced(frames, stream)
    last = -np.inf
    for index, frame in enumerate(frames):
        timed = origin is not None and frame.pts is not None and frame.time_base is not None
        seconds = float(frame.pts * frame.time_base) - origin * tick if timed else index / rate  # type: ignore[operator]
        if seconds < start_seconds - 0.25 / rate or seconds <= last:
            continue
        last = seconds
        yield seconds, frame


def read_video(
    path: str | Path,
    start_seconds: float = 0.0,
    *,
    crop: Crop | None = None,
    size: tuple[int, int] | None = None,
    wanted: Callable[[float], bool] | None = None,
) -> Generator[VideoFrame, None, None]:
    """Every picture of the first video stream from `start_seconds` on, in showing order.

    Pictures are upright and have square pixels; interlaced ones are made whole, one picture for each frame; high
    dynamic range and wide colours are mapped to SDR BT.709 (`media.tone_map`). Times are the stream's own, zero at the
    first picture, strictly rising. One picture is held at a time.

    Args:
        path: the file.
        start_seconds: where to begin.
        crop: x, y, width, height of the part to take, in the upright picture; None takes all of it.
        size: (width, height) to bring the part to; None leaves it.
        wanted: asked with each picture's time, in order; a picture for which it says no costs only its decoding.

    Raises:
        InputError: not a readable video, its end is missing, or its size changes; the sentence says why.
    """
    path = Path(path)
    with _opened(path) as (container, stream, outline):
        maker = PictureMaker(outline, crop, size)
        stored = outline.stored_width_px, outline.stored_height_px
        count = 0
        for count, (seconds, frame) in enumerate(_decode_from(container, stream, outline, start_seconds), start=1):  # noqa: B007
            if (frame.width, frame.height) != stored:
                raise InputError(
                    f"the picture size changes from {stored[0]}x{stored[1]} to {frame.width}x{frame.height} "
                    f"at {seconds:.2f} s", "one size throughout", "cut or convert the clip to one size",
                )  # fmt: skip
            if wanted is None or wanted(seconds):
                yield VideoFrame(seconds, maker.picture(frame))
        if start_seconds <= 0:
            check_whole(path, stream.frames, count)


def check_whole(path: Path, announced: int, decoded: int) -> None:
    """Raise where a file that was gone through gave clearly fewer pictures than its index announces (0: does not say).

    Raises:
        InputError: the file lacks pictures.
    """
    if decoded < 0.9 * announced:
        raise InputError(
            f"{path} announces {announced} pictures and only {decoded} could be decoded", _WANTED,
            "copy or record the file again",
        )  # fmt: skip


def read_pictures_at(
    path: str | Path, seconds: Sequence[float], size: tuple[int, int] | None = None
) -> Iterator[VideoFrame]:
    """The first picture at or after each of the rising times; no picture twice, none after the clip's end.

    Decodes on where that is shorter than jumping to a key picture, as the file's index tells.

    Raises:
        InputError: not a readable video.
    """
    path = Path(path)
    with _opened(path) as (container, stream, outline):
        maker = PictureMaker(outline, None, size)
        tick = float(stream.time_base) if stream.time_base is not None else 0.0
        frames = _decode_from(container, stream, outline, 0.0)
        at = -np.inf
        for due in seconds:
            if due <= at:
                continue
            if outline.origin is not None and tick and _key_between(stream, outline.origin, tick, at, due):
                frames = _decode_from(container, stream, outline, due)
            found = next((f for f in frames if f[0] >= due - 1e-6), None)
            if found is None:
                return
            at = found[0]
            yield VideoFrame(at, maker.picture(found[1]))


def _key_between(stream: VideoStream, origin: int, tick: float, after: float, until: float) -> bool:
    """Whether a key picture lies between two times, so that jumping to it saves decoding."""
    index = stream.index_entries.search_timestamp(origin + int(until / tick), backward=True)
    if index < 0:
        return True
    return (stream.index_entries[index].timestamp - origin) * tick > after


def read_gray_video(path: str | Path, start_seconds: float = 0.0) -> Iterator[np.ndarray]:
    """Every picture of a single-channel video as uint8 [H, W], values as stored, from `start_seconds` on.

    Raises:
        InputError: not a readable video.
    """
    path = Path(path)
    with _opened(path, "a video with one channel") as (container, stream, outline):
        for _, frame in _decode_from(container, stream, outline, start_seconds):
            yield np.ascontiguousarray(
                frame.to_ndarray() if frame.format.name == "gray" else frame.to_ndarray(format="gray")
            )
