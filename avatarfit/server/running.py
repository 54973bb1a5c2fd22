"""The web server around the application: its address, its bounds, its end."""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from avatarfit.contracts import InputError
from avatarfit.server.routes_streams import ENDS, MOST_PIECE_BYTES
from avatarfit.server.settings import ServerSettings

_GRACEFUL_SECONDS = 5
_PING_SECONDS, _PONG_SECONDS = 4.0, 6.0
_CONNECTIONS = 64
_CONNECTIONS_PER_SESSION = 16


class _Sockets(WebSocketsSansIOProtocol):
    """WebSockets; those with whom a session ends are asked more often whether they are there.

    Browsers answer by themselves, whatever becomes of the page's own timers. A program that is busy with making
    speech may be silent for longer, and is given uvicorn's own time.
    """

    def start_keepalive(self) -> None:
        """When the socket is open."""
        if f"{ENDS}=".encode() in self.scope["query_string"]:
            self.ping_interval, self.ping_timeout = _PING_SECONDS, _PONG_SECONDS
        super().start_keepalive()


def listen(settings: ServerSettings) -> socket.socket:
    """A socket at the settings' address.

    Raises:
        InputError: the address is not this machine's, or taken.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        place = socket.create_server((settings.host, settings.port), family=family, backlog=_CONNECTIONS)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else error
        raise InputError(
            f"the address {settings.host}:{settings.port} cannot be listened at ({why})",
            "one of this machine's, and a port that is free", "choose others with --host and --port",
        ) from error  # fmt: skip
    # asyncio does so only for sockets that it made. Without, an answer's body waits 40 ms until its head was received.
    place.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return place


def server_of(
    app: FastAPI, settings: ServerSettings, certificate: Path | None = None, key: Path | None = None
) -> uvicorn.Server:
    """The server of an app, to be run with a socket of `listen`. Logs nothing of addresses, which may hold tokens.

    Args:
        app: see `create_app`.
        settings: the app's.
        certificate, key: PEM, for https.

    Raises:
        InputError: certificate and key do not fit, or one is missing.
    """
    if (certificate is None) != (key is None):
        raise InputError("only one of certificate and key came", "both, or none for http", "add the other")
    config = uvicorn.Config(
        app, log_config=None, log_level=logging.WARNING, access_log=False, ws_max_size=MOST_PIECE_BYTES, ws=_Sockets,
        # Sound hardly shrinks, and costs.
        ws_per_message_deflate=False,
        proxy_headers=False, server_header=False, timeout_graceful_shutdown=_GRACEFUL_SECONDS,
        limit_concurrency=_CONNECTIONS + _CONNECTIONS_PER_SESSION * settings.most_sessions,
        ssl_certfile=certificate, ssl_keyfile=key,
    )  # fmt: skip
    try:
        config.load()
    except OSError as error:  # ssl.SSLError is one
        raise InputError(
            f"{certificate} and {key} cannot be used ({error})", "a certificate and its key, PEM", "check both files"
        ) from error
    return uvicorn.Server(config)


def address(settings: ServerSettings, port: int, secure: bool) -> str:
    """What to open in a browser, the token in it."""
    host = socket.gethostname() if settings.host in ("0.0.0.0", "::") else settings.host
    host = f"[{host}]" if ":" in host else host
    token = f"?token={settings.token}" if settings.token else ""
    return f"http{'s' if secure else ''}://{host}:{port}/{token}"
