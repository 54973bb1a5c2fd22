"""SRT where PyAV has none, as its wheels: an ffmpeg that has it is given the finished MPEG-TS, and only sends.

FFmpeg takes addresses on its command line alone, where everybody on the machine may read them: keys too.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import threading
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec

_DATAGRAM_BYTES = 1316
"""Seven packets of MPEG-TS: what receivers expect in one message of SRT."""
_FILLING = (b"\x47\x1f\xff\x10" + 184 * b"\xff") * 7
"""As much that says nothing: ffmpeg looks at the beginning of what it sends before it connects."""
_LOOK_SECONDS = 20.0
_CONNECT_SECONDS = 20.0


def ffmpeg_with_srt() -> str | None:
    """The first that has SRT: of the system's path, then of the package imageio-ffmpeg; None where there is none."""
    for program in _programs():
        try:
            told = subprocess.run(
                [program, "-hide_banner", "-protocols"], capture_output=True, text=True, timeout=_LOOK_SECONDS
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            continue
        if "srt" in told.stdout.split():
            return program
    return None


def _programs() -> Iterator[str]:
    found = shutil.which("ffmpeg")
    if found is not None:
        yield found
    if find_spec("imageio_ffmpeg") is not None:
        with contextlib.suppress(RuntimeError):  # installed from its source it brings no ffmpeg
            yield import_module("imageio_ffmpeg").get_ffmpeg_exe()


class SrtSender:
    """A file, open for writing, whose bytes go to an address of SRT.

    Args:
        program: see `ffmpeg_with_srt`.
        url: srt://host:port, with options as FFmpeg has them.

    Raises:
        OSError: nobody answers there, or it refuses; without the address, which may hold a key.
    """

    def __init__(self, program: str, url: str) -> None:
        # As data: it is neither read nor changed.
        self._child = subprocess.Popen(
            [
                program, "-hide_banner", "-nostdin", "-nostats", "-loglevel", "level+info",
                "-f", "data", "-raw_packet_size", str(_DATAGRAM_BYTES), "-i", "pipe:0",
                "-map", "0", "-c", "copy", "-flush_packets", "0", "-f", "data", url,
            ],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, bufsize=0,
        )  # fmt: skip
        assert self._child.stdin is not None
        self._input = self._child.stdin
        self._why = ""
        self._open = False
        self._told = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        with contextlib.suppress(OSError):
            self._input.write(_FILLING)
        self._told.wait(_CONNECT_SECONDS)
        if not self._open:
            self._child.kill()
            raise self._lost()

    def write(self, data: bytes) -> int:
        """Raises:
        OSError: the target takes no more.
        """
        left = memoryview(data)
        try:
            while left:
                left = left[self._input.write(left) :]
        except BrokenPipeError:
            raise self._lost() from None
        return len(data)

    def close(self) -> None:
        """What was written is sent."""
        self._input.close()
        self._child.wait()

    def _lost(self) -> OSError:
        self._reader.join()
        self._child.wait()
        return ConnectionError(0, self._why or "the connection was lost")

    def _read(self) -> None:
        assert self._child.stderr is not None
        for line in self._child.stderr:
            text = line.decode(errors="replace").strip()
            if "Output #0" in text:
                self._open = True
                self._told.set()
            elif "[error]" in text or "[fatal]" in text:
                why = text.rpartition(": ")[2]
                # An address may hold a key.
                self._why = self._why if "://" in why else why
        self._told.set()
