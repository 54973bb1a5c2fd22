"""A live session with those who watch it: one task takes its frames and gives them to all."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from avatarfit.contracts import AudioClip, InputError
from avatarfit.contracts.events import Event, Note
from avatarfit.server.errors import BusyError, FullError
from avatarfit.server.subscription import Subscription

if TYPE_CHECKING:
    from avatarfit.driving import Settings
    from avatarfit.pipeline.live import LiveSession
    from avatarfit.pipeline.live_frame import LiveFrame, LiveState
    from avatarfit.pipeline.live_saying import Saying
    from avatarfit.pipeline.speech_synthesis import Voice
    from avatarfit.server.settings import ServerSettings
    from avatarfit.server.spoken_stream import SpokenStream

_MOST_EVENTS = 64
_MOST_SAYINGS = 16
_TELL_SECONDS = 1.0
_WORD = "text", "begin", "end", "pts_seconds", "duration_seconds"
_log = logging.getLogger("avatarfit.server")


@dataclass(frozen=True)
class Rates:
    """What a session did in the last second.

    Attributes:
        frames_per_second: that left. pictures_per_second: that were new among them.
        latency_ms: from sound's turn to its frame's leaving.
    """

    frames_per_second: float = 0.0
    pictures_per_second: float = 0.0
    latency_ms: float = 0.0


class ServedSession:
    """One session of the server. All methods are for the server's loop; none of them waits but `close`.

    Args:
        id: nobody can guess it.
        avatar_name: whom it shows.
        alpha: whether its pictures are premultiplied RGBA.
        live: a fresh session, begun and closed here.
        settings: the server's bounds.

    Attributes:
        rates: see `Rates`.
        newest: the frame that left last; before, the person at rest.
        failure: what ended it, a sentence; None as long as nothing did.
    """

    def __init__(self, id: str, avatar_name: str, alpha: bool, live: LiveSession, settings: ServerSettings) -> None:
        self.id, self.avatar_name, self.alpha, self.live = id, avatar_name, alpha, live
        self.rates = Rates(latency_ms=1e3 * live.latency_seconds)
        self.newest = live.resting
        self.failure: str | None = None
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._watchers: set[Subscription[LiveFrame]] = set()
        self._listeners: set[Subscription[dict[str, Any]]] = set()
        self._holds = 0
        self._owners = 0
        self._ends_at = math.inf
        self._touched = time.monotonic()
        self._sayings: list[tuple[Saying, float]] = []
        self._dropped = 0
        live.on_event = self._noted
        live.start()
        self._pump = asyncio.create_task(self._run(), name=f"session {id[:6]}")

    # Those who watch.

    def subscribe(self, most: int = 8) -> Subscription[LiveFrame]:
        """Every frame from now on, for one who fetches them; to be used with `async with`.

        Args:
            most: frames that wait for him, 1 or more; the oldest, with its sound, is lost when he is slow.

        Raises:
            FullError: as many watch as may.
        """
        if len(self._watchers) >= self._settings.most_watchers:
            raise FullError(
                f"{len(self._watchers)} watch this session already", "fewer", "close one, or open another session"
            )
        watcher: Subscription[LiveFrame] = Subscription(most, self._forget_frames)
        self._watchers.add(watcher)
        if self.closed:
            watcher.finish()
        return watcher

    def events(self) -> Subscription[dict[str, Any]]:
        """What happens, as JSON-able records with a "type": state, saying, word, note, rates, controls, closed.

        Raises:
            FullError: as many listen as may.
        """
        if len(self._listeners) >= self._settings.most_watchers:
            raise FullError(f"{len(self._listeners)} listen to this session already", "fewer", "close one")
        listener: Subscription[dict[str, Any]] = Subscription(_MOST_EVENTS, self._forget_events)
        self._listeners.add(listener)
        if self.closed:
            listener.finish()
        return listener

    @property
    def watchers(self) -> int:
        """How many watch."""
        return len(self._watchers)

    @property
    def lost_frames(self) -> int:
        """Frames that those who watched were too slow for."""
        return self._dropped + sum(watcher.dropped for watcher in self._watchers)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Meanwhile it is in use, whoever watches."""
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1
            self.touch()

    @contextmanager
    def owned(self, grace_seconds: float) -> Iterator[None]:
        """It is for one who does so: so long after he left without coming back it is `abandoned`, whoever watches."""
        self._owners += 1
        self._ends_at = math.inf
        try:
            yield
        finally:
            self._owners -= 1
            if not self._owners:
                self._ends_at = time.monotonic() + grace_seconds

    @property
    def abandoned(self) -> bool:
        """Nobody is left of those for whom it is."""
        return time.monotonic() > self._ends_at

    def touch(self) -> None:
        """Somebody asked for it."""
        self._touched = time.monotonic()

    @property
    def idle_seconds(self) -> float:
        """So long nobody has watched it or asked for it."""
        if self._holds or self._watchers or self._listeners:
            return 0.0
        return time.monotonic() - self._touched

    # What it says and does.

    def speak(self, samples: np.ndarray, rate_hz: int) -> Saying:
        """Says a sound, after all that waits.

        Args:
            samples: float32 [n] in -1..1, n > 0.
            rate_hz: 4,000 to 384,000.

        Raises:
            InputError: more than may wait at all.
            BusyError: more than may wait besides what waits already.
        """
        clip = AudioClip(np.asarray(samples, np.float32), rate_hz)
        most, waiting = self._settings.most_sound_seconds, self.waiting_seconds
        if clip.duration_seconds > most:
            raise InputError(f"{clip.duration_seconds:.1f} s of sound came", f"at most {most:g} s", "send it in parts")
        if waiting + clip.duration_seconds > most:
            raise BusyError(
                f"{clip.duration_seconds:.1f} s of sound came while {waiting:.1f} s wait", f"at most {most:g} s in all",
                "send it later",
            )  # fmt: skip
        return self._say("", Recording(clip), clip.duration_seconds)

    def say(self, text: str, voice: Voice) -> Saying:
        """Says a text, after all that waits; what goes wrong with the voice is told as a note.

        Raises:
            InputError: an empty text, or one too long.
            BusyError: as many wait as may.
        """
        from avatarfit.pipeline.speech_synthesis import checked_text

        most = self._settings.most_text_chars
        if len(text) > most:
            raise InputError(f"a text of {len(text)} letters came", f"at most {most}", "send it in parts")
        return self._say(checked_text(text), voice, 0.0)

    def say_stream(self, stream: SpokenStream) -> Saying:
        """Says a sound as it comes, after all that waits.

        Raises:
            BusyError: as many wait as may.
        """
        return self._say("", stream, 0.0)

    def _say(self, text: str, voice: Voice, seconds: float) -> Saying:
        self._sayings = [(saying, length) for saying, length in self._sayings if not saying.done]
        if len(self._sayings) >= _MOST_SAYINGS:
            raise BusyError(f"{len(self._sayings)} texts and sounds wait", f"at most {_MOST_SAYINGS}", "send it later")
        saying = self.live.say(text, voice)
        self._sayings.append((saying, seconds))
        self.touch()
        return saying

    @property
    def waiting_seconds(self) -> float:
        """So much sent sound waits; texts, whose length nobody knows, are left out."""
        return sum(length for saying, length in self._sayings if not saying.done)

    def interrupt(self) -> Saying | None:
        """Be silent: see `LiveSession.interrupt`."""
        self.touch()
        return self.live.interrupt()

    @property
    def controls(self) -> Settings:
        """The driver's settings; another value is eased to, and told to all who listen."""
        return self.live.settings

    @controls.setter
    def controls(self, settings: Settings) -> None:
        self.live.settings = settings
        self.touch()
        self._tell({"type": "controls", "values": asdict(settings)})

    @property
    def state(self) -> LiveState:
        """Of the frame that left last."""
        return self.live.state

    @property
    def closed(self) -> bool:
        """It was closed, or failed."""
        return self.live.closed or self._pump.done()

    async def close(self) -> None:
        """Ends it for all who watch. May be called twice."""
        await asyncio.to_thread(self.live.close)
        await asyncio.wait([self._pump])

    # The one task.

    async def _run(self) -> None:
        try:
            await self._give()
        except Exception as error:  # noqa: BLE001 - a session that fails ends alone
            _log.exception("session %s failed", self.id[:6])
            self.failure = f"the session failed ({type(error).__name__})"
        finally:
            self._tell({"type": "closed", "reason": self.failure or "the session was closed"})
            for watcher in self._watchers:
                watcher.finish()
            for listener in self._listeners:
                listener.finish()

    async def _give(self) -> None:
        state, saying, since, frames, pictures = None, None, time.monotonic(), 0, 0
        async for frame in self.live.frames():
            self.newest = frame
            for watcher in tuple(self._watchers):
                watcher.offer(frame)
            if frame.state != state:
                state = frame.state
                self._tell({"type": "state", "state": str(state), "pts_seconds": frame.pts_seconds})
            for word in frame.words:
                if word.saying is not saying:
                    saying = word.saying
                    self._tell({"type": "saying", "saying": saying.number, "text": saying.text})
                told = {name: getattr(word, name) for name in _WORD}
                self._tell({"type": "word", "saying": saying.number, **told})
            frames, pictures = frames + 1, pictures + frame.fresh
            passed = time.monotonic() - since
            if passed >= _TELL_SECONDS:
                latency_ms = 1e3 * self.live.latency_seconds + self.live.statistics.delay_ms
                self.rates = Rates(frames / passed, pictures / passed, latency_ms)
                self._tell({"type": "rates", **vars(self.rates)})
                since, frames, pictures = time.monotonic(), 0, 0

    def _tell(self, event: dict[str, Any]) -> None:
        for listener in tuple(self._listeners):
            listener.offer(event)

    def _noted(self, event: Event) -> None:
        """Comes from threads of the session."""
        if isinstance(event, Note):
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
                self._loop.call_soon_threadsafe(self._tell, {"type": "note", "text": event.text})

    def _forget_frames(self, watcher: Subscription[LiveFrame]) -> None:
        self._watchers.discard(watcher)
        self._dropped += watcher.dropped
        self.touch()

    def _forget_events(self, listener: Subscription[dict[str, Any]]) -> None:
        self._listeners.discard(listener)
        self.touch()


class Recording:
    """A `Voice` that has one thing to say: a sound that was sent."""

    def __init__(self, clip: AudioClip) -> None:
        self._clip = clip

    def speak(self, text: str, stopped: threading.Event | None = None) -> Generator[AudioClip, None, None]:
        """See `Voice`; the text does not matter."""
        yield self._clip
