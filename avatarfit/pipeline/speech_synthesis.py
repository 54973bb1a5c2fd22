"""Voices that make sound of a text: a command, a function, and the engines that are installed here.

A text never becomes part of a command line that a shell reads, nor an option: it goes to a command's standard input, or
into one argument where the template says `{text}`. A voice may tell when it speaks which word (`spoken_words`).
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Full, Queue
from typing import IO, Protocol, TypeVar

import numpy as np

from avatarfit.contracts import AudioClip, InputError, SoundError
from avatarfit.pipeline.spoken_words import Word, WordFile

LONGEST_TEXT = 5_000
"""Letters in one text."""
ESPEAK = "espeak-ng"
_CHUNK_BYTES = 16_384
_QUEUE = 16
_POLL_SECONDS = 0.05
_KILL_SECONDS = 2.0
_MOST_MESSAGE = 200
_Piece = TypeVar("_Piece")


class Voice(Protocol):
    """Something that speaks."""

    def speak(self, text: str, stopped: threading.Event | None = None) -> Generator[AudioClip | Word, None, None]:
        """The text's sound, piece by piece, as it is made, and its words if the voice knows their times: each before
        the piece in which it begins, in the order of the text.

        Args:
            text: 1 to `LONGEST_TEXT` letters.
            stopped: once it is set, no more is wanted.

        Raises:
            InputError: an empty text, or one too long.
            SoundError: the voice hangs, dies, or makes no sound.
        """


@dataclass(frozen=True)
class Patience:
    """How long a voice may take.

    Attributes:
        first_seconds: to its first sound. next_seconds: from one piece to the next.
        longest_seconds: of sound in one text.
    """

    first_seconds: float = 8.0
    next_seconds: float = 5.0
    longest_seconds: float = 600.0


class CommandVoice:
    """A command that writes WAV, or raw 16-bit mono samples, to its standard output. See `Voice`.

    Args:
        template: the command, as words or as one line with quotes; no shell reads it. With `{text}` in one of the
            words after the first the text stands there, otherwise it comes on standard input. With `{words}` the path
            of a file stands there, into which it may write the words' times as `WordFile` reads them: each word, and
            flushed, before the sound in which it begins.
        raw_rate_hz: of raw samples; None for WAV.
        patience: see `Patience`.
        name: for errors; the program's own if left out.

    Raises:
        InputError: an empty command, or a program that is not there.
    """

    def __init__(
        self,
        template: str | Sequence[str],
        raw_rate_hz: int | None = None,
        patience: Patience | None = None,
        name: str | None = None,
    ) -> None:
        try:
            words = shlex.split(template) if isinstance(template, str) else list(template)
        except ValueError as error:
            raise InputError(
                f"the voice's command {template!r} came", "a command with paired quotes", "correct it"
            ) from error
        if not words:
            raise InputError("an empty command came for the voice", "such as espeak-ng --stdout --stdin", "give one")
        if shutil.which(words[0]) is None:
            raise InputError(f"{words[0]} is not installed", "a program that speaks", "install it, or name another one")
        self._words, self._raw, self._patience = words, raw_rate_hz, patience or Patience()
        self.name = name or Path(words[0]).name

    def speak(self, text: str, stopped: threading.Event | None = None) -> Generator[AudioClip | Word, None, None]:
        """See `Voice`."""
        text = checked_text(text)
        inside = any("{text}" in word for word in self._words[1:])
        # No program is to take a word for an option.
        shown = f" {text}" if text.startswith("-") else text
        with tempfile.TemporaryFile() as told, tempfile.TemporaryDirectory(prefix="avatarfit-") as folder:
            told_words = WordFile(Path(folder) / "words", self.name, len(shown) - len(text) if inside else 0)
            words = [word.replace("{words}", str(told_words.path)) for word in self._words]
            words[1:] = [word.replace("{text}", shown) for word in words[1:]]
            try:
                process = subprocess.Popen(
                    words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=told, close_fds=True
                )
            except OSError as error:
                raise SoundError(
                    f"the voice {self.name} does not start ({error.strerror})", "a program that runs", "try it by hand"
                ) from error
            try:
                yield from _clips(
                    _in_time(_output(process, b"" if inside else text.encode()), self.name, self._patience, stopped),
                    self._raw, self.name, self._patience, stopped, told_words,
                )  # fmt: skip
                if stopped is None or not stopped.is_set():
                    self._check_end(process, told)
            except SoundError:
                # A voice that died says more of it than one that made no sound.
                self._check_end(process, told, _POLL_SECONDS)
                raise
            finally:
                _ended(process)

    def _check_end(
        self, process: subprocess.Popen[bytes], told: IO[bytes], wait_seconds: float = _KILL_SECONDS
    ) -> None:
        try:
            code = process.wait(wait_seconds)
        except subprocess.TimeoutExpired:
            return
        if code:
            told.seek(0)
            said = told.read(4 * _MOST_MESSAGE).decode(errors="replace").strip().split("\n")[0][:_MOST_MESSAGE]
            raise SoundError(
                f"the voice {self.name} ended with {code}" + (f" ({said})" if said else ""), "a whole sound",
                "try it by hand",
            )  # fmt: skip


class FunctionVoice:
    """A Python function of a text that yields sound. See `Voice`.

    Args:
        function: gives, or yields, AudioClip, bytes (16-bit mono), int16 [n] or float [n], and may yield `Word`s among
            them. It runs on a thread; one that hangs is left behind.
        sample_rate_hz: of all but AudioClip.
        patience: see `Patience`.
    """

    def __init__(
        self,
        function: Callable[[str], Iterable[AudioClip | bytes | np.ndarray | Word] | AudioClip | bytes | np.ndarray],
        sample_rate_hz: int,
        patience: Patience | None = None,
    ) -> None:
        self._function, self._rate, self._patience = function, sample_rate_hz, patience or Patience()
        self.name = getattr(function, "__name__", "function")

    def speak(self, text: str, stopped: threading.Event | None = None) -> Generator[AudioClip | Word, None, None]:
        """See `Voice`."""
        text = checked_text(text)
        some, seconds = False, 0.0
        for piece in _in_time(lambda: self._pieces(text), self.name, self._patience, stopped):
            if isinstance(piece, Word):
                yield piece
                continue
            some |= len(piece.samples) > 0
            seconds += piece.duration_seconds
            _check_length(seconds, self.name, self._patience)
            yield piece
        if not some and (stopped is None or not stopped.is_set()):
            raise _no_sound(self.name)

    def _pieces(self, text: str) -> Iterable[AudioClip | Word]:
        made = self._function(text)
        pieces = [made] if isinstance(made, AudioClip | bytes | np.ndarray) else made
        for piece in pieces:
            if isinstance(piece, AudioClip | Word):
                yield piece
                continue
            samples = np.frombuffer(piece[: len(piece) // 2 * 2], "<i2") if isinstance(piece, bytes) else piece
            yield AudioClip(_floats(np.asarray(samples)), self._rate)


def espeak_voice(voice: str = "en", patience: Patience | None = None) -> CommandVoice:
    """eSpeak NG, with its words' times where its library is installed (`espeak_words`).

    Args:
        voice: such as "en", "de", "cmn" (`espeak-ng --voices`).

    Raises:
        InputError: it is not installed, or that is no voice's name.
    """
    if not voice or not all(c.isalnum() or c in "-+_" for c in voice) or voice.startswith("-"):
        raise InputError(f"the voice {voice!r} came", "a name such as en or en-gb", "see espeak-ng --voices")
    if shutil.which(ESPEAK) is None:
        raise InputError(f"{ESPEAK} is not installed", "eSpeak NG", "install it, or name another voice")
    program = str(Path(__file__).with_name("espeak_words.py"))
    return CommandVoice([sys.executable, "-I", "-S", program, voice, "{words}"], None, patience, ESPEAK)


def piper_voice(model: str | Path, patience: Patience | None = None) -> CommandVoice:
    """Piper. Its command tells no words' times.

    Args:
        model: an .onnx voice; its .onnx.json beside it tells the rate.

    Raises:
        InputError: Piper or the voice is not there.
    """
    import json

    model = Path(model)
    beside = Path(f"{model}.json")
    try:
        rate = int(json.loads(beside.read_text(encoding="utf-8"))["audio"]["sample_rate"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{beside} does not tell the voice's rate", "a Piper voice with its .onnx.json beside it",
            "fetch both files of the voice",
        ) from error  # fmt: skip
    return CommandVoice(["piper", "--model", str(model), "--output-raw"], rate, patience)


def installed_voice(voice: str = "en", piper_model: str | Path | None = None) -> CommandVoice:
    """What speaks here: Piper where its voice is given, else eSpeak NG.

    Raises:
        InputError: neither is there.
    """
    if piper_model is not None:
        return piper_voice(piper_model)
    if shutil.which(ESPEAK) is None:
        raise InputError(
            "no program that speaks is installed", "eSpeak NG, Piper, or a voice of your own",
            "install espeak-ng, or give a command with --voice-command",
        )  # fmt: skip
    return espeak_voice(voice)


def checked_text(text: str) -> str:
    """The text with spaces for control characters: what stands at a place in one stands there in the other.

    Raises:
        InputError: nothing is left of it, or too much.
    """
    if len(text) > LONGEST_TEXT:
        raise InputError(f"a text of {len(text)} letters came", f"at most {LONGEST_TEXT}", "send it in parts")
    text = "".join(c if c.isprintable() else " " for c in text)
    if text.isspace() or not text:
        raise InputError("an empty text came", "something to say", "send some words")
    return text


def _floats(samples: np.ndarray) -> np.ndarray:
    return samples.astype(np.float32) / 32768 if samples.dtype.kind == "i" else samples.astype(np.float32)


def _no_sound(name: str) -> SoundError:
    return SoundError(f"the voice {name} made no sound", "speech", "try it by hand")


def _check_length(seconds: float, name: str, patience: Patience) -> None:
    if seconds > patience.longest_seconds:
        raise SoundError(
            f"the voice {name} made more than {patience.longest_seconds:g} s of sound", "a shorter text's",
            "send the text in parts",
        )  # fmt: skip


def _in_time(
    source: Callable[[], Iterable[_Piece]], name: str, patience: Patience, stopped: threading.Event | None
) -> Generator[_Piece, None, None]:
    """What a source gives on a thread of its own, unless it takes too long."""
    pieces: Queue[_Piece | BaseException | None] = Queue(_QUEUE)
    left = threading.Event()

    def put(item: _Piece | BaseException | None) -> None:
        while not left.is_set():
            try:
                pieces.put(item, timeout=_POLL_SECONDS)
                return
            except Full:
                continue

    def run() -> None:
        end: BaseException | None = None
        try:
            for piece in source():
                put(piece)
                if left.is_set():
                    return
        except Exception as error:  # noqa: BLE001 - told where the pieces are taken
            end = error
        put(end)

    threading.Thread(target=run, name=f"voice {name}", daemon=True).start()
    waited, patience_seconds = 0.0, patience.first_seconds
    try:
        while stopped is None or not stopped.is_set():
            try:
                piece = pieces.get(timeout=_POLL_SECONDS)
            except Empty:
                waited += _POLL_SECONDS
                if waited >= patience_seconds:
                    raise SoundError(
                        f"the voice {name} gave no sound for {patience_seconds:g} s", "sound sooner",
                        "try it by hand, or give it more time",
                    ) from None  # fmt: skip
                continue
            if piece is None:
                return
            if isinstance(piece, BaseException):
                raise SoundError(
                    f"the voice {name} failed ({type(piece).__name__}: {str(piece)[:_MOST_MESSAGE]})", "sound",
                    "try it by hand",
                ) from piece  # fmt: skip
            waited, patience_seconds = 0.0, patience.next_seconds
            yield piece
    finally:
        left.set()


def _output(process: subprocess.Popen[bytes], text: bytes) -> Callable[[], Iterable[bytes]]:
    def read() -> Iterable[bytes]:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(text)
            process.stdin.close()
        except OSError:
            pass  # It did not want it, or died: its output and its end tell.
        while chunk := process.stdout.read1(_CHUNK_BYTES):  # type: ignore[attr-defined]
            yield chunk

    return read


def _clips(
    chunks: Iterable[bytes],
    raw_rate_hz: int | None,
    name: str,
    patience: Patience,
    stopped: threading.Event | None,
    words: WordFile,
) -> Generator[AudioClip | Word, None, None]:
    """Samples out of a stream of bytes, and what was told of their words before them.

    Raises:
        SoundError: no sound, too much, no WAV of 16-bit PCM, or no words.
    """
    from avatarfit.pipeline.wav_stream import WavStream

    stream = WavStream(raw_rate_hz, name)
    for chunk in chunks:
        samples = stream.push(chunk)
        if len(samples):
            _check_length(stream.seconds, name, patience)
            yield from words.new()
            yield AudioClip(samples, stream.rate_hz)
    yield from words.new()
    if not stream.seconds and (stopped is None or not stopped.is_set()):
        raise _no_sound(name)


def _ended(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            # What was to be flushed has nobody to read it.
            with contextlib.suppress(OSError):
                pipe.close()
