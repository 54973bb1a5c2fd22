"""`avatarfit.live`: frames from an asynchronous iterator of sound, for those who bring their own transport."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from avatarfit.contracts import AudioClip, InputError
from avatarfit.pipeline.live import LiveOptions, LiveSession

if TYPE_CHECKING:
    from avatarfit.model.avatar import Avatar
    from avatarfit.pipeline.live_frame import LiveFrame

_LONGEST_PIECE_SECONDS = 0.5
_WAIT_SECONDS = 0.02
Sound = AudioClip | bytes | np.ndarray


async def live(
    avatar: Avatar | Path | str,
    sound: AsyncIterable[Sound],
    *,
    sample_rate_hz: int = 16_000,
    heard: AsyncIterable[Sound] | None = None,
    options: LiveOptions | None = None,
    microphone: bool = False,
    session: LiveSession | None = None,
    **rest: Any,
) -> AsyncGenerator[LiveFrame, None]:
    """Frames, in real time, of somebody who says the sound; they end when all of it has been said.

        async for frame in avatarfit.live(avatar, pcm, sample_rate_hz=24_000):
            await show(frame.picture, frame.sound, frame.pts_seconds)

    Args:
        avatar: or its file.
        sound: what to say, piece by piece: AudioClip, bytes (16-bit mono), int16 [n] or float [n].
        sample_rate_hz: of all but AudioClip.
        heard: the other's voice, to listen to, likewise.
        options: see `LiveOptions`.
        microphone: the sound comes as it is spoken (see `LiveSession.push`).
        session: one that was made before, fresh, so that it can be interrupted and turned meanwhile.
        rest: as of `LiveSession`.

    Raises:
        InputError: as `LiveSession`, or sound of another kind.
    """
    if session is None:
        from avatarfit.pipeline.avatar import Avatar as Loaded

        person = Loaded.load(avatar) if isinstance(avatar, str | Path) else avatar
        session = await asyncio.to_thread(LiveSession, person, options, **rest)
    ended = asyncio.Event()

    async def speak() -> None:
        async for piece in sound:
            samples, rate = _samples(piece, sample_rate_hz)
            size = max(int(_LONGEST_PIECE_SECONDS * rate), 1)
            for at in range(0, len(samples), size):
                part = samples[at : at + size]
                while not session.takes(len(part) / rate, session.options.most_seconds):
                    await asyncio.sleep(_WAIT_SECONDS)
                session.push(part, rate, live=microphone)
        session.end()
        ended.set()

    async def listen(voice: AsyncIterable[Sound]) -> None:
        async for piece in voice:
            session.hear(*_samples(piece, sample_rate_hz))

    tasks = [asyncio.create_task(speak())]
    if heard is not None:
        tasks.append(asyncio.create_task(listen(heard)))
    try:
        with session:
            async for frame in session.frames():
                for task in tasks:
                    if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                        raise error
                yield frame
                if ended.is_set() and session.finished:
                    return
    finally:
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task


def _samples(piece: Sound, sample_rate_hz: int) -> tuple[np.ndarray, int]:
    if isinstance(piece, AudioClip):
        return piece.samples, piece.sample_rate_hz
    if isinstance(piece, bytes | bytearray | memoryview):
        raw = bytes(piece)
        if len(raw) % 2:
            raise InputError(f"{len(raw)} bytes of sound came", "whole 16-bit samples", "cut it at even bytes")
        return np.frombuffer(raw, "<i2"), sample_rate_hz
    return np.asarray(piece), sample_rate_hz
