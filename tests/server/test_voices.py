"""The voices that a server offers."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from avatarfit.contracts import InputError
from avatarfit.server.errors import MissingError, UnknownError
from avatarfit.server.voices import OfferedVoice, Voices, command_offer, installed_voices, piper_offer


def test_a_command_is_offered_by_its_name() -> None:
    writes = "import sys; sys.stdout.buffer.write(bytes(3200) + b'\\1\\0')"
    offer = command_offer(f'mine:16000={sys.executable} -c "{writes}"')
    assert (offer.name, offer.languages) == ("mine", ())
    pieces = list(Voices([offer]).find("mine", None).speak("hello"))
    assert sum(len(piece.samples) for piece in pieces) == 1601
    assert pieces[0].sample_rate_hz == 16_000


@pytest.mark.parametrize("words", ["mine", "=x", "mine:12=x", "mine:abc=x", "my voice=x", "mine="])
def test_words_that_name_no_voice(words: str) -> None:
    with pytest.raises(InputError, match="NAME=COMMAND"):
        command_offer(words)


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(InputError, match="not installed"):
        command_offer("mine=no-such-program --speak")


def test_a_piper_voice_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="voice"):
        piper_offer(tmp_path / "anna.onnx")


def test_what_is_not_offered_is_told() -> None:
    voice = command_offer(f"mine={sys.executable}")
    with pytest.raises(InputError, match="two voices came as mine"):
        Voices([voice, voice])
    with pytest.raises(MissingError, match="the server has no voice"):
        Voices([]).find(None, None)
    with pytest.raises(UnknownError, match="no voice 'other'"):
        Voices([voice]).find("other", None)
    with pytest.raises(InputError, match="language 'de'"):
        Voices([voice]).find(None, "de")
    speaks = OfferedVoice("second", voice.make, ("de",))
    assert Voices([voice, speaks]).find("second", "de") is voice.make(None)


def test_espeak_is_offered_where_it_is_installed() -> None:
    if shutil.which("espeak-ng") is None:
        assert installed_voices() == []
        pytest.skip("NO ESPEAK-NG: its languages were not read")
    (voice,) = installed_voices()
    assert {"en-gb", "de", "fr-fr"} <= set(voice.languages)
    assert all(voice.make(language) is not None for language in voice.languages)
