"""Which landmarks are taken, and the fetch against a server on this machine: nothing leaves it."""

from __future__ import annotations

import hashlib
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from avatarfit.capture import landmark_source as ls
from avatarfit.cli.main import main
from avatarfit.contracts import FileFormatError, InputError
from avatarfit.contracts.events import Event, Note, Progress

CONTENT = b"networks" * 20_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no variable set."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(ls.ENVIRONMENT, raising=False)
    return tmp_path


@pytest.fixture
def server() -> Iterator[str]:
    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/gone":
                self.send_error(404)
                return
            whole = self.path != "/broken"
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT if whole else CONTENT[:1000])

        def log_message(self, *_: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def bundle(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("face_detector.tflite", b"x")
    return path


def test_without_a_bundle_the_face_mesh_is_taken() -> None:
    assert ls.choose_source("auto") == ls.choose_source("none") == ls.FACE_MESH
    assert ls.FACE_MESH.bundle is None


def test_the_option_goes_before_the_variable_and_the_variable_before_the_cache(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    option, variable = bundle(home / "a.task"), bundle(home / "b.task")
    cached = ls.cache_path()
    assert cached == home / "cache" / "avatarfit" / "face_landmarker.task"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(CONTENT)
    monkeypatch.setattr(ls, "BUNDLE_SHA256", SHA256)
    heard: list[Event] = []
    assert ls.choose_source("auto", heard.append) == ls.LandmarkSource(f"face_landmarker.task sha256:{SHA256}", cached)
    assert any(isinstance(e, Note) and str(cached) in e.text and "--landmarker none" in e.text for e in heard)
    monkeypatch.setenv(ls.ENVIRONMENT, str(variable))
    assert ls.choose_source("auto").bundle == variable
    assert ls.choose_source(option).bundle == option
    assert ls.choose_source("none") == ls.FACE_MESH
    monkeypatch.setenv(ls.ENVIRONMENT, "none")
    assert ls.choose_source("auto") == ls.FACE_MESH


def test_a_relative_cache_home_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    assert ls.cache_path() == Path.home() / ".cache" / "avatarfit" / "face_landmarker.task"


def test_two_bundles_have_two_names_and_an_unknown_one_is_told(home: Path) -> None:
    first, second = bundle(home / "a.task"), bundle(home / "b.task")
    with zipfile.ZipFile(second, "a") as archive:
        archive.writestr("more", b"y")
    heard: list[Event] = []
    assert ls.choose_source(first, heard.append).name != ls.choose_source(second).name
    assert any(isinstance(e, Note) and "is not the face_landmarker.task that avatarfit" in e.text for e in heard)


def test_a_missing_damaged_or_wrong_bundle_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        InputError, match=r"--landmarker came as .*no\.task, where no file is; wanted .*; check the path"
    ):
        ls.choose_source(home / "no.task")
    text = home / "text.task"
    text.write_text("hello")
    with pytest.raises(FileFormatError, match=r"text\.task is no bundle of MediaPipe networks"):
        ls.choose_source(text)
    monkeypatch.setenv(ls.ENVIRONMENT, str(home / "no.task"))
    with pytest.raises(InputError, match="AVATARFIT_FACE_LANDMARKER came as"):
        ls.choose_source("auto")
    monkeypatch.delenv(ls.ENVIRONMENT)
    bundle(ls.cache_path())
    with pytest.raises(FileFormatError, match=r"is not the face_landmarker\.task it should be; .*avatarfit fetch"):
        ls.choose_source("auto")


def test_a_good_fetch_is_in_the_cache_and_is_not_repeated(server: str) -> None:
    heard: list[Event] = []
    path = ls.fetch_bundle(url=f"{server}/file", sha256=SHA256, on_event=heard.append)
    assert path == ls.cache_path()
    assert path.read_bytes() == CONTENT
    assert [e.step for e in heard if isinstance(e, Progress)][-1] == len(CONTENT)
    again: list[Event] = []
    assert ls.fetch_bundle(url=f"{server}/gone", sha256=SHA256, on_event=again.append) == path
    assert not any(isinstance(e, Progress) for e in again)


def test_a_fetch_of_something_else_leaves_nothing_and_keeps_what_was_there(server: str, home: Path) -> None:
    with pytest.raises(FileFormatError, match=f"gave a file with sha256 {SHA256}; wanted sha256 {ls.BUNDLE_SHA256}; "):
        ls.fetch_bundle(url=f"{server}/file")
    assert list(ls.cache_path().parent.iterdir()) == []
    kept = home / "kept.task"
    kept.write_bytes(b"older")
    with pytest.raises(FileFormatError):
        ls.fetch_bundle(kept, url=f"{server}/file")
    assert kept.read_bytes() == b"older"
    assert sorted(p.name for p in home.iterdir()) == ["cache", "kept.task"]


@pytest.mark.parametrize(("path", "words"), [("gone", r"HTTP 404"), ("broken", "")])
def test_a_fetch_that_fails_says_why(server: str, path: str, words: str) -> None:
    with pytest.raises(InputError, match=rf"http://127.*{path} .*{words}.*; wanted .*; try again later"):
        ls.fetch_bundle(url=f"{server}/{path}", sha256=SHA256)
    assert list(ls.cache_path().parent.iterdir()) == []


def test_an_address_of_another_kind_is_refused() -> None:
    with pytest.raises(InputError, match="--url came as file:///etc/hosts; wanted an address that begins with https"):
        ls.fetch_bundle(url="file:///etc/hosts")


def test_a_server_that_is_gone_is_one_line_at_the_door(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as closed:
        port = closed.server_port
    assert main(["fetch", "landmarker", "--url", f"http://127.0.0.1:{port}/file"]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert "cannot be fetched" in error[0]
    assert "--landmarker" in error[0]
    assert main(["fetch", "landmarker", "--url", f"{server}/file"]) == 2  # the right file's hash is asked for
    assert "gave a file with sha256" in capsys.readouterr().err
