"""Whole sessions on real threads, with stand-ins for what is slow: what comes in goes out, and failures are told."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import avatarfit
from avatarfit.contracts import InputError
from avatarfit.contracts.events import Note
from avatarfit.driving import Settings
from avatarfit.pipeline.live import LiveOptions, LiveSession
from avatarfit.pipeline.live_frame import LiveFrame, LiveState
from avatarfit.pipeline.speech_synthesis import FunctionVoice, Patience
from avatarfit.pipeline.spoken_words import Word

DOCS = Path(__file__).resolve().parents[2] / "docs"


class Blank:
    """A drawer without a person: as bright as the mouth is open."""

    def draw(self, moment: Any) -> np.ndarray:
        return np.full((4, 6, 3), 50, np.uint8)


def tone(seconds: float, rate: int = 16_000) -> np.ndarray:
    return (0.4 * np.sin(np.arange(round(seconds * rate)) * 0.3)).astype(np.float32)


@pytest.fixture
def session_of(speaker: Any, marking_driver: Callable[..., Any]) -> Callable[..., LiveSession]:
    def make(**options: Any) -> LiveSession:
        return LiveSession(speaker, **({"driver": marking_driver(25.0), "drawer": Blank()} | options))

    return make


def frames_until(session: LiveSession, done: Callable[[LiveFrame], bool], most: int = 1_000) -> list[LiveFrame]:
    out = []
    while len(out) < most:
        frame = session.frame(30.0)
        assert frame is not None
        out.append(frame)
        if done(frame):
            return out
    raise AssertionError(f"{most} frames came, and not the one that was waited for")


def test_all_that_is_pushed_leaves_in_order(session_of: Callable[..., LiveSession]) -> None:
    samples = (32767 * tone(1.0, 48_000)).astype(np.int16)
    with session_of() as session:
        for at in range(0, len(samples), 7_000):
            session.push(samples[at : at + 7_000], 48_000)
        session.end()
        left = frames_until(session, lambda _: session.finished)
    out = np.concatenate([frame.sound for frame in left])
    first = int(np.flatnonzero(out)[0])
    np.testing.assert_array_equal(out[first : first + 40_000], samples[1:40_001])
    assert session.closed
    assert session.frame() is None


def test_a_person_is_drawn_with_and_without_alpha(speaker: Any) -> None:
    for alpha, channels in ((False, 3), (True, 4)):
        options = LiveOptions(background="none" if alpha else "clip", alpha=alpha, mark=None)
        with LiveSession(speaker, options) as session:
            session.push(tone(0.3), 16_000)
            left = frames_until(session, lambda frame: frame.index >= 6)
        assert left[-1].picture.dtype == np.uint8
        assert left[-1].picture.shape == (64, 48, channels)
        assert left[-1].picture.std() > 1


def test_the_mark_is_on_unless_it_is_left_out(speaker: Any) -> None:
    from dataclasses import replace

    from avatarfit.compositing.framing import Framing
    from avatarfit.pipeline.picture import PictureSettings

    settings = PictureSettings(framing=Framing(width_px=192, height_px=256))
    plain, marked = (
        LiveSession(speaker, replace(LiveOptions(picture=settings), **given)).start() for given in ({"mark": None}, {})
    )
    with plain, marked:
        changed = (plain.frame(30.0).picture != marked.frame(30.0).picture).any(axis=2)  # type: ignore[union-attr]
    assert changed[:60].sum() > 200
    assert not changed[80:].any()


def test_what_fails_while_drawing_is_raised_where_frames_are_fetched(session_of: Callable[..., LiveSession]) -> None:
    class Broken(Blank):
        drawn = 0

        def draw(self, moment: Any) -> np.ndarray:
            self.drawn += 1
            if self.drawn > 3:
                raise RuntimeError("the renderer broke")
            return super().draw(moment)

    with session_of(drawer=Broken()) as session, pytest.raises(RuntimeError, match="the renderer broke"):
        frames_until(session, lambda _: False)
    assert session.closed


def test_a_voice_that_hangs_or_dies_is_told_and_the_session_goes_on(session_of: Callable[..., LiveSession]) -> None:
    freed = threading.Event()

    def hangs(_text: str) -> bytes:
        freed.wait(60)
        return b""

    def dies(_text: str) -> bytes:
        raise RuntimeError("no more voice")

    def speaks(_text: str) -> np.ndarray:
        return tone(0.4)

    notes: list[Note] = []
    with session_of(on_event=notes.append) as session:
        patience = Patience(0.2, 0.2, 10.0)
        said = [session.say("hello", FunctionVoice(voice, 16_000, patience)) for voice in (hangs, dies)]
        said.append(session.say("hello", FunctionVoice(speaks, 16_000)))
        left = frames_until(session, lambda frame: bool(frame.sound.any()))
        freed.set()
    assert "hangs gave no sound for 0.2 s" in str(said[0].error)
    assert "no more voice" in str(said[1].error)
    assert said[2].error is None
    assert [note.text for note in notes] == [str(one.error) for one in said[:2]]
    assert left[0].state == LiveState.IDLE


def test_interrupting_drops_what_is_being_said(session_of: Callable[..., LiveSession]) -> None:
    def endless(_text: str) -> Any:
        while True:
            yield tone(0.2)

    with session_of() as session:
        saying = session.say("on and on", FunctionVoice(endless, 16_000))
        frames_until(session, lambda frame: bool(frame.sound.any()))
        session.interrupt()
        assert saying.wait(30.0)
        left = frames_until(session, lambda _: session.finished)
        after = [frames_until(session, lambda _: True)[0] for _ in range(5)]
    assert len(left) <= 3
    assert not any(frame.sound.any() for frame in after)
    assert session.statistics.interrupts == 1


def test_words_come_with_frames_and_an_interruption_returns_what_it_cut(session_of: Callable[..., LiveSession]) -> None:
    def counts(text: str) -> Any:
        for k, word in enumerate(text.split()):
            yield Word(text.index(word), text.index(word) + len(word), 0.2 * k, 0.2 * k + 0.1)
            yield tone(0.2)

    voice = FunctionVoice(counts, 16_000)
    with session_of() as session:
        assert session.interrupt() is None
        sayings = [session.say(text, voice) for text in ("one two", "three four five", "six")]
        left = frames_until(session, lambda frame: any(word.text == "four" for word in frame.words))
        assert session.interrupt() is sayings[1]
        left += frames_until(session, lambda _: session.finished)
    words = [word for frame in left for word in frame.words]
    assert [word.text for word in words] == ["one", "two", "three", "four"]
    assert [word.saying for word in words] == [sayings[0], sayings[0], sayings[1], sayings[1]]
    assert [saying.number for saying in sayings] == [1, 2, 3]
    assert [saying.heard for saying in sayings] == ["one two", "three four", ""]


def test_settings_reach_the_driver(session_of: Callable[..., LiveSession], marking_driver: Callable[..., Any]) -> None:
    driver = marking_driver(25.0)
    with session_of(driver=driver) as session:
        session.settings = Settings(gaze="camera")
        frames_until(session, lambda frame: frame.index > 10)
    assert driver.settings == [Settings(gaze="camera")]
    assert session.settings == Settings(gaze="camera")


@pytest.mark.parametrize("options", [{"frame_rate_hz": 1.0}, {"most_seconds": 0.0}, {"jitter_seconds": 2.0}])
def test_options_are_looked_at(options: dict[str, float]) -> None:
    with pytest.raises(InputError, match="came"):
        LiveOptions(**options)  # type: ignore[arg-type]


async def pieces(seconds: float, raw: bool = True) -> AsyncIterator[Any]:
    samples = tone(seconds)
    for at in range(0, len(samples), 1_000):
        piece = samples[at : at + 1_000]
        yield (32767 * piece).astype("<i2").tobytes() if raw else piece


def test_an_iterator_of_sound_becomes_frames_and_ends(session_of: Callable[..., LiveSession]) -> None:
    async def run() -> list[LiveFrame]:
        session = session_of()
        speaker: Any = None
        return [f async for f in avatarfit.live(speaker, pieces(0.6), heard=pieces(0.2, raw=False), session=session)]

    left = asyncio.run(run())
    heard = np.concatenate([frame.sound for frame in left])
    assert np.count_nonzero(heard) == pytest.approx(0.6 * 48_000, rel=0.02)
    assert [frame.index for frame in left] == list(range(len(left)))


def test_what_an_iterator_raises_comes_out(session_of: Callable[..., LiveSession]) -> None:
    async def wrong() -> AsyncIterator[bytes]:
        yield b"odd"

    async def run() -> None:
        speaker: Any = None
        async for _ in avatarfit.live(speaker, wrong(), session=session_of()):
            pass

    with pytest.raises(InputError, match="3 bytes of sound came; wanted whole 16-bit samples"):
        asyncio.run(run())


def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_livekit_example_sends_pictures_and_sound(
    session_of: Callable[..., LiveSession], speaker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Any] = []

    class Synchronizer:
        def __init__(self, *, audio_source: Any, video_source: Any, video_fps: float) -> None:
            assert video_fps == 25.0

        async def push(self, frame: Any) -> None:
            sent.append(frame)

        async def aclose(self) -> None:
            sent.append(None)

    async def published(track: Any) -> None:
        sent.append(track)

    def record(*names: str) -> Callable[..., SimpleNamespace]:
        return lambda *values: SimpleNamespace(**dict(zip(names, values, strict=True)))

    rtc = SimpleNamespace(
        VideoSource=record("width", "height"), AudioSource=record("rate", "channels"), AVSynchronizer=Synchronizer,
        LocalVideoTrack=SimpleNamespace(create_video_track=record("name", "source")),
        LocalAudioTrack=SimpleNamespace(create_audio_track=record("name", "source")),
        VideoFrame=record("width", "height", "type", "data"), VideoBufferType=SimpleNamespace(RGB24="rgb24"),
        AudioFrame=record("data", "sample_rate", "num_channels", "samples_per_channel"),
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "livekit", SimpleNamespace(rtc=rtc))
    room = SimpleNamespace(local_participant=SimpleNamespace(publish_track=published))
    example = loaded("live_livekit")
    count = asyncio.run(example.publish(room, speaker, pieces(0.4), 16_000, session=session_of()))
    assert [track.name for track in sent[:2]] == ["avatar", "voice"]
    assert sent[-1] is None
    pictures, sounds = sent[2:-1:2], sent[3:-1:2]
    assert len(pictures) == len(sounds) == count > 10
    assert all(len(p.data) == 3 * p.width * p.height for p in pictures)
    assert all(len(s.data) == 2 * s.samples_per_channel for s in sounds)
    assert any(any(s.data) for s in sounds)


def test_the_pipecat_example_takes_speech_and_gives_it_back_with_pictures(
    session_of: Callable[..., LiveSession],
    speaker: Any,
    marking_driver: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = (
        "CancelFrame", "EndFrame", "Frame", "InterruptionFrame", "OutputImageRawFrame", "StartFrame",
        "TTSAudioRawFrame", "TTSStoppedFrame", "InputAudioRawFrame",
    )  # fmt: skip

    class Base:
        def __init__(self, *values: Any) -> None:
            self.values = values
            if len(values) == 3 and isinstance(values[1], int):
                self.audio, self.sample_rate, self.num_channels = values

    frames = SimpleNamespace(**{name: type(name, (Base,), {}) for name in names if name != "Frame"}, Frame=Base)
    out: list[Any] = []

    class Processor:
        def __init__(self) -> None:
            pass

        async def process_frame(self, frame: Any, direction: Any) -> None:
            pass

        async def push_frame(self, frame: Any, direction: Any = None) -> None:
            out.append(frame)

    for name, module in (
        ("pipecat", SimpleNamespace()), ("pipecat.frames", SimpleNamespace()), ("pipecat.frames.frames", frames),
        ("pipecat.processors", SimpleNamespace()),
        ("pipecat.processors.frame_processor", SimpleNamespace(FrameProcessor=Processor, FrameDirection=int)),
    ):  # fmt: skip
        monkeypatch.setitem(sys.modules, name, module)
    processor = loaded("live_pipecat").AvatarProcessor(speaker, driver=marking_driver(25.0), drawer=Blank())
    sound = (32767 * tone(0.3)).astype("<i2").tobytes()

    async def run() -> None:
        await processor.process_frame(frames.StartFrame(), 1)
        await processor.process_frame(frames.TTSAudioRawFrame(sound, 16_000, 1), 1)
        await processor.process_frame(frames.InputAudioRawFrame(sound, 16_000, 1), 1)
        await processor.process_frame(frames.TTSStoppedFrame(), 1)
        while not any(isinstance(f, frames.TTSAudioRawFrame) and any(f.audio) for f in out):
            await asyncio.sleep(0.01)
        await processor.process_frame(frames.InterruptionFrame(), 1)
        await processor.process_frame(frames.EndFrame(), 1)

    asyncio.run(run())
    kinds = [type(frame).__name__ for frame in out]
    assert kinds.count("OutputImageRawFrame") == kinds.count("TTSAudioRawFrame") >= 1
    assert {"StartFrame", "TTSStoppedFrame", "InterruptionFrame", "EndFrame", "InputAudioRawFrame"} <= set(kinds)
    picture = next(frame for frame in out if isinstance(frame, frames.OutputImageRawFrame))
    assert picture.values[1:] == ((6, 4), "RGB")
