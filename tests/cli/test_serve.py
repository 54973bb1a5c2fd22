"""`avatarfit serve`, from its words to its end."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from avatarfit.cli.main import main

NEEDED = "fastapi", "uvicorn", "aiortc", "prometheus_client", "websockets"
installed = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in NEEDED),
    reason="NO SERVER: avatarfit[live] is not installed, serving was not tested",
)


@pytest.fixture(scope="module")
def avatar_file(speaker: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("serve") / "anna.avatar"
    speaker.save(path)
    return path


def test_what_is_missing_is_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in NEEDED else find(name, *rest))
    assert main(["serve", "anna.avatar"]) == 2
    said = capsys.readouterr().err
    assert "pip install 'avatarfit[live]'" in said
    assert said.count("\n") == 1


@installed
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no avatar came"),
        (["nobody.avatar"], "no file nobody.avatar"),
        (["a.avatar", "--host", "0.0.0.0"], "without a token"),
        (["a.avatar", "--token", "short"], "weak token"),
        (["a.avatar", "--sessions", "0"], "most_sessions came as 0"),
        (["a.avatar", "--host", "192.0.2.1", "--token", "auto"], "cannot be listened at"),
        (["a.avatar", "--certificate", "x.pem"], "only one of certificate and key"),
        (["a.avatar", "--certificate", "x.pem", "--key", "y.pem"], "cannot be used"),
        (["a.avatar", "--voice", "x"], "NAME=COMMAND"),
        (["a.avatar", "--background", "none"], "the background none"),
        (["a.avatar", "--origin", "example.org"], "origin 'example.org'"),
    ],
)
def test_words_that_cannot_be_served(
    words: list[str], said: str, avatar_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(avatar_file) if word == "a.avatar" else word for word in words]
    assert main(["serve", *given, "--port", "0"]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1


@installed
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_a_server_says_its_address_answers_and_ends_in_peace(avatar_file: Path, end: signal.Signals) -> None:
    words = [str(avatar_file), "--port", "0", "--token", "auto", "--size", "192x256"]
    process = subprocess.Popen(
        [sys.executable, "-m", "avatarfit", "serve", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.fullmatch(r"anna: (http://127\.0\.0\.1:\d+)/\?token=([\w-]{40,})\n", line)
        assert found is not None, line
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"{found[1]}/api/health", timeout=300)
        request = urllib.request.Request(f"{found[1]}/api/sessions", b"{}", {"Authorization": f"Bearer {found[2]}"})
        request.add_header("Content-Type", "application/json")
        assert b'"width_px":192' in urllib.request.urlopen(request, timeout=300).read()
        process.send_signal(end)
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
        process.communicate()
    assert err.strip() == ""
    assert "Traceback" not in out
    assert process.returncode in (0, -end)
