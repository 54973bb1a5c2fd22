"""The server itself: /api/health, /api/avatars, /api/voices, /metrics."""

from __future__ import annotations

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, Field

import avatarfit
from avatarfit.server.metrics import registry_of
from avatarfit.server.problems import problems
from avatarfit.server.sessions import Sessions
from avatarfit.server.voices import Voices


class Health(BaseModel):
    """That the server answers, and how full it is."""

    status: str
    version: str
    sessions: int
    most_sessions: int


class AvatarInfo(BaseModel):
    """Somebody who can be shown."""

    name: str
    width_px: int = Field(description="Of the avatar's own pictures; a session tells those it sends.")
    height_px: int
    frame_rate_hz: float
    head: str = Field(description="What draws the head: gaussian or hashgrid.")


class VoiceInfo(BaseModel):
    """A voice for texts."""

    name: str
    languages: list[str] = Field(description="Empty where it has but its own.")


def server_routes(sessions: Sessions, voices: Voices) -> APIRouter:
    """Routes about the server."""
    router = APIRouter(tags=["server"], responses=problems(401, 403))
    registry = registry_of(sessions)

    @router.get("/api/health")
    async def health() -> Health:
        """That it answers."""
        most = sessions.settings.most_sessions
        return Health(status="ok", version=avatarfit.__version__, sessions=len(sessions), most_sessions=most)

    @router.get("/api/avatars")
    async def avatars() -> list[AvatarInfo]:
        """Who can be shown."""
        return [
            AvatarInfo(
                name=name, width_px=avatar.camera.width_px, height_px=avatar.camera.height_px,
                frame_rate_hz=avatar.frame_rate_hz, head=avatar.head,
            )
            for name, avatar in sessions.avatars.items()
        ]  # fmt: skip

    @router.get("/api/voices")
    async def voices_() -> list[VoiceInfo]:
        """What can say a text; empty where nothing is installed."""
        return [VoiceInfo(name=voice.name, languages=list(voice.languages)) for voice in voices.offered.values()]

    @router.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Counts and rates, in Prometheus' text format."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return router
