"""Decoding pictures: upright RGB at true times, whatever the pixel format."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from avatarfit.contracts import InputError, VideoFrame
from avatarfit.media._container import open_input, video_stream
from avatarfit.media._upright import Orientation

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream

_WANTED = "a video of one person"
# AVColorSpace: 1 BT.709, 4 FCC, 5 BT.470BG, 6 SMPTE 170M (both BT.601's matrix), 7 SMPTE 240M, 9 and 10 BT.2020.
_MATRIX = {1: "ITU709", 4: "FCC", 5: "ITU601", 6: "ITU601", 7: "SMPTE240M", 9: "BT2020", 10: "BT2020"}


def _to_rgb(frame: av.VideoFrame) -> np.ndarray:
    """uint8 [H, W, 3] by the frame's own matrix and range.

    A frame that names no matrix is taken as BT.709 above 576 lines or from 1280 columns, else as BT.601, as players do.
    """
    from av.video.reformatter import ColorRange, Colorspace, Interpolation

    name = frame.format.name
    if name == "rgb24":
        return frame.to_ndarray()
    if frame.format.is_rgb or name.startswith("gray"):
        return frame.to_ndarray(format="rgb24")
    fallback = "ITU709" if frame.height > 576 or frame.width >= 1280 else "ITU601"
    full = int(frame.color_range) == 2 or name.startswith("yuvj")
    converted = frame.reformat(
        format="rgb24",
        src_colorspace=Colorspace[_MATRIX.get(int(frame.colorspace), fallback)],
        dst_colorspace=Colorspace.ITU709,
        src_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
        interpolation=Interpolation.BICUBIC,
    )
    return converted.to_ndarray()


def _decode_from(
    container: InputContainer, stream: VideoStream, start_seconds: float
) -> Iterator[tuple[float, av.VideoFrame]]:
    """(seconds since the first picture, frame) from `start_seconds` on."""
    rate = float(stream.average_rate or stream.guessed_rate or 25)
    first = next(iter(container.decode(stream)), None)
    if first is None:
        return
    # Some containers store no times: then the stream's rate gives them.
    timed = first.pts is not None and stream.time_base is not None
    origin = first.pts or 0
    tick = float(stream.time_base) if stream.time_base is not None else 1 / rate
    if timed and start_seconds > 0:
        container.seek(origin + int(start_seconds / tick), stream=stream, backward=True)
    else:
        container.seek(origin if timed else 0, stream=stream, backward=True)
    last = -np.inf
    for index, frame in enumerate(container.decode(stream)):
        seconds = (frame.pts - origin) * tick if timed and frame.pts is not None else index / rate
        if seconds < start_seconds - 0.25 / rate or seconds <= last:
            continue
        last = seconds
        yield seconds, frame


def read_video(path: str | Path, start_seconds: float = 0.0) -> Iterator[VideoFrame]:
    """Every picture of the first video stream from `start_seconds` on, upright, in showing order.

    Times are the stream's own, zero at the first picture, strictly rising. One picture is held at a time.

    Raises:
        InputError: not a readable video, or its end is missing; the sentence says why.
    """
    path = Path(path)
    with open_input(path, _WANTED) as container:
        stream = video_stream(container, path)
        count = 0
        for count, (seconds, frame) in enumerate(_decode_from(container, stream, start_seconds), start=1):  # noqa: B007
            yield VideoFrame(seconds, Orientation.of(frame).apply(_to_rgb(frame)))
        if not count and start_seconds <= 0:
            raise InputError(f"{path} holds no picture that can be decoded", _WANTED, "copy or record the file again")
        if stream.frames and start_seconds <= 0 and count < 0.9 * stream.frames:
            raise InputError(
                f"{path} announces {stream.frames} pictures and only {count} could be decoded", _WANTED,
                "copy or record the file again",
            )  # fmt: skip


def read_gray_video(path: str | Path, start_seconds: float = 0.0) -> Iterator[np.ndarray]:
    """Every picture of a single-channel video as uint8 [H, W], values as stored, from `start_seconds` on.

    Raises:
        InputError: not a readable video.
    """
    path = Path(path)
    with open_input(path, "a video with one channel") as container:
        stream = video_stream(container, path)
        for _, frame in _decode_from(container, stream, start_seconds):
            yield np.ascontiguousarray(
                frame.to_ndarray() if frame.format.name == "gray" else frame.to_ndarray(format="gray")
            )
