"""eSpeak NG with its words' times: a program that reads a text and writes WAV, run by `espeak_voice`, never imported.

    python -I -S espeak_words.py VOICE WORDS_FILE < text > sound.wav

The command espeak-ng tells no times, its library does. It runs in a process of its own, as the command does, so that it
can be killed. Where the library is not there, the command takes this process's place, and no times are told.

What the library tells (`espeak_EVENT_WORD`: a place in the text, a length, a sample) has gaps and doubles, seen with
eSpeak NG 1.51: numbers come as several words at one place, "It's" as two letters, the end of a clause as a word at an
earlier place. A word here reaches to the next one's place or to the space before it, without the punctuation behind;
its sound ends where a pause (`espeak_EVENT_PHONEME`: `_`, `_:`) or the next word begins.
"""

from __future__ import annotations

# Few: each is waited for before every text.
import ctypes
import os
import struct
import sys
import unicodedata

_LIBRARIES = "libespeak-ng.so.1", "libespeak-ng.so", "libespeak-ng.1.dylib", "libespeak-ng.dll"
# Constants and structures of espeak-ng/speak_lib.h.
_SYNCHRONOUS, _PHONEME_EVENTS, _DONT_EXIT = 2, 0x0001, 0x8000
_UTF8, _END_PAUSE, _CHARACTERS = 1, 0x1000, 1
_NO_EVENT, _WORD, _END, _PHONEME = 0, 1, 5, 7
_PAUSES = b"_", b"_:"
_LINE = '{"begin": %d, "end": %d, "start_seconds": %.6f, "end_seconds": %.6f}\n'


class _Id(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class Event(ctypes.Structure):
    """`espeak_EVENT`."""

    _fields_ = (
        ("type", ctypes.c_int), ("unique_identifier", ctypes.c_uint), ("text_position", ctypes.c_int),
        ("length", ctypes.c_int), ("audio_position", ctypes.c_int), ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p), ("id", _Id),
    )  # fmt: skip


class _Voice(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p), ("languages", ctypes.c_char_p), ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte), ("age", ctypes.c_ubyte), ("variant", ctypes.c_ubyte), ("xx1", ctypes.c_ubyte),
        ("score", ctypes.c_int), ("spare", ctypes.c_void_p),
    )  # fmt: skip


Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(Event))
"""`t_espeak_callback`."""


class _Writer:
    """Sound and words as they come; a word's sound waits until the word is written, which is once its end is known."""

    def __init__(self, text: str, rate_hz: int, words: int, sound: int) -> None:
        self._text, self._rate, self._words, self._sound = text, rate_hz, words, sound
        self._held = struct.pack(
            "<4sI4s4sIHHIIHH4sI", b"RIFF", 0xFFFFFFFF, b"WAVE", b"fmt ", 16, 1, 1, rate_hz, 2 * rate_hz, 2, 16,
            b"data", 0xFFFFFFFF,
        )  # fmt: skip
        self._open: tuple[int, int] | None = None  # the word's first letter, and its first sample
        self._told_until = 0  # letters that are a word's, as the library tells it
        self._pause: int | None = None

    def take(self, samples: bytes, events: list[Event]) -> None:
        """The next of the sound, and what happens in it."""
        for event in events:
            if event.type == _WORD and event.length > 0 and event.text_position > self._told_until:
                begin = event.text_position - 1
                self._close(begin, event.sample)
                self._open, self._pause = (begin, event.sample), None
                self._told_until = begin + event.length
            elif event.type == _PHONEME:
                if event.id.string not in _PAUSES:
                    self._pause = None
                elif self._pause is None:
                    self._pause = event.sample
            elif event.type == _END:
                self._close(event.text_position, event.sample)
        self._held += samples
        if self._open is None:
            self.flush()

    def flush(self) -> None:
        """Writes the sound that waits."""
        held, self._held = memoryview(self._held), b""
        while held:
            held = held[os.write(self._sound, held) :]

    def _close(self, next_begin: int, sample: int) -> None:
        if self._open is None:
            return
        (begin, start), self._open = self._open, None
        letters = self._text[begin:next_begin]
        # Not even one is left where the second word of "😀" stands, at the space behind it.
        letters = letters[: next((k for k, letter in enumerate(letters) if letter.isspace()), None)]
        while len(letters) > 1 and _is_punctuation(letters[-1]) and not all(map(_is_punctuation, letters)):
            letters = letters[:-1]
        if letters:
            end = max(sample if self._pause is None else self._pause, start)
            word = _LINE % (begin, begin + len(letters), start / self._rate, end / self._rate)
            os.write(self._words, word.encode())


def _is_punctuation(letter: str) -> bool:
    return unicodedata.category(letter)[0] == "P"


def _library() -> ctypes.CDLL | None:
    for name in _LIBRARIES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def main(voice: str, words_path: str) -> int:
    """Speaks what stands on standard input; the exit status."""
    library = _library()
    if library is None:
        os.execvp("espeak-ng", ["espeak-ng", "-v", voice, "--stdin", "--stdout"])
    rate_hz = library.espeak_Initialize(_SYNCHRONOUS, 0, None, _PHONEME_EVENTS | _DONT_EXIT)
    if rate_hz <= 0:
        print("eSpeak NG does not find its data", file=sys.stderr)
        return 1
    name = voice.encode()
    if library.espeak_SetVoiceByName(name) and library.espeak_SetVoiceByProperties(
        ctypes.byref(_Voice(languages=name))
    ):
        print(f"eSpeak NG has no voice {voice}", file=sys.stderr)
        return 1
    text = sys.stdin.buffer.read().decode(errors="replace")
    words = os.open(words_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    writer = _Writer(text, rate_hz, words, sys.stdout.fileno())

    def came(samples: ctypes.Array[ctypes.c_short], count: int, events: ctypes.Array[Event]) -> int:
        happened: list[Event] = []
        while events[len(happened)].type != _NO_EVENT:
            happened.append(events[len(happened)])
        writer.take(ctypes.string_at(samples, 2 * count) if samples and count > 0 else b"", happened)
        return 0

    callback = Callback(came)
    library.espeak_SetSynthCallback(callback)
    data = text.encode()
    failed = library.espeak_Synth(data, len(data) + 1, 0, _CHARACTERS, 0, _UTF8 | _END_PAUSE, None, None)
    writer.flush()
    return int(failed != 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
