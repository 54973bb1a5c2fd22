from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from avatarfit.capture import spans
from avatarfit.capture.spans import Step, go_through, span_bounds
from avatarfit.capture.stages import load_tensors, save_tensors
from avatarfit.contracts import FaceError, InputError

Work = Callable[[int, Path, Step], None]


@pytest.fixture(params=[1, 2])
def processes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("loky.cpu_count", lambda: request.param)
    return int(request.param)


def squares() -> Work:
    """A function of no module, so that a process of its own is sent all of it."""

    def work(task: int, result: Path, step: Step) -> None:
        for _ in range(task):
            step(1)
        save_tensors(result, {"square": np.array([task * task]), "process": np.array([os.getpid()])})

    return work


@pytest.mark.parametrize("count", [1, 12, 119, 120, 700, 1774, 15000])
def test_spans_cover_a_clip_evenly_and_come_in_pairs(count: int) -> None:
    bounds = span_bounds(count)
    sizes = np.diff(bounds)
    assert (bounds[0], bounds[-1]) == (0, count)
    assert sizes.max() - sizes.min() <= 1
    assert sizes.max() <= 525
    assert len(sizes) == 1 or (len(sizes) % 2 == 0 and sizes.min() >= 60)


def test_every_task_is_done_once_and_counted(tmp_path: Path, processes: int) -> None:
    told: list[int] = []
    results = go_through(squares(), [1, 2, 3, 4], [1, 2, 3, 4], tmp_path, told.append)
    found = [load_tensors(path) for path in results]
    assert [int(f["square"][0]) for f in found] == [1, 4, 9, 16]
    assert told == sorted(told)
    assert told[-1] == 10
    others = {int(f["process"][0]) for f in found} - {os.getpid()}
    assert bool(others) == (processes > 1)
    for process in others:  # they have ended
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def test_what_is_done_is_not_done_again(tmp_path: Path, processes: int) -> None:
    save_tensors(tmp_path / "0001.safetensors", {"square": np.array([-1])})
    told: list[int] = []
    results = go_through(squares(), [1, 2, 3], [1, 2, 3], tmp_path, told.append)
    assert [int(load_tensors(path)["square"][0]) for path in results] == [1, -1, 9]
    assert told[-1] == 6


def test_an_error_comes_back_as_it_was_and_leaves_what_was_done(tmp_path: Path, processes: int) -> None:
    def work(task: int, result: Path, step: Step) -> None:
        if task == 2:
            raise FaceError("two faces", "one", "film one person")
        save_tensors(result, {"square": np.array([task])})

    with pytest.raises(FaceError, match=r"^two faces; wanted one; film one person\.$"):
        go_through(work, [1, 2], [1, 1], tmp_path, lambda _n: None)
    assert not (tmp_path / "0001.safetensors").exists()


def test_tasks_are_their_own(tmp_path: Path, processes: int) -> None:
    def work(task: list[int], result: Path, step: Step) -> None:
        task.append(0)
        save_tensors(result, {"length": np.array([len(task)])})

    shared: list[int] = []
    results = go_through(work, [shared, shared], [1, 1], tmp_path, lambda _n: None)
    assert [int(load_tensors(path)["length"][0]) for path in results] == [1, 1]
    assert shared == []


def test_a_process_that_the_system_ends_is_told_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loky.cpu_count", lambda: 2)

    def work(task: int, result: Path, step: Step) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(InputError, match="the system ended one of capture's processes"):
        go_through(work, [1, 2], [1, 1], tmp_path, lambda _n: None)
    assert spans._told is None  # nothing of a process of its own happened here
