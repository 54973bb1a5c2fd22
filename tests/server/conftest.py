from __future__ import annotations

import io
import re
import socket
import threading
import time
import wave
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="NO FASTAPI: the server was not tested; pip install avatarfit[live]")
pytest.importorskip("aiortc", reason="NO AIORTC: the server was not tested; pip install avatarfit[live]")

RATE = 16_000


def tone(seconds: float, rate: int = RATE) -> np.ndarray:
    """int16 [n]."""
    return np.asarray(12_000 * np.sin(np.arange(round(seconds * rate)) * 0.3), np.int16)


def wav(samples: np.ndarray, rate: int = RATE) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(samples.astype("<i2").tobytes())
    return file.getvalue()


def until(true: Callable[[], Any], seconds: float = 120.0) -> Any:
    """What is waited for; a test that waits in vain fails."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := true():
            return found
        time.sleep(0.02)
    raise AssertionError("waited in vain")


@dataclass
class Served:
    """A real server on a free port of this machine."""

    app: Any
    port: int
    client: Any
    opened: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def sessions(self) -> Any:
        return self.app.state.sessions

    def open(self, **request: Any) -> str:
        """A new session's address, without the server's."""
        answer = self.client.post("/api/sessions", json=request)
        assert answer.status_code == 201, answer.text
        self.opened.append(f"/api/sessions/{answer.json()['id']}")
        return self.opened[-1]

    def session(self, path: str) -> Any:
        """The server's own object of a session."""
        return self.sessions.get(path.rpartition("/")[2])

    def socket(self, path: str, **options: Any) -> Any:
        """A WebSocket."""
        from websockets.sync.client import connect

        return connect(f"ws://127.0.0.1:{self.port}{path}", compression=None, **options)

    def close_all(self) -> None:
        for path in self.opened:
            self.client.delete(path)
        self.opened.clear()


@pytest.fixture(scope="session")
def serve(speaker: Any) -> Callable[..., AbstractContextManager[Served]]:
    """Starts a server; settings as of `ServerSettings`, and voices."""
    import httpx2

    from avatarfit.pipeline.live import LiveOptions
    from avatarfit.server.app import create_app
    from avatarfit.server.running import listen, server_of
    from avatarfit.server.settings import ServerSettings

    @contextmanager
    def run(voices: Any = (), avatars: Any = None, **options: Any) -> Iterator[Served]:
        # The made-up person's pictures are too small for the mark.
        settings = ServerSettings(**({"port": 0, "live": LiveOptions(mark=None)} | options))
        app = create_app(avatars or {"anna": speaker, "bert": speaker}, settings, voices)
        place: socket.socket = listen(settings)
        server = server_of(app, settings)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [place]})
        thread.start()
        try:
            until(lambda: server.started)
            port = place.getsockname()[1]
            token = {"Authorization": f"Bearer {settings.token}"} if settings.token else {}
            with httpx2.Client(base_url=f"http://127.0.0.1:{port}", headers=token, timeout=300.0) as client:
                yield Served(app, port, client)
        finally:
            server.should_exit = True
            thread.join(60.0)
            place.close()
        assert not thread.is_alive()
        assert len(app.state.sessions) == 0

    return run


@pytest.fixture(scope="module")
def shared_server(serve: Callable[..., AbstractContextManager[Served]], voices: Any) -> Iterator[Served]:
    with serve(voices) as served:
        yield served


@pytest.fixture
def served(shared_server: Served) -> Iterator[Served]:
    """One server for a module's tests; sessions that a test opened are closed after it."""
    yield shared_server
    shared_server.close_all()


@pytest.fixture(scope="session")
def voices() -> Any:
    """Voices of Python: "tone" says 0.4 s for any text, "dies" raises, "hangs" says nothing for long, "endless" never
    ends, "counts" says 0.4 s for each word and tells when."""
    from avatarfit.pipeline.speech_synthesis import FunctionVoice, Patience
    from avatarfit.pipeline.spoken_words import Word
    from avatarfit.server.voices import OfferedVoice

    def dies(_text: str) -> bytes:
        raise RuntimeError("no more voice")

    def hangs(_text: str) -> bytes:
        time.sleep(2.0)
        return b""

    def endless(_text: str) -> Iterator[np.ndarray]:
        while True:
            yield tone(0.2)

    def counts(text: str) -> Iterator[Any]:
        for k, found in enumerate(re.finditer(r"\w+", text)):
            yield Word(*found.span(), 0.4 * k, 0.4 * k + 0.4)
            yield tone(0.4)

    patience = Patience(0.3, 0.3, 60.0)
    made = {
        "tone": FunctionVoice(lambda _: tone(0.4), RATE),
        "dies": FunctionVoice(dies, RATE, patience),
        "hangs": FunctionVoice(hangs, RATE, patience),
        "endless": FunctionVoice(endless, RATE),
        "counts": FunctionVoice(counts, RATE),
    }
    return [
        OfferedVoice(name, lambda _, voice=voice: voice, ("en", "de") if name == "tone" else ())
        for name, voice in made.items()
    ]


@pytest.fixture(scope="session")
def sound() -> Callable[..., bytes]:
    """A WAV file's bytes: a tone of so many seconds."""
    return lambda seconds, rate=RATE: wav(tone(seconds, rate), rate)


@pytest.fixture(scope="session")
def wait() -> Callable[..., Any]:
    return until


class Lamp:
    """A drawer without a person: a square of 32 in 48x64, as bright as the sound of its moment is loud: 40 to 200."""

    def __init__(self, alpha: bool) -> None:
        self._alpha = alpha

    def draw(self, moment: Any) -> np.ndarray:
        picture = np.zeros((64, 48, 4), np.uint8)
        level = min(float(moment.motion.face.mouth[0, 0]) / 0.3, 1.0)
        picture[16:48, 8:40] = (*[round(40 + 160 * level)] * 3, 255)
        return picture if self._alpha else np.ascontiguousarray(picture[..., :3])


@pytest.fixture
def lamps(monkeypatch: pytest.MonkeyPatch, marking_driver: Callable[..., Any]) -> type[Lamp]:
    """Sessions that are opened now show lamps instead of a person."""
    from avatarfit.pipeline.live import LiveSession

    def session(avatar: Any, options: Any) -> LiveSession:
        return LiveSession(avatar, options, driver=marking_driver(25.0), drawer=Lamp(options.alpha))

    monkeypatch.setattr("avatarfit.server.sessions.LiveSession", session)
    return Lamp
