"""What one peer is sent: the frames of one subscription as a track of pictures and one of sound."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from fractions import Fraction
from typing import TYPE_CHECKING

import av
import numpy as np
from aiortc import MediaStreamTrack
from aiortc.mediastreams import VIDEO_CLOCK_RATE, VIDEO_TIME_BASE, MediaStreamError

from avatarfit.pipeline.live_frame import SOUND_HZ
from avatarfit.server.packed_alpha import PackedLayout, pack_i420

if TYPE_CHECKING:
    from avatarfit.pipeline.live_frame import LiveFrame
    from avatarfit.server.subscription import Subscription

PACKET_SAMPLES = 960
"""20 ms: what a packet of Opus holds (RFC 7587)."""
_MOST_PACKETS = 50
_SOUND_BITS = 64_000
_SOUND_TIME_BASE = Fraction(1, SOUND_HZ)


class PictureTrack(MediaStreamTrack):
    """The newest picture; one that comes before the last was taken stands in its place.

    Args:
        layout: of the pictures.
        first: what is sent before all others, known before there is a connection.
    """

    kind = "video"

    def __init__(self, layout: PackedLayout, first: LiveFrame) -> None:
        super().__init__()
        self._layout = layout
        self.first = self._picture(first)
        """That picture, as `recv` will give it."""
        self._begun = False
        self._newest: LiveFrame | None = None
        self._came = asyncio.Event()
        self.left_out = 0
        """Pictures that were not taken in time."""

    def offer(self, frame: LiveFrame) -> None:
        """A frame with a new picture; never waits."""
        self.left_out += self._newest is not None
        self._newest = frame
        self._came.set()

    def stop(self) -> None:
        """No more come."""
        super().stop()
        self._came.set()

    async def recv(self) -> av.VideoFrame:
        """See `MediaStreamTrack`."""
        if not self._begun:
            self._begun = True
            if self._newest is not None:
                # To connect took a while: it stands right before what comes next.
                self.first.pts = round(self._newest.pts_seconds * VIDEO_CLOCK_RATE) - 1
            return self.first
        while self._newest is None:
            if self.readyState != "live":
                raise MediaStreamError
            self._came.clear()
            await self._came.wait()
        frame, self._newest = self._newest, None
        return self._picture(frame)

    def _picture(self, frame: LiveFrame) -> av.VideoFrame:
        picture = av.VideoFrame.from_numpy_buffer(pack_i420(frame.picture, self._layout), format="yuv420p")
        picture.pts = round(frame.pts_seconds * VIDEO_CLOCK_RATE)
        picture.time_base = VIDEO_TIME_BASE
        return picture


class SoundPackets:
    """Cuts the sound of frames, whatever their rate, into packets of 20 ms."""

    def __init__(self) -> None:
        self._rest = np.zeros(0, np.int16)
        self._next = 0

    def cut(self, frame: LiveFrame) -> list[tuple[int, np.ndarray]]:
        """What is whole with the next frame: first sample's number on the session's line, and int16 [960].

        Where frames are missing, the line goes on without them.
        """
        begin = round(frame.pts_seconds * SOUND_HZ)
        if begin != self._next + len(self._rest):
            self._rest, self._next = self._rest[:0], begin
        sound = np.concatenate([self._rest, frame.sound])
        whole = len(sound) - len(sound) % PACKET_SAMPLES
        first = self._next
        self._rest, self._next = sound[whole:], first + whole
        return [(first + at, sound[at : at + PACKET_SAMPLES]) for at in range(0, whole, PACKET_SAMPLES)]


class SoundTrack(MediaStreamTrack):
    """The sound of all frames as Opus, in packets that leave at the pace at which they are heard.

    A receiver takes the time at which packets leave as the time to which they belong: two that leave together would
    set sound and picture apart. They are coded here, in mono, in a fifth of a millisecond: aiortc's own way, through
    another thread, in stereo, and with a level for each, takes three times as long.
    """

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._packets = SoundPackets()
        self._due: deque[tuple[float, int, np.ndarray]] = deque(maxlen=_MOST_PACKETS)
        self._came = asyncio.Event()
        self._coder = av.AudioCodecContext.create("libopus", "w")
        self._coder.sample_rate, self._coder.format, self._coder.layout = SOUND_HZ, "s16", "mono"
        self._coder.bit_rate = _SOUND_BITS
        self._coder.options = {"application": "voip", "frame_duration": "20"}

    def offer(self, frame: LiveFrame) -> None:
        """The next frame; never waits."""
        now = time.monotonic()
        for begin, samples in self._packets.cut(frame):
            self._due.append((now + begin / SOUND_HZ - frame.pts_seconds, begin, samples))
        self._came.set()

    def stop(self) -> None:
        """No more comes."""
        super().stop()
        self._came.set()

    async def recv(self) -> av.Packet:
        """See `MediaStreamTrack`."""
        while True:
            while not self._due:
                if self.readyState != "live":
                    raise MediaStreamError
                self._came.clear()
                await self._came.wait()
            due, begin, samples = self._due.popleft()
            wait = due - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            heard = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
            heard.sample_rate = SOUND_HZ
            for packet in self._coder.encode(heard):
                packet.pts, packet.time_base = begin, _SOUND_TIME_BASE
                return packet


async def feed(frames: Subscription[LiveFrame], picture: PictureTrack, sound: SoundTrack) -> None:
    """Gives every frame to both tracks, until the frames end."""
    async for frame in frames:
        sound.offer(frame)
        if frame.fresh:
            picture.offer(frame)
