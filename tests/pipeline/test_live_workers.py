"""Sessions in processes of their own are what they are in this one; whoever dies, dies alone."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from avatarfit.contracts import BackendError, InputError
from avatarfit.driving import Settings
from avatarfit.pipeline.live import LiveOptions
from avatarfit.pipeline.live_driver import LiveDriver
from avatarfit.pipeline.live_picture import LivePictures

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes for sessions are for Linux: not run")
OPTIONS = LiveOptions(background="#204080", mark=None)


@pytest.fixture(scope="module")
def workers(speaker: Any) -> Iterator[Any]:
    from avatarfit.pipeline.live_workers import LiveWorkers

    with LiveWorkers({"someone": speaker}) as workers:
        workers.wait()
        yield workers


def children() -> set[int]:
    out = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    if b"live_worker" in file.read():
                        out.add(int(name))
            except OSError:
                pass
    return out


def gone(pid: int, seconds: float = 10.0) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if pid not in children():
            return True
        time.sleep(0.02)
    return False


def test_what_forks_has_loaded_all_and_has_one_thread(workers: Any) -> None:
    process = workers._process.pid
    assert len(os.listdir(f"/proc/{process}/task")) == 1
    with open(f"/proc/{process}/maps") as file:
        assert "cv2" in file.read()


def test_moments_and_pictures_are_those_of_this_process(workers: Any, speaker: Any) -> None:
    random = np.random.default_rng(4)
    sound = (0.3 * random.standard_normal(16_000) * np.sin(np.arange(16_000) / 2_000) ** 2).astype(np.float32)
    rate = float(speaker.frame_rate_hz)
    here = LiveDriver(speaker, rate, OPTIONS.drive, OPTIONS.settings)
    drawer = LivePictures(
        speaker, rate, OPTIONS.background, OPTIONS.picture, alpha=False, mark=None, on_event=lambda event: None
    )
    session, count = workers.session("someone", OPTIONS), 0
    there = session._worker
    assert there.look_ahead_seconds == here.look_ahead_seconds
    np.testing.assert_array_equal(there.mouth_rest, here.mouth_rest)
    for at in range(0, len(sound), 640):
        for one in (here, there):
            one.hear(0.1 * sound[at : at + 640], 16_000, at / 16_000)
            if at == 6_400:
                one.turn(Settings(emotion="happy"))
        told, wanted = there.push(sound[at : at + 640]), here.push(sound[at : at + 640])
        assert [(m.index, m.state) for m in told] == [(m.index, m.state) for m in wanted]
        for mine, true in zip(told, wanted, strict=True):
            np.testing.assert_allclose(mine.motion.face.mouth, true.motion.face.mouth, atol=1e-4)
            picture = there.draw(mine)
            assert np.abs(picture.astype(int) - drawer.draw(true)).max() <= 1
            np.testing.assert_array_equal(there.draw(replace(mine)), picture)  # by its index, or all of it
            count += 1
    assert count > 10
    assert there.nods == here.nods
    session.close()


def test_a_session_speaks_and_its_process_ends_with_it(workers: Any) -> None:
    before = children()
    with workers.session("someone", replace(OPTIONS, alpha=True, background="none")) as session:
        (pid,) = children() - before
        session.push(np.sin(np.arange(9_600) / 20).astype(np.float32), 48_000)
        frames = [session.frame(5.0) for _ in range(12)]
    assert all(frame is not None and frame.picture.shape[2] == 4 for frame in frames)
    assert max(np.abs(frame.sound).max() for frame in frames) > 20_000
    assert len({frame.picture.ctypes.data for frame in frames}) > 1
    assert gone(pid)


def test_a_process_that_is_killed_ends_its_session_and_no_other(workers: Any) -> None:
    before = children()
    with workers.session("someone", OPTIONS) as first:
        (pid,) = children() - before
        with workers.session("someone", OPTIONS) as second:
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(BackendError, match="process has ended"):
                _ = [first.frame(0.1) for _ in range(200)]
            assert second.frame(5.0) is not None
            assert second.frame(5.0).fresh


def test_what_is_wrong_is_said_where_the_session_is_asked_for(workers: Any) -> None:
    with pytest.raises(InputError, match="nothere"):
        workers.session("someone", replace(OPTIONS, background="nothere.png"))
    with pytest.raises(KeyError):
        workers.session("nobody", OPTIONS)


def test_when_the_sessions_end_so_does_the_first_process(speaker: Any) -> None:
    from avatarfit.pipeline.live_workers import LiveWorkers

    workers = LiveWorkers({"someone": speaker})
    workers.close()
    assert workers._process.returncode == 0
    with pytest.raises(OSError):  # noqa: PT011 - a closed socket
        workers.wait()


def test_sessions_take_turns(workers: Any) -> None:
    """Their frames begin as far from each other as can be; each begins at once."""
    sessions = [workers.session("someone", OPTIONS) for _ in range(4)]
    try:
        for session in sessions:
            now = time.monotonic()
            session.start()
            assert now - 1 / session.frame_rate_hz <= session.origin <= time.monotonic()
        phases = sorted(session.origin * sessions[0].frame_rate_hz % 1 for session in sessions)
        np.testing.assert_allclose(np.diff([*phases, phases[0] + 1]), 0.25, atol=1e-6)
        sessions[1].close()
        with workers.session("someone", OPTIONS) as fifth:
            assert fifth.origin * fifth.frame_rate_hz % 1 == pytest.approx(phases[2], abs=1e-6)
    finally:
        for session in sessions:
            session.close()


def test_cores_are_shared_by_those_that_run(workers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from avatarfit.pipeline import live_workers

    monkeypatch.setattr(live_workers, "_CORES", 7)
    sessions = [workers.session("someone", OPTIONS) for _ in range(3)]
    told = []
    for session in sessions:
        told.append(workers._threads())
        session.start()
    told.append(workers._threads())
    for session in sessions:
        session.close()
        told.append(workers._threads())
    assert told == [4, 4, 3, 2, 3, 4, 4]


def test_the_widest_gap() -> None:
    from avatarfit.pipeline.live_workers import widest_gap

    assert widest_gap([]) == 0.0
    assert widest_gap([0.25]) == 0.75
    assert widest_gap([0.75]) == 0.25
    assert widest_gap([0.9, 0.2, 0.4]) == pytest.approx(0.65)
