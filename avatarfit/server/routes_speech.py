"""What a session says and how: /api/sessions/{id}/speak, say, interrupt, controls."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from avatarfit.media.sound_bytes import read_audio_bytes
from avatarfit.server.controls import ControlsInfo, ControlValues, controls_info, turned
from avatarfit.server.problems import problems
from avatarfit.server.sessions import Sessions
from avatarfit.server.voices import Voices

_LONGEST_NAME = 200
_SOUND = {"schema": {"type": "string", "format": "binary"}}
_SOUND_BODY = {
    "required": True,
    "content": {"audio/*": _SOUND, "application/octet-stream": _SOUND},
    "description": "A sound file's bytes: WAV, FLAC, MP3, Ogg, M4A or WebM.",
}


class Text(BaseModel):
    """A text to say."""

    model_config = ConfigDict(extra="forbid", strict=True)
    text: str = Field(min_length=1, description="What to say.")
    voice: str | None = Field(None, max_length=_LONGEST_NAME, description="By name; the first one if left out.")
    language: str | None = Field(None, max_length=_LONGEST_NAME, description="One of the voice's.")


class Accepted(BaseModel):
    """It will be said after all that waits."""

    seconds: float | None = Field(description="Of the sound; null for a text, which becomes sound as it is said.")
    waiting_seconds: float = Field(description="Of sent sound that waits, this one with it.")


def speech_routes(sessions: Sessions, voices: Voices) -> APIRouter:
    """Routes under /api/sessions/{id}."""
    router = APIRouter(
        prefix="/api/sessions/{id}", tags=["speech"], responses=problems(401, 403, 404, 422)
    )  # fmt: skip

    @router.post(
        "/speak", status_code=202, responses=problems(408, 413, 429), openapi_extra={"requestBody": _SOUND_BODY}
    )
    async def speak(id: str, request: Request) -> Accepted:
        """Says a sound file."""
        session = sessions.get(id)
        with session.held():
            data = await request.body()
            clip = await asyncio.to_thread(read_audio_bytes, data, sessions.settings.most_sound_seconds)
        session.speak(clip.samples, clip.sample_rate_hz)
        return Accepted(seconds=clip.duration_seconds, waiting_seconds=session.waiting_seconds)

    @router.post("/say", status_code=202, responses=problems(408, 413, 429, 501))
    async def say(id: str, request: Text) -> Accepted:
        """Says a text. A voice that fails later is told by the session's events."""
        session = sessions.get(id)
        session.say(request.text, voices.find(request.voice, request.language))
        return Accepted(seconds=None, waiting_seconds=session.waiting_seconds)

    @router.post("/interrupt", status_code=204)
    async def interrupt(id: str) -> Response:
        """Silence: sound fades within 20 ms, the mouth rests within 100 ms, and what waits is dropped."""
        sessions.get(id).interrupt()
        return Response(status_code=204)

    @router.get("/controls")
    async def controls(id: str) -> ControlsInfo:
        """What may be turned, and where it stands."""
        return controls_info(sessions.get(id).controls)

    @router.patch("/controls", responses=problems(413))
    async def turn(id: str, request: ControlValues) -> ControlsInfo:
        """Turns what is named; the change is eased within 0.3 s."""
        session = sessions.get(id)
        session.controls = turned(session.controls, request)
        return controls_info(session.controls)

    return router
