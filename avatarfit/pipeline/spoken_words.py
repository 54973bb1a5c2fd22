"""When the words of a text are spoken: as a voice tells it, and as it comes true on a session's line of time.

A voice tells a word before the sound in which it begins. Nothing is guessed where it tells none.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from avatarfit.contracts import InputError, SoundError

if TYPE_CHECKING:
    from avatarfit.pipeline.live_saying import Saying

_READ_BYTES = 65_536


@dataclass(frozen=True)
class Word:
    """A word of a text, and when a voice speaks it.

    Attributes:
        begin, end: of its letters in the text, as Python counts them (code points): `text[begin:end]`.
        start_seconds, end_seconds: of its sound, from the first sample of the voice's sound for this text.

    Raises:
        InputError: no such span, or no such times.
    """

    begin: int
    end: int
    start_seconds: float
    end_seconds: float

    def __post_init__(self) -> None:
        span, times = (self.begin, self.end), (self.start_seconds, self.end_seconds)
        if any(type(value) is not int for value in span) or not 0 <= self.begin < self.end:
            raise InputError(
                f"a word came with letters {self.begin!r} to {self.end!r}", "0 <= begin < end, whole numbers",
                "count letters from the text's start",
            )  # fmt: skip
        numbers = all(isinstance(value, int | float) and math.isfinite(value) for value in times)
        if not numbers or not 0 <= self.start_seconds <= self.end_seconds:
            raise InputError(
                f"a word came with times {self.start_seconds!r} to {self.end_seconds!r} s",
                "0 <= start_seconds <= end_seconds", "count from the sound's first sample",
            )  # fmt: skip


@dataclass(frozen=True)
class SpokenWord:
    """A word whose sound leaves.

    Attributes:
        saying: the text it belongs to.
        text: its letters. begin, end: where they stand in `saying.text`.
        pts_seconds: when it begins on the session's line.
        duration_seconds: of its sound.
    """

    saying: Saying
    text: str
    begin: int
    end: int
    pts_seconds: float
    duration_seconds: float


Cue = Callable[[float], SpokenWord | None]
"""Called once when the sound at its place leaves, with that place on the session's line in seconds."""


class Cues:
    """What is to be told at samples of a sound, in order: none stands before the one before it."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, Cue]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, at: int, cue: Cue) -> None:
        """One more, at a sample or where the last one stands, if that is later."""
        self._waiting.append((max(at, self._waiting[-1][0]) if self._waiting else at, cue))

    def until(self, end: int) -> Iterator[tuple[int, Cue]]:
        """Those before a sample; they are gone then."""
        while self._waiting and self._waiting[0][0] < end:
            yield self._waiting.popleft()

    def clear(self) -> None:
        """All are gone."""
        self._waiting.clear()


class WordFile:
    """A file into which a program writes words while it speaks: lines of JSON with the attributes of `Word`.

    Args:
        path: where it will be, once there are words.
        name: of the program, for errors.
        shift: letters that the program was given before the text.
    """

    def __init__(self, path: Path, name: str, shift: int) -> None:
        self.path, self._name, self._shift = path, name, shift
        self._at, self._rest = 0, b""

    def new(self) -> Iterator[Word]:
        """Words that were written since the last call.

        Raises:
            SoundError: a line that is no word.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(self._at)
                data = file.read(_READ_BYTES)
        except FileNotFoundError:
            return
        self._at += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in filter(None, map(bytes.strip, lines)):
            try:
                told = json.loads(line)
                yield Word(
                    max(told["begin"] - self._shift, 0), told["end"] - self._shift,
                    told["start_seconds"], told["end_seconds"],
                )  # fmt: skip
            except (ValueError, KeyError, TypeError, RecursionError, InputError) as error:
                raise SoundError(
                    f"the voice {self._name} wrote a word that cannot be read ({line[:80]!r})",
                    'a line such as {"begin": 0, "end": 5, "start_seconds": 0.1, "end_seconds": 0.4}',
                    "correct it, or leave {words} out of its command",
                ) from error  # fmt: skip
