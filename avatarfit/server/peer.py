"""One WebRTC peer of a session: picture and sound to it, its microphone back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from typing import TYPE_CHECKING, Literal

import av
import numpy as np
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError
from aiortc.sdp import SessionDescription

from avatarfit.contracts import InputError
from avatarfit.server.aiortc_inside import encode_with, hear_at_once, reach_by_loopback
from avatarfit.server.live_vp8 import LiveVp8, usual_bit_rate
from avatarfit.server.packed_alpha import PackedLayout
from avatarfit.server.tracks import PictureTrack, SoundTrack, feed

if TYPE_CHECKING:
    from avatarfit.server.served_session import ServedSession

Microphone = Literal["off", "speak", "hear"]
"""What becomes of the peer's voice: nothing, the person speaks it, or listens to it."""
_CONNECT_SECONDS = 20.0
_MOST_SECTIONS = 3
_CODECS = ("video/VP8", "video/rtx", "video/H264")
_log = logging.getLogger("avatarfit.server")


class Peer:
    """Made by an offer; ends with its session, by `close`, or when the other side is gone.

    Args:
        session: whose frames it gets.
        alpha: whether the matte lies below the picture.
        microphone: may be changed while it runs.
        loopback: the server is for this machine only.

    Raises:
        FullError: as many watch the session as may.
    """

    def __init__(self, session: ServedSession, alpha: bool, microphone: Microphone, loopback: bool) -> None:
        self.id, self.session, self.microphone = secrets.token_urlsafe(8), session, microphone
        self.layout = PackedLayout(session.live.width_px, session.live.height_px, alpha)
        self._loopback = loopback
        self._frames = session.subscribe()
        self._picture, self._sound = PictureTrack(self.layout, session.newest), SoundTrack()
        # No server elsewhere is asked for addresses.
        self._peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._connected, self._gone = asyncio.Event(), asyncio.Event()
        self._listening: asyncio.Task[None] | None = None

    async def answer(self, sdp: str) -> str:
        """The answer's SDP.

        Raises:
            InputError: the offer is none.
        """
        peer = self._peer
        peer.on("connectionstatechange", self._changed)
        peer.on("track", self._came)
        try:
            has_vp8 = _checked(sdp)
            video = peer.addTransceiver(self._picture, "sendonly")
            sound = peer.addTransceiver(self._sound, "sendrecv")
            known = RTCRtpSender.getCapabilities("video").codecs
            video.setCodecPreferences([codec for name in _CODECS for codec in known if codec.mimeType == name])
            if has_vp8:
                rate = self.session.live.frame_rate_hz
                pixels = self.layout.coded_width_px * self.layout.coded_height_px
                encoder = LiveVp8(usual_bit_rate(pixels, rate), rate)
                # While the two sides find each other.
                asyncio.get_running_loop().run_in_executor(None, encoder.prepare, self._picture.first)
                encode_with(video.sender, encoder)
            hear_at_once(sound.receiver)
            await peer.setRemoteDescription(RTCSessionDescription(_named_by_number(sdp), "offer"))
            if self._loopback:
                reach_by_loopback(peer)
            await peer.setLocalDescription(await peer.createAnswer())
        except InputError:
            raise
        except (RuntimeError, OSError):  # this machine's, not the offer's
            raise
        except Exception as error:  # noqa: BLE001 - the parser raises whatever it stumbles over
            raise InputError(
                f"an offer came that cannot be answered ({type(error).__name__})", "an SDP as browsers make it",
                "send what createOffer gave, after its candidates were gathered",
            ) from error  # fmt: skip
        return peer.localDescription.sdp

    async def run(self) -> None:
        """Until it ends; then all that it held is given back."""
        feeding = asyncio.create_task(feed(self._frames, self._picture, self._sound), name=f"peer {self.id}")
        waiting = asyncio.create_task(self._until_gone())
        try:
            await asyncio.wait([feeding, waiting], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (feeding, waiting, self._listening):
                if task is not None:
                    task.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await task
            await self.leave()

    async def leave(self) -> None:
        """Gives back what it holds. May be called twice."""
        self._frames.leave()
        self._picture.stop()
        self._sound.stop()
        await self._peer.close()

    def close(self) -> None:
        """Ends `run`."""
        self._connected.set()
        self._gone.set()

    async def _until_gone(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CONNECT_SECONDS):
                await self._connected.wait()
        if self._connected.is_set():
            await self._gone.wait()

    def _changed(self) -> None:
        state = self._peer.connectionState
        _log.debug("peer %s is %s", self.id, state)
        if state == "connected":
            self._connected.set()
        elif state in ("failed", "closed"):
            self.close()

    # Its voice.

    def _came(self, track: MediaStreamTrack) -> None:
        if track.kind == "audio":
            self._listening = asyncio.create_task(self._listen(track), name=f"microphone {self.id}")

    async def _listen(self, track: MediaStreamTrack) -> None:
        with contextlib.suppress(MediaStreamError):
            while True:
                packet = await track.recv()
                assert isinstance(packet, av.AudioFrame)
                if self.microphone != "off":
                    self._take(mono(packet), packet.sample_rate)

    def _take(self, samples: np.ndarray, rate_hz: int) -> None:
        live = self.session.live
        if self.microphone == "hear":
            live.hear(samples, rate_hz)
        elif live.room_seconds > len(samples) / rate_hz:
            live.push(samples, rate_hz, live=True)


def mono(packet: av.AudioFrame) -> np.ndarray:
    """Decoded sound, interleaved 16-bit, as int16 [n]: the mean of its channels."""
    sound = packet.to_ndarray().reshape(-1, packet.layout.nb_channels)
    return sound[:, 0] if sound.shape[1] == 1 else np.asarray(sound.mean(axis=1), np.int16)


def _named_by_number(sdp: str) -> str:
    """An offer without addresses that are names.

    Browsers hide their addresses behind names of multicast DNS (RFC 8828). To ask for them takes a second, and is not
    needed: the browser, which gets this machine's addresses, knocks first. Nothing may say that all candidates are
    there then.
    """

    def stays(line: str) -> bool:
        words = line.split()
        hidden = line.startswith("a=candidate:") and len(words) > 4 and words[4].lower().endswith(".local")
        return not hidden and not line.startswith("a=end-of-candidates")

    return "".join(line for line in sdp.splitlines(keepends=True) if stays(line))


def _checked(sdp: str) -> bool:
    """Whether an offer knows VP8.

    Raises:
        InputError: more or other than one picture, one sound, and data.
        Exception: it cannot be read.
    """
    description = SessionDescription.parse(sdp)
    kinds = [media.kind for media in description.media]
    names = {media.rtp.muxId for media in description.media}
    if not kinds or len(kinds) > _MOST_SECTIONS or len(set(kinds)) < len(kinds) or not {"audio", "video"} & {*kinds}:
        raise InputError(
            f"an offer of {len(kinds)} sections came", "one of video, one of audio, or both",
            "add one transceiver of each kind",
        )  # fmt: skip
    if not all(names.issuperset(group.items) for group in description.group):
        raise InputError("an offer came that bundles what is not in it", "sections by their names", "leave it whole")
    return any(
        codec.name == "VP8" for media in description.media if media.kind == "video" for codec in media.rtp.codecs
    )
