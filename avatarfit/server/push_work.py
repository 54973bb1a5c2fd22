"""The process that codes a session's frames and sends them on; see `push`. `python -m`, its work on standard input.

A process of its own, because PyAV holds Python's lock while it connects: a target that does not answer would hold up
every session. It needs nothing but PyAV and numpy.
"""

from __future__ import annotations

import json
import struct
import sys
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import BinaryIO

import av
import numpy as np

from avatarfit.server.push_srt import SrtSender

FRAME = struct.Struct("<dII")
"""Before each frame: its time in seconds, bytes of its picture (0: the one before once more), bytes of its sound."""
OPENED = b"opened\n"
"""What is said on standard output once the target takes frames."""
_SOUND_HZ = 48_000
_SOUND_BITS = 128_000
_KEY_SECONDS = 2
"""Between key frames: what services that take RTMP ask for."""
_VIDEO_TIME_BASE = Fraction(1, 90_000)


@dataclass(frozen=True)
class PushJob:
    """What to send where.

    Attributes:
        url: of the target, with whatever secret it holds.
        container: FFmpeg's name, "flv" or "mpegts".
        width_px, height_px: even. rate_hz: of the frames. bits_per_second: of the picture.
        sender: an ffmpeg that sends instead of PyAV; see `push_srt`.
    """

    url: str
    container: str
    width_px: int
    height_px: int
    rate_hz: float
    bits_per_second: int
    sender: str | None = None

    def line(self) -> bytes:
        """For the process's standard input, where nobody sees it; an address on the command line anybody may."""
        return json.dumps(asdict(self)).encode() + b"\n"


def work(job: PushJob, source: BinaryIO, told: BinaryIO) -> None:
    """Until the source ends.

    Args:
        job: what to do.
        source: frames: `FRAME`, the planes of 4:2:0 as uint8, 48 kHz mono sound as int16.
        told: `OPENED` is written there.

    Raises:
        av.FFmpegError, OSError: the target does not answer, or takes no more.
    """
    with ExitStack() as held:
        place = job.url if job.sender is None else held.enter_context(closing(SrtSender(job.sender, job.url)))
        # What is ready leaves at once, rather than when a buffer is full.
        target = held.enter_context(av.open(place, "w", format=job.container, options={"flush_packets": "1"}))
        picture = target.add_stream("libx264", rate=Fraction(job.rate_hz).limit_denominator(1001))
        picture.width, picture.height, picture.pix_fmt = job.width_px, job.height_px, "yuv420p"
        picture.time_base = _VIDEO_TIME_BASE
        picture.bit_rate = job.bits_per_second
        picture.gop_size = round(_KEY_SECONDS * job.rate_hz)
        picture.codec_context.thread_count = 1
        rate = str(job.bits_per_second)
        picture.codec_context.options = {
            "preset": "veryfast", "tune": "zerolatency", "maxrate": rate, "bufsize": rate,
        }  # fmt: skip
        sound = target.add_stream("aac", rate=_SOUND_HZ, layout="stereo")
        sound.bit_rate = _SOUND_BITS
        target.start_encoding()
        told.write(OPENED)
        told.flush()
        first, planes = None, b""
        while head := _whole(source, FRAME.size):
            seconds, picture_bytes, sound_bytes = FRAME.unpack(head)
            planes = _whole(source, picture_bytes) if picture_bytes else planes
            samples = np.frombuffer(_whole(source, sound_bytes), "<i2")
            first = seconds if first is None else first
            shown = np.frombuffer(planes, np.uint8).reshape(job.height_px * 3 // 2, job.width_px)
            frame = av.VideoFrame.from_numpy_buffer(shown, format="yuv420p")
            frame.pts, frame.time_base = round((seconds - first) / _VIDEO_TIME_BASE), _VIDEO_TIME_BASE
            target.mux(picture.encode(frame))
            heard = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
            heard.sample_rate = _SOUND_HZ
            heard.pts, heard.time_base = round((seconds - first) * _SOUND_HZ), Fraction(1, _SOUND_HZ)
            target.mux(sound.encode(heard))


def _whole(source: BinaryIO, count: int) -> bytes:
    """So many bytes; fewer only where the source has ended."""
    data = source.read(count)
    return data if len(data) == count else b""


if __name__ == "__main__":
    try:
        work(PushJob(**json.loads(sys.stdin.buffer.readline())), sys.stdin.buffer, sys.stdout.buffer)
    except (av.FFmpegError, OSError) as error:
        sys.exit(f"{error.strerror or type(error).__name__}")
