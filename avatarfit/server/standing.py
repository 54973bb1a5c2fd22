"""A session that always runs, for outputs nobody has to ask for: a stream that is pushed, a virtual camera."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from avatarfit.contracts import AvatarfitError
from avatarfit.server.problems import sentence

if TYPE_CHECKING:
    from avatarfit.server.served_session import ServedSession
    from avatarfit.server.sessions import Sessions

_PAUSE_SECONDS = 1.0


class Output(Protocol):
    """Takes a session's frames elsewhere."""

    async def run(self, session: ServedSession) -> None:
        """Until the session ends.

        Raises:
            AvatarfitError: it cannot be done at all.
        """


@dataclass(frozen=True)
class Standing:
    """What always runs.

    Attributes:
        outputs: where its frames go.
        opened: told the session's id, by which pages and programs steer it.
        tell: told in a sentence what goes wrong.
    """

    outputs: Sequence[Output]
    opened: Callable[[str], None]
    tell: Callable[[str], None]

    async def run(self, sessions: Sessions) -> None:
        """For ever: a session that ends is followed by another."""
        while True:
            try:
                session = await sessions.open()
            except AvatarfitError as error:
                self.tell(sentence(error))
            else:
                self.opened(session.id)
                with session.held():
                    await asyncio.gather(*(self._give(output, session) for output in self.outputs))
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _give(self, output: Output, session: ServedSession) -> None:
        try:
            await output.run(session)
        except AvatarfitError as error:
            self.tell(sentence(error))
            # The others go on with the session.
            async with session.subscribe(1) as frames:
                async for _ in frames:
                    pass
