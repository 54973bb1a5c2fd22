from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from avatarfit.media import ahead


def test_all_items_come_in_order() -> None:
    assert list(ahead(iter(range(100)), 3)) == list(range(100))
    assert list(ahead(iter([]))) == []


def test_the_work_is_done_in_another_thread_and_not_too_far_ahead() -> None:
    made: list[int] = []
    threads: set[int] = set()

    def items() -> Iterator[int]:
        for number in range(50):
            made.append(number)
            threads.add(threading.get_ident())
            yield number

    taken = ahead(items(), 3)
    assert next(taken) == 0
    time.sleep(0.05)
    assert len(made) <= 6
    assert list(taken) == list(range(1, 50))
    assert threads.isdisjoint({threading.get_ident()})


def test_an_error_comes_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("the third")

    taken = ahead(items(), 5)
    assert [next(taken), next(taken)] == [1, 2]
    with pytest.raises(ValueError, match="the third"):
        next(taken)


def test_leaving_early_closes_what_gave_the_items() -> None:
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            yield from range(10**9)
        finally:
            closed.set()

    taken = ahead(items(), 2)
    next(taken)
    before = threading.active_count()
    taken.close()
    assert closed.is_set()
    assert threading.active_count() == before - 1
