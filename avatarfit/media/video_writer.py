"""Encoding pictures and sound at a constant rate; the file appears only when it is whole."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal

import numpy as np

from avatarfit.contracts import AudioClip, InputError
from avatarfit.media.sound_blocks import SoundBlocks
from avatarfit.media.sound_feed import SoundFeed

if TYPE_CHECKING:
    import av
    from av.audio.stream import AudioStream

_AAC_RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
_AAC_FRAME = 1024


class VideoWriter:
    """A context manager that writes a video; leaving it cleanly renames `PATH.part` to `PATH`, an error removes it.

    `h264` is MP4 (or what the suffix asks for) in yuv420p, BT.709, limited range, index in front, sound as AAC;
    odd sizes get their last column or row repeated. `ffv1` is lossless Matroska, sound as 16-bit PCM.

    Args:
        path: the file; its folder must exist.
        width_px, height_px: picture size.
        frame_rate_hz: constant rate; floats such as 29.97003 become the exact fraction (30000/1001).
        codec: "h264" or "ffv1".
        pixel: what `write` takes: "rgb24" uint8 [H, W, 3], or "gray8" uint8 [H, W].
        sound: mono sound, or a sound file, read as it is written; `start_seconds` is kept, by silence in front or by
            cutting what precedes the first picture.
        crf, preset: x264's quality (lower is better) and speed; not used by ffv1.

    Raises:
        InputError: the output folder is missing or may not be written.
    """

    def __init__(
        self,
        path: str | Path,
        width_px: int,
        height_px: int,
        frame_rate_hz: float | Fraction,
        *,
        codec: Literal["h264", "ffv1"] = "h264",
        pixel: Literal["rgb24", "gray8"] = "rgb24",
        sound: AudioClip | SoundBlocks | None = None,
        crf: int = 17,
        preset: str = "veryfast",
    ) -> None:
        if width_px < 1 or height_px < 1 or not frame_rate_hz > 0:
            raise ValueError(
                f"VideoWriter came with {width_px}x{height_px} px at {frame_rate_hz} Hz; wanted positive numbers"
            )
        if codec not in ("h264", "ffv1") or pixel not in ("rgb24", "gray8"):
            raise ValueError(
                f"VideoWriter came with codec {codec!r}, pixel {pixel!r}; wanted h264 or ffv1, rgb24 or gray8"
            )
        self.path = Path(path)
        self.width_px, self.height_px = width_px, height_px
        self.rate = Fraction(frame_rate_hz).limit_denominator(1001)
        self.codec, self.pixel = codec, pixel
        self._crf, self._preset = crf, preset
        self._sound = sound
        self._part = self.path.with_name(self.path.name + ".part")
        self._count = 0
        self._sound_sent = 0

    def __enter__(self) -> VideoWriter:
        import av

        wanted = "an output path in a folder that exists"
        if self.path.is_dir():
            raise InputError(f"{self.path} is a folder", wanted, "name a file in it")
        if not self.path.parent.is_dir():
            raise InputError(f"there is no folder {self.path.parent}", wanted, "make the folder first")
        if self.codec == "ffv1":
            form = "matroska"
        else:
            form = {".mkv": "matroska", ".mov": "mov"}.get(self.path.suffix.lower(), "mp4")
        options = {} if form == "matroska" else {"movflags": "+faststart"}
        # FFmpeg opens the file only when it has something to write, so what is wrong with the folder is asked here.
        if not os.access(self.path.parent, os.W_OK):
            raise InputError(f"the folder {self.path.parent} may not be written", wanted, "choose another folder")
        self._container = av.open(str(self._part), "w", format=form, options=options)
        try:
            self._open_streams()
        except BaseException:
            self._container.close()
            self._part.unlink(missing_ok=True)
            raise
        return self

    def _open_streams(self) -> None:
        even = self.codec == "h264"
        width, height = ((v + v % 2 if even else v) for v in (self.width_px, self.height_px))
        stream = self._container.add_stream("libx264" if even else "ffv1", rate=self.rate)
        stream.width, stream.height = width, height
        stream.time_base = 1 / self.rate
        if even:
            stream.pix_fmt = "yuv420p"
            stream.options = {"crf": str(self._crf), "preset": self._preset}
            context = stream.codec_context
            # AVCOL_*: 1 is BT.709 for matrix, primaries and transfer; range 1 is limited.
            context.colorspace = context.color_primaries = context.color_trc = context.color_range = 1
        else:
            stream.pix_fmt = "gray" if self.pixel == "gray8" else "bgr0"
            stream.options = {"level": "3", "g": "1", "slices": "4"}
        self._video = stream
        self._audio: AudioStream | None = None
        if self._sound is not None:
            self._open_sound(self._sound)

    def _open_sound(self, sound: AudioClip | SoundBlocks) -> None:
        rate = sound.sample_rate_hz
        if self.codec == "h264" and rate not in _AAC_RATES_HZ:
            rate = 48000
        self._feed = SoundFeed(sound, rate)
        self._sound_rate = rate
        self._audio = self._container.add_stream(
            "aac" if self.codec == "h264" else "pcm_s16le", rate=rate, layout="mono"
        )
        if self.codec == "h264":
            self._audio.bit_rate = 128_000 if rate >= 32000 else 64_000

    def _send_sound(self, until: float, last: bool = False) -> None:
        import av

        if self._audio is None:
            return
        while last or self._sound_sent + _AAC_FRAME <= until:
            piece = np.clip(self._feed.take(_AAC_FRAME, rest=last), -1, 1)
            if not len(piece):
                return
            if self.codec == "h264":
                frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(piece[None]), format="fltp", layout="mono")
            else:
                coded = np.clip(np.rint(piece[None] * 32768), -32768, 32767).astype(np.int16)
                frame = av.AudioFrame.from_ndarray(coded, format="s16", layout="mono")
            frame.sample_rate = self._sound_rate
            frame.time_base = Fraction(1, self._sound_rate)
            frame.pts = self._sound_sent
            self._container.mux(self._audio.encode(frame))
            self._sound_sent += len(piece)

    def write(self, picture: np.ndarray) -> None:
        """Append one picture: uint8 [H, W, 3] for "rgb24", uint8 [H, W] for "gray8".

        Raises:
            ValueError: another shape or dtype.
        """
        shape = (self.height_px, self.width_px, 3) if self.pixel == "rgb24" else (self.height_px, self.width_px)
        if picture.dtype != np.uint8 or picture.shape != shape:
            raise ValueError(f"picture came as {picture.dtype} {list(picture.shape)}; wanted uint8 {list(shape)}")
        frame = self._coded(picture)
        frame.pts = self._count
        frame.time_base = 1 / self.rate
        self._container.mux(self._video.encode(frame))
        self._count += 1
        if self._audio is not None:
            self._send_sound(math.ceil(self._count / self.rate * self._sound_rate))

    def _coded(self, picture: np.ndarray) -> av.VideoFrame:
        import av
        from av.video.reformatter import ColorRange, Colorspace, Interpolation

        if self.codec == "ffv1":
            if self.pixel == "gray8":
                return av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="gray")
            return av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24").reformat(format="bgr0")
        if self.pixel == "gray8":
            picture = np.repeat(picture[:, :, None], 3, axis=2)
        if self.width_px % 2 or self.height_px % 2:
            picture = np.pad(picture, ((0, self.height_px % 2), (0, self.width_px % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24").reformat(
            format="yuv420p",
            src_colorspace=Colorspace.ITU709,
            dst_colorspace=Colorspace.ITU709,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
            interpolation=Interpolation.BICUBIC,
        )
        frame.colorspace = frame.color_range = 1
        return frame

    @property
    def frame_count(self) -> int:
        """Pictures written so far."""
        return self._count

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import av

        try:
            if kind is None and not self._count:
                raise ValueError(f"no picture was written to {self.path}; wanted at least one")
            if kind is None:
                self._container.mux(self._video.encode(None))
                if self._audio is not None:
                    self._send_sound(math.inf, last=True)
                    self._container.mux(self._audio.encode(None))
                self._container.close()
                os.replace(self._part, self.path)
        finally:
            # Closing writes what is buffered; after an error, such as a full disk, that may fail once more.
            with suppress(av.FFmpegError):
                self._container.close()
            self._part.unlink(missing_ok=True)
