"""What requests do, over a real connection: answers, refusals in one sentence, metrics."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest


def is_sentence(detail: str) -> bool:
    return "\n" not in detail and len(detail) < 500 and detail.endswith(".")


def test_a_session_from_opening_to_closing(served: Any) -> None:
    answer = served.client.post("/api/sessions", json={"avatar": "bert", "seed": 3})
    assert answer.status_code == 201
    told = answer.json()
    assert (told["avatar"], told["alpha"], told["width_px"], told["height_px"]) == ("bert", False, 48, 64)
    path = f"/api/sessions/{told['id']}"
    assert served.client.get(path).json()["state"] == "idle"
    assert served.client.get("/api/health").json()["sessions"] == 1
    assert served.client.delete(path).status_code == 204
    for method in ("get", "delete"):
        gone = getattr(served.client, method)(path)
        assert gone.status_code == 404
        assert gone.json()["detail"].startswith("there is no session by that id")
    assert served.client.get("/api/health").json()["sessions"] == 0


def test_who_can_be_shown_and_what_can_speak(served: Any) -> None:
    avatars = served.client.get("/api/avatars").json()
    assert [one["name"] for one in avatars] == ["anna", "bert"]
    assert avatars[0]["head"] == "gaussian"
    voices = served.client.get("/api/voices").json()
    assert voices[0] == {"name": "tone", "languages": ["en", "de"]}


def test_a_sound_file_is_said(served: Any, sound: Callable[..., bytes], wait: Callable[..., Any]) -> None:
    path = served.open()
    answer = served.client.post(f"{path}/speak", content=sound(0.5))
    assert answer.status_code == 202
    assert answer.json()["seconds"] == pytest.approx(0.5)
    statistics = served.session(path).live.statistics
    wait(lambda: statistics.spoken_seconds > 0.49)
    assert statistics.spoken_seconds == pytest.approx(0.5, abs=0.01)


def test_a_text_is_said_by_the_voice_that_is_named(served: Any, wait: Callable[..., Any]) -> None:
    path = served.open()
    assert served.client.post(f"{path}/say", json={"text": "hello"}).status_code == 202
    named = {"text": "hello", "voice": "tone", "language": "de"}
    assert served.client.post(f"{path}/say", json=named).status_code == 202
    wait(lambda: served.session(path).live.statistics.spoken_seconds > 0.79)


@pytest.mark.parametrize(
    ("request_", "status", "words"),
    [
        ({"text": ""}, 422, "text"),
        ({"text": "\n\t"}, 422, "an empty text came"),
        ({"text": "x" * 3000}, 422, "3000 letters"),
        ({"text": 3}, 422, "text"),
        ({}, 422, "text"),
        ({"text": "hello", "voice": "nobody"}, 404, "no voice 'nobody'"),
        ({"text": "hello", "language": "xx"}, 422, "language 'xx'"),
        ({"text": "hello", "pitch": 3}, 422, "pitch"),
    ],
)
def test_texts_that_cannot_be_said(served: Any, request_: dict[str, Any], status: int, words: str) -> None:
    answer = served.client.post(f"{served.open()}/say", json=request_)
    assert answer.status_code == status
    assert words in answer.json()["detail"]
    assert is_sentence(answer.json()["detail"])


def test_a_server_without_voices_says_so(serve: Callable[..., AbstractContextManager[Any]]) -> None:
    with serve() as served:
        answer = served.client.post(f"{served.open()}/say", json={"text": "hello"})
        assert served.client.get("/api/voices").json() == []
    assert answer.status_code == 501
    assert "the server has no voice" in answer.json()["detail"]


def test_sounds_that_cannot_be_said(served: Any, sound: Callable[..., bytes]) -> None:
    path = f"{served.open()}/speak"
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:1,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n"
    for body, words in (
        (b"", "no sound file"),
        (b"nonsense" * 100, "no sound file"),
        (sound(1.0)[:30], "no sound"),
        (playlist, "no sound file"),
        (sound(121.0, 8_000), "over 120 s"),
    ):
        answer = served.client.post(path, content=body)
        assert answer.status_code == 422, body[:20]
        assert words in answer.json()["detail"]
        assert is_sentence(answer.json()["detail"])
    assert served.client.post(path, content=sound(100.0, 8_000)).status_code == 202
    busy = served.client.post(path, content=sound(100.0, 8_000))
    assert busy.status_code == 429
    assert busy.headers["retry-after"] == "1"


def test_controls_are_turned_one_by_one(served: Any) -> None:
    path = f"{served.open()}/controls"
    before = served.client.get(path).json()
    names = [control["name"] for control in before["controls"]]
    assert names == list(before["values"])
    assert set(before["values"].values()) == {None}
    for control in before["controls"]:
        top = control["choices"][-1] if control["choices"] else control["highest"]
        answer = served.client.patch(path, json={control["name"]: top})
        assert answer.json()["values"][control["name"]] == top
        if not control["choices"]:
            assert served.client.patch(path, json={control["name"]: top + 0.01}).status_code == 422
    assert served.client.patch(path, json={"gaze": [5, -3]}).json()["values"]["gaze"] == [5, -3]
    values = served.client.patch(path, json={"lip_opening": None}).json()["values"]
    assert values["lip_opening"] is None
    assert values["expression"] == 2.0
    assert served.session(path.removesuffix("/controls")).live.settings.gaze == (5.0, -3.0)


@pytest.mark.parametrize(
    "wrong",
    [{"gaze": "up"}, {"gaze": [31, 0]}, {"gaze": [1]}, {"emotion": "bored"}, {"smile": 1}, {"expression": "1e400"}],
)
def test_controls_that_are_none(served: Any, wrong: dict[str, Any]) -> None:
    answer = served.client.patch(f"{served.open()}/controls", json=wrong)
    assert answer.status_code == 422
    assert is_sentence(answer.json()["detail"])


def test_numbers_that_json_does_not_have(served: Any) -> None:
    path = f"{served.open()}/controls"
    for word in ("NaN", "Infinity", "-Infinity", "1e999"):
        answer = served.client.patch(path, content=f'{{"expression": {word}}}'.encode())
        assert answer.status_code == 422


def test_interrupting_is_silence(served: Any, wait: Callable[..., Any]) -> None:
    path = served.open()
    served.client.post(f"{path}/say", json={"text": "on and on", "voice": "endless"})
    session = served.session(path)
    wait(lambda: session.state == "speaking")
    answer = served.client.post(f"{path}/interrupt").json()
    assert answer == {"saying": 1, "heard": None}
    wait(lambda: session.live.finished and session.state == "idle")
    assert session.live.statistics.interrupts == 1


def test_words_are_told_as_they_are_said_and_an_interruption_tells_how_far(served: Any) -> None:
    path, text = served.open(), "Ünë, two three 😀 four five! Six seven eight nine ten."
    with served.socket(f"{path}/events") as events:
        for said in (text, "not a word of this"):
            served.client.post(f"{path}/say", json={"text": said, "voice": "counts"})
        told: list[dict[str, Any]] = []
        while len([one for one in told if one["type"] == "word"]) < 4:
            told.append(json.loads(events.recv(300.0)))
        answer = served.client.post(f"{path}/interrupt").json()
        served.client.post(f"{path}/say", json={"text": "again", "voice": "counts"})
        while told[-1].get("saying") != 3:
            told.append(json.loads(events.recv(300.0)))
    assert [one for one in told if one["type"] == "saying"] == [
        {"type": "saying", "saying": 1, "text": text}, {"type": "saying", "saying": 3, "text": "again"}
    ]  # fmt: skip
    words = [one for one in told if one["type"] == "word"]
    assert [one["text"] for one in words] == ["Ünë", "two", "three", "four", "five", "Six"][: len(words)]
    assert all(text[one["begin"] : one["end"]] == one["text"] and one["saying"] == 1 for one in words)
    starts = np.array([one["pts_seconds"] for one in words])
    np.testing.assert_allclose(starts - starts[0], 0.4 * np.arange(len(words)), atol=1e-4)
    assert {round(one["duration_seconds"], 6) for one in words} == {0.4}
    assert answer == {"saying": 1, "heard": text[: words[-1]["end"]]}


def test_where_nothing_is_said_nothing_is_cut_short(served: Any) -> None:
    path = served.open()
    assert served.client.post(f"{path}/interrupt").json() == {"saying": None, "heard": None}
    answer = served.client.post(f"{path}/say", json={"text": "unheard", "voice": "hangs"}).json()
    assert answer["saying"] == 1
    assert served.client.post(f"{path}/interrupt").json() == {"saying": 1, "heard": ""}


@pytest.mark.parametrize("voice", ["dies", "hangs"])
def test_a_voice_that_fails_is_told_and_the_session_goes_on(served: Any, wait: Callable[..., Any], voice: str) -> None:
    path = served.open()
    with served.socket(f"{path}/events") as events:
        served.client.post(f"{path}/say", json={"text": "hello", "voice": voice})
        while (told := json.loads(events.recv(300.0)))["type"] != "note":
            pass
    assert f"the voice {voice}" in told["text"]
    served.client.post(f"{path}/say", json={"text": "hello"})
    wait(lambda: served.session(path).live.statistics.spoken_seconds > 0.39)


def test_a_full_server_says_so_and_goes_on(serve: Callable[..., AbstractContextManager[Any]]) -> None:
    with serve(most_sessions=1) as served:
        path = served.open()
        full = served.client.post("/api/sessions", json={})
        assert full.status_code == 503
        assert full.json()["detail"].startswith("all 1 sessions of this server are taken")
        assert full.headers["retry-after"] == "1"
        served.client.delete(path)
        served.open()
        assert "avatarfit_sessions_refused_total 1.0" in served.client.get("/metrics").text


def test_metrics_only_grow_and_name_no_session(served: Any, wait: Callable[..., Any]) -> None:
    def read() -> dict[str, float]:
        text = served.client.get("/metrics").text
        assert re.search(r"^# TYPE avatarfit_frames_total counter$", text, re.MULTILINE)
        return {name: float(value) for name, value in re.findall(r"^(avatarfit_\w+) (\S+)$", text, re.MULTILINE)}

    path = served.open()
    wait(lambda: read()["avatarfit_frames_total"] > 0)
    before = read()
    assert before["avatarfit_sessions"] == 1
    assert path.rpartition("/")[2] not in served.client.get("/metrics").text
    served.client.delete(path)
    after = read()
    assert after["avatarfit_sessions"] == 0
    assert all(after[name] >= value for name, value in before.items() if name.endswith("_total"))
    assert after["avatarfit_frames_total"] >= before["avatarfit_frames_total"] > 0


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/api/nothing", b"", 404),
        ("GET", "/../../etc/passwd", b"", 404),
        ("GET", "/page/../app.py", b"", 404),
        ("PUT", "/api/sessions", b"", 405),
        ("POST", "/api/sessions", b"{", 422),
        ("POST", "/api/sessions", b"[]", 422),
        ("POST", "/api/sessions", b'{"avatar": "carl"}', 404),
        ("POST", "/api/sessions", b'{"avatar": "../anna"}', 404),
        ("POST", "/api/sessions", b'{"background": "/etc/passwd"}', 422),
        ("POST", "/api/sessions", b'{"seed": -1}', 422),
        ("POST", "/api/sessions", b'{"more": 1}', 422),
        ("POST", "/api/sessions", b"\xff\xfe", 422),
        ("GET", "/api/sessions/%00", b"", 404),
    ],
)
def test_refusals_are_one_sentence(served: Any, method: str, path: str, body: bytes, status: int) -> None:
    headers = {"content-type": "application/json"}
    answer = served.client.request(method, path, content=body, headers=headers)
    assert answer.status_code == status
    assert list(answer.json()) == ["detail"]
    assert is_sentence(answer.json()["detail"])


def test_an_address_that_is_taken_is_told(served: Any) -> None:
    from avatarfit.contracts import InputError
    from avatarfit.server.running import listen
    from avatarfit.server.settings import ServerSettings

    with pytest.raises(InputError, match="in use"):
        listen(ServerSettings(port=served.port))


def test_answers_do_not_wait_for_more_to_send() -> None:
    import socket

    from avatarfit.server.running import listen
    from avatarfit.server.settings import ServerSettings

    with listen(ServerSettings(port=0)) as place, socket.create_connection(place.getsockname()):
        taken, _ = place.accept()
        with taken:
            assert taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_client_that_vanishes_in_the_middle_of_a_request(served: Any, sound: Callable[..., bytes]) -> None:
    path = served.open()
    for sent in (b"", b"RIFF", sound(0.1)[:200]):
        with socket.create_connection(("127.0.0.1", served.port)) as line:
            head = f"POST {path}/speak HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9000\r\n\r\n"
            line.sendall(head.encode() + sent)
    assert served.client.get(path).status_code == 200


def test_sound_at_odd_rates_keeps_its_length(
    served: Any, sound: Callable[..., bytes], wait: Callable[..., Any]
) -> None:
    path = served.open()
    for rate in (8_000, 11_025, 44_100, 96_000):
        told = served.client.post(f"{path}/speak", content=sound(0.3, rate)).json()
        assert told["seconds"] == pytest.approx(0.3, abs=0.001)
    spoken = served.session(path).live.statistics
    wait(lambda: spoken.spoken_seconds > 1.19)
    assert np.isclose(spoken.spoken_seconds, 1.2, atol=0.02)
