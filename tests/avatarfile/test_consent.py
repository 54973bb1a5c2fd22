from __future__ import annotations

import datetime
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avatarfit.avatarfile import Consent, header_consent, read_avatar, write_avatar
from avatarfit.contracts import FileFormatError, InputError

ANN = Consent("Ann Ö'Neill", "the evening news until 2026", "2026-01-31", "0" * 64)


def test_a_record_comes_back_from_a_file_as_it_went_in(tmp_path: Path) -> None:
    write_avatar(tmp_path / "a.avatar", {"consent": ANN.as_dict()}, {"x": np.zeros(1, np.float32)})
    header, _ = read_avatar(tmp_path / "a.avatar")
    assert header_consent(tmp_path / "a.avatar", header) == ANN


@pytest.mark.parametrize("header", [{}, {"consent": None}])
def test_no_record_is_none(header: dict[str, Any]) -> None:
    assert header_consent("a.avatar", header) is None


@pytest.mark.parametrize(
    "entry",
    [
        "Ann", 7, [], ["Ann"], {}, {"name": "Ann"}, {**ANN.as_dict(), "more": 1}, {**ANN.as_dict(), "name": 7},
        {**ANN.as_dict(), "name": ""}, {**ANN.as_dict(), "name": "A" * 10_000_000},
        {**ANN.as_dict(), "name": "Ann\x1b[2J"}, {**ANN.as_dict(), "name": "Ann\u202egnp.exe"},
        {**ANN.as_dict(), "scope": "one\ntwo"}, {**ANN.as_dict(), "scope": None}, {**ANN.as_dict(), "date": "soon"},
        {**ANN.as_dict(), "date": "2026-02-30"}, {**ANN.as_dict(), "date": 20260131},
        {**ANN.as_dict(), "statement_sha256": "abc"}, {**ANN.as_dict(), "statement_sha256": {"a": 1}},
    ],
)  # fmt: skip
def test_a_hostile_record_is_refused_in_one_short_line(entry: Any) -> None:
    header = json.loads(json.dumps({"consent": entry}))
    with pytest.raises(FileFormatError, match="damaged record of consent") as refused:
        header_consent("a.avatar", header)
    said = str(refused.value)
    assert len(said) < 400
    assert said.isprintable()


def test_given_takes_today_and_the_hash_of_a_statement(tmp_path: Path) -> None:
    form = tmp_path / "form.pdf"
    form.write_bytes(b"I agree")
    record = Consent.given(" Ann ", "news", statement=form)
    assert record.name == "Ann"
    assert record.date == datetime.date.today().isoformat()
    assert record.statement_sha256 == hashlib.sha256(b"I agree").hexdigest()


def test_given_refuses_what_cannot_be_recorded(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="date came as 'yesterday'"):
        Consent.given("Ann", "news", "yesterday")
    with pytest.raises(InputError, match="cannot be read"):
        Consent.given("Ann", "news", None, tmp_path / "none.pdf")
    with pytest.raises(InputError, match="name came as nothing"):
        Consent.given("  ", "news")
