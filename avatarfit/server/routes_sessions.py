"""/api/sessions: open, look, close."""

from __future__ import annotations

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from avatarfit.server.problems import problems
from avatarfit.server.served_session import ServedSession
from avatarfit.server.sessions import OpenOptions, Sessions


class SessionRequest(BaseModel):
    """A session to open."""

    model_config = ConfigDict(extra="forbid", strict=True)
    avatar: str | None = Field(None, description="Name of an avatar; the first one if left out.", max_length=200)
    alpha: bool = Field(False, description="The picture shows what lies behind; see the offer's packing.")
    background: str | None = Field(
        None, description="clip, none, a colour's name or #rrggbb; the server's own if left out.", max_length=32
    )
    seed: int | None = Field(None, ge=0, lt=2**31, description="Of head, blinks and gaze; by chance if left out.")


class SessionInfo(BaseModel):
    """A session."""

    id: str
    avatar: str
    alpha: bool
    width_px: int
    height_px: int
    frame_rate_hz: float
    state: str = Field(description="idle, listening or speaking.")
    latency_ms: float = Field(description="From sound's turn to its frame's leaving.")
    frames_per_second: float = Field(description="That left in the last second.")
    pictures_per_second: float = Field(description="New ones among them.")
    watchers: int
    waiting_seconds: float = Field(description="Of sent sound.")


def session_info(session: ServedSession) -> SessionInfo:
    """What is told of a session."""
    live = session.live
    return SessionInfo(
        id=session.id, avatar=session.avatar_name, alpha=session.alpha, width_px=live.width_px,
        height_px=live.height_px, frame_rate_hz=live.frame_rate_hz, state=str(session.state),
        watchers=session.watchers, waiting_seconds=session.waiting_seconds, **vars(session.rates),
    )  # fmt: skip


def session_routes(sessions: Sessions) -> APIRouter:
    """Routes under /api/sessions."""
    router = APIRouter(prefix="/api/sessions", tags=["sessions"], responses=problems(401, 403, 422))

    @router.post("", status_code=201, responses=problems(404, 413, 503))
    async def open_session(request: SessionRequest) -> SessionInfo:
        """Opens a session; it ends by DELETE, or when nobody watches it for a while."""
        options = OpenOptions(request.alpha, request.background, request.seed)
        return session_info(await sessions.open(request.avatar, options))

    @router.get("/{id}", responses=problems(404))
    async def look(id: str) -> SessionInfo:
        """How it is."""
        return session_info(sessions.get(id))

    @router.delete("/{id}", status_code=204, responses=problems(404))
    async def close(id: str) -> Response:
        """Ends it for all who watch."""
        await sessions.close(id)
        return Response(status_code=204)

    return router
