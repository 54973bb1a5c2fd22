"""Laws of words' times, from a voice to the frame: each word leaves with its sound, in order, or not at all."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from avatarfit.contracts import AudioClip, InputError, SoundError
from avatarfit.contracts.events import Note
from avatarfit.pipeline.live_saying import Saying
from avatarfit.pipeline.live_sound import SpeechQueue
from avatarfit.pipeline.speech_synthesis import CommandVoice, FunctionVoice, Patience, Voice, espeak_voice
from avatarfit.pipeline.spoken_words import SpokenWord, Word

PATIENT = Patience(60.0, 60.0, 60.0)
TEXT = "one two three four five six seven eight"
SPANS = [(0, 3), (4, 7), (8, 13), (14, 18), (19, 23), (24, 27), (28, 33), (34, 39)]
HZ = 48_000


def beeps(rate: int, seconds: float = 3.0) -> tuple[np.ndarray, list[int]]:
    """Silence with a step to 0.5 of 0.1 s for each word of `TEXT`, and where each begins."""
    samples = np.zeros(round(seconds * rate), np.float32)
    onsets = [round((0.137 + 0.331 * k) * rate) for k in range(len(SPANS))]
    for onset in onsets:
        samples[onset : onset + rate // 10] = 0.5
    return samples, onsets


def beeping(rate: int, piece_seconds: float = 0.21, change: Callable[[list[Word]], Sequence[Any]] = list) -> Voice:
    """Each word is told before the piece in which it begins; `change` may tell others."""
    samples, onsets = beeps(rate)
    told = change([Word(*span, at / rate, at / rate + 0.1) for span, at in zip(SPANS, onsets, strict=True)])

    def speak(_text: str) -> Iterator[Any]:
        words, size = list(told), round(piece_seconds * rate)
        for at in range(0, len(samples), size):
            while words and words[0].start_seconds < (at + size) / rate:
                yield words.pop(0)
            yield samples[at : at + size]
        yield from words

    return FunctionVoice(speak, rate, PATIENT)


class Desk:
    """What a `Saying` needs of a session, over stages under a simulated clock."""

    def __init__(self, world: Any) -> None:
        self.world, self.stages, self.closed = world, world.stages, False
        self.events: list[Any] = []
        self.on_event = self.events.append

    def takes(self, seconds: float, ahead_seconds: float) -> bool:
        return bool(self.stages.room_seconds >= seconds)

    def push(self, samples: np.ndarray, rate: int, *, unless: Any, cues: Any) -> None:
        self.stages.push(samples, rate, self.world.now, False, unless, cues)

    def end(self) -> None:
        self.stages.end()

    def say(self, voice: Voice, text: str = TEXT) -> Saying:
        """All of it is pushed."""
        session: Any = self
        saying = Saying(session, 1, text, voice, None)
        assert saying.wait(60.0)
        return saying


@pytest.fixture
def desk(world: Callable[..., Any]) -> Callable[..., Desk]:
    return lambda rate=25.0, **options: Desk(world(rate, **options))


def words_of(left: list[tuple[float, Any]]) -> list[SpokenWord]:
    return [word for _, frame in left for word in frame.words]


@pytest.mark.parametrize("rate", [8_000, 22_050, 24_000, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("frame_rate", [25.0, 30_000 / 1001])
def test_each_word_leaves_with_the_frame_in_whose_sound_it_begins(
    desk: Callable[..., Desk], rate: int, frame_rate: float
) -> None:
    one = desk(frame_rate)
    one.world.run(0.4)
    one.say(beeping(rate))
    one.world.run(4.5)
    left = [frame for _, frame in one.world.leaving]
    sound = np.concatenate([frame.sound for frame in left]) / 32768
    # A step that was resampled passes half its height where it stood.
    heard = np.flatnonzero((sound[1:] >= 0.25) & (sound[:-1] < 0.25)) + 1
    told = [(frame, word) for frame in left for word in frame.words]
    assert [word.text for _, word in told] == TEXT.split()
    assert [(word.begin, word.end) for _, word in told] == SPANS
    slack = HZ / rate + 1
    for onset, (frame, word) in zip(heard, told, strict=True):
        assert abs(onset - word.pts_seconds * HZ) <= slack
        assert word.duration_seconds == pytest.approx(0.1)
        begin = round(frame.pts_seconds * HZ)
        assert begin <= word.pts_seconds * HZ + 1e-6 < begin + len(frame.sound)
        assert begin - slack <= onset < begin + len(frame.sound) + slack


def test_at_one_rate_a_word_stands_at_its_very_sample(desk: Callable[..., Desk]) -> None:
    one = desk()
    one.say(beeping(HZ))
    left = [frame for _, frame in one.world.run(4.0)]
    sound = np.concatenate([frame.sound for frame in left])
    exact = np.flatnonzero((sound[1:] != 0) & (sound[:-1] == 0)) + 1
    np.testing.assert_allclose([word.pts_seconds * HZ for f in left for word in f.words], exact, atol=1e-6)


@pytest.mark.parametrize("when", np.arange(0.3, 3.0, 0.217).round(3).tolist())
def test_after_an_interruption_no_word_comes_and_what_was_heard_is_known(
    desk: Callable[..., Desk], when: float
) -> None:
    one = desk()
    saying = one.say(beeping(24_000))
    before = one.world.run(when)
    one.world.now = when
    saying.stop()
    one.stages.interrupt()
    words = words_of(before)
    assert saying.heard == (TEXT[: words[-1].end] if words else "")
    after = one.world.run(when + 4.0)
    assert words_of(after) == []
    assert saying.heard == (TEXT[: words[-1].end] if words else "")
    assert not saying.left
    # What is told is what is heard: the last word's sound has left, none of the next one's has.
    sound = np.concatenate([frame.sound for _, frame in before + after]) / 32768
    steps = np.count_nonzero((sound[1:] >= 0.25) & (sound[:-1] < 0.25))
    assert steps - len(words) in (0, 1)  # one may begin within the 20 ms of the fade


def test_what_has_left_was_heard_whole_and_what_waits_was_not(desk: Callable[..., Desk]) -> None:
    one = desk()
    saying = one.say(beeping(16_000))
    assert saying.heard == ""
    assert not saying.left
    one.world.run(5.0)
    assert saying.left
    assert saying.heard == TEXT


def test_a_voice_without_times_tells_no_words(desk: Callable[..., Desk]) -> None:
    one = desk()
    saying = one.say(beeping(16_000, change=lambda _: []))
    assert not words_of(one.world.run(1.5))
    assert saying.heard is None
    assert not words_of(one.world.run(5.0))
    assert saying.heard == TEXT


def moved(seconds: Sequence[float]) -> Callable[[list[Word]], list[Word]]:
    def change(words: list[Word]) -> list[Word]:
        return [Word(w.begin, w.end, at, at + 0.1) for w, at in zip(words, seconds, strict=True)]

    return change


def test_words_are_told_in_order_and_within_the_sound(desk: Callable[..., Desk]) -> None:
    one = desk()
    times = [0.0, 0.5, 0.3, 0.5, 2.0, 1.0, 9.0, 1e9]
    one.say(beeping(16_000, change=moved(times)))
    left = [frame for _, frame in one.world.run(6.0)]
    told = [word for frame in left for word in frame.words]
    assert [word.text for word in told] == TEXT.split()
    starts = np.array([word.pts_seconds for word in told]) - told[0].pts_seconds
    # One that begins before the one before it begins with it; one that begins after the sound, with its last sample.
    np.testing.assert_allclose(starts, [0, 0.5, 0.5, 0.5, 2, 2, 3, 3], atol=1.1 / HZ)


def test_a_word_that_is_told_too_late_comes_with_the_next_sound(desk: Callable[..., Desk]) -> None:
    one = desk()

    def late(_text: str) -> Iterator[Any]:
        yield np.full(8_000, 0.3, np.float32)
        yield Word(0, 3, 0.1, 0.2)
        yield np.full(8_000, 0.3, np.float32)
        yield Word(4, 7, 0.2, 0.3)

    one.say(FunctionVoice(late, 16_000, PATIENT))
    first, second = words_of(one.world.run(3.0))
    begins = round(first.pts_seconds - 0.5, 6)
    assert second.pts_seconds - begins == pytest.approx(1.0, abs=2 / HZ)


@pytest.mark.parametrize(
    "values",
    [
        (-1, 3, 0.0, 1.0), (3, 3, 0.0, 1.0), (0.0, 3, 0.0, 1.0), (True, 3, 0.0, 1.0), (0, 3, -0.1, 1.0),
        (0, 3, float("nan"), 1.0), (0, 3, 0.0, float("inf")), (0, 3, 1.0, 0.5), (0, 3, "0", 1.0), (0, "3", 0.0, 1.0),
    ],
)  # fmt: skip
def test_what_is_no_word_is_refused_in_a_sentence(values: Any) -> None:
    with pytest.raises(InputError, match=r"a word came with .*; wanted 0 <= "):
        Word(*values)


@pytest.mark.parametrize("words", [[(0, 40)], [(4, 7), (0, 3)], [(0, 7), (4, 13)]])
def test_words_that_are_not_in_the_text_end_it_with_a_sentence(
    desk: Callable[..., Desk], words: list[tuple[int, int]]
) -> None:
    one = desk()
    saying = one.say(beeping(16_000, change=lambda _: [Word(*span, 1.2, 1.3) for span in words]))
    assert "in the order of the text" in str(saying.error)
    assert one.events == [Note("live", str(saying.error))]
    # What came before is said, and what is said next too.
    one.world.run(2.0)
    assert one.stages.statistics.spoken_seconds > 1
    assert saying.heard is None or saying.heard == ""
    again = one.say(beeping(16_000))
    assert [word.text for word in words_of(one.world.run(7.0))] == TEXT.split()
    assert again.heard == TEXT


def test_cues_of_sound_that_is_shortened_stand_where_theirs_stands() -> None:
    queue, told, leaving = SpeechQueue(16_000, 60.0, 0.0), [], []
    # So soft that all of it may be shortened; the level says which sample it is.
    whole = (np.arange(160_000) * 1e-8).astype(np.float32)
    wanted = list(range(100, 159_000, 733))
    for k in range(1_000):
        piece = slice(162 * k, 162 * (k + 1))
        cues = [((at - 162 * k) / 16_000, lambda _, at=at: told.append(at)) for at in wanted if at // 162 == k]
        if len(whole[piece]):
            queue.push(whole[piece], 16_000, 0.01 * k, True, cues)
        _, block, _ = queue.take(160, 0.01 * k)
        for offset, cue in queue.cues:
            cue(0.0)
            assert abs(block[offset] / 1e-8 - told[-1]) < 480  # a block and what is left out, at 16 kHz
        leaving.append(block)
    assert queue.trimmed_seconds > 0.05
    assert told == wanted[: len(told)]
    assert len(told) > 0.97 * len(wanted)


def test_words_of_frames_that_nobody_fetches_are_not_kept(desk: Callable[..., Desk]) -> None:
    one = desk()
    stages = one.stages
    for step in range(6_000):
        if step % 10 == 0:
            stages.push(np.zeros(1_600, np.float32), 16_000, step * 0.01, False, None, [(0.0, lambda _: None)])
        stages.step(step * 0.01)
        while stages.next_moment(step * 0.01) is not None:
            pass
    assert stages.held()[-1] < 50


WRITES = """
import json, sys
def word(b, e, s):
    print(json.dumps(dict(begin=b, end=e, start_seconds=s, end_seconds=s + 0.1)), file=words, flush=True)
words = open(sys.argv[1], "w")
word(0, 2, 0.0); sys.stdout.buffer.write(bytes(3200)); sys.stdout.flush()
word(3, 5, 0.1); sys.stdout.buffer.write(bytes(3200)); sys.stdout.flush()
word(6, 8, 9.0)
"""


def command(code: str, *more: str) -> CommandVoice:
    return CommandVoice([sys.executable, "-S", "-c", code, "{words}", *more], 16_000, PATIENT)


def test_a_command_tells_words_through_a_file() -> None:
    pieces = list(command(WRITES).speak("ab cd ef"))
    at = [k for k, piece in enumerate(pieces) if isinstance(piece, Word)]
    assert [pieces[k] for k in at] == [
        Word(0, 2, 0.0, 0.1), Word(3, 5, 0.1, 0.2), Word(6, 8, 9.0, 9.1)
    ]  # fmt: skip
    for k in at[:2]:
        # Before the sound in which it begins.
        before = sum(len(p.samples) for p in pieces[:k] if isinstance(p, AudioClip)) / 16_000
        word = pieces[k]
        assert isinstance(word, Word)
        assert before <= word.start_seconds


def test_letters_are_counted_in_the_text_whatever_the_command_was_given() -> None:
    code = WRITES.replace("word(0, 2", "assert sys.argv[2] == ' -{' + 'words}', sys.argv; word(1, 4")
    words = [piece for piece in command(code, "{text}").speak("-{words}") if isinstance(piece, Word)]
    assert (words[0].begin, words[0].end) == (0, 3)


@pytest.mark.parametrize(
    "line", ["nonsense", "[]", "{}", '{"begin": 0, "end": 1, "start_seconds": NaN, "end_seconds": 1}', "[" * 9_999]
)
def test_rubbish_in_the_words_file_gives_one_sentence(line: str) -> None:
    code = f"import sys; open(sys.argv[1], 'w').write({line!r} + chr(10)); sys.stdout.buffer.write(bytes(3200))"
    with pytest.raises(SoundError, match="wrote a word that cannot be read") as caught:
        list(command(code).speak("hello"))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.fixture(scope="module")
def espeak() -> SimpleNamespace:
    if shutil.which("espeak-ng") is None:
        pytest.skip("NO ESPEAK-NG: its words' times were not compared with its sound")

    def said(text: str, voice: str = "en") -> tuple[list[Word], np.ndarray]:
        pieces = list(espeak_voice(voice, PATIENT).speak(text))
        words = [piece for piece in pieces if isinstance(piece, Word)]
        if not words:
            pytest.skip("NO LIBESPEAK-NG: its words' times were not compared with its sound")
        return words, np.concatenate([piece.samples for piece in pieces if isinstance(piece, AudioClip)])

    return SimpleNamespace(said=said)


def test_espeak_words_begin_and_end_where_its_sound_does(espeak: SimpleNamespace) -> None:
    text = "Nine. Bananas! Monday? Anna. Elephant, window; yellow."
    words, samples = espeak.said(text)
    assert [text[word.begin : word.end] for word in words] == [
        "Nine", "Bananas", "Monday", "Anna", "Elephant", "window", "yellow"
    ]  # fmt: skip
    hop = 221
    level = np.sqrt((samples[: len(samples) // hop * hop].reshape(-1, hop) ** 2).mean(axis=1))
    loud = np.flatnonzero(level > 0.02)
    # Between words lie pauses of more than 80 ms.
    breaks = np.flatnonzero(np.diff(loud) > 8)
    begins = loud[np.concatenate([[0], breaks + 1])] * hop / 22_050
    ends = (loud[np.concatenate([breaks, [-1]])] + 1) * hop / 22_050
    assert np.abs(begins - [word.start_seconds for word in words]).max() < 0.05
    assert np.abs(ends - [word.end_seconds for word in words]).max() < 0.06


@pytest.mark.parametrize(
    ("voice", "text", "wanted"),
    [
        ("en", 'It\'s "über" naïve 😀 end-to-end, 123 (done)', "It's|über|naïve|😀|end-to-end|123|done"),
        ("de", "Die Straßenbahn fährt, oder?", "Die|Straßenbahn|fährt|oder"),
        ("hi", "नमस्ते दुनिया", "नमस्ते|दुनिया"),
        ("cmn", "你好世界，今天。", "你|好|世|界|今|天"),
        ("ru", "Привет, как дела?", "Привет|как|дела"),
    ],
)
def test_espeak_words_are_the_words_of_the_text(espeak: SimpleNamespace, voice: str, text: str, wanted: str) -> None:
    words, samples = espeak.said(text, voice)
    assert [text[word.begin : word.end] for word in words] == wanted.split("|")
    starts = [word.start_seconds for word in words]
    assert starts == sorted(starts)
    assert words[-1].end_seconds <= len(samples) / 22_050


def test_espeak_sounds_as_its_command_does_and_the_command_speaks_where_the_library_is_missing(
    espeak: SimpleNamespace, tmp_path: Path
) -> None:
    text = "Good morning to all of you, and 12 more."
    _, samples = espeak.said(text)
    code = (
        "import sys, avatarfit.pipeline.espeak_words as program; program._LIBRARIES = ('no-such-library',); "
        f"program.main('en', {str(tmp_path / 'words')!r})"
    )
    for words in (["espeak-ng", "-v", "en", "--stdin", "--stdout"], [sys.executable, "-c", code]):
        told = subprocess.run(words, input=text.encode(), capture_output=True, check=True).stdout
        wanted = np.frombuffer(told[44:], "<i2").astype(np.float32) / 32768
        np.testing.assert_array_equal(samples, wanted)
    assert not list(tmp_path.iterdir())


def test_espeak_tells_of_a_voice_that_it_has_not(espeak: SimpleNamespace) -> None:
    with pytest.raises(SoundError, match=r"espeak-ng ended with 1 \(eSpeak NG has no voice xx-none\)"):
        list(espeak_voice("xx-none", PATIENT).speak("hello"))
