"""`avatarfit serve` in processes of its own, for tools that measure it from outside."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def running_server(avatar: Path, size: str | None, sessions: int) -> Iterator[tuple[str, int]]:
    """Its host and port, and the first process's number; it ends with the context."""
    words = [sys.executable, "-m", "avatarfit", "serve", str(avatar), "--port", "0", "--sessions", str(sessions)]
    words += [] if size is None else ["--size", size]
    server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        found = re.search(r"http://([\d.]+:\d+)/", server.stdout.readline())
        assert found is not None, "the server did not start"
        yield found[1], server.pid
    finally:
        server.terminate()
        server.wait(60.0)


def counters(text: str) -> dict[str, float]:
    """What `GET /metrics` answered, by name."""
    return {name: float(value) for name, value in re.findall(r"^(\w+) (\S+)$", text, re.MULTILINE)}
