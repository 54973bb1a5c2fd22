"""Sessions that drive and draw in processes of their own, so that several keep all cores busy.

    with LiveWorkers({"anna": avatar}) as workers, workers.session("anna", options) as session:
        session.push(samples, 24_000)

In one process Python lets one thread at a time think: two sessions already wait for each other there. What a session
is asked, its sound and its line of time stay in this process; only the work goes to another, which shares the avatars'
memory. A session whose process dies fails alone.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from avatarfit.contracts import BackendError
from avatarfit.contracts.events import Listener, silent
from avatarfit.pipeline.live import LiveOptions, LiveSession
from avatarfit.pipeline.live_worker import BY_INDEX, ONE_THREAD, OPEN, Begun, Drive, Driven

if TYPE_CHECKING:
    from avatarfit.driving import Settings
    from avatarfit.model.avatar import Avatar
    from avatarfit.pipeline.live_frame import Moment

AVAILABLE = sys.platform == "linux"
"""Elsewhere forking a process that has loaded so much is not safe."""
_PROGRAM = "from avatarfit.pipeline.live_worker import main; main({})"
_ANSWER_SECONDS = 30.0
_CORES = len(os.sched_getaffinity(0)) if AVAILABLE else 1


class LiveWorkers:
    """The processes of sessions of some avatars. It begins at once, and is ready a few seconds later.

    Args:
        avatars: by name.
        most_threads: of one session's drawing, while cores are free for them.

    Raises:
        BackendError: this system has no such processes.
    """

    def __init__(self, avatars: Mapping[str, Avatar], most_threads: int = 4) -> None:
        if not AVAILABLE:
            raise BackendError(f"processes for sessions were asked for on {sys.platform}", "Linux", "leave them out")
        self._avatars = dict(avatars)
        self._lock = threading.Lock()
        self._most_threads = most_threads
        self._running: tuple[weakref.ref[_WorkerSession], ...] = ()
        self._ready = False
        self._asked, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM.format(other.fileno())], pass_fds=[other.fileno()],
                stdin=subprocess.DEVNULL, env=os.environ | ONE_THREAD,
            )  # fmt: skip
        with _memory(self._avatars) as memory:
            socket.send_fds(self._asked, [OPEN], [memory])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wait(self) -> None:
        """Until sessions can begin.

        Raises:
            BackendError: the process ended instead.
        """
        with self._lock:
            if not self._ready:
                self._ready = bool(self._asked.recv(16))
            if not self._ready:
                raise BackendError(
                    f"the process for sessions ended ({self._process.wait()})", "one that runs", "see what it printed"
                )

    def session(self, name: str, options: LiveOptions | None = None, on_event: Listener = silent) -> LiveSession:
        """A fresh session of one of the avatars, not begun.

        Raises:
            KeyError: there is no such avatar.
            InputError, FileFormatError: as `LiveSession`.
            BackendError: there is no process for it.
        """
        self.wait()
        avatar, options = self._avatars[name], options or LiveOptions()
        worker = _Worker(self._asked, self._lock, name, options, self._threads)
        try:
            for event in worker.begun.events:
                on_event(event)
            return _WorkerSession(avatar, options, worker, on_event, self._beginning)
        except BaseException:
            worker.close()
            raise

    def _beginning(self, session: _WorkerSession) -> float:
        """When a session's line begins: less than a frame ago, as far from the frames of the others as can be.

        All of a frame's work lies in the first third of its time: sessions in step would fight for the cores, and then
        leave them idle.
        """
        with self._lock:
            running = self._open()
            self._running = tuple(weakref.ref(one) for one in (*running, session))
        phases = [one.origin * session.frame_rate_hz % 1 for one in running]
        now = time.monotonic()
        return now - (now * session.frame_rate_hz - widest_gap(phases)) % 1 / session.frame_rate_hz

    def _threads(self) -> int:
        """How many threads a session may draw with: all cores are for those that run."""
        return max(min(_CORES // max(len(self._open()), 1), self._most_threads), 1)

    def _open(self) -> list[_WorkerSession]:
        running = (one() for one in self._running)
        return [one for one in running if one is not None and not one.closed]

    def close(self) -> None:
        """No more sessions begin; those that run go on. May be called twice."""
        self._asked.close()
        self._process.wait()


class _Worker:
    """Driver and drawer of one session, elsewhere: see `Driver` and `Drawer`."""

    def __init__(
        self,
        asked: socket.socket,
        lock: threading.Lock,
        name: str,
        options: LiveOptions,
        threads: Callable[[], int],
    ) -> None:
        self._threads = threads
        self._told: deque[Moment] = deque(maxlen=BY_INDEX)
        self._drive, driving = _connection()
        self._draw, drawing = _connection()
        self._memory: mmap.mmap | None = None
        self._heard: list[tuple[np.ndarray, int, float]] = []
        self._turned: Settings | None = None
        self.nods = 0
        with driving, drawing, _memory((name, options)) as memory:
            try:
                with lock:
                    socket.send_fds(asked, [OPEN], [driving.fileno(), drawing.fileno(), memory])
                driving.close()
                drawing.close()
                self.begun: Begun = _told(self._drive)
            except OSError as error:
                self.close()
                raise BackendError(
                    f"no process for a session could be had ({error})", "a server that runs", "start it again"
                ) from error
            except BaseException:
                self.close()
                raise
            self._memory = mmap.mmap(memory, 0)
        self._shown = np.frombuffer(self._memory, np.uint8).reshape(self.begun.shape)
        self.look_ahead_seconds = self.begun.look_ahead_seconds
        self.sample_rate_hz, self.mouth_rest = self.begun.sample_rate_hz, self.begun.mouth_rest

    def push(self, samples: np.ndarray) -> list[Moment]:
        heard, self._heard = self._heard, []
        turned, self._turned = self._turned, None
        driven: Driven = _asked(self._drive, Drive(samples, heard, turned))
        self.nods = driven.nods
        self._told.extend(driven.moments)
        return driven.moments

    def hear(self, samples: np.ndarray, rate_hz: int, now_seconds: float) -> None:
        self._heard.append((samples, rate_hz, now_seconds))

    def turn(self, settings: Settings) -> None:
        self._turned = settings

    def draw(self, moment: Moment) -> np.ndarray:
        known = any(moment is one for one in tuple(self._told))
        _asked(self._draw, (moment.index if known else moment, self._threads()))
        return self._shown.copy()

    def close(self) -> None:
        for connection in (self._drive, self._draw):
            connection.close()


class _WorkerSession(LiveSession):
    def __init__(
        self,
        avatar: Avatar,
        options: LiveOptions,
        worker: _Worker,
        on_event: Listener,
        beginning: Callable[[_WorkerSession], float],
    ) -> None:
        self._worker, self._begins = worker, beginning
        super().__init__(avatar, options, driver=worker, drawer=worker, on_event=on_event)

    @property
    def origin(self) -> float:
        """The clock's time at which its line began."""
        return self._stages.origin

    def _beginning(self) -> float:
        return self._begins(self)

    def close(self) -> None:
        super().close()
        self._worker.close()


def widest_gap(phases: Sequence[float]) -> float:
    """The middle, 0 to 1, of the widest gap between phases on a circle of length 1; 0 where there are none."""
    if not phases:
        return 0.0
    rising = sorted(phases)
    gaps = [after - before for before, after in zip(rising, [*rising[1:], rising[0] + 1], strict=True)]
    widest = max(range(len(gaps)), key=gaps.__getitem__)
    return (rising[widest] + gaps[widest] / 2) % 1


def _connection() -> tuple[Connection, socket.socket]:
    mine, other = socket.socketpair()
    return Connection(mine.detach()), other


@contextlib.contextmanager
def _memory(content: object) -> Any:
    """A file that lies in memory only, with something in it."""
    descriptor = os.memfd_create("avatarfit")
    try:
        with open(descriptor, "wb", closefd=False) as file:
            pickle.dump(content, file, pickle.HIGHEST_PROTOCOL)
        yield descriptor
    finally:
        os.close(descriptor)


def _asked(connection: Connection, question: object) -> Any:
    try:
        connection.send(question)
    except OSError as error:
        raise _gone() from error
    return _told(connection)


def _told(connection: Connection) -> Any:
    """The answer.

    Raises:
        BackendError: none came. Exception: what the other end says went wrong.
    """
    try:
        if not connection.poll(_ANSWER_SECONDS):
            raise BackendError(
                f"a session's process has been silent for {_ANSWER_SECONDS:g} s",
                "one that runs",
                "open another session",
            )
        answer = connection.recv()
    except (EOFError, OSError) as error:
        raise _gone() from error
    if isinstance(answer, Exception):
        raise answer
    return answer


def _gone() -> BackendError:
    return BackendError("a session's process has ended", "one that runs", "open another session")
