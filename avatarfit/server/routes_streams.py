"""WebSockets of a session: sound in as it is made (/pcm), and what happens out (/events)."""

from __future__ import annotations

import asyncio
import json
from contextlib import nullcontext
from typing import Any

import numpy as np
from fastapi import APIRouter, WebSocket
from pydantic import BaseModel, ConfigDict, Field
from starlette.websockets import WebSocketDisconnect, WebSocketState

from avatarfit.contracts import AvatarfitError, InputError
from avatarfit.pipeline.live_sound import as_mono
from avatarfit.server.controls import controls_info
from avatarfit.server.problems import sentence
from avatarfit.server.routes_speech import interrupted
from avatarfit.server.served_session import ServedSession
from avatarfit.server.sessions import Sessions
from avatarfit.server.spoken_stream import SpokenStream

MOST_PIECE_BYTES = 1 << 20
_KINDS = "speak", "microphone", "hear"
_WORDS = "end", "interrupt"
_PATIENCE_SECONDS = 10.0
_WAIT_SECONDS = 0.05
_PART_SECONDS = 0.5
_POLICY, _MOST_REASON = 1008, 120
ENDS = "ends"
"""What /events is asked with, by one with whom the session shall end."""
_MOST_ENDS_SECONDS = 600


def stream_routes(sessions: Sessions) -> APIRouter:
    """WebSockets under /api/sessions/{id}."""
    router = APIRouter(prefix="/api/sessions/{id}")

    @router.websocket("/pcm")
    async def pcm(socket: WebSocket, id: str) -> None:
        """Binary: 16-bit little-endian mono samples. Text: "end" of an utterance, "interrupt", which is answered with
        a record of type "interrupted", or a word of what is spoken, as of `_StreamedWord`, in JSON."""
        await socket.accept()
        try:
            rate_hz, kind = _asked(socket)
            session = sessions.get(id)
            with session.held():
                await _Incoming(session, rate_hz, kind, sessions.settings.most_sound_seconds).run(socket)
        except AvatarfitError as error:
            await _refuse(socket, error)
        except WebSocketDisconnect:
            pass

    @router.websocket("/events")
    async def events(socket: WebSocket, id: str) -> None:
        """JSON records with a "type": state, saying, word, note, rates, controls, closed."""
        await socket.accept()
        try:
            ends_seconds = _ends(socket)
            session = sessions.get(id)
            with nullcontext() if ends_seconds is None else session.owned(ends_seconds):
                await _tell(socket, session)
        except AvatarfitError as error:
            await _refuse(socket, error)
        except WebSocketDisconnect:
            pass

    return router


class _Incoming:
    """Sound of one WebSocket on its way into a session."""

    def __init__(self, session: ServedSession, rate_hz: int, kind: str, most_seconds: float) -> None:
        self._session, self._rate, self._kind, self._most = session, rate_hz, kind, most_seconds
        self._utterance: SpokenStream | None = None

    async def run(self, socket: WebSocket) -> None:
        """Until the client leaves, or sends what cannot be used.

        Raises:
            InputError: that.
        """
        try:
            while not self._session.closed:
                message = await socket.receive()
                if message["type"] == "websocket.disconnect":
                    return
                if message.get("bytes") is not None:
                    await self._take(_samples(message["bytes"]))
                else:
                    await self._obey(message.get("text") or "", socket)
            await socket.close()
        finally:
            if self._utterance is not None:
                self._utterance.end()

    async def _obey(self, word: str, socket: WebSocket) -> None:
        if self._kind == "speak" and word.startswith("{"):
            self._tell(_streamed_word(word))
        elif word not in _WORDS:
            raise InputError(f"the text {word[:40]!r} came", " or ".join(_WORDS), "send sound as binary messages")
        elif word == "interrupt":
            told = interrupted(self._session.interrupt())
            if self._utterance is not None:
                self._utterance.end()
            await socket.send_json({"type": "interrupted", **told.model_dump()})
        elif self._utterance is not None:
            self._utterance.end()
        elif self._kind == "microphone":
            self._session.live.end()

    def _tell(self, word: _StreamedWord) -> None:
        if self._utterance is None or not self._utterance.push_word(word.word, word.start_seconds, word.end_seconds):
            self._begin_utterance().push_word(word.word, word.start_seconds, word.end_seconds)

    async def _take(self, samples: np.ndarray) -> None:
        if self._kind == "speak":
            await self._speak(samples)
            return
        size = max(round(_PART_SECONDS * self._rate), 1)
        for at in range(0, len(samples), size):
            part = samples[at : at + size]
            if self._kind == "hear":
                self._session.live.hear(part, self._rate)
            # A microphone does not wait: what there is no room for is lost.
            elif self._session.live.takes(len(part) / self._rate, self._most):
                self._session.live.push(part, self._rate, live=True)

    async def _speak(self, samples: np.ndarray) -> None:
        sound = as_mono(samples, self._rate)
        while self._utterance is not None and self._utterance.waiting_seconds > self._most and not self._session.closed:
            await asyncio.sleep(_WAIT_SECONDS)
        if self._utterance is None or not self._utterance.push(sound, self._rate):
            self._begin_utterance().push(sound, self._rate)

    def _begin_utterance(self) -> SpokenStream:
        self._utterance = SpokenStream(_PATIENCE_SECONDS)
        self._session.say_stream(self._utterance)
        return self._utterance


class _StreamedWord(BaseModel):
    """A word of what is spoken, and its times from the utterance's first sample."""

    model_config = ConfigDict(extra="forbid", strict=True)
    word: str = Field(min_length=1, max_length=200)
    start_seconds: float
    end_seconds: float


def _streamed_word(text: str) -> _StreamedWord:
    try:
        return _StreamedWord.model_validate_json(text)
    except ValueError as error:
        raise InputError(
            f"the text {text[:40]!r} came",
            'a word such as {"word": "hello", "start_seconds": 0.1, "end_seconds": 0.4}', "correct it",
        ) from error  # fmt: skip


def _asked(socket: WebSocket) -> tuple[int, str]:
    rate, kind = socket.query_params.get("rate", "24000"), socket.query_params.get("kind", "speak")
    if kind not in _KINDS:
        raise InputError(f"kind came as {kind[:40]!r}", ", ".join(_KINDS), "choose one")
    if not (rate.isascii() and rate.isdigit() and len(rate) <= 6):
        raise InputError(f"rate came as {rate[:40]!r}", "samples a second, such as 24000", "correct it")
    as_mono(np.zeros(0, np.float32), int(rate))
    return int(rate), kind


def _samples(piece: bytes) -> np.ndarray:
    if len(piece) > MOST_PIECE_BYTES:
        raise InputError(f"{len(piece):,} bytes of sound came", f"at most {MOST_PIECE_BYTES:,}", "send smaller pieces")
    if len(piece) % 2:
        raise InputError(f"{len(piece)} bytes of sound came", "whole 16-bit samples", "cut it at even bytes")
    return np.frombuffer(piece, "<i2")


async def _tell(socket: WebSocket, session: ServedSession) -> None:
    """What happens in a session, until either ends."""
    async with session.events() as happenings:
        await socket.send_json({"type": "state", "state": str(session.state), "pts_seconds": None})
        await socket.send_json({"type": "controls", **controls_info(session.controls).model_dump(mode="json")})
        leaving = asyncio.create_task(_until_left(socket))
        leaving.add_done_callback(lambda _: happenings.leave())
        try:
            async for happening in happenings:
                await socket.send_json(happening)
        finally:
            leaving.cancel()
    if socket.application_state == WebSocketState.CONNECTED and session.closed:
        await socket.close()


def _ends(socket: WebSocket) -> float | None:
    """So long after the listener has gone the session shall end; None where it shall not."""
    told = socket.query_params.get(ENDS)
    if told is None:
        return None
    if not (told.isascii() and told.isdigit() and len(told) <= 3 and 1 <= int(told) <= _MOST_ENDS_SECONDS):
        raise InputError(f"{ENDS} came as {told[:40]!r}", f"1 to {_MOST_ENDS_SECONDS} seconds", "correct it")
    return float(told)


async def _until_left(socket: WebSocket) -> None:
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


async def _refuse(socket: WebSocket, error: AvatarfitError) -> None:
    detail: dict[str, Any] = {"type": "problem", "detail": sentence(error)}
    await socket.send_text(json.dumps(detail))
    await socket.close(_POLICY, detail["detail"].encode()[:_MOST_REASON].decode(errors="ignore"))
