"""/api/sessions/{id}/offer: a browser asks for picture and sound, and may send its microphone."""

from __future__ import annotations

import asyncio
from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from avatarfit.server.aiortc_inside import miss_sooner
from avatarfit.server.errors import UnknownError
from avatarfit.server.peer import Microphone, Peer
from avatarfit.server.problems import problems
from avatarfit.server.sessions import Sessions
from avatarfit.server.settings import ServerSettings

_LONGEST_SDP = 65_536
_MICROPHONE = "What becomes of the microphone: off, speak (the person says it) or hear (the person listens)."


class Offer(BaseModel):
    """A WebRTC offer (RFC 8866), its candidates within it."""

    model_config = ConfigDict(extra="forbid")
    sdp: str = Field(max_length=_LONGEST_SDP)
    type: Literal["offer"] = "offer"
    alpha: bool | None = Field(None, description="The matte below the picture; as the session has it, if left out.")
    microphone: Microphone = Field("off", description=_MICROPHONE)


class Packing(BaseModel):
    """Where picture and matte lie in what is sent."""

    alpha: bool
    width_px: int
    height_px: int
    coded_width_px: int
    coded_height_px: int
    matte_row_px: int = Field(description="First row of the matte, where there is one.")


class Answer(BaseModel):
    """What the browser sets as its remote description."""

    sdp: str
    type: Literal["answer"] = "answer"
    peer: str = Field(description="This connection's name.")
    picture: Packing


class PeerChange(BaseModel):
    """What may be changed while a connection stands."""

    model_config = ConfigDict(extra="forbid")
    microphone: Microphone = Field(description=_MICROPHONE)


def router(sessions: Sessions, settings: ServerSettings) -> APIRouter:
    """WebRTC for the sessions of a server."""
    miss_sooner()
    routes = APIRouter(prefix="/api/sessions", tags=["webrtc"], responses=problems(401, 403, 404, 422))
    peers: dict[str, Peer] = {}
    running: set[asyncio.Task[None]] = set()

    async def run(peer: Peer) -> None:
        try:
            await peer.run()
        finally:
            peers.pop(peer.id, None)

    def found(id: str, name: str) -> Peer:
        peer = peers.get(name)
        if peer is None or peer.session is not sessions.get(id):
            raise UnknownError("there is no connection by that name", "one of this session", "send an offer")
        return peer

    @routes.post("/{id}/offer", responses=problems(408, 413, 503))
    async def offer(id: str, offer: Offer) -> Answer:
        """Connects picture, sound and microphone."""
        session = sessions.get(id)
        peer = Peer(session, session.alpha if offer.alpha is None else offer.alpha, offer.microphone, settings.loopback)
        try:
            sdp = await peer.answer(offer.sdp)
        except BaseException:
            await peer.leave()
            raise
        peers[peer.id] = peer
        task = asyncio.create_task(run(peer))
        running.add(task)
        task.add_done_callback(running.discard)
        layout = peer.layout
        names = (name for name in Packing.model_fields)
        return Answer(sdp=sdp, peer=peer.id, picture=Packing(**{name: getattr(layout, name) for name in names}))

    @routes.patch("/{id}/peers/{peer}")
    async def change(id: str, peer: str, change: PeerChange) -> PeerChange:
        """Turns the microphone."""
        found(id, peer).microphone = change.microphone
        return change

    @routes.delete("/{id}/peers/{peer}", status_code=204)
    async def leave(id: str, peer: str) -> Response:
        """Ends the connection; the session goes on."""
        found(id, peer).close()
        return Response(status_code=204)

    return routes
