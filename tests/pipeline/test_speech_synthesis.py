"""Voices: what they make comes through, and one that hangs, dies or talks rubbish gives one sentence."""

from __future__ import annotations

import io
import shutil
import sys
import threading
import time
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from avatarfit.contracts import AudioClip, InputError, SoundError
from avatarfit.pipeline.speech_synthesis import (
    LONGEST_TEXT,
    CommandVoice,
    FunctionVoice,
    Patience,
    Voice,
    checked_text,
    espeak_voice,
    piper_voice,
)
from avatarfit.pipeline.wav_stream import WavStream

HASTY = Patience(first_seconds=0.3, next_seconds=0.3, longest_seconds=5.0)
PATIENT = Patience(first_seconds=60.0, next_seconds=60.0, longest_seconds=5.0)


def python(code: str, raw: int | None = 16_000, patience: Patience = PATIENT, *more: str) -> CommandVoice:
    return CommandVoice([sys.executable, "-S", "-c", code, *more], raw, patience)


def said(voice: Voice, text: str = "hello") -> np.ndarray:
    return np.concatenate([clip.samples for clip in voice.speak(text) if isinstance(clip, AudioClip)])


def test_a_text_goes_to_standard_input_and_samples_come_back() -> None:
    out = said(python("import sys; d = sys.stdin.buffer.read(); sys.stdout.buffer.write(d + d)"), "abcdé")
    wanted = np.frombuffer("abcdé".encode() * 2, "<i2") / 32768
    np.testing.assert_allclose(out, wanted, atol=1e-6)


def test_a_text_in_a_word_is_no_command_and_no_option(tmp_path: Path) -> None:
    code = "import sys; sys.stdout.buffer.write(sys.argv[1].encode() * 2)"
    text = f"-x; touch {tmp_path}/owned; $(touch {tmp_path}/owned) `touch {tmp_path}/owned`"
    out = said(python(code, 16_000, PATIENT, "{text}"), text)
    np.testing.assert_allclose(out, np.frombuffer(f" {text}".encode() * 2, "<i2") / 32768, atol=1e-6)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("code", "patience", "sentence"),
    [
        ("import time; time.sleep(60)", HASTY, r"gave no sound for 0\.3 s; wanted sound sooner"),
        ("import sys; sys.stderr.write('no such voice'); sys.exit(3)", PATIENT, r"ended with 3 \(no such voice\)"),
        ("pass", PATIENT, "made no sound"),
        ("import sys; sys.stdout.buffer.write(bytes(320)); sys.stdout.flush(); sys.exit(9)", PATIENT, "ended with 9"),
        ("import sys\nwhile True: sys.stdout.buffer.write(bytes(65536))", PATIENT, "made more than 5 s of sound"),
    ],
)
def test_a_command_that_fails_gives_one_sentence(code: str, patience: Patience, sentence: str) -> None:
    with pytest.raises(SoundError, match=sentence) as caught:
        said(python(code, 16_000, patience))
    assert "\n" not in str(caught.value)


def test_rubbish_instead_of_wav_gives_one_sentence() -> None:
    with pytest.raises(SoundError, match="no sound that can be read"):
        said(python("print('usage: speak [options], and much more of it')", None))


def test_stopping_ends_the_program() -> None:
    stopped = threading.Event()
    voice = python("import sys, time\nwhile True: sys.stdout.buffer.write(bytes(3200)); sys.stdout.flush()")
    pieces = voice.speak("hello", stopped)
    next(pieces)
    stopped.set()
    assert len(list(pieces)) < 40


def test_functions_may_give_all_or_yield_and_what_they_raise_is_told() -> None:
    def whole(text: str) -> bytes:
        return np.full(1600, len(text), "<i2").tobytes()

    def pieces(text: str) -> Iterator[AudioClip | np.ndarray]:
        yield AudioClip(np.full(100, 0.5, np.float32), 8_000)
        yield np.full(100, 0.25, np.float32)

    def broken(text: str) -> Iterator[bytes]:
        yield bytes(320)
        raise RuntimeError("the model ran away")

    assert set(said(FunctionVoice(whole, 16_000))) == {np.float32(5 / 32768)}
    clips = list(FunctionVoice(pieces, 24_000).speak("x"))
    assert [clip.sample_rate_hz for clip in clips] == [8_000, 24_000]
    with pytest.raises(SoundError, match=r"broken failed \(RuntimeError: the model ran away\)"):
        said(FunctionVoice(broken, 16_000))


def test_a_function_that_hangs_is_left_behind() -> None:
    freed = threading.Event()

    def hangs(text: str) -> bytes:
        freed.wait(60)
        return b""

    with pytest.raises(SoundError, match="hangs gave no sound"):
        said(FunctionVoice(hangs, 16_000, HASTY))
    freed.set()


@pytest.mark.parametrize("text", ["", "  \n\t", "x" * (LONGEST_TEXT + 1)])
def test_nothing_and_too_much_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="text"):
        checked_text(text)


def test_control_characters_are_no_words() -> None:
    assert checked_text("a\x00b\x1b[2Jc\n") == "a b [2Jc "


@pytest.mark.parametrize("voice", ["", "../x", "-x", "en;ls", "en us"])
def test_voices_are_names(voice: str) -> None:
    with pytest.raises(InputError, match="the voice"):
        espeak_voice(voice)


def test_a_program_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no-such-program is not installed"):
        CommandVoice("no-such-program --stdout")
    with pytest.raises(InputError, match="does not tell the voice's rate"):
        piper_voice(tmp_path / "voice.onnx")


def test_espeak_speaks() -> None:
    if shutil.which("espeak-ng") is None:
        pytest.skip("NO ESPEAK-NG: this test was not run")
    said = espeak_voice("en", PATIENT).speak("Good morning to all of you.")
    clips = [piece for piece in said if isinstance(piece, AudioClip)]
    assert {clip.sample_rate_hz for clip in clips} == {22_050}
    samples = np.concatenate([clip.samples for clip in clips])
    assert 0.8 < len(samples) / 22_050 < 4
    assert np.abs(samples).max() > 0.1


@pytest.mark.parametrize("size", [1, 7, 44, 10_000])
@pytest.mark.parametrize("length", [None, 0, 0xFFFFFFFF])
def test_a_wav_is_read_as_it_comes_whatever_it_says_of_its_length(size: int, length: int | None) -> None:
    samples = np.random.default_rng(0).integers(-9_000, 9_000, (500, 2)).astype("<i2")
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(2)
        out.setsampwidth(2)
        out.setframerate(22_050)
        out.writeframes(samples.tobytes())
    data = bytearray(file.getvalue())
    if length is not None:
        data[40:44] = length.to_bytes(4, "little")
    stream = WavStream(None, "test")
    got = np.concatenate([stream.push(bytes(data[at : at + size])) for at in range(0, len(data), size)])
    assert stream.rate_hz == 22_050
    np.testing.assert_allclose(got, samples.mean(axis=1) / 32768, atol=1e-5)


def test_time_is_given_to_slow_voices() -> None:
    def slow(text: str) -> Iterator[bytes]:
        for _ in range(3):
            time.sleep(0.05)
            yield bytes(320)

    assert len(said(FunctionVoice(slow, 16_000, Patience(60, 60, 5)))) == 480
