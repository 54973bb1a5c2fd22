"""Sessions that are sent on: what arrives, what becomes of targets that end, stall or never were, and cameras."""

from __future__ import annotations

import asyncio
import contextlib
import io
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from avatarfit.contracts import InputError
from avatarfit.pipeline.live import LiveOptions
from avatarfit.server.push import Push
from avatarfit.server.push_srt import ffmpeg_with_srt
from avatarfit.server.sessions import Sessions
from avatarfit.server.settings import ServerSettings
from avatarfit.server.standing import Standing
from avatarfit.server.virtual_camera import VirtualCamera


@pytest.fixture
def run(speaker: Any, lamps: Any) -> Callable[..., Any]:
    """Runs a test's coroutine with the sessions of a server."""

    def runs(test: Callable[[Sessions], Awaitable[Any]]) -> Any:
        async def whole() -> Any:
            settings = ServerSettings(live=LiveOptions(mark=None))
            async with Sessions({"anna": speaker}, settings) as sessions:
                return await asyncio.wait_for(test(sessions), 120.0)

        return asyncio.run(whole())

    return runs


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as place:
        return int(place.getsockname()[1])


class Target:
    """A service that takes one stream: collects until there are so many pictures, then hangs up."""

    def __init__(self, url: str, options: dict[str, str], pictures: int) -> None:
        self.pictures: list[tuple[float, np.ndarray]] = []
        self.sounds: list[np.ndarray] = []
        self.error: Exception | None = None
        self._wanted = (url, options, pictures)
        self._thread = threading.Thread(target=self._take, daemon=True)
        self._thread.start()

    def _take(self) -> None:
        url, options, count = self._wanted
        try:
            with av.open(url, options=options, timeout=(60.0, 60.0)) as source:
                self.codecs = {stream.type: stream.codec_context.name for stream in source.streams}
                for frame in source.decode():
                    if isinstance(frame, av.VideoFrame):
                        self.pictures.append((frame.time, frame.to_ndarray(format="rgb24")))
                    elif isinstance(frame, av.AudioFrame):
                        self.sounds.append(frame.to_ndarray()[0])
                    if len(self.pictures) >= count:
                        return
        except av.FFmpegError as error:
            self.error = error

    async def wait(self) -> None:
        await asyncio.to_thread(self._thread.join, 60.0)
        assert not self._thread.is_alive()
        assert self.error is None, self.error


def tone(seconds: float) -> np.ndarray:
    return (0.4 * np.sin(np.arange(round(seconds * 48_000)) * 0.06)).astype(np.float32)


@pytest.mark.parametrize("kind", ["rtmp", "tcp"])
def test_picture_and_sound_arrive_and_come_back(run: Callable[..., Any], kind: str) -> None:
    told: list[str] = []

    async def test(sessions: Sessions) -> None:
        port = free_port()
        url = f"{kind}://127.0.0.1:{port}" + ("/live/a-secret-key" if kind == "rtmp" else "")
        listen = (url, {"listen": "1"}) if kind == "rtmp" else (f"{url}?listen=1", {})
        session = await sessions.open()
        push = Push(url, told.append, wait_seconds=0.1)
        target = Target(*listen, 60)
        pushing = asyncio.create_task(push.run(session))
        session.speak(tone(20.0), 48_000)
        await target.wait()
        assert target.codecs == {"video": "h264", "audio": "aac"}
        times = np.array([time for time, _ in target.pictures])
        np.testing.assert_allclose(np.diff(times), 0.04, atol=2e-3)
        shown = target.pictures[-1][1]
        assert shown.shape == (64, 48, 3)
        assert shown[28:34, 20:28].mean() > 150
        assert shown[4, 24].max() < 40
        heard = np.concatenate(target.sounds)
        hertz = np.argmax(np.abs(np.fft.rfft(heard))) * 48_000 / len(heard)
        assert hertz == pytest.approx(0.06 * 48_000 / (2 * np.pi), abs=10)
        # It has hung up; another takes its place.
        again = Target(*listen, 20)
        await again.wait()
        assert push.connections >= 2
        await session.close()
        await pushing

    run(test)
    assert any("takes frames" in sentence for sentence in told)
    assert any("tried again in" in sentence for sentence in told)
    assert not any("secret" in sentence for sentence in told)


class SrtTarget:
    """A service that waits for one stream of SRT, until it is killed; it keeps what comes."""

    def __init__(self, program: str, port: int, file: Path, options: str) -> None:
        url = f"srt://127.0.0.1:{port}?mode=listener&{options}"
        words = [program, "-loglevel", "error", "-nostdin", "-y", "-f", "data", "-i", url, "-map", "0", "-c", "copy"]
        self._file = file
        self._child = subprocess.Popen([*words, "-flush_packets", "1", "-f", "data", str(file)])

    async def wait(self, size: int) -> None:
        """Until so many bytes came."""
        while not self._file.exists() or self._file.stat().st_size < size:
            assert self._child.poll() is None
            await asyncio.sleep(0.05)

    def kill(self) -> None:
        self._child.kill()
        self._child.wait()


def test_srt_goes_through_an_ffmpeg_and_comes_back(run: Callable[..., Any], tmp_path: Path) -> None:
    program = ffmpeg_with_srt()
    if program is None:
        pytest.skip("NO FFMPEG WITH SRT: pushing by SRT was not tested; pip install imageio-ffmpeg")
    told: list[str] = []
    options = "passphrase=a-secret-key"

    async def test(sessions: Sessions) -> None:
        port = free_port()
        session = await sessions.open()
        target = SrtTarget(program, port, tmp_path / "first.ts", options)
        push = Push(f"srt://127.0.0.1:{port}?{options}&streamid=me", told.append, wait_seconds=0.2, stall_seconds=5.0)
        pushing = asyncio.create_task(push.run(session))
        session.speak(tone(60.0), 48_000)
        await target.wait(200_000)
        target.kill()
        target = SrtTarget(program, port, tmp_path / "second.ts", options)
        await target.wait(60_000)
        target.kill()
        # One that knows another key is told no frames.
        other = SrtTarget(program, port, tmp_path / "third.ts", "passphrase=another-secret")
        lost = len(told)
        while sum("takes no frames" in sentence for sentence in told[lost:]) < 2:
            await asyncio.sleep(0.05)
        other.kill()
        await session.close()
        await pushing

    run(test)
    assert not any("secret" in sentence for sentence in told), told
    assert program in told[0]
    assert sum("takes frames" in sentence for sentence in told) == 2
    data = (tmp_path / "first.ts").read_bytes()
    # Whole packets of MPEG-TS in every message.
    assert {data[at] for at in range(0, len(data) - 187, 188)} == {0x47}
    with av.open(io.BytesIO(data), format="mpegts") as source:
        assert [stream.codec_context.name for stream in source.streams] == ["h264", "aac"]
        pictures, sounds = [], []
        with contextlib.suppress(av.FFmpegError):  # the last of each was cut off
            for frame in source.decode():
                (pictures if isinstance(frame, av.VideoFrame) else sounds).append(frame)
    lamp = [picture.to_ndarray(format="rgb24")[28:34, 20:28].mean() for picture in pictures]
    assert len(lamp) > 50
    assert max(lamp) > 150
    assert np.abs(np.concatenate([sound.to_ndarray()[0] for sound in sounds])).max() > 0.2


def test_srt_needs_somebody_who_has_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    without = tmp_path / "ffmpeg"
    without.write_text("#!/bin/sh\necho srtp")
    without.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("avatarfit.server.push_srt.find_spec", lambda _: None)
    with pytest.raises(InputError, match="pip install imageio-ffmpeg"):
        Push("srt://127.0.0.1:9?passphrase=a-secret-key", print)


def test_a_target_that_stalls_holds_up_nobody(run: Callable[..., Any]) -> None:
    told: list[str] = []

    async def test(sessions: Sessions) -> None:
        with socket.create_server(("127.0.0.1", 0)) as place:  # it accepts, and never reads
            place.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            session = await sessions.open()
            push = Push(f"rtmp://127.0.0.1:{place.getsockname()[1]}/live/x", told.append, stall_seconds=1.0)
            pushing = asyncio.create_task(push.run(session))
            async with session.subscribe() as frames:
                indices = []
                async for frame in frames:
                    indices.append(frame.index)
                    if told:
                        break
            assert indices == list(range(indices[0], indices[0] + len(indices)))
            pushing.cancel()
            await asyncio.gather(pushing, return_exceptions=True)

    run(test)
    assert "it stalls" in told[0]


def test_a_target_that_is_not_there_is_tried_again(run: Callable[..., Any]) -> None:
    told: list[str] = []

    async def test(sessions: Sessions) -> None:
        session = await sessions.open()
        push = Push(f"tcp://127.0.0.1:{free_port()}", told.append, wait_seconds=0.05)
        pushing = asyncio.create_task(push.run(session))
        while len(told) < 3:
            await asyncio.sleep(0.05)
        assert push.connections == 0
        await session.close()
        await pushing

    run(test)
    assert [sentence.rpartition(" in ")[2] for sentence in told[:3]] == ["0.05 s.", "0.1 s.", "0.2 s."]
    assert "refused" in told[0]


@pytest.mark.parametrize("url", ["", "file:///etc/passwd", "http://example.org/x", "rtmp:", "rtmp", "pipe:1"])
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(InputError, match="rtmp://"):
        Push(url, print)


def test_what_always_runs_is_opened_again(run: Callable[..., Any]) -> None:
    async def test(sessions: Sessions) -> None:
        ids: list[str] = []
        told: list[str] = []
        seen: list[int] = []

        class Bad:
            async def run(self, session: Any) -> None:
                raise InputError("nothing", "something", "give it")

        class Good:
            async def run(self, session: Any) -> None:
                async with session.subscribe() as frames:
                    async for frame in frames:
                        seen.append(frame.index)

        always = asyncio.create_task(Standing([Bad(), Good()], ids.append, told.append).run(sessions))
        while len(seen) < 5:
            await asyncio.sleep(0.02)
        await sessions.close(ids[0])
        while len(ids) < 2:
            await asyncio.sleep(0.02)
        assert told[0] == "nothing; wanted something; give it."
        assert sessions.get(ids[1]).idle_seconds == 0
        always.cancel()
        await asyncio.gather(always, return_exceptions=True)

    run(test)


def test_a_camera_gets_every_picture(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """pyvirtualcam needs a device of the kernel: a stand-in of the same form takes its place."""
    sent: list[np.ndarray] = []
    told: list[str] = []

    class Camera:
        device = "/dev/video7"

        def __init__(self, width: int, height: int, fps: float) -> None:
            assert (width, height, fps) == (48, 64, 25.0)

        def send(self, frame: np.ndarray) -> None:
            assert frame.flags.c_contiguous
            sent.append(frame.copy())

        def close(self) -> None:
            told.append("closed")

    monkeypatch.setitem(sys.modules, "pyvirtualcam", SimpleNamespace(Camera=Camera, __spec__=object()))

    async def test(sessions: Sessions) -> None:
        session = await sessions.open()
        showing = asyncio.create_task(VirtualCamera(told.append).run(session))
        while len(sent) < 5:
            await asyncio.sleep(0.02)
        await session.close()
        await showing

    run(test)
    assert told == ["Camera: /dev/video7.", "closed"]
    assert {frame.shape for frame in sent} == {(64, 48, 3)}
    assert sent[-1][32, 24].min() > 20


def test_a_missing_camera_is_told(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avatarfit.server.virtual_camera.find_spec", lambda _: None)
    with pytest.raises(InputError, match="pip install pyvirtualcam"):
        VirtualCamera(print)

    def camera(**_: Any) -> None:
        raise RuntimeError("no device")

    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "pyvirtualcam", SimpleNamespace(Camera=camera, __spec__=object()))

    async def test(sessions: Sessions) -> None:
        with pytest.raises(InputError, match="v4l2loopback"):
            await VirtualCamera(print).run(await sessions.open())

    run(test)


def test_the_process_opens_the_target_or_fails() -> None:
    from avatarfit.server.push_work import OPENED, PushJob, work

    said = io.BytesIO()
    job = PushJob("udp://127.0.0.1:9", "mpegts", 48, 64, 25.0, 300_000)
    work(job, io.BytesIO(), said)
    assert said.getvalue() == OPENED
    with pytest.raises(av.FFmpegError):
        work(PushJob(f"tcp://127.0.0.1:{free_port()}", "mpegts", 48, 64, 25.0, 300_000), io.BytesIO(), said)
