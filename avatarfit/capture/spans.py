"""A clip gone through in spans, each by a process of its own, as many at once as there are processors.

Threads would not do: Python's lock and pictures that wander between the cores' caches cost as much as a second core
gives (measured). A span looks at a few pictures before its own, so that whatever remembers former pictures has caught
up. Spans depend on the clip alone, so the result does not depend on the machine.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeVar

from avatarfit.contracts import InputError

T = TypeVar("T")
Step = Callable[[int], None]
Work = Callable[[T, Path, Step], None]

_PICTURES = 350
_FEWEST = 60
_MOST_PROCESSES = 16
_POLL_SECONDS = 0.2
# Each process has a core, so its libraries' own threads would only be in the way.
_ENVIRONMENT = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def span_bounds(count: int) -> list[int]:
    """The first picture of each span, and `count`; an even number of spans, so that two processors share them well."""
    spans = 1 if count < 2 * _FEWEST else 2 * max(1, round(count / (2 * _PICTURES)))
    return [round(count * k / spans) for k in range(spans + 1)]


def go_through(work: Work[T], tasks: Sequence[T], counts: Sequence[int], folder: Path, step: Step) -> list[Path]:
    """Has every task worked on; returns the result files, in order. Those that are there are not made again.

    The processes start here and end here, so that what they hold never lies beside what the caller does next.

    Args:
        work: a module's function, called with a task, the safetensors file to write last, and a function that is to be
            told how many more pictures are done.
        tasks: what can be pickled.
        counts: each task's pictures.
        folder: where the results go.
        step: told the number of pictures done in all.

    Raises:
        InputError: the system ended a process. What `work` raises is raised.
    """
    from loky import cpu_count

    results = [folder / f"{k:04d}.safetensors" for k in range(len(tasks))]
    open_tasks = [(t, r) for t, r in zip(tasks, results, strict=True) if not r.is_file()]
    done = sum(n for n, r in zip(counts, results, strict=True) if r.is_file())

    def count(more: int) -> None:
        nonlocal done
        done += more
        step(done)

    processes = min(cpu_count(), len(tasks), _MOST_PROCESSES)
    if processes < 2:
        for task, result in open_tasks:
            work(deepcopy(task), result, count)  # as in a process of its own, what it changes is its own
    elif open_tasks:
        _together(work, open_tasks, processes, count)
    return results


def _together(work: Work[T], tasks: list[tuple[T, Path]], processes: int, count: Step) -> None:
    from loky import ProcessPoolExecutor
    from loky.backend.context import get_context
    from loky.process_executor import TerminatedWorkerError

    context = get_context("loky")
    told = context.SimpleQueue()
    pool = ProcessPoolExecutor(processes, context=context, initializer=_begin, initargs=(told,), env=_ENVIRONMENT)
    finished = False
    try:
        pending: set[Future[None]] = {pool.submit(_work, work, task, result) for task, result in tasks}
        while pending:
            ended, pending = wait(pending, timeout=_POLL_SECONDS)
            more = 0
            while not told.empty():
                more += told.get()
            if more:
                count(more)
            for future in ended:
                future.result()
        finished = True
    except TerminatedWorkerError as cause:
        raise InputError(
            "the system ended one of capture's processes, most likely because memory ran out",
            "some 400 MB of free memory for each processor core",
            "close other programs, or allow fewer cores, such as with taskset, and run the same command again",
        ) from cause
    finally:
        pool.shutdown(wait=True, kill_workers=not finished)


_told: Any = None


def _begin(told: Any) -> None:
    """Readies a process: Ctrl-C is for the one that started it, and when that one is gone, this one goes."""
    global _told
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    cv2.setNumThreads(1)
    _told = told


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _work(work: Work[T], task: T, result: Path) -> None:
    work(task, result, _told.put)
