"""The voices a server offers for texts: those that are installed, and commands that it was told of when it started."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from avatarfit.contracts import InputError
from avatarfit.pipeline.speech_synthesis import CommandVoice, espeak_voice, piper_voice
from avatarfit.server.errors import MissingError, UnknownError

if TYPE_CHECKING:
    from avatarfit.pipeline.speech_synthesis import Voice

ESPEAK = "espeak-ng"
_ASK_SECONDS = 10.0
_LONGEST_WORD = 40


@dataclass(frozen=True)
class OfferedVoice:
    """A voice by name.

    Attributes:
        name: that requests use.
        make: the voice for one of `languages`, or for None.
        languages: such as "en-gb"; empty where it has but its own.
    """

    name: str
    make: Callable[[str | None], Voice]
    languages: tuple[str, ...] = ()


class Voices:
    """All of them; the first is taken where none is named.

    Args:
        offered: none may be the same name.

    Raises:
        InputError: a name came twice.
    """

    def __init__(self, offered: Iterable[OfferedVoice]) -> None:
        self.offered: dict[str, OfferedVoice] = {}
        for voice in offered:
            if voice.name in self.offered:
                raise InputError(f"two voices came as {voice.name}", "a name for each", "give one another name")
            self.offered[voice.name] = voice

    def find(self, name: str | None, language: str | None) -> Voice:
        """A voice that speaks a language; None leaves the choice to the server.

        Raises:
            MissingError: the server has none at all.
            UnknownError: none by that name.
            InputError: it does not speak that language.
        """
        if not self.offered:
            raise MissingError(
                "the server has no voice", "eSpeak NG, Piper, or a command that speaks",
                "install espeak-ng, or start it with --voice NAME=COMMAND",
            )  # fmt: skip
        chosen = next(iter(self.offered)) if name is None else name
        if chosen not in self.offered:
            raise UnknownError(
                f"there is no voice {chosen[:_LONGEST_WORD]!r}", f"one of {', '.join(self.offered)}", "choose one"
            )
        voice = self.offered[chosen]
        if language is not None and language not in voice.languages:
            raise InputError(
                f"the language {language[:_LONGEST_WORD]!r} came", f"one that {chosen} speaks", "see GET /api/voices"
            )
        return voice.make(language)


def installed_voices() -> list[OfferedVoice]:
    """eSpeak NG, where it is installed."""
    if shutil.which(ESPEAK) is None:
        return []
    return [OfferedVoice(ESPEAK, lambda language: espeak_voice(language or "en"), _espeak_languages())]


def piper_offer(model: Path) -> OfferedVoice:
    """A Piper voice by its file's name.

    Raises:
        InputError: Piper or the voice is not there.
    """
    voice = piper_voice(model)
    return OfferedVoice(model.stem, lambda _: voice)


def command_offer(words: str) -> OfferedVoice:
    """A voice as the command line tells it: NAME=COMMAND for one that writes WAV, NAME:RATE=COMMAND for raw samples.

    Raises:
        InputError: neither, or no such program.
    """
    found = re.fullmatch(r"([\w.-]+)(?::(\d{4,6}))?=(.+)", words.strip())
    if found is None:
        raise InputError(
            f"the voice {words!r} came", "NAME=COMMAND, or NAME:RATE=COMMAND for raw 16-bit samples",
            'write such as --voice "mine=my-tts --stdout"',
        )  # fmt: skip
    voice = CommandVoice(found[3], None if found[2] is None else int(found[2]))
    return OfferedVoice(found[1], lambda _: voice)


def _espeak_languages() -> tuple[str, ...]:
    """Second column of `espeak-ng --voices`.

    Raises:
        InputError: it does not run.
    """
    command: Sequence[str] = [ESPEAK, "--voices"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=_ASK_SECONDS, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise InputError(f"{' '.join(command)} failed ({error})", "a list of voices", "install it again") from error
    rows = (line.split() for line in told.splitlines()[1:])
    return tuple(dict.fromkeys(row[1] for row in rows if len(row) > 1))
