"""The ways pictures are coded into files: which encoder, which pixels, which containers may hold it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

import numpy as np

if TYPE_CHECKING:
    import av
    from av.container import OutputContainer

FORMATS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
"""FFmpeg's name of each container, by its suffix."""

_BT709, _RGB, _LIMITED, _FULL = 1, 0, 1, 2
"""Of FFmpeg's AVColorSpace, AVColorPrimaries, AVColorTransferCharacteristic and AVColorRange."""


@dataclass(frozen=True)
class VideoCoding:
    """One way of coding pictures.

    Attributes:
        name: as a person types it.
        title: as a sentence names it.
        encoder: FFmpeg's name.
        pixels: FFmpeg's pixel format of opaque pictures.
        alpha_pixels: that of pictures with alpha; None where there is no alpha.
        suffixes: of the containers that take it, the most usual first.
        options: of the encoder.
        reorders: whether pictures are decoded in another order than shown.
        depths: bits a channel of the opaque pictures and of those with alpha that it takes, 8 or 16.
        even: whether sizes must be even.
        smallest_px: of either side.
        tag: its mark in MP4 and MOV where FFmpeg would choose one that QuickTime does not play.
    """

    name: str
    title: str
    encoder: str
    pixels: str
    alpha_pixels: str | None
    suffixes: tuple[str, ...]
    options: Mapping[str, str]
    reorders: bool = False
    depths: tuple[int, int] = (8, 8)
    even: bool = True
    smallest_px: int = 2
    tag: str | None = None

    @property
    def segment(self) -> str:
        """FFmpeg's name of the container that keeps the packets as the encoder made them: Matroska turns those of H.264
        and H.265 into another form, NUT does not keep the alpha of VP9."""
        return "nut" if self.reorders else "matroska"

    def coded_size(self, width_px: int, height_px: int) -> tuple[int, int]:
        """The size in the file: with the last column and row repeated where the coding wants even sizes."""
        return (width_px + width_px % 2, height_px + height_px % 2) if self.even else (width_px, height_px)


_VP9 = {"crf": "16", "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1", "auto-alt-ref": "0"}

CODINGS = {
    coding.name: coding
    for coding in (
        VideoCoding(
            "h264", "H.264", "libx264", "yuv420p", None, (".mp4", ".mov", ".mkv"),
            {"crf": "17", "preset": "veryfast"}, reorders=True,
        ),
        VideoCoding(
            "h265", "H.265", "libx265", "yuv420p", None, (".mp4", ".mov", ".mkv"),
            {"crf": "19", "preset": "fast", "x265-params": "log-level=none"}, reorders=True, smallest_px=16, tag="hvc1",
        ),
        VideoCoding(
            "av1", "AV1", "libsvtav1", "yuv420p", None, (".mp4", ".mkv", ".webm"), {"crf": "22", "preset": "9"},
            smallest_px=64,
        ),
        VideoCoding("vp9", "VP9", "libvpx-vp9", "yuv420p", "yuva420p", (".webm", ".mkv"), _VP9),
        VideoCoding(
            "prores4444", "ProRes 4444", "prores_ks", "yuv444p10le", "yuva444p10le", (".mov",),
            {"profile": "4444", "alpha_bits": "16", "vendor": "apl0"}, depths=(16, 16), even=False,
        ),
        VideoCoding(
            "ffv1", "FFV1", "ffv1", "bgr0", "gbrap12le", (".mkv",), {"level": "3", "g": "1", "slices": "4"},
            depths=(8, 16), even=False,
        ),
    )
}  # fmt: skip
"""By name."""


def add_pictures(
    container: OutputContainer, coding: VideoCoding, width_px: int, height_px: int, rate: Fraction, alpha: bool
) -> Any:
    """A stream of this coding in an open container, tagged as BT.709 and, but for RGB, as limited range."""
    # SVT-AV1 writes a page about itself to standard error unless the environment says otherwise.
    os.environ.setdefault("SVT_LOG", "1")
    stream = cast(Any, container.add_stream(coding.encoder, rate=rate, options=dict(coding.options)))
    stream.width, stream.height = coding.coded_size(width_px, height_px)
    stream.pix_fmt = _pixels(coding, alpha)
    stream.time_base = 1 / rate
    context = stream.codec_context
    matrix, limits = (_RGB, _FULL) if _is_rgb(stream.pix_fmt) else (_BT709, _LIMITED)
    context.colorspace, context.color_range = matrix, limits
    context.color_primaries = context.color_trc = _BT709
    if coding.tag is not None and container.format.name in ("mp4", "mov"):
        context.codec_tag = coding.tag
    if coding.encoder == "libsvtav1":
        with _priority_kept():
            context.open()
    return stream


@contextmanager
def _priority_kept() -> Iterator[None]:
    """SVT-AV1 gives itself, and the thread that opens it, the highest realtime priority where it may. As root, so in
    most containers, nothing else on the machine would get its turn."""
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    yield
    for task in map(int, os.listdir("/proc/self/task")):
        with suppress(ProcessLookupError, PermissionError):
            if os.sched_getscheduler(task) != policy:
                os.sched_setscheduler(task, policy, priority)


def coded_frame(picture: np.ndarray, coding: VideoCoding) -> av.VideoFrame:
    """What the encoder takes of a picture.

    Args:
        picture: uint8 or uint16 [H, W, 3 | 4] of the coding's depth, full range; straight or premultiplied, as it
            shall be stored.
    """
    import av
    from av.video.reformatter import ColorRange, Colorspace, Interpolation

    height, width, channels = picture.shape
    target = _pixels(coding, channels == 4)
    coded_width, coded_height = coding.coded_size(width, height)
    if (coded_width, coded_height) != (width, height):
        picture = np.pad(picture, ((0, coded_height - height), (0, coded_width - width), (0, 0)), mode="edge")
    source = {(8, 3): "rgb24", (8, 4): "rgba", (16, 3): "rgb48le", (16, 4): "rgba64le"}[
        8 * picture.dtype.itemsize, channels
    ]
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=source)
    if _is_rgb(target):
        frame = frame.reformat(format=target)
        frame.colorspace, frame.color_range = _RGB, _FULL
        return frame
    method = Interpolation.BICUBIC
    if picture.dtype == np.uint16:
        method |= Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
    frame = frame.reformat(
        format=target,
        src_colorspace=Colorspace.ITU709,
        dst_colorspace=Colorspace.ITU709,
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.MPEG,
        interpolation=method,
    )
    frame.colorspace, frame.color_range = _BT709, _LIMITED
    frame.color_primaries = frame.color_trc = _BT709
    return frame


def _pixels(coding: VideoCoding, alpha: bool) -> str:
    if not alpha:
        return coding.pixels
    assert coding.alpha_pixels is not None
    return coding.alpha_pixels


def _is_rgb(pixels: str) -> bool:
    return pixels.startswith(("rgb", "bgr", "gbr"))
