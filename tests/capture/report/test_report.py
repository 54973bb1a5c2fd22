"""The page needs nothing but itself, says what was measured, and does not grow with the clip."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from avatarfit.capture import ClipFolder
from avatarfit.capture.report import report_is_current, write_report
from avatarfit.cli.main import main
from avatarfit.contracts.events import Finished, Progress

VOID = {"meta", "img", "line", "rect", "path", "br"}


class Reader(HTMLParser):
    """Checks that elements close, and collects them."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def clip(good: Any, make_clip: Callable, tmp_path_factory: pytest.TempPathFactory) -> ClipFolder:
    odd = replace(good, rejects=((3.0, "no face"), (3.1, "no face"), (9.0, "repeats the picture before")))
    return make_clip(odd, tmp_path_factory.mktemp("page") / "clip <b>")


def test_the_page(clip: ClipFolder) -> None:
    assert not report_is_current(clip)
    heard: list[Any] = []
    report = write_report(clip, heard.append)
    assert report_is_current(clip)
    assert [e.step for e in heard if isinstance(e, Progress)][-1] == len(clip)
    assert any(isinstance(e, Finished) and e.stage == "report" for e in heard)
    text = report.page.read_text()
    assert len(text) < 3_000_000
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    names = [tag for tag, _ in reader.found]
    assert "script" not in names
    assert names.count("h1") == 1
    assert names.count("h2") >= 6
    pictures = [attrs for tag, attrs in reader.found if tag == "img"]
    assert len(pictures) == 8 + 4 + 8 + 8 + 2
    for attrs in pictures:
        assert len(attrs["alt"] or "") > 10
        kind, data = (attrs["src"] or "").split(",", 1)
        assert kind == "data:image/jpeg;base64"
        picture = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
        assert picture.shape[:2] == (int(attrs["height"] or 0), int(attrs["width"] or 0))
        assert max(picture.shape) <= 300
    for tag, attrs in reader.found:
        assert tag not in ("link", "iframe", "object")
        for name in ("href", "action", "data"):
            assert name not in attrs
    assert not re.search(r"url\(|@import|https?:", text)
    for check in report.checks:
        assert check.measured.replace("'", "&#x27;") in text
    assert "no face" in text
    assert "0:03.0 to 0:03.1" in text
    assert all(attrs.get("aria-label") for tag, attrs in reader.found if tag == "svg")


def test_the_contact_sheet(clip: ClipFolder) -> None:
    sheet = cv2.imread(str(write_report(clip).contact_sheet))
    assert sheet.shape[1] > 12 * 250
    assert sheet.shape[0] > 3 * 250


def test_the_command_writes_it_again(clip: ClipFolder, capsys: pytest.CaptureFixture[str]) -> None:
    write_report(clip).page.unlink()
    assert main(["report", str(clip.path)]) == 0
    assert "report.html" in capsys.readouterr().out
    assert report_is_current(clip)
    manifest = json.loads((clip.path / "clip.json").read_text())
    manifest["stages"]["tracks"]["key"] = "another"
    (clip.path / "clip.json").write_text(json.dumps(manifest))
    assert not report_is_current(ClipFolder.open(clip.path))


@pytest.mark.parametrize("place", ["nothing", "file", "empty"])
def test_what_is_no_clip_folder_is_refused(place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    assert main(["report", str(tmp_path / place)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "wanted" in said
