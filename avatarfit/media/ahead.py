"""An iterator's work in a thread of its own, a few items ahead of whoever takes them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from queue import Queue
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Iterator[T], most: int = 4) -> Iterator[T]:
    """The same items in the same order; at most `most` of them, and one in the making, wait to be taken.

    What `items` raises is raised here, after the items before it. Leaving early ends the thread and closes `items`.
    """
    ready: Queue[tuple[T] | BaseException | None] = Queue()
    free = threading.Semaphore(most)
    left = threading.Event()

    def work() -> None:
        last: BaseException | None = None
        try:
            for item in items:
                ready.put((item,))
                free.acquire()
                if left.is_set():
                    break
        except BaseException as error:  # noqa: BLE001 - handed to the taker, whatever it is
            last = error
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()
        ready.put(last)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while (got := ready.get()) is not None:
            if isinstance(got, BaseException):
                raise got
            free.release()
            yield got[0]
    finally:
        left.set()
        free.release()
        thread.join()
