"""What aiortc decides by itself and has no setting for: the encoder, how long sound waits, addresses, patience.

The only place that reaches behind its names; a release that has others is refused rather than silently slower.
"""

from __future__ import annotations

from typing import Any

import aioice
import aiortc
from aiortc import RTCPeerConnection, RTCRtpReceiver, RTCRtpSender
from aiortc.codecs.base import Encoder

_LOOPBACK = "127.0.0.1"
_CONSENT_SECONDS, _CONSENT_FAILURES = 2.0, 5


def encode_with(sender: RTCRtpSender, encoder: Encoder) -> None:
    """Another encoder than aiortc's own, before the sender begins."""
    _replace(sender, "_RTCRtpSender__encoder", encoder)


def hear_at_once(receiver: RTCRtpReceiver) -> None:
    """Sound is not held back by four packets, which are 80 ms; packets that come out of order are lost."""
    _replace(_inner(receiver, "_RTCRtpReceiver__jitter_buffer"), "_prefetch", 0)


def reach_by_loopback(peer: RTCPeerConnection) -> None:
    """Offers 127.0.0.1 too, which aiortc leaves out: the one address of a machine without a network."""
    for transport in _inner(peer, "_RTCPeerConnection__iceTransports"):
        connection = _inner(transport.iceGatherer, "_connection")
        gather = _inner(connection, "get_component_candidates")

        async def gather_all(component: int, addresses: list[str], gather: Any = gather, **rest: Any) -> Any:
            return await gather(component=component, addresses=[*addresses, _LOOPBACK], **rest)

        connection.get_component_candidates = gather_all


def miss_sooner() -> None:
    """One who no longer answers, in all connections of this process, is gone after 9 to 15 s rather than 30 s."""
    _replace(aioice.ice, "CONSENT_INTERVAL", _CONSENT_SECONDS)
    _replace(aioice.ice, "CONSENT_FAILURES", _CONSENT_FAILURES)


def _inner(of: object, name: str) -> Any:
    if not hasattr(of, name):
        raise RuntimeError(
            f"aiortc {aiortc.__version__} has no {name}; wanted the release of requirements.lock; install that one."
        )
    return getattr(of, name)


def _replace(of: object, name: str, value: object) -> None:
    _inner(of, name)
    setattr(of, name, value)
