from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import tyro

from avatarfit.avatarfile import Consent, header_consent, read_avatar, write_avatar
from avatarfit.cli.consent_command import ConsentOptions
from avatarfit.cli.main import main
from avatarfit.cli.provenance_options import ProvenanceOptions
from avatarfit.contracts import InputError
from avatarfit.output import write_png
from avatarfit.output.provenance import Origin, Sealer, Signing
from avatarfit.output.signing_identity import local_identity


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def avatar(tmp_path: Path) -> Path:
    path = tmp_path / "a.avatar"
    write_avatar(path, {"head": "gaussian", "made": {}}, {"x": np.arange(4.0)})
    return path


def recorded(path: Path) -> Consent | None:
    return header_consent(path, read_avatar(path)[0])


def answer(monkeypatch: pytest.MonkeyPatch, *lines: str) -> Terminal:
    said = Terminal()
    monkeypatch.setattr(sys, "stdin", Terminal("".join(f"{line}\n" for line in lines)))
    monkeypatch.setattr(sys, "stderr", said)
    return said


def test_consent_is_asked_for_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "Ann", "the news", "2026-01-31", "")
    assert ConsentOptions().record() == Consent("Ann", "the news", "2026-01-31")
    answer(monkeypatch, "")
    assert ConsentOptions().record() is None
    said = answer(monkeypatch, "Ann", "", "soon", "", "Ann", "", "2026-01-31", "")
    assert ConsentOptions().record() == Consent("Ann", "to be made speak", "2026-01-31")
    assert "'soon'" in said.getvalue()


def test_closed_terminal_records_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch)  # the end of the file at the first question
    assert ConsentOptions().record() is None


def test_nothing_is_asked_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(io.StringIO):
        def readline(self, *_: object) -> str:
            raise AssertionError("it asked")

    monkeypatch.setattr(sys, "stdin", Silent())
    assert ConsentOptions().record() is None
    monkeypatch.setattr(sys, "stdin", Terminal("Ann\n\n\n\n"))
    monkeypatch.setattr(sys, "stderr", io.StringIO())  # a log: nobody would see the question
    assert ConsentOptions().record() is None
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert ConsentOptions(no_consent=True).record() is None


def test_options_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(InputError, match="--no-consent came with --consent-name"):
        ConsentOptions(no_consent=True, consent_name="Ann").record()
    with pytest.raises(InputError, match="--consent-date came without --consent-name"):
        ConsentOptions(consent_date="2026-01-31").record()


def test_consent_command_shows_records_and_takes_out(avatar: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["consent", str(avatar)]) == 0
    assert "No consent is recorded" in capsys.readouterr().out
    words = ["consent", str(avatar), "--consent-name", "Ann", "--consent-scope", "the news", "--consent-date"]
    assert main([*words, "2026-01-31"]) == 0
    assert recorded(avatar) == Consent("Ann", "the news", "2026-01-31")
    np.testing.assert_array_equal(read_avatar(avatar)[1]["x"], np.arange(4.0))
    assert main(["inspect", str(avatar)]) == 0
    assert "Ann, 2026-01-31, for: the news" in capsys.readouterr().out
    assert main([*words, "never"]) == 2
    assert "date came as 'never'" in capsys.readouterr().err
    assert main(["consent", str(avatar), "--no-consent"]) == 0
    assert recorded(avatar) is None


def test_inspect_refuses_a_hostile_record(avatar: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_avatar(avatar, {"consent": {"name": "A" * 5_000_000}}, {"x": np.zeros(1)})
    assert main(["inspect", str(avatar)]) == 2
    said = capsys.readouterr().err
    assert "damaged record of consent" in said
    assert len(said) < 500


def test_verify_reads_a_file_and_its_exit_code_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.png"
    write_png(path, np.zeros((8, 8, 3), np.uint8))
    assert main(["verify", str(path)]) == 2
    assert "carries no manifest" in capsys.readouterr().err
    Sealer(Origin("drive", True, "a" * 64, "Ann", "b" * 64), local_identity()).seal(path, path)
    assert main(["verify", str(path)]) == 0
    said = capsys.readouterr().out
    for text in ("synthetic (compositeSynthetic)", "Ann, avatar aaaa", "b" * 64, "own certificate", "yes"):
        assert text in said
    assert main(["verify", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["person"] == "Ann"
    path.write_bytes(path.read_bytes() + b"more")
    assert main(["verify", str(path)]) == 1
    assert "NO: it was changed" in capsys.readouterr().out
    assert main(["verify", str(path), "--trust", str(tmp_path / "none.pem")]) == 2


def test_mark_takes_a_text_or_none() -> None:
    def parsed(*words: str) -> ProvenanceOptions:
        return tyro.cli(ProvenanceOptions, args=list(words))

    assert parsed().visible_mark() is None
    for words, text in ((["--mark"], "AI-generated"), (["--mark", "made", "up"], "made up")):
        mark = parsed(*words).visible_mark()
        assert mark is not None
        assert mark.text == text
    assert parsed("--sign-cert", "a", "--sign-key", "b").signing == Signing(Path("a"), Path("b"))
    with pytest.raises(InputError, match="--mark-font came without --mark"):
        parsed("--mark-font", "a.ttf").visible_mark()
