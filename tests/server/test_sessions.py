"""The registry and what watches: limits hold, sessions share nothing but the avatar, and what is left alone goes."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from avatarfit.contracts import InputError
from avatarfit.driving import Settings
from avatarfit.pipeline.live import LiveOptions
from avatarfit.server.errors import BusyError, FullError, UnknownError
from avatarfit.server.sessions import OpenOptions, Sessions
from avatarfit.server.settings import ServerSettings, is_loopback, new_token
from avatarfit.server.subscription import Subscription


def settings_of(**options: Any) -> ServerSettings:
    return ServerSettings(**({"live": LiveOptions(mark=None)} | options))


@pytest.fixture
def run(speaker: Any) -> Callable[..., Any]:
    """Runs a test's coroutine with the sessions of a server."""

    def runs(test: Callable[[Sessions], Awaitable[Any]], **options: Any) -> Any:
        async def whole() -> Any:
            async with Sessions({"anna": speaker, "bert": speaker}, settings_of(**options)) as sessions:
                return await asyncio.wait_for(test(sessions), 300.0)

        return asyncio.run(whole())

    return runs


def tone(seconds: float, hertz: float, rate: int = 16_000) -> np.ndarray:
    return (0.4 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


async def taken(frames: Subscription[Any], count: int) -> list[Any]:
    return [await anext(frames) for _ in range(count)]


def test_a_slow_watcher_loses_the_oldest_and_harms_nobody(run: Callable[..., Any]) -> None:
    async def test(sessions: Sessions) -> None:
        session = await sessions.open()
        async with session.subscribe(3) as slow, session.subscribe(8) as quick:
            seen = [frame.index for frame in await taken(quick, 10)]
            late = [frame.index for frame in await taken(slow, 3)]
            assert seen == list(range(seen[0], seen[0] + 10))
            assert quick.dropped == 0
            assert slow.dropped == 7
            assert late == seen[-3:]
            assert session.watchers == 2
        assert session.watchers == 0
        assert session.lost_frames == 7

    run(test)


def test_a_watcher_that_fails_leaves_the_others(run: Callable[..., Any]) -> None:
    async def test(sessions: Sessions) -> None:
        session = await sessions.open()

        async def fails() -> None:
            async with session.subscribe() as frames:
                await anext(frames)
                raise RuntimeError("a connection broke")

        async with session.subscribe() as frames:
            with pytest.raises(RuntimeError, match="broke"):
                await fails()
            assert len(await taken(frames, 5)) == 5
            assert session.watchers == 1

    run(test)


def test_every_watcher_is_told_of_the_end(run: Callable[..., Any]) -> None:
    async def test(sessions: Sessions) -> None:
        session = await sessions.open()
        frames, events = session.subscribe(), session.events()
        await anext(frames)
        await sessions.close(session.id)
        assert [frame async for frame in frames][8:] == []
        assert [event["type"] async for event in events][-1] == "closed"
        assert [frame async for frame in session.subscribe()] == []
        with pytest.raises(UnknownError, match="no session"):
            sessions.get(session.id)
        with pytest.raises(UnknownError, match="no session"):
            await sessions.close(session.id)

    run(test)


def test_two_sessions_do_not_mix(run: Callable[..., Any]) -> None:
    async def test(sessions: Sessions) -> tuple[np.ndarray, np.ndarray]:
        low, high = await sessions.open("anna"), await sessions.open("bert")
        assert low.id != high.id
        low.controls = Settings(emotion="happy")
        assert high.controls == Settings()
        async with low.subscribe(100) as of_low, high.subscribe(100) as of_high:
            low.speak(tone(0.5, 300.0), 16_000)
            high.speak(tone(0.5, 1500.0), 16_000)
            await asyncio.sleep(1.5)
            left = await taken(of_low, 30), await taken(of_high, 30)
        of_first, of_second = (np.concatenate([frame.sound for frame in frames]) for frames in left)
        return of_first, of_second

    for sound, hertz, other in zip(run(test), (300.0, 1500.0), (1500.0, 300.0), strict=True):
        spectrum = np.abs(np.fft.rfft(sound[np.flatnonzero(sound)[0] :][:19_200]))
        at = np.fft.rfftfreq(19_200, 1 / 48_000)
        assert abs(at[spectrum.argmax()] - hertz) < 10
        assert spectrum[np.abs(at - other) < 50].max() < 0.01 * spectrum.max()


def test_there_are_no_more_sessions_than_may_be(run: Callable[..., Any]) -> None:
    async def test(sessions: Sessions) -> None:
        came = await asyncio.gather(*(sessions.open() for _ in range(5)), return_exceptions=True)
        refused = [one for one in came if isinstance(one, BaseException)]
        assert len(refused) == 3
        assert all(isinstance(one, FullError) for one in refused)
        assert "all 2 sessions" in str(refused[0])
        first = next(iter(sessions))
        await sessions.close(first.id)
        await sessions.open()
        assert (sessions.opened, sessions.refused, len(sessions)) == (3, 3, 2)

    run(test, most_sessions=2)


def test_what_opens_in_vain_takes_no_room(run: Callable[..., Any]) -> None:
    async def test(sessions: Sessions) -> None:
        for name, options, error, words in (
            ("carl", OpenOptions(), UnknownError, "no avatar 'carl'"),
            (None, OpenOptions(background="/etc/passwd"), InputError, "background '/etc/passwd' came"),
            (None, OpenOptions(background="none"), InputError, "without alpha"),
            (None, OpenOptions(alpha=True, background="green"), InputError, "with alpha"),
        ):
            with pytest.raises(error, match=words):
                await sessions.open(name, options)
        assert len(sessions) == 0
        session = await sessions.open(options=OpenOptions(alpha=True))
        async with session.subscribe() as frames:
            assert (await anext(frames)).picture.shape[2] == 4
        green = await sessions.open(options=OpenOptions(background="#00b140"))
        async with green.subscribe() as frames:
            np.testing.assert_allclose((await anext(frames)).picture[0, 0], (0, 0xB1, 0x40), atol=2)

    run(test)


def test_a_background_that_is_a_file_is_never_looked_for(run: Callable[..., Any], tmp_path: Any) -> None:
    import cv2

    picture = tmp_path / "wall.png"
    cv2.imwrite(str(picture), np.zeros((8, 8, 3), np.uint8))

    async def test(sessions: Sessions) -> None:
        with pytest.raises(InputError, match="background"):
            await sessions.open(options=OpenOptions(background=str(picture)))

    run(test)


def test_a_session_that_nobody_wants_is_closed_and_one_in_use_is_not(run: Callable[..., Any]) -> None:
    async def test(sessions: Sessions) -> None:
        left, watched, held = [await sessions.open() for _ in range(3)]
        with held.held():
            async with watched.subscribe():
                while not left.closed:
                    await asyncio.sleep(0.05)
                await asyncio.sleep(0.3)
                assert {one.id for one in sessions} == {watched.id, held.id}
        while len(sessions):
            await asyncio.sleep(0.05)

    run(test, idle_seconds=1)


def test_a_session_that_fails_ends_alone(run: Callable[..., Any]) -> None:
    async def test(sessions: Sessions) -> None:
        broken, whole = await sessions.open(), await sessions.open()

        def draw(_: Any) -> np.ndarray:
            raise RuntimeError("the renderer broke")

        broken.live._drawer.draw = draw  # type: ignore[method-assign]
        async with broken.events() as events, whole.subscribe() as frames:
            last = [event async for event in events][-1]
            assert last == {"type": "closed", "reason": "the session failed (RuntimeError)"}
            before = whole.live.statistics.frames
            await taken(frames, 5)
            assert whole.live.statistics.frames > before
        with pytest.raises(UnknownError):
            sessions.get(broken.id)

    run(test)


def test_sounds_and_texts_that_wait_are_bounded(run: Callable[..., Any]) -> None:
    from avatarfit.pipeline.speech_synthesis import FunctionVoice

    async def test(sessions: Sessions) -> None:
        session = await sessions.open()
        with pytest.raises(InputError, match=r"21\.0 s of sound came"):
            session.speak(np.zeros(21 * 16_000, np.float32), 16_000)
        first = session.speak(np.zeros(20 * 16_000, np.float32), 16_000)
        with pytest.raises(BusyError, match="wait"):
            session.speak(np.zeros(16_000, np.float32), 16_000)
        voice = FunctionVoice(lambda _: np.zeros(100, np.float32), 16_000)
        with pytest.raises(InputError, match="a text of 31 letters"):
            session.say("x" * 31, voice)
        for _ in range(15):
            session.say("hello", voice)
        with pytest.raises(BusyError, match="16 texts and sounds wait"):
            session.say("hello", voice)
        session.interrupt()
        assert await asyncio.to_thread(first.wait, 10.0)
        session.say("hello", voice)

    run(test, most_sound_seconds=20, most_text_chars=30)


def test_closed_sessions_leave_nothing_behind(run: Callable[..., Any]) -> None:
    async def test(sessions: Sessions) -> None:
        gone = []
        for _ in range(3):
            session = await sessions.open()
            session.speak(tone(1.0, 300.0), 16_000)
            async with session.subscribe() as frames:
                await anext(frames)
            gone.append(weakref.ref(session.live))
            await sessions.close(session.id)
            del session, frames
        for _ in range(100):
            gc.collect()
            if not any(one() for one in gone):
                break
            await asyncio.sleep(0.05)
        assert [one() for one in gone] == [None, None, None]
        assert sessions.totals()["frames"] >= 3

    run(test)
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("live")]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"host": "0.0.0.0"}, "without a token"),
        ({"host": "example.org"}, "without a token"),
        ({"token": "short"}, "weak token"),
        ({"token": "with spaces and more of them"}, "weak token"),
        ({"most_sessions": 0}, "most_sessions came as 0"),
        ({"port": 70_000}, "port came as 70000"),
        ({"origins": ("example.org",)}, "origin 'example.org' came"),
        ({"live": LiveOptions(background="none")}, "background none"),
    ],
)
def test_settings_are_looked_at(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        ServerSettings(**options)


def test_what_is_loopback() -> None:
    assert all(is_loopback(host) for host in ("localhost", "127.0.0.1", "127.9.9.9", "::1"))
    assert not any(is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "localhost.evil.com", ""))
    assert ServerSettings(host="0.0.0.0", token=new_token()).token != new_token()


def test_no_avatar_is_no_server() -> None:
    with pytest.raises(InputError, match="no avatar came"):
        Sessions({}, settings_of())
