"""VP8 for a talking person on a machine that is busy: cheap settings, and a rate that follows a real jam only.

Against aiortc's own settings, a packed picture of 512x512 takes about half the processor time, most of it saved by
leaving out the denoiser: rendered pictures have no noise.
"""

from __future__ import annotations

import threading
from fractions import Fraction

import av
from aiortc.codecs.vpx import Vp8Encoder
from aiortc.mediastreams import VIDEO_CLOCK_RATE, VIDEO_TIME_BASE, convert_timebase

_EFFORT = "-12"
"""libvpx's "cpu-used" in real time: further from 0 is faster; a dB is lost beyond."""
_KEY_FRAMES_APART = 3_000
_COARSEST, _FINEST = 56, 2
_LOWEST_SHARE = 0.15
_LOOK_SECONDS = 1.0
_BITS_PER_PIXEL = 0.11


def usual_bit_rate(pixels: int, frame_rate_hz: float) -> int:
    """Bits a second with which a person looks like what was drawn: 0.7 Mbit at 512x512 and 25 Hz, at least 0.3."""
    return max(round(_BITS_PER_PIXEL * pixels * frame_rate_hz), 300_000)


class LiveVp8(Vp8Encoder):
    """One peer's encoder.

    A receiver tells what it believes to be the most that the way carries (REMB). While little moves it has seen little
    and tells little: only an estimate below what is really being sent is a jam.

    Args:
        bits_per_second: where there is no jam.
        frame_rate_hz: of the frames.
    """

    def __init__(self, bits_per_second: int, frame_rate_hz: float) -> None:
        super().__init__()
        self._most, self._rate = bits_per_second, frame_rate_hz
        self._target = bits_per_second
        self._estimate: int | None = None
        self._sent_bits, self._since_pts = 0, 0
        self._lock = threading.Lock()
        self._ahead: tuple[av.VideoFrame, bytes] | None = None

    @property
    def target_bitrate(self) -> int:
        """Bits a second that are aimed at."""
        return self._target

    @target_bitrate.setter
    def target_bitrate(self, estimate: int) -> None:
        self._estimate = estimate

    def prepare(self, frame: av.VideoFrame) -> None:
        """Codes the first picture before it is asked for. May be called from any thread."""
        with self._lock:
            self._ahead = frame, self._coded(frame, True)

    def encode(self, frame: av.frame.Frame, force_keyframe: bool = False) -> tuple[list[bytes], int]:
        """Payloads of one picture in 4:2:0, and its time; see `aiortc.codecs.base.Encoder`."""
        assert isinstance(frame, av.VideoFrame)
        assert frame.pts is not None
        assert frame.time_base is not None
        pts = convert_timebase(frame.pts, frame.time_base, VIDEO_TIME_BASE)
        with self._lock:
            ahead, self._ahead = self._ahead, None
            if ahead is not None and ahead[0] is frame:
                data = ahead[1]
            else:
                self._settle(pts)
                data = self._coded(frame, force_keyframe or ahead is not None)
        payloads = self._packetize(data, self.picture_id)
        self.picture_id = (self.picture_id + 1) % (1 << 15)
        return payloads, pts

    def _coded(self, frame: av.VideoFrame, key: bool) -> bytes:
        if self.codec is None or (self.codec.width, self.codec.height) != (frame.width, frame.height):
            self.codec = self._opened(frame.width, frame.height)
        if key:
            frame.pict_type = av.video.frame.PictureType.I
        data = b"".join(bytes(packet) for packet in self.codec.encode(frame))
        self._sent_bits += 8 * len(data)
        return data

    def _settle(self, pts: int) -> None:
        """Once a second: the rate that the way carries. Another rate needs another encoder, and so a key frame."""
        passed = (pts - self._since_pts) / VIDEO_CLOCK_RATE
        if passed < _LOOK_SECONDS:
            return
        sent, self._sent_bits, self._since_pts = self._sent_bits / passed, 0, pts
        if self._estimate is None:
            return
        if self._estimate < 0.9 * sent:
            target = max(round(0.9 * self._estimate), round(_LOWEST_SHARE * self._most))
        elif self._estimate > 1.2 * self._target:
            target = min(self._estimate, self._most)
        else:
            return
        if abs(target - self._target) > 0.1 * self._target:
            self._target, self.codec = target, None

    def _opened(self, width: int, height: int) -> av.VideoCodecContext:
        codec = av.VideoCodecContext.create("libvpx", "w")
        codec.width, codec.height, codec.pix_fmt = width, height, "yuv420p"
        codec.framerate = Fraction(self._rate).limit_denominator(1001)
        codec.time_base = VIDEO_TIME_BASE
        codec.bit_rate = self._target
        codec.gop_size = _KEY_FRAMES_APART
        codec.qmin, codec.qmax = _FINEST, _COARSEST
        codec.thread_count = 1
        rate = str(self._target)
        codec.options = {
            "deadline": "realtime", "cpu-used": _EFFORT, "lag-in-frames": "0", "bufsize": rate, "minrate": rate,
            "maxrate": rate, "overshoot-pct": "15", "undershoot-pct": "100", "static-thresh": "1",
        }  # fmt: skip
        return codec
