"""Who may ask, and how much: token, Host and Origin, and the size and time of a request's body.

A page on the web can make a browser send requests to this machine. On loopback the Host header must therefore be this
machine's (against DNS rebinding), and everywhere an Origin must be the server's own or one that was allowed (against
cross-site requests and WebSockets, which browsers do not hold back by themselves).
"""

from __future__ import annotations

import asyncio
import hmac
import json
import re
from collections.abc import Iterable
from urllib.parse import parse_qs, urlsplit

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from avatarfit.server.settings import ServerSettings, is_loopback

_GUARDED = ("/api", "/metrics")
"""What needs the token; the page's own files hold nothing secret."""
_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; connect-src 'self' ws: wss:; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", _POLICY.encode()),
    (b"cache-control", b"no-store"),
]
_REFUSED = 1008
"""WebSocket's close code for a policy (RFC 6455, 7.4.1)."""


class Guard:
    """Wraps the whole app; what it refuses never reaches a route.

    Args:
        app: within.
        settings: token, origins and bounds.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self._app, self._settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await _refuse(scope, receive, send, *refusal)
        elif scope["type"] == "websocket":
            await self._app(scope, receive, send)
        else:
            await self._bounded(scope, receive, send)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Status and sentence; None for a request that may pass."""
        settings, headers = self._settings, _headers(scope)
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if settings.loopback and not is_loopback(_name(host)):
            return 403, f"the host {host[:100]!r} came; wanted this machine's own; open http://{settings.host}"
        origin = headers.get(b"origin", b"").decode("latin-1").lower()
        if origin and urlsplit(origin).netloc != host and origin not in settings.origins:
            return 403, f"a page of {origin[:100]!r} asked; wanted this server's own; allow it with --origin"
        token = settings.token if scope["path"].startswith(_GUARDED) else None
        if token is not None and not hmac.compare_digest(_told(scope, headers).encode(), token.encode()):
            return 401, "no token, or a wrong one came; wanted this server's; send Authorization: Bearer TOKEN"
        return None

    async def _bounded(self, scope: Scope, receive: Receive, send: Send) -> None:
        most, seconds = self._settings.most_request_bytes, self._settings.request_seconds
        until = asyncio.get_running_loop().time() + seconds
        came, whole = 0, False

        async def bounded_receive() -> Message:
            nonlocal came, whole
            if whole:
                return await receive()
            try:
                async with asyncio.timeout_at(until):
                    message = await receive()
            except TimeoutError:
                raise _refusal(408, f"a request took over {seconds:g} s; wanted it sooner; send less") from None
            came += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if came > most:
                raise _refusal(413, _too_long(most))
            return message

        async def headed_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        length = _headers(scope).get(b"content-length", b"0")
        if not length.isdigit() or int(length[:20]) > most:
            await _refuse(scope, receive, send, 413, _too_long(most))
        else:
            await self._app(scope, bounded_receive, headed_send)


def _refusal(status: int, detail: str) -> HTTPException:
    # The rest of its body is not waited for.
    return HTTPException(status, detail, {"Connection": "close"})


def _too_long(most: int) -> str:
    return f"a request of over {most:,} bytes came; wanted less; send it in parts"


def _headers(scope: Scope) -> dict[bytes, bytes]:
    return {name.lower(): value for name, value in scope["headers"]}


def _name(host: str) -> str:
    """A Host header without its port; "" for one that is not well formed."""
    found = re.fullmatch(r"(?:\[([^\[\]]*)\]|([^:\[\]]*))(?::\d*)?", host)
    return "" if found is None else found[1] or found[2] or ""


def _told(scope: Scope, headers: dict[bytes, bytes]) -> str:
    """The token that came, "" for none. In an address it stands for WebSockets alone: browsers send them no header."""
    kind, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    if kind.lower() == "bearer":
        return token.strip()
    if scope["type"] == "websocket":
        return parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
    return ""


async def _refuse(scope: Scope, receive: Receive, send: Send, status: int, detail: str) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": _REFUSED, "reason": detail[:120]})
        return
    body = json.dumps({"detail": f"{detail}."}).encode()
    extra: Iterable[tuple[bytes, bytes]] = [(b"www-authenticate", b"Bearer")] if status == 401 else []
    # The rest of its body is not waited for.
    headers = [
        (b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), (b"connection", b"close"),
        *extra, *_HEADERS,
    ]  # fmt: skip
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
