"""The web application: avatars in, everything that a browser or a program may ask of them out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

import avatarfit
from avatarfit.model.avatar import Avatar
from avatarfit.server.problems import add_problems
from avatarfit.server.routes_page import page_routes
from avatarfit.server.routes_server import server_routes
from avatarfit.server.routes_sessions import session_routes
from avatarfit.server.routes_speech import speech_routes
from avatarfit.server.routes_streams import stream_routes
from avatarfit.server.security import Guard
from avatarfit.server.sessions import Begin, Sessions
from avatarfit.server.settings import ServerSettings
from avatarfit.server.standing import Standing
from avatarfit.server.voices import OfferedVoice, Voices, installed_voices
from avatarfit.server.webrtc import router as webrtc_routes


def create_app(
    avatars: Mapping[str, Avatar],
    settings: ServerSettings | None = None,
    voices: Iterable[OfferedVoice] | None = None,
    standing: Standing | None = None,
    begin: Begin | None = None,
) -> FastAPI:
    """A server of live avatars; its sessions are `app.state.sessions`.

    Args:
        avatars: by the name that requests use.
        settings: bounds, and how sessions run.
        voices: for texts; None for those that are installed.
        standing: a session that always runs.
        begin: see `Sessions`.

    Raises:
        InputError: no avatar came, or two voices of one name.
    """
    settings = settings or ServerSettings()
    sessions = Sessions(avatars, settings, begin)
    known = Voices(installed_voices() if voices is None else voices)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with sessions:
            always = None if standing is None else asyncio.create_task(standing.run(sessions))
            yield
            if always is not None:
                always.cancel()
                with suppress(asyncio.CancelledError):
                    await always

    app = FastAPI(
        title="avatarfit", version=avatarfit.__version__, summary="Live avatars: sound or text in, a person out.",
        # The usual pages for reading the description fetch scripts from elsewhere.
        openapi_url="/api/openapi.json", docs_url=None, redoc_url=None, lifespan=lifespan,
    )  # fmt: skip
    app.state.sessions = sessions
    add_problems(app)
    for router in (
        server_routes(sessions, known), session_routes(sessions), speech_routes(sessions, known),
        stream_routes(sessions), webrtc_routes(sessions, settings), page_routes(),
    ):  # fmt: skip
        app.include_router(router)
    app.add_middleware(Guard, settings=settings)
    if settings.origins:
        # Around the guard: a browser asks whether it may ask, without the token.
        app.add_middleware(
            CORSMiddleware, allow_origins=settings.origins, allow_methods=["*"],
            allow_headers=["Authorization", "Content-Type"],
        )  # fmt: skip
    return app
