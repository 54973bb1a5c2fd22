"""The sessions of a server: opened up to a limit, found by a name nobody can guess, closed when nobody wants them."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Self

from avatarfit.compositing import Background
from avatarfit.compositing.background import NAMED_COLOURS, plain_background
from avatarfit.contracts import InputError
from avatarfit.driving import Settings
from avatarfit.model.avatar import Avatar
from avatarfit.pipeline.live import LiveOptions, LiveSession
from avatarfit.server.errors import FullError, UnknownError
from avatarfit.server.served_session import ServedSession
from avatarfit.server.settings import ServerSettings

COUNTED = (
    "frames", "pictures", "dropped_pictures", "lost_frames", "slips", "slip_seconds", "underruns", "trimmed_seconds",
    "spoken_seconds", "interrupts",
)  # fmt: skip
"""Those of `LiveStatistics` that only grow."""
Begin = Callable[[str, LiveOptions], LiveSession]
_UNWATCHED = "unwatched_frames"
_LOOK_SECONDS = 1.0
_LONGEST_WORD = 32


@dataclass(frozen=True)
class OpenOptions:
    """What a request says of a new session.

    Attributes:
        alpha: pictures are premultiplied RGBA, over nothing.
        background: "clip", "none", a colour's name or "#rrggbb"; None for the server's own choice.
        seed: of head motion, blinks and gaze; None for one by chance.
        controls: to begin with.
    """

    alpha: bool = False
    background: str | None = None
    seed: int | None = None
    controls: Settings = field(default_factory=Settings)


class Sessions:
    """All sessions. For one loop; `async with` closes those that nobody wants meanwhile, and all at the end.

    Args:
        avatars: by name; loaded once, shared by their sessions.
        settings: the server's.
        begin: makes a live session of an avatar by its name; None makes it in this process.

    Raises:
        InputError: no avatar came.
    """

    def __init__(self, avatars: Mapping[str, Avatar], settings: ServerSettings, begin: Begin | None = None) -> None:
        if not avatars:
            raise InputError("no avatar came", "one or more", "name an avatar file")
        self.avatars, self.settings = MappingProxyType(dict(avatars)), settings
        self._begin: Begin = begin or (lambda name, options: LiveSession(self.avatars[name], options))
        self._sessions: dict[str, ServedSession] = {}
        self._opening = 0
        self._reaper: asyncio.Task[None] | None = None
        self.opened = self.refused = 0
        """How many were opened, and how many there was no room for."""
        self._gone: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._sessions) + self._opening

    def __iter__(self) -> Iterator[ServedSession]:
        return iter(tuple(self._sessions.values()))

    async def __aenter__(self) -> Self:
        self._reaper = asyncio.create_task(self._reap(), name="reaper")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._reaper is not None:
            self._reaper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reaper
        await asyncio.gather(*(self._end(session) for session in self))

    async def open(self, avatar_name: str | None = None, options: OpenOptions | None = None) -> ServedSession:
        """A new session; the first avatar where none is named.

        Raises:
            UnknownError: no such avatar.
            InputError: a background that is none, or that hides what is to be seen through.
            FullError: there are as many sessions as may be.
        """
        options = options or OpenOptions()
        name = next(iter(self.avatars)) if avatar_name is None else avatar_name
        if name not in self.avatars:
            raise UnknownError(
                f"there is no avatar {name[:_LONGEST_WORD]!r}", f"one of {', '.join(self.avatars)}", "choose one"
            )
        background = self._background(options)
        most = self.settings.most_sessions
        if len(self) >= most:
            self.refused += 1
            raise FullError(
                f"all {most} sessions of this server are taken", "one that is free", "try again when one has ended"
            )
        chosen = self.settings.live
        seed = secrets.randbelow(2**31) if options.seed is None else options.seed
        chosen = replace(
            chosen, alpha=options.alpha, background=background, settings=options.controls,
            drive=replace(chosen.drive, seed=seed), most_seconds=60.0,
        )  # fmt: skip
        self._opening += 1
        try:
            live = await asyncio.to_thread(self._begin, name, chosen)
            session = ServedSession(secrets.token_urlsafe(16), name, options.alpha, live, self.settings)
            self._sessions[session.id] = session
        finally:
            self._opening -= 1
        self.opened += 1
        return session

    def _background(self, options: OpenOptions) -> str | Background:
        if options.background is None:
            return Background(nothing=True, name="none") if options.alpha else self.settings.live.background
        # A file is never looked for: what is no colour is wrong.
        found = plain_background(options.background)
        if found is None:
            raise InputError(
                f"the background {options.background[:_LONGEST_WORD]!r} came",
                f"clip, none, {', '.join(NAMED_COLOURS)} or such as #00b140", "choose one of them",
            )  # fmt: skip
        if options.alpha != found.nothing:
            raise InputError(
                f"the background {found.name} came {'with' if options.alpha else 'without'} alpha",
                "none with alpha, another without", "leave the background out",
            )  # fmt: skip
        return found

    def get(self, id: str) -> ServedSession:
        """A session that runs, touched.

        Raises:
            UnknownError: there is none by that id.
        """
        session = self._sessions.get(id)
        if session is None or session.closed:
            raise UnknownError("there is no session by that id", "one that runs", "open a new one")
        session.touch()
        return session

    async def close(self, id: str) -> None:
        """Ends a session.

        Raises:
            UnknownError: there is none by that id.
        """
        if id not in self._sessions:
            raise UnknownError("there is no session by that id", "one that runs", "open a new one")
        await self._end(self._sessions[id])

    def totals(self) -> dict[str, float]:
        """`COUNTED` and "unwatched_frames" of all sessions since the server's start."""
        total = Counter(self._gone)
        for session in self:
            total.update(_counts(session))
        return {name: total[name] for name in (*COUNTED, _UNWATCHED)}

    async def _end(self, session: ServedSession) -> None:
        if self._sessions.pop(session.id, None) is not None:
            await session.close()
            self._gone.update(_counts(session))

    async def _reap(self) -> None:
        while True:
            await asyncio.sleep(min(_LOOK_SECONDS, self.settings.idle_seconds / 4))
            for session in self:
                if session.closed or session.abandoned or session.idle_seconds > self.settings.idle_seconds:
                    await self._end(session)


def _counts(session: ServedSession) -> dict[str, float]:
    told = session.live.statistics.as_dict()
    return {**{name: told[name] for name in COUNTED}, _UNWATCHED: session.lost_frames}
