"""The process in which one session drives and draws; run by `live_workers`, never by hand.

A first process holds the avatars and all libraries. For each session it forks: its child begins at once and shares
their memory. No thread is at work in it when it forks, so that forking it is safe.
"""

from __future__ import annotations

import contextlib
import gc
import mmap
import os
import pickle
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import numpy as np

from avatarfit.contracts import AvatarfitError
from avatarfit.contracts.events import Event, silent

if TYPE_CHECKING:
    from avatarfit.driving import Settings
    from avatarfit.model.avatar import Avatar
    from avatarfit.pipeline.live import LiveOptions
    from avatarfit.pipeline.live_frame import Moment

_LIBRARIES = "OMP", "OPENBLAS", "MKL"
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in _LIBRARIES} | {"AVATARFIT_THREADS": "1"}
"""Environment in which no library starts threads by itself."""
READY, OPEN = b"ready", b"open"
BY_INDEX, _KEPT_MOMENTS = 16, 128
"""So many moments that were told last may be asked for by their index. More are kept: of the two connections of a
session, this one's driving may be ahead of what the other end has read."""


@dataclass(frozen=True)
class Begun:
    """What a session's process tells when it stands.

    Attributes:
        look_ahead_seconds, sample_rate_hz, mouth_rest: of its driver.
        shape: of its pictures, uint8 [H, W, 3 or 4].
        events: what a person should know.
    """

    look_ahead_seconds: float
    sample_rate_hz: int
    mouth_rest: np.ndarray
    shape: tuple[int, ...]
    events: list[Event] = field(default_factory=list)


@dataclass(frozen=True)
class Drive:
    """What the driver is to do.

    Attributes:
        samples: float32 [n], to push.
        heard: the other's voice before, as of `Driver.hear`.
        turned: other controls before; None for none.
    """

    samples: np.ndarray
    heard: list[tuple[np.ndarray, int, float]]
    turned: Settings | None


@dataclass(frozen=True)
class Driven:
    """What came of it; `nods` in all so far."""

    moments: list[Moment]
    nods: int


def main(descriptor: int) -> None:
    """Holds the avatars that come first through a socket; forks for every session that is asked for there."""
    # A keyboard's interruption is for the parent, which closes the socket; children that end need no farewell.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    asked = socket.socket(fileno=descriptor)
    _, (memory,), _, _ = socket.recv_fds(asked, len(OPEN), 1)
    avatars = _read(memory)
    os.close(memory)
    _load(avatars)
    gc.collect()
    gc.freeze()
    with contextlib.suppress(BrokenPipeError):  # nobody waits any more; the loop ends at once
        asked.send(READY)
    while True:
        word, descriptors, _, _ = socket.recv_fds(asked, len(OPEN), 3)
        if not word:
            return
        if os.fork() == 0:
            asked.close()
            try:
                _session(avatars, *descriptors)
            finally:
                os._exit(0)
        for one in descriptors:
            os.close(one)


def _read(descriptor: int) -> Any:
    with mmap.mmap(descriptor, 0, prot=mmap.PROT_READ) as memory:
        return pickle.loads(memory)  # noqa: S301 - our own parent wrote it


def _load(avatars: Mapping[str, Avatar]) -> None:
    """What is loaded at first use, so that children share it."""
    import torch

    from avatarfit.audio.named_encoder import encoder_of
    from avatarfit.pipeline.live import LiveOptions
    from avatarfit.pipeline.live_driver import warm
    from avatarfit.pipeline.live_picture import LivePictures, resting_moment

    torch.set_num_threads(1)
    chosen = LiveOptions()
    for avatar in avatars.values():
        # An avatar that hears a network which is not here is told of when its session is opened; so is one that is too
        # small for the mark.
        with contextlib.suppress(AvatarfitError):
            warm(avatar, encoder_of(avatar.driver.feature_name, None))
        with contextlib.suppress(AvatarfitError):
            LivePictures(
                avatar, avatar.frame_rate_hz, chosen.background, chosen.picture, alpha=False, mark=chosen.mark,
                on_event=silent,
            ).draw(resting_moment(avatar))  # fmt: skip


def _session(avatars: Mapping[str, Avatar], driving: int, drawing: int, memory: int) -> None:
    from avatarfit.ops import choose
    from avatarfit.ops.native import set_threads
    from avatarfit.pipeline.live_driver import LiveDriver
    from avatarfit.pipeline.live_picture import LivePictures

    drive, draw = Connection(driving), Connection(drawing)
    asked: tuple[str, LiveOptions] = _read(memory)
    name, chosen = asked
    avatar, events = avatars[name], list[Event]()
    try:
        rate = float(chosen.frame_rate_hz or avatar.frame_rate_hz)
        driver = LiveDriver(avatar, rate, chosen.drive, chosen.settings, features=chosen.features)
        pictures = LivePictures(
            avatar, rate, chosen.background, chosen.picture, alpha=chosen.alpha, mark=chosen.mark,
            backend=chosen.backend, on_event=events.append,
        )  # fmt: skip
    except Exception as error:  # noqa: BLE001 - it is raised where the session was asked for
        drive.send(_portable(error))
        return
    shape = pictures.camera.height_px, pictures.camera.width_px, 4 if chosen.alpha else 3
    os.ftruncate(memory, prod(shape))
    shown = np.frombuffer(mmap.mmap(memory, prod(shape)), np.uint8).reshape(shape)
    has_kernels = choose(chosen.backend).name == "cpu"
    told: deque[Moment] = deque(maxlen=_KEPT_MOMENTS)

    def drawn(work: tuple[Moment | int, int]) -> None:
        which, threads = work
        moment = next(one for one in tuple(told) if one.index == which) if isinstance(which, int) else which
        if has_kernels:
            set_threads(threads)
        shown[...] = pictures.draw(moment)

    def driven(work: Drive) -> Driven:
        if work.turned is not None:
            driver.turn(work.turned)
        for voice in work.heard:
            driver.hear(*voice)
        moments = driver.push(work.samples)
        told.extend(moments)
        return Driven(moments, driver.nods)

    drive.send(Begun(driver.look_ahead_seconds, driver.sample_rate_hz, driver.mouth_rest, shape, events))
    threading.Thread(target=_answer, args=(draw, drawn), daemon=True).start()
    _answer(drive, driven)


def _answer(questions: Connection, work: Callable[[Any], object]) -> None:
    """Until the other end is closed."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            question = questions.recv()
            try:
                answer = work(question)
            except Exception as error:  # noqa: BLE001 - it is raised where it was asked
                answer = _portable(error)
            questions.send(answer)


def _portable(error: Exception) -> Exception:
    return error if isinstance(error, AvatarfitError) else RuntimeError(f"{type(error).__name__}: {error}")
