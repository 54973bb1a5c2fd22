"""A session sent on to a streaming service or a relay: RTMP as FLV; SRT, TCP and UDP as MPEG-TS."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import av

from avatarfit.contracts import InputError
from avatarfit.server.packed_alpha import PackedLayout, pack_i420
from avatarfit.server.push_srt import ffmpeg_with_srt
from avatarfit.server.push_work import FRAME, OPENED, PushJob

if TYPE_CHECKING:
    from avatarfit.pipeline.live_frame import LiveFrame
    from avatarfit.server.served_session import ServedSession
    from avatarfit.server.subscription import Subscription

_CONTAINERS = {"rtmp": "flv", "rtmps": "flv", "srt": "mpegts", "tcp": "mpegts", "udp": "mpegts"}
_BITS_PER_PIXEL = 0.2
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 1.0, 30.0
_STALL_SECONDS = 10.0
_END_SECONDS = 2.0
_FRAMES = 12


class Push:
    """Sends a session's frames to one target.

    It tries again when the target is lost: after a second, then after twice as long each time, 30 s at most; once
    frames have gone through, from the beginning. Frames of the time between are not sent later. A target that takes
    nothing for 10 s counts as lost.

    Args:
        url: rtmp://, rtmps://, srt://, tcp:// or udp://.
        tell: told in a sentence when it is connected, and when it is lost.
        stall_seconds, wait_seconds: other times than those above.

    Raises:
        InputError: another address, or one that nothing on this machine can send to.
    """

    def __init__(
        self,
        url: str,
        tell: Callable[[str], None],
        *,
        stall_seconds: float = _STALL_SECONDS,
        wait_seconds: float = _FIRST_WAIT_SECONDS,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in _CONTAINERS or not parts.netloc:
            raise InputError(
                f"the address {parts.scheme}://… came to push to", ", ".join(f"{name}://" for name in _CONTAINERS),
                "such as rtmp://live.example.org/app/KEY",
            )  # fmt: skip
        self._sender = _sender(parts.scheme)
        if self._sender is not None:
            tell(f"{parts.scheme} goes through {self._sender}: the installed PyAV has none.")
        # What follows the host may be a secret.
        self.name = f"{parts.scheme}://{parts.hostname}"
        self._url, self._container, self._tell = url, _CONTAINERS[parts.scheme], tell
        self._stall, self._wait = stall_seconds, wait_seconds
        self.connections = 0
        """How often the target has taken frames anew."""

    async def run(self, session: ServedSession) -> None:
        """Until the session ends."""
        wait = self._wait
        async with session.subscribe(_FRAMES) as frames:
            while not session.closed:
                before = self.connections
                why = await self._send(frames, session)
                if session.closed:
                    return
                if self.connections > before:
                    wait = self._wait
                self._tell(f"{self.name} takes no frames ({why}); it is tried again in {wait:g} s.")
                await asyncio.sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT_SECONDS)

    async def _send(self, frames: Subscription[LiveFrame], session: ServedSession) -> str:
        """One connection, until it or the frames end; why it ended."""
        live = session.live
        layout = PackedLayout(live.width_px, live.height_px, False)
        width, height = layout.coded_width_px, layout.coded_height_px
        bits = round(_BITS_PER_PIXEL * width * height * live.frame_rate_hz) + 200_000
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "avatarfit.server.push_work",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        assert child.stdin is not None
        assert child.stderr is not None
        opened = asyncio.create_task(self._opened(child))
        said = asyncio.create_task(child.stderr.read())
        try:
            child.stdin.write(
                PushJob(self._url, self._container, width, height, live.frame_rate_hz, bits, self._sender).line()
            )
            first = True
            async for frame in frames:
                if not opened.done():  # what waits while it connects would be late ever after
                    if child.returncode is not None:
                        break
                    continue
                if not opened.result():
                    break
                planes = pack_i420(frame.picture, layout).tobytes() if frame.fresh or first else b""
                sound = frame.sound.tobytes()
                child.stdin.write(FRAME.pack(frame.pts_seconds, len(planes), len(sound)) + planes + sound)
                first = False
                async with asyncio.timeout(self._stall):
                    await child.stdin.drain()
        except TimeoutError:
            return "it stalls"
        except ConnectionError:
            pass  # the process has ended; it says why
        finally:
            opened.cancel()
            await asyncio.gather(opened, _ended(child), return_exceptions=True)
        return (await said).decode(errors="replace").strip().rpartition("\n")[2] or "it ended"

    async def _opened(self, child: asyncio.subprocess.Process) -> bool:
        assert child.stdout is not None
        async with asyncio.timeout(self._stall):
            opened = await child.stdout.readline() == OPENED
        if opened:
            self.connections += 1
            self._tell(f"{self.name} takes frames.")
        return opened


async def _ended(child: asyncio.subprocess.Process) -> None:
    """The process is asked to end, and made to."""
    assert child.stdin is not None
    child.stdin.close()
    try:
        async with asyncio.timeout(_END_SECONDS):
            await child.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            # Together with what sends for it.
            os.killpg(child.pid, signal.SIGKILL) if hasattr(os, "killpg") else child.kill()
        await child.wait()


def _sender(scheme: str) -> str | None:
    """Who sends instead of PyAV; None where it does so itself.

    Raises:
        InputError: nobody can.
    """
    try:
        av.open(f"{scheme}://127.0.0.1:9", timeout=0.05).close()
    except av.error.ProtocolNotFoundError as error:
        sender = ffmpeg_with_srt() if scheme == "srt" else None
        if sender is not None:
            return sender
        raise InputError(
            f"{scheme} came to push to, which neither the installed PyAV nor an ffmpeg of this machine knows",
            "one of them that does", "pip install imageio-ffmpeg for srt, or push to a relay by tcp:// or udp://",
        ) from error  # fmt: skip
    except av.FFmpegError:
        pass  # it is known, and nobody answers there
    return None
