"""Encoding pictures and sound at a constant rate; the file appears only when it is whole."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal

import numpy as np

from avatarfit.contracts import AudioClip, InputError
from avatarfit.media.sound_blocks import SoundBlocks
from avatarfit.media.sound_track import SoundTrack
from avatarfit.media.video_coding import CODINGS, add_pictures, coded_frame

if TYPE_CHECKING:
    import av

_AAC_RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)


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
        coding = CODINGS[self.codec]
        if self.codec == "h264":
            coding = replace(coding, options={"crf": str(self._crf), "preset": self._preset})
        elif self.pixel == "gray8":
            coding = replace(coding, pixels="gray")
        self._coding = coding
        self._video = add_pictures(self._container, coding, self.width_px, self.height_px, self.rate, alpha=False)
        self._track: SoundTrack | None = None
        if self._sound is not None:
            rate = self._sound.sample_rate_hz
            if self.codec == "h264" and rate not in _AAC_RATES_HZ:
                rate = 48000
            self._track = SoundTrack(self._container, self._sound, "aac" if self.codec == "h264" else "pcm16", rate)

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
        if self._track is not None:
            self._track.send_until(self._count / self.rate)

    def _coded(self, picture: np.ndarray) -> av.VideoFrame:
        import av

        if self.pixel == "rgb24":
            return coded_frame(picture, self._coding)
        if self.codec == "ffv1":
            return av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="gray")
        return coded_frame(np.repeat(picture[:, :, None], 3, axis=2), self._coding)

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
                if self._track is not None:
                    self._track.finish()
                self._container.close()
                os.replace(self._part, self.path)
        finally:
            # Closing writes what is buffered; after an error, such as a full disk, that may fail once more.
            with suppress(av.FFmpegError):
                self._container.close()
            self._part.unlink(missing_ok=True)
