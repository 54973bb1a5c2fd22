"""Who may ask: tokens, hosts and origins, and how much; over a real connection."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

TOKEN = "a-token-that-nobody-guesses"


@pytest.fixture(scope="module")
def guarded(serve: Callable[..., AbstractContextManager[Any]]) -> Iterator[Any]:
    options = {"token": TOKEN, "origins": ("https://example.org",), "most_request_bytes": 2_000, "request_seconds": 1}
    with serve(**options) as served:
        yield served


@pytest.fixture(scope="module")
def stranger(guarded: Any) -> Iterator[Any]:
    """A client that was told no token."""
    import httpx2

    with httpx2.Client(base_url=guarded.url, timeout=300.0) as client:
        yield client


WRONG = "", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}"
PATHS = "/api/health", "/api/sessions", "/metrics", "/api/openapi.json", "/api/nothing"


@pytest.mark.parametrize("told", WRONG)
def test_without_the_token_nothing_is_told(stranger: Any, told: str) -> None:
    for method in ("GET", "POST"):
        for path in PATHS:
            answer = stranger.request(method, path, headers={"Authorization": told} if told else {})
            assert answer.status_code == 401, path
            assert answer.headers["www-authenticate"] == "Bearer"
            assert "token" in answer.json()["detail"]
            assert TOKEN not in answer.text


def test_an_address_holds_the_token_for_websockets_alone(guarded: Any, stranger: Any) -> None:
    from websockets.exceptions import InvalidStatus

    assert stranger.get(f"/api/health?token={TOKEN}").status_code == 401
    path = f"/api/sessions/{guarded.client.post('/api/sessions', json={}).json()['id']}"
    with guarded.socket(f"{path}/events?token={TOKEN}") as events:
        assert json.loads(events.recv(300.0))["type"] == "state"
    for query in ("", "?token=", "?token=wrong"):
        with pytest.raises(InvalidStatus) as refused:
            guarded.socket(f"{path}/events{query}")
        assert refused.value.response.status_code == 403
    guarded.client.delete(path)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "127.0.0.1"}, 200),
        ({"Host": "localhost:8460"}, 200),
        ({"Host": "[::1]:8460"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "localhost.evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": "[::1].evil.example"}, 403),
        ({"Host": ""}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "https://example.org"}, 200),
        ({"Origin": "https://example.org.evil.example"}, 403),
        ({"Host": "localhost:1", "Origin": "http://localhost:1"}, 200),
        ({"Host": "localhost:1", "Origin": "http://localhost:2"}, 403),
    ],
)
def test_hosts_and_origins(guarded: Any, headers: dict[str, str], status: int) -> None:
    answer = guarded.client.get("/api/health", headers=headers)
    assert answer.status_code == status
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(("origin", "allowed"), [("https://example.org", True), ("https://evil.example", False)])
def test_only_pages_that_were_named_may_read_answers(stranger: Any, guarded: Any, origin: str, allowed: bool) -> None:
    asks = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    before = stranger.options("/api/sessions", headers=asks)
    assert (before.status_code == 200) == allowed
    answer = guarded.client.get("/api/health", headers={"Origin": origin})
    assert answer.headers.get("access-control-allow-origin") == (origin if allowed else None)


def test_a_page_of_elsewhere_gets_no_websocket(guarded: Any) -> None:
    from websockets.exceptions import InvalidStatus

    with pytest.raises(InvalidStatus):
        guarded.socket(f"/api/sessions/x/events?token={TOKEN}", origin="https://evil.example")


def test_bodies_are_bounded_whatever_they_say_of_their_length(guarded: Any) -> None:
    path = f"/api/sessions/{guarded.client.post('/api/sessions', json={}).json()['id']}"
    stated = guarded.client.post(f"{path}/speak", content=b"x" * 2_001)
    unstated = guarded.client.post(f"{path}/speak", content=(b"x" * 100 for _ in range(30)))
    for answer in (stated, unstated):
        assert answer.status_code == 413
        assert "over 2,000 bytes" in answer.json()["detail"]
    assert guarded.client.post(f"{path}/speak", content=b"x" * 2_000).status_code == 422
    assert guarded.client.post(f"{path}/say", content=b" " * 5_000).status_code == 413
    guarded.client.delete(path)


def test_a_body_that_never_ends_is_not_waited_for(guarded: Any) -> None:
    with socket.create_connection(("127.0.0.1", guarded.port)) as line:
        line.settimeout(300.0)
        head = f"POST /api/sessions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n"
        line.sendall(f"{head}Content-Type: application/json\r\nContent-Length: 50\r\n\r\n{{".encode())
        assert line.recv(100).startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /api/sessions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /api/sessions HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"GET /api/health HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"GET /api/sessions/x/events HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"\0" * 1_000,
    ],
)
def test_what_is_no_request_at_all(guarded: Any, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", guarded.port)) as line:
        line.settimeout(300.0)
        line.sendall(sent)
        line.shutdown(socket.SHUT_WR)
        answer = line.recv(1_000)
        assert not answer or answer.split()[1][:1] == b"4"
    assert guarded.client.get("/api/health").status_code == 200
