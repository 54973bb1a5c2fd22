"""What a session says and how: /api/sessions/{id}/speak, say, interrupt, controls."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from avatarfit.media.sound_bytes import read_audio_bytes
from avatarfit.server.controls import ControlsInfo, ControlValues, controls_info, turned
from avatarfit.server.problems import problems
from avatarfit.server.sessions import Sessions
from avatarfit.server.voices import Voices

if TYPE_CHECKING:
    from avatarfit.pipeline.live_saying import Saying

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
    saying: int = Field(description="Its number in the session, by which words and interruptions name it.")


class Interrupted(BaseModel):
    """What was cut short: what was said before it was heard whole, what waited after it not at all."""

    saying: int | None = Field(description="Its number; null where nothing was being said.")
    heard: str | None = Field(description="Its text up to the last word begun; null where nobody knows.")


def interrupted(saying: Saying | None) -> Interrupted:
    """What is told of a text that was cut short."""
    if saying is None:
        return Interrupted(saying=None, heard=None)
    return Interrupted(saying=saying.number, heard=saying.heard)


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
        saying = session.speak(clip.samples, clip.sample_rate_hz)
        return Accepted(seconds=clip.duration_seconds, waiting_seconds=session.waiting_seconds, saying=saying.number)

    @router.post("/say", status_code=202, responses=problems(408, 413, 429, 501))
    async def say(id: str, request: Text) -> Accepted:
        """Says a text. A voice that fails later is told by the session's events."""
        session = sessions.get(id)
        saying = session.say(request.text, voices.find(request.voice, request.language))
        return Accepted(seconds=None, waiting_seconds=session.waiting_seconds, saying=saying.number)

    @router.post("/interrupt")
    async def interrupt(id: str) -> Interrupted:
        """Silence: sound fades within 20 ms, the mouth rests within 100 ms, and what waits is dropped."""
        return interrupted(sessions.get(id).interrupt())

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
