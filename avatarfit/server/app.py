"""The web application: avatars in, everything that a browser or a program may ask of them out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib import import_module, resources

from fastapi import FastAPI

import avatarfit
from avatarfit.model.avatar import Avatar
from avatarfit.server.problems import add_problems
from avatarfit.server.routes_page import page_routes
from avatarfit.server.routes_sessions import session_routes
from avatarfit.server.security import Guard
from avatarfit.server.sessions import Sessions
from avatarfit.server.settings import ServerSettings


def create_app(avatars: Mapping[str, Avatar], settings: ServerSettings | None = None) -> FastAPI:
    """A server of live avatars; its sessions are `app.state.sessions`.

    Args:
        avatars: by the name that requests use.
        settings: bounds, and how sessions run.

    Raises:
        InputError: no avatar came.
    """
    settings = settings or ServerSettings()
    sessions = Sessions(avatars, settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with sessions:
            yield

    app = FastAPI(
        title="avatarfit", version=avatarfit.__version__, summary="Live avatars: sound or text in, a person out.",
        # The usual pages for reading the description fetch scripts from elsewhere.
        openapi_url="/api/openapi.json", docs_url=None, redoc_url=None, lifespan=lifespan,
    )  # fmt: skip
    app.state.sessions = sessions
    add_problems(app)
    app.include_router(session_routes(sessions))
    if resources.files("avatarfit.server").joinpath("webrtc.py").is_file():
        app.include_router(import_module("avatarfit.server.webrtc").router(sessions, settings))
    if resources.files("avatarfit.server").joinpath("page").is_dir():
        app.include_router(page_routes())
    app.add_middleware(Guard, settings=settings)
    return app
