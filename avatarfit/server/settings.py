"""What a server is told when it starts, and the bounds of what requests may ask for."""

from __future__ import annotations

import ipaddress
import re
import secrets
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from avatarfit.contracts import InputError
from avatarfit.pipeline.live import LiveOptions

SHORTEST_TOKEN = 16
_RANGES = {
    "port": (0, 65_535),
    "most_sessions": (1, 1_000),
    "most_watchers": (1, 1_000),
    "most_text_chars": (1, 5_000),
    "most_sound_seconds": (1, 600),
    "most_request_bytes": (1_000, 1_000_000_000),
    "request_seconds": (1, 600),
    "idle_seconds": (1, 86_400),
}


@dataclass(frozen=True)
class ServerSettings:
    """How a server runs.

    Attributes:
        host: address that it listens at; anything but this machine's own (loopback) needs a token.
        port: 0 for any that is free.
        token: what a client must know; None asks for none. 16 or more letters that need no quoting in an address.
        most_sessions: at a time; one more is refused.
        most_watchers: of one session at a time.
        most_text_chars: in one text.
        most_sound_seconds: of sent sound that may wait in one session.
        most_request_bytes: in a request's body. request_seconds: that it may take to arrive.
        idle_seconds: after which a session that nobody watches or asks for is closed.
        origins: pages of other servers that may use this one, such as "https://example.org".
        live: how sessions run: size, rate, torso, mark, features, what stands behind, unless a request says otherwise.
    """

    host: str = "127.0.0.1"
    port: int = 8460
    token: str | None = None
    most_sessions: int = 4
    most_watchers: int = 8
    most_text_chars: int = 2_000
    most_sound_seconds: float = 120.0
    most_request_bytes: int = 24_000_000
    request_seconds: float = 30.0
    idle_seconds: float = 60.0
    origins: tuple[str, ...] = ()
    live: LiveOptions = field(default_factory=LiveOptions)

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise InputError(f"{name} came as {value}", f"{low} to {high:,}", "change it")
        token = self.token
        if token is None and not self.loopback:
            raise InputError(
                f"the address {self.host} came without a token", "a token wherever other machines can connect",
                "add --token auto, or listen at 127.0.0.1",
            )  # fmt: skip
        if token is not None and not re.fullmatch(rf"[A-Za-z0-9._~-]{{{SHORTEST_TOKEN},}}", token):
            raise InputError(
                "a weak token came", f"{SHORTEST_TOKEN} or more of A-Z a-z 0-9 - _ . ~", "try --token auto"
            )
        if getattr(self.live.background, "nothing", self.live.background == "none"):
            raise InputError(
                "the background none came for a server", "one for sessions without alpha",
                "leave it out: a session opened with alpha has none",
            )  # fmt: skip
        for origin in self.origins:
            parts = urlsplit(origin)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.path or parts.query:
                raise InputError(f"the origin {origin!r} came", "such as https://example.org", "leave out any path")

    @property
    def loopback(self) -> bool:
        """Only this machine can connect."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether a host's name or address, without a port, is this machine's own and no other's."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def new_token() -> str:
    """A token nobody can guess: 256 bits, in letters that need no quoting in an address."""
    return secrets.token_urlsafe(32)
