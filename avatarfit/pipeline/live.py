"""A live session: sound in as it comes, frames with their sound out on a steady clock.

    with LiveSession(avatar) as session:
        session.push(samples, 24_000)            # from any thread, in any pieces
        while frame := session.frame():          # blocks until the next frame is due
            show(frame.picture), play(frame.sound)

Driving and drawing run on threads of their own, with bounded queues between them.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import numpy as np

from avatarfit.compositing import Background
from avatarfit.compositing.mark import USUAL_TEXT
from avatarfit.contracts import InputError
from avatarfit.contracts.events import Listener, silent
from avatarfit.driving import DriveOptions, Settings
from avatarfit.pipeline.blas_threads import one_blas_thread
from avatarfit.pipeline.live_driver import Driver, LiveDriver
from avatarfit.pipeline.live_frame import LiveFrame, LiveState, LiveStatistics, running
from avatarfit.pipeline.live_picture import Drawer, LivePictures, resting_moment
from avatarfit.pipeline.live_saying import Saying
from avatarfit.pipeline.live_stages import LiveStages
from avatarfit.pipeline.picture import PictureSettings

if TYPE_CHECKING:
    from avatarfit.compositing.shot import Layer
    from avatarfit.driving.motion_sources import StanceSource
    from avatarfit.model.avatar import Avatar
    from avatarfit.pipeline.speech_synthesis import Voice
    from avatarfit.pipeline.spoken_words import Cue

RATES_HZ = (5.0, 120.0)
_JOIN_SECONDS = 10.0
_POLL_SECONDS = 0.002


@dataclass(frozen=True)
class LiveOptions:
    """How a session runs.

    Attributes:
        drive: seed and strengths of the driver.
        settings: controls to begin with; `LiveSession.settings` turns them.
        frame_rate_hz: 5 to 120; None for the avatar's own.
        picture: size, place, torso and looks.
        background: what stands behind: as of `drive_avatar`, or one that was parsed before.
        alpha: pictures keep their alpha; with background "none".
        mark: words in the picture that say what it is; None leaves them out.
        features: what the avatar's driver hears, if it is a network.
        backend: of the renderer.
        most_seconds: so much sound may wait, 1 to 600.
        jitter_seconds: live sound is held back so long before it begins, 0 to 0.5: for pieces that come unevenly.
    """

    drive: DriveOptions = field(default_factory=DriveOptions)
    settings: Settings = field(default_factory=Settings)
    frame_rate_hz: float | None = None
    picture: PictureSettings = field(default_factory=PictureSettings)
    background: str | Background = "clip"
    alpha: bool = False
    mark: str | None = USUAL_TEXT
    features: str | None = None
    backend: str = "auto"
    most_seconds: float = 60.0
    jitter_seconds: float = 0.005

    def __post_init__(self) -> None:
        low, high = RATES_HZ
        if self.frame_rate_hz is not None and not low <= self.frame_rate_hz <= high:
            raise InputError(
                f"{self.frame_rate_hz} frames a second came", f"{low:g} to {high:g}", "choose another rate"
            )
        for name, low, high in (("most_seconds", 1.0, 600.0), ("jitter_seconds", 0.0, 0.5)):
            if not low <= getattr(self, name) <= high:
                raise InputError(f"{name} came as {getattr(self, name)}", f"{low:g} to {high:g}", "change it")


class LiveSession:
    """One person, live. It begins with `start`, or as a context manager, and ends with `close`.

    Args:
        avatar: who speaks; several sessions may share one.
        options: see `LiveOptions`.
        layers: more layers of the compositor.
        stances: where head, torso, eyes and brows come from; None for the person's habits.
        driver, drawer: stand-ins for what drives and draws.
        on_event: told of what a person should know.

    Raises:
        InputError: an option, or an avatar whose features hear too far ahead for a live voice.
        FileFormatError: the avatar hears a network that was not named.
    """

    def __init__(
        self,
        avatar: Avatar,
        options: LiveOptions | None = None,
        *,
        layers: Sequence[Layer] = (),
        stances: StanceSource | None = None,
        driver: Driver | None = None,
        drawer: Drawer | None = None,
        on_event: Listener = silent,
    ) -> None:
        self.options = options or LiveOptions()
        chosen = self.options
        self.frame_rate_hz = float(chosen.frame_rate_hz or avatar.frame_rate_hz)
        self.on_event = on_event
        self._driver = driver or LiveDriver(
            avatar, self.frame_rate_hz, chosen.drive, chosen.settings, features=chosen.features, stances=stances
        )
        self._drawer = drawer or LivePictures(
            avatar, self.frame_rate_hz, chosen.background, chosen.picture, alpha=chosen.alpha, mark=chosen.mark,
            layers=layers, backend=chosen.backend, on_event=on_event,
        )  # fmt: skip
        self._settings = chosen.settings
        picture = self._drawer.draw(resting_moment(avatar))
        self.height_px, self.width_px = picture.shape[:2]
        before = -1 / self.frame_rate_hz
        self.resting = LiveFrame(-1, before, picture, before, np.zeros(0, np.int16), LiveState.IDLE)
        """What is to be seen before the first frame."""
        self._stages = LiveStages(
            self._driver, self.frame_rate_hz, time.monotonic(), picture,
            most_seconds=chosen.most_seconds, jitter_seconds=chosen.jitter_seconds,
        )  # fmt: skip
        self._threads: list[threading.Thread] = []
        self._limits = ExitStack()
        self._closed = threading.Event()
        self._moment_came, self._picture_came = threading.Event(), threading.Event()
        self._error: BaseException | None = None
        self._sayings: list[Saying] = []
        self._numbers = itertools.count(1)

    def start(self) -> Self:
        """The line of time begins now, with what was pushed before at its start."""
        if self._threads or self._closed.is_set():
            return self
        self._limits.enter_context(one_blas_thread())
        self._stages.begin(self._beginning())
        for name, work in (("drive", self._drive), ("draw", self._draw)):
            thread = threading.Thread(target=self._guarded, args=(work,), name=f"live {name}", daemon=True)
            self._threads.append(thread)
            thread.start()
        return self

    def _beginning(self) -> float:
        """The clock's time at which the line begins."""
        return time.monotonic()

    def close(self) -> None:
        """Ends it; frames that did not leave are gone. May be called twice."""
        self._closed.set()
        for saying in self._sayings:
            saying.stop()
        for event in (self._moment_came, self._picture_came):
            event.set()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(_JOIN_SECONDS)
        self._limits.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    # What comes in.

    def push(
        self,
        samples: np.ndarray,
        rate_hz: int,
        *,
        live: bool = False,
        unless: threading.Event | None = None,
        cues: Sequence[tuple[float, Cue]] = (),
    ) -> None:
        """Sound to speak, after all that waits.

        Args:
            samples: float [n] in -1..1 or int16 [n], any n >= 0, one channel.
            rate_hz: 4,000 to 384,000.
            live: it comes as it is made, from a microphone; where it comes faster than the clock goes, pauses are
                shortened, so that it never falls behind.
            unless: once it is set nothing is pushed, however many threads are at it.
            cues: what is called when the frame leaves that holds a sample, so many seconds after the first of these,
                and the last one of these at the latest (of those before, where there are none). None is called before
                the one before it, nor after an interruption.

        Raises:
            InputError: no such sound, or more than there is room for (`room_seconds`).
        """
        self._stages.push(samples, rate_hz, time.monotonic(), live, unless, cues)

    def end(self) -> None:
        """What was pushed is whole; what comes next is another utterance."""
        self._stages.end()

    def hear(self, samples: np.ndarray, rate_hz: int) -> None:
        """The other's voice, as it comes; sound as of `push`. It is listened to, not spoken.

        Raises:
            InputError: no such sound.
        """
        self._stages.hear(samples, rate_hz)

    def interrupt(self) -> Saying | None:
        """Be silent: what waits is dropped, sound fades within 20 ms, the mouth rests within 100 ms.

        Returns:
            the text that was cut short, whose `heard` says where; None where none was being said. What was said before
            it was heard whole, what was to be said after it not at all.
        """
        sayings, self._sayings = self._sayings, []
        for saying in sayings:
            saying.stop()
        self._stages.interrupt()
        return next((saying for saying in sayings if not saying.left), None)

    def say(self, text: str, voice: Voice) -> Saying:
        """Speak a text, after all that waits. What goes wrong with the voice is told by `on_event` and in what comes
        back; the session goes on."""
        self._sayings = [saying for saying in self._sayings if not saying.left]
        before = self._sayings[-1] if self._sayings else None
        saying = Saying(self, next(self._numbers), text, voice, before)
        self._sayings.append(saying)
        return saying

    @property
    def settings(self) -> Settings:
        """The controls; another value is eased to."""
        return self._settings

    @settings.setter
    def settings(self, settings: Settings) -> None:
        self._settings = settings
        self._stages.turn(settings)

    # What goes out.

    @property
    def state(self) -> LiveState:
        """Of the frame that left last."""
        return self._stages.state

    @property
    def closed(self) -> bool:
        """It was closed, or failed."""
        return self._closed.is_set()

    @property
    def finished(self) -> bool:
        """All that was pushed has left."""
        return self._stages.finished and all(saying.done for saying in self._sayings)

    @property
    def room_seconds(self) -> float:
        """So much more sound may be pushed."""
        return self._stages.room_seconds

    def takes(self, seconds: float, ahead_seconds: float) -> bool:
        """There is room for so much more sound, and no more than `ahead_seconds` of it wait."""
        return self.room_seconds >= seconds and self._stages.waiting_seconds <= ahead_seconds

    @property
    def statistics(self) -> LiveStatistics:
        """Counts so far."""
        return self._stages.statistics

    @property
    def latency_seconds(self) -> float:
        """From a sample's turn on the line to its frame's leaving."""
        return self._stages.delay_seconds

    def ready_frame(self) -> LiveFrame | None:
        """The next frame if it is due; does not wait.

        Raises:
            Exception: what ended the session, if something did.
        """
        if self._error is not None:
            raise self._error
        return None if self.closed else self._stages.leave(time.monotonic())

    def frame(self, timeout_seconds: float | None = None) -> LiveFrame | None:
        """The next frame, when it is due; None when the session is closed, or after `timeout_seconds`.

        Raises:
            Exception: what ended the session, if something did.
        """
        until = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while True:
            frame = self.ready_frame()
            if frame is not None or self.closed or (until is not None and time.monotonic() >= until):
                return frame
            self._picture_came.wait(self._wait_seconds())
            self._picture_came.clear()

    async def frames(self) -> AsyncIterator[LiveFrame]:
        """Every frame, when it is due, until the session is closed.

        Raises:
            Exception: what ended the session, if something did.
        """
        while True:
            frame = self.ready_frame()
            if frame is not None:
                yield frame
            elif self.closed:
                return
            else:
                await asyncio.sleep(min(self._wait_seconds(), 10 * _POLL_SECONDS))

    def _wait_seconds(self) -> float:
        """Until a frame may leave; short where it waits for its picture."""
        return max(self._stages.next_leave() - time.monotonic(), _POLL_SECONDS)

    # The stages' threads.

    def _drive(self) -> None:
        while not self._closed.is_set():
            began = time.perf_counter()
            if self._stages.step(time.monotonic()):
                self.statistics.driver_ms = running(self.statistics.driver_ms, 1e3 * (time.perf_counter() - began))
                self._moment_came.set()
            self._closed.wait(max(self._stages.next_step() - time.monotonic(), 0.0))

    def _draw(self) -> None:
        while not self._closed.is_set():
            self._moment_came.wait()
            self._moment_came.clear()
            while not self._closed.is_set():
                moment = self._stages.next_moment(time.monotonic())
                if moment is None:
                    break
                began = time.perf_counter()
                self._stages.drawn(moment, self._drawer.draw(moment))
                self.statistics.drawing_ms = running(self.statistics.drawing_ms, 1e3 * (time.perf_counter() - began))
                self._picture_came.set()

    def _guarded(self, work: object) -> None:
        assert callable(work)
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - it is raised where frames are fetched
            self._error = error
            self._closed.set()
            self._moment_came.set()
            self._picture_came.set()
