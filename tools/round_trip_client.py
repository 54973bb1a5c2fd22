"""A client of a running server, by WebRTC, that tells when a flash and a beep reach it. See `measure_round_trip.py`.

It is aiortc's, but for one thing: that gives a picture when the next one begins, and sound after four packets, which is
80 ms. Here both are decoded when their last packet is there, as browsers do where nothing is lost.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Self

import av
import httpx2
import numpy as np
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCRtpReceiver, RTCSessionDescription
from aiortc.jitterbuffer import JitterFrame
from aiortc.mediastreams import MediaStreamError
from aiortc.rtp import RtcpSrPacket, RtpPacket
from beeping_microphone import SOUND_HZ

_LOUD = 0.1
_QUIET_SECONDS = 0.1
_NTP_FRACTION = 2.0**-32
_KEPT = 500
_BUFFER = "_RTCRtpReceiver__jitter_buffer"


class Ear:
    """Finds where sound begins after a pause.

    Attributes:
        onset: of the last that was found: seconds on the sound's line.
    """

    def __init__(self) -> None:
        self.onset = 0.0
        self._last_loud = -np.inf

    def hear(self, seconds: float, samples: np.ndarray) -> bool:
        """Float [n] at 48 kHz that begin at `seconds`; whether a sound begins in them, after a tenth of a second."""
        loud = seconds + np.flatnonzero(np.abs(samples) > _LOUD) / SOUND_HZ
        began = loud[np.diff(loud, prepend=self._last_loud) > _QUIET_SECONDS]
        if len(loud):
            self._last_loud = float(loud[-1])
        if len(began):
            self.onset = float(began[0])
        return bool(len(began))


class Eye:
    """Finds pictures with which a flash begins."""

    def __init__(self) -> None:
        self._lit = True

    def see(self, share: float) -> bool:
        """How far the newest picture is lit, 0 to 1; whether it is the first beyond a half."""
        before, self._lit = self._lit, share > 0.5
        return self._lit and not before


class Arrivals:
    """In the place of a receiver's jitter buffer: a frame is whole with its last packet.

    Attributes:
        first: when the very first packet came, by `time.monotonic`; None before.
        began: the first frame's time, as RTP counts.
    """

    def __init__(self, whole_packets: bool) -> None:
        self.first: float | None = None
        self.began: int | None = None
        self._whole_packets, self._parts = whole_packets, list[bytes]()
        self._at = dict[int, float]()
        self._order = deque[int]()

    def add(self, packet: RtpPacket) -> tuple[bool, JitterFrame | None]:
        """See aiortc's `JitterBuffer`: whether a key frame is to be asked for, and the frame that is whole."""
        now = time.monotonic()
        self.first = self.first or now
        self._parts.append(packet._data)  # type: ignore[attr-defined]
        if not (packet.marker or self._whole_packets):
            return False, None
        if self.began is None:
            self.began = packet.timestamp
        since = (packet.timestamp - self.began) % 2**32
        self._at[since] = now
        self._order.append(since)
        if len(self._order) > _KEPT:
            del self._at[self._order.popleft()]
        data, self._parts = b"".join(self._parts), []
        return False, JitterFrame(data, packet.timestamp)

    def at(self, pts: int) -> float:
        """When the frame of a decoded one's time was whole."""
        return self._at[pts % 2**32]


class Report:
    """What the sender's reports (RFC 3550, 6.4.1) say of one track: which of its times was sent when."""

    def __init__(self, receiver: RTCRtpReceiver, clock_hz: int) -> None:
        self._clock = clock_hz
        self._said: tuple[float, int] | None = None
        handle = receiver._handle_rtcp_packet

        async def look(packet: Any) -> None:
            if isinstance(packet, RtcpSrPacket):
                told = packet.sender_info
                self._said = told.ntp_timestamp * _NTP_FRACTION, told.rtp_timestamp
            await handle(packet)

        receiver._handle_rtcp_packet = look  # type: ignore[method-assign]

    def seconds(self, timestamp: float) -> float | None:
        """The sender's time, in seconds, of a time as RTP counts; None before the first report."""
        if self._said is None:
            return None
        sent, at = self._said
        return sent + ((timestamp - at + 2**31) % 2**32 - 2**31) / self._clock


class Client:
    """One session, watched.

    Args:
        server: its HTTP client.
        share: how far a picture's luma is lit.

    Attributes:
        parts_ms: what came when, up to the first decoded picture.
        beeps, flashes: when their first sample or picture was there (`time.monotonic`), its time on the track's line in
            seconds, and that by the sender's reports.
    """

    def __init__(self, server: httpx2.AsyncClient, share: Callable[[np.ndarray], float]) -> None:
        self._server, self._share = server, share
        self.path = ""
        self.parts_ms: dict[str, float] = {}
        self.beeps: list[tuple[float, float, float | None]] = []
        self.flashes: list[tuple[float, float, float | None]] = []
        self.pictures = 0
        self._seen = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        began = since = time.monotonic()

        def part(name: str, until: float | None = None) -> None:
            nonlocal since
            now = time.monotonic() if until is None else until
            self.parts_ms[name] = 1e3 * (now - since)
            since = now

        self.path = f"/api/sessions/{(await self._ask('POST', '/api/sessions', {}))['id']}"
        part("session")
        peer = self._peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        connected = asyncio.Event()
        peer.on("connectionstatechange", lambda: connected.set() if peer.connectionState == "connected" else None)
        peer.on("track", lambda track: self._tasks.append(asyncio.create_task(self._take(track))))
        clocks = {"video": 90_000, "audio": SOUND_HZ}
        receivers = {kind: peer.addTransceiver(kind, "recvonly").receiver for kind in clocks}
        self._arrivals = {kind: Arrivals(kind == "audio") for kind in clocks}
        self._reports = {kind: Report(receiver, clocks[kind]) for kind, receiver in receivers.items()}
        for kind, receiver in receivers.items():
            setattr(receiver, _BUFFER, self._arrivals[kind])
        await peer.setLocalDescription(await peer.createOffer())
        part("offer_made")
        answer = await self._ask("POST", f"{self.path}/offer", {"sdp": peer.localDescription.sdp})
        part("answer")
        await peer.setRemoteDescription(RTCSessionDescription(answer["sdp"], "answer"))
        await asyncio.wait_for(connected.wait(), 20.0)
        part("connected")
        await asyncio.wait_for(self._seen.wait(), 20.0)
        seen = time.monotonic()
        part("first_packet", self._arrivals["video"].first)
        part("first_picture", self._arrivals["video"].at(0))
        part("decoded", seen)
        self.parts_ms["all"] = 1e3 * (seen - began)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._peer.close()
        await asyncio.gather(*self._tasks)
        await self._server.delete(self.path)

    async def _ask(self, method: str, path: str, body: object) -> Any:
        answer = await self._server.request(method, path, json=body)
        answer.raise_for_status()
        return answer.json()

    async def _take(self, track: MediaStreamTrack) -> None:
        ear, eye = Ear(), Eye()
        arrivals, report = self._arrivals[track.kind], self._reports[track.kind]
        try:
            while True:
                frame = await track.recv()
                assert frame.pts is not None
                assert frame.time_base is not None
                assert arrivals.began is not None
                came, seconds = arrivals.at(frame.pts), float(frame.pts * frame.time_base)
                if isinstance(frame, av.VideoFrame):
                    self.pictures += 1
                    if eye.see(self._share(_luma(frame))):
                        self.flashes.append((came, seconds, report.seconds(arrivals.began + frame.pts)))
                    self._seen.set()
                elif isinstance(frame, av.AudioFrame):
                    sound = frame.to_ndarray().reshape(-1, frame.layout.nb_channels)[:, 0] / 32768
                    if ear.hear(seconds, sound):
                        into = ear.onset - seconds
                        at = report.seconds(arrivals.began + frame.pts)
                        self.beeps.append((came + into, ear.onset, None if at is None else at + into))
        except MediaStreamError:
            pass


def _luma(frame: av.VideoFrame) -> np.ndarray:
    """uint8 [H, W]."""
    plane = frame.planes[0]
    return np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: frame.height, : frame.width]
