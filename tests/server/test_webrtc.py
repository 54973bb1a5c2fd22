"""A real WebRTC client against a real server: what is pushed is seen and heard, by its own peer alone."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine
from fractions import Fraction
from typing import Any, Self

import av
import httpx2
import numpy as np
import pytest
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError

from avatarfit.server.packed_alpha import PackedLayout, unpack

HIGH, WIDE = 64, 48
DARK, LIGHT = 40, 200


class Tone(MediaStreamTrack):
    """A microphone that hears a tone."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._at = 0

    async def recv(self) -> av.AudioFrame:
        await asyncio.sleep(0.02)
        samples = 12_000 * np.sin((self._at + np.arange(960)) * 0.06)
        frame = av.AudioFrame.from_ndarray(samples.astype(np.int16)[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, self._at, Fraction(1, 48_000)
        self._at += 960
        return frame


class Viewer:
    """A client of one session: its newest picture, and all of its sound."""

    def __init__(self, served: Any, path: str, voice: MediaStreamTrack | None = None, **offer: Any) -> None:
        self._server, self._path, self._offer = served, path, offer
        self.peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.peer.addTransceiver("video", "recvonly")
        self.peer.addTransceiver(voice or "audio", "sendrecv" if voice else "recvonly")
        self.peer.on("track", lambda track: self._tasks.append(asyncio.create_task(self._take(track))))
        self._tasks: list[asyncio.Task[None]] = []
        self.pictures: list[np.ndarray] = []
        self.sounds: list[np.ndarray] = []
        self.name = ""

    async def __aenter__(self) -> Self:
        await self.peer.setLocalDescription(await self.peer.createOffer())
        answer = await self.ask("POST", "/offer", {"sdp": self.sdp, **self._offer})
        assert answer.status_code == 200, answer.text
        told = answer.json()
        self.name, picture = told["peer"], told["picture"]
        self.layout = PackedLayout(picture["width_px"], picture["height_px"], picture["alpha"])
        assert picture["matte_row_px"] == self.layout.matte_row_px
        await self.peer.setRemoteDescription(RTCSessionDescription(told["sdp"], "answer"))
        await self.until(lambda: self.pictures and self.sounds)
        return self

    @property
    def sdp(self) -> str:
        """The offer."""
        return str(self.peer.localDescription.sdp)

    async def __aexit__(self, *_: object) -> None:
        await self.peer.close()
        await asyncio.gather(*self._tasks)

    async def ask(self, method: str, path: str, body: Any = None, data: bytes | None = None) -> httpx2.Response:
        async with httpx2.AsyncClient(base_url=self._server.url, timeout=60.0) as client:
            return await client.request(method, self._path + path, json=body, content=data)

    async def _take(self, track: MediaStreamTrack) -> None:
        try:
            while True:
                frame = await track.recv()
                if isinstance(frame, av.VideoFrame):
                    self.pictures.append(frame.to_ndarray(format="rgb24"))
                else:
                    assert isinstance(frame, av.AudioFrame)
                    self.sounds.append(frame.to_ndarray().reshape(-1, 2)[:, 0])
        except MediaStreamError:
            pass

    async def until(self, true: Callable[[], Any]) -> None:
        async with asyncio.timeout(60.0):
            while not true():
                await asyncio.sleep(0.02)

    @property
    def light(self) -> float:
        """Of the lamp, in the newest picture."""
        return float(self.pictures[-1][24:40, 16:32].mean())

    @property
    def loud(self) -> bool:
        """The last 60 ms were."""
        return bool(np.abs(np.concatenate(self.sounds[-3:])).max() > 2_000)

    def hertz(self) -> float:
        """Of the loudest tone in what was heard."""
        sound = np.concatenate(self.sounds).astype(float)
        return float(np.argmax(np.abs(np.fft.rfft(sound))) * 48_000 / len(sound))


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 180.0))


def lit(viewer: Viewer) -> Callable[[], bool]:
    return lambda: viewer.light > (DARK + LIGHT) / 2 and viewer.loud


def dark(viewer: Viewer) -> Callable[[], bool]:
    return lambda: viewer.light < DARK + 25 and not viewer.loud


def test_speech_is_seen_and_heard_and_ends(served: Any, sound: Callable[..., bytes], lamps: None) -> None:
    async def test() -> None:
        async with Viewer(served, served.open()) as viewer:
            await viewer.until(dark(viewer))
            assert (await viewer.ask("POST", "/speak", data=sound(1.0))).status_code == 202
            await viewer.until(lit(viewer))
            await viewer.until(dark(viewer))
            heard = np.concatenate(viewer.sounds)
            # Opus may smear its ends by a packet or two.
            assert abs(np.count_nonzero(np.abs(heard) > 500) / 48_000 - 1.0) < 0.1

    run(test())


def test_the_matte_is_the_one_that_was_drawn(served: Any, lamps: Any) -> None:
    async def test() -> None:
        async with Viewer(served, served.open(alpha=True)) as viewer:
            await viewer.until(lambda: len(viewer.pictures) > 10)
            picture = unpack(viewer.pictures[-1], viewer.layout)
            truth = lamps(True).draw(_silence())
            assert viewer.layout.alpha
            # The coder's noise lies about the square's edge.
            assert np.abs(picture.astype(int) - truth).mean() < 3
            assert picture[24:40, 16:32, 3].min() > 240
            assert picture[:10, :, 3].max() < 16

    run(test())


def _silence() -> Any:
    from types import SimpleNamespace

    return SimpleNamespace(motion=SimpleNamespace(face=SimpleNamespace(mouth=np.zeros((1, 1)))))


def test_a_person_moves(served: Any) -> None:
    async def test() -> None:
        async with Viewer(served, served.open()) as viewer:
            assert viewer.layout == PackedLayout(WIDE, HIGH, False)
            await viewer.until(lambda: len(viewer.pictures) > 20)
            some = np.stack(viewer.pictures[5:]).astype(float)
            assert some.mean() > 20
            assert some.std(axis=0).max() > 3

    run(test())


def test_an_interruption_is_seen_and_heard(served: Any, sound: Callable[..., bytes], lamps: None) -> None:
    async def test() -> None:
        async with Viewer(served, served.open()) as viewer:
            await viewer.ask("POST", "/speak", data=sound(30.0))
            await viewer.until(lit(viewer))
            assert (await viewer.ask("POST", "/interrupt")).status_code == 200
            await viewer.until(dark(viewer))
            assert len(viewer.sounds) < 20.0 / 0.02

    run(test())


def test_sessions_do_not_mix(served: Any, lamps: None) -> None:
    def pcm(hertz: float) -> bytes:
        samples: np.ndarray = 12_000 * np.sin(2 * np.pi * hertz * np.arange(48_000) / 48_000)
        return samples.astype("<i2").tobytes()

    async def test() -> None:
        first, second = served.open(), served.open()
        async with Viewer(served, first) as one, Viewer(served, first) as other, Viewer(served, second) as apart:
            for path, hertz in ((first, 400.0), (second, 900.0)):
                with served.socket(f"{path}/pcm?rate=48000") as line:
                    line.send(pcm(hertz))
            for viewer in (one, other, apart):
                await viewer.until(lambda viewer=viewer: viewer.loud)
            for viewer in (one, other, apart):
                await viewer.until(lambda viewer=viewer: not viewer.loud)
            assert one.hertz() == pytest.approx(400, abs=5)
            assert other.hertz() == pytest.approx(400, abs=5)
            assert apart.hertz() == pytest.approx(900, abs=5)

    run(test())


def test_a_microphone_is_spoken_or_heard_as_it_is_turned(served: Any, lamps: None) -> None:
    async def test() -> None:
        path = served.open()
        told = served.session(path).live.statistics
        async with Viewer(served, path, Tone(), microphone="off") as viewer:
            await viewer.until(lambda: len(viewer.pictures) > 10)
            assert told.spoken_seconds == 0
            turned = await viewer.ask("PATCH", f"/peers/{viewer.name}", {"microphone": "speak"})
            assert turned.json() == {"microphone": "speak"}
            await viewer.until(lit(viewer))
            await viewer.ask("PATCH", f"/peers/{viewer.name}", {"microphone": "hear"})
            await viewer.until(dark(viewer))
            assert told.spoken_seconds > 0

    run(test())


def test_a_client_that_goes_is_forgotten(served: Any, wait: Callable[..., Any], lamps: None) -> None:
    async def test() -> None:
        path = served.open()
        async with Viewer(served, path):
            assert served.session(path).watchers == 1
        async with Viewer(served, path) as viewer:
            assert (await viewer.ask("DELETE", f"/peers/{viewer.name}")).status_code == 204
            await viewer.until(lambda: viewer.peer.connectionState == "closed")
            assert (await viewer.ask("DELETE", f"/peers/{viewer.name}")).status_code == 404
        wait(lambda: served.session(path).watchers == 0)

    run(test())


def test_a_browser_that_hides_its_addresses_is_not_asked_for_them(
    served: Any, lamps: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Browsers name their addresses by multicast DNS, and send no end of candidates."""

    class Hidden(Viewer):
        @property
        def sdp(self) -> str:
            hidden = re.sub(
                r"(a=candidate:\S+ \d udp \d+) \S+", r"\1 6f4c6d3a-4a6b-4f6e-9a3e-0c1d2e3f4a5b.local", super().sdp
            )
            return hidden.replace("a=end-of-candidates\r\n", "")

    async def ask(_: object) -> None:
        raise AssertionError("a name was asked for")

    monkeypatch.setattr("aioice.ice.get_or_create_mdns_protocol", ask)

    async def test() -> None:
        async with Hidden(served, served.open()) as viewer:
            assert ".local" in viewer.sdp
            assert viewer.peer.connectionState == "connected"

    run(test())


def test_a_session_that_ends_ends_its_connections(served: Any, lamps: None) -> None:
    async def test() -> None:
        path = served.open()
        async with Viewer(served, path) as viewer:
            await viewer.ask("DELETE", "")
            await viewer.until(lambda: viewer.peer.connectionState == "closed")
            answer = await viewer.ask("POST", "/offer", {"sdp": "v=0"})
            assert answer.status_code == 404

    run(test())


BROKEN = [
    "",
    "v=0\r\n",
    "no sdp at all",
    "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n",
    "v=0\r\nm=audio x UDP/TLS/RTP/SAVPF 111\r\n",
    "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n",
    "v=0\r\n" + 40 * "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n",
    "\x00\uffff\r\n" * 50,
    "a=" * 30_000,
    "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=fmtp:99 minptime=10\r\n",
    "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=rtpmap:111 opus\r\na=candidate:1 1 udp x y z\r\n",
]


@pytest.mark.parametrize("sdp", BROKEN)
def test_a_broken_offer_is_one_sentence(served: Any, wait: Callable[..., Any], sdp: str) -> None:
    path = served.open()
    answer = served.client.post(f"{path}/offer", json={"sdp": sdp})
    assert answer.status_code == 422
    assert answer.json()["detail"].endswith(".")
    assert "\n" not in answer.json()["detail"]
    wait(lambda: served.session(path).watchers == 0)


@pytest.mark.parametrize("drop", ["a=ice-ufrag", "a=fingerprint", "a=rtcp-mux", "a=rtpmap", "a=mid", "m=video"])
def test_an_offer_that_lacks_something_harms_nothing(
    served: Any, wait: Callable[..., Any], drop: str, lamps: None
) -> None:
    async def offer() -> str:
        peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        peer.addTransceiver("video", "recvonly")
        peer.addTransceiver("audio", "recvonly")
        await peer.setLocalDescription(await peer.createOffer())
        sdp = peer.localDescription.sdp
        await peer.close()
        return str(sdp)

    lines = asyncio.run(offer()).splitlines(keepends=True)
    path = served.open()
    answer = served.client.post(
        f"{path}/offer", json={"sdp": "".join(line for line in lines if not line.startswith(drop))}
    )
    assert answer.status_code in (200, 422), answer.text
    if answer.status_code == 200:
        gone = served.client.delete(f"{path}/peers/{answer.json()['peer']}")
        assert gone.status_code == 204
    wait(lambda: served.session(path).watchers == 0)
    assert served.client.get(path).status_code == 200


def test_as_many_watch_as_may(serve: Callable[..., Any], lamps: None) -> None:
    async def test(served: Any) -> None:
        path = served.open()
        async with Viewer(served, path) as viewer:
            answer = await viewer.ask("POST", "/offer", {"sdp": viewer.sdp})
            assert answer.status_code == 503

    with serve(most_watchers=1) as served:
        run(test(served))
