"""One who takes what a session gives: a short queue, of which the oldest is lost when he is slow."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, Self, TypeVar

_Item = TypeVar("_Item")


class Subscription(Generic[_Item]):
    """Items in order, until the session is closed or the subscription left.

        async with session.subscribe() as frames:
            async for frame in frames: ...

    For one task, on the server's loop. It begins to collect when it is made.

    Args:
        most: items that wait; 1 or more.
        on_leave: told once, when it is left.

    Attributes:
        dropped: items that were lost because they were not taken in time.
    """

    def __init__(self, most: int, on_leave: Callable[[Subscription[_Item]], None]) -> None:
        if most < 1:
            raise ValueError(f"most came as {most}; wanted 1 or more")
        self._items: deque[_Item] = deque(maxlen=most)
        self._on_leave = on_leave
        self._came = asyncio.Event()
        self._finished = False
        self.dropped = 0

    def offer(self, item: _Item) -> None:
        """One more item; never waits."""
        if self._finished:
            return
        self.dropped += len(self._items) == self._items.maxlen
        self._items.append(item)
        self._came.set()

    def finish(self) -> None:
        """No more will come; what waits is still given."""
        self._finished = True
        self._came.set()

    def leave(self) -> None:
        """No more is wanted. May be called twice."""
        if not self._finished:
            self.finish()
            self._on_leave(self)
        self._items.clear()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.leave()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> _Item:
        while not self._items:
            if self._finished:
                raise StopAsyncIteration
            self._came.clear()
            await self._came.wait()
        return self._items.popleft()
