"""WebSockets: sound in as it comes, events out, and clients that do wrong or vanish."""

from __future__ import annotations

import contextlib
import json
import math
import re
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest


def pcm(seconds: float, rate: int) -> bytes:
    samples: np.ndarray = 12_000 * np.sin(np.arange(round(seconds * rate)) * 0.2)
    return samples.astype("<i2").tobytes()


@pytest.mark.parametrize("rate", [8_000, 24_000, 96_000])
def test_what_is_streamed_is_said_whole(served: Any, wait: Callable[..., Any], rate: int) -> None:
    path = served.open()
    spoken = served.session(path).live.statistics
    with served.socket(f"{path}/pcm?rate={rate}") as line:
        whole = pcm(0.6, rate)
        for at in range(0, len(whole), 1_234):
            line.send(whole[at : at + 1_234])
        line.send("end")
        wait(lambda: spoken.spoken_seconds > 0.59)
    assert spoken.spoken_seconds == pytest.approx(0.6, abs=0.01)


def test_utterances_of_several_streams_come_one_after_the_other(served: Any, wait: Callable[..., Any]) -> None:
    path = served.open()
    session = served.session(path)
    with served.socket(f"{path}/pcm?rate=16000") as first, served.socket(f"{path}/pcm?rate=48000") as second:
        first.send(pcm(0.2, 16_000))
        wait(lambda: session.live.statistics.spoken_seconds > 0)
        second.send(pcm(0.3, 48_000))
        second.send("end")
        first.send(pcm(0.2, 16_000))
        first.send("end")
        wait(lambda: session.live.statistics.spoken_seconds > 0.69)
    assert session.live.statistics.spoken_seconds == pytest.approx(0.7, abs=0.01)


def test_a_stream_that_vanishes_ends_its_utterance(served: Any, wait: Callable[..., Any]) -> None:
    path = served.open()
    line = served.socket(f"{path}/pcm?rate=16000")
    line.send(pcm(0.2, 16_000))
    spoken = served.session(path).live.statistics
    wait(lambda: spoken.spoken_seconds > 0)
    line.socket.close()
    # What waits behind it is said.
    served.client.post(f"{path}/say", json={"text": "hello"})
    wait(lambda: spoken.spoken_seconds > 0.59)


def test_interrupting_in_the_stream_drops_what_was_sent(served: Any, wait: Callable[..., Any]) -> None:
    path = served.open()
    session = served.session(path)
    with served.socket(f"{path}/pcm?rate=16000") as line:
        line.send(pcm(20.0, 16_000))
        wait(lambda: session.state == "speaking")
        line.send("interrupt")
        wait(lambda: session.live.finished and session.state == "idle")
        assert session.live.statistics.spoken_seconds < 19
        # It goes on as another utterance.
        before = session.live.statistics.spoken_seconds
        line.send(pcm(0.3, 16_000))
        line.send("end")
        wait(lambda: session.live.statistics.spoken_seconds > before + 0.29)


def test_words_of_a_stream_are_told_and_heard_of(served: Any) -> None:
    path = served.open()
    with served.socket(f"{path}/events") as events, served.socket(f"{path}/pcm?rate=16000") as line:
        for k, word in enumerate(["Good", "morning", "to", "all", "of", "you"]):
            line.send(json.dumps({"word": word, "start_seconds": 0.5 * k, "end_seconds": 0.5 * k + 0.3}))
            line.send(pcm(0.5, 16_000))
        told: list[dict[str, Any]] = []
        while len(told) < 3:
            happening = json.loads(events.recv(300.0))
            told += [happening] if happening["type"] == "word" else []
        line.send("interrupt")
        answer = json.loads(line.recv(300.0))
        # It goes on as another utterance, which counts from its own start.
        line.send(json.dumps({"word": "again", "start_seconds": 0.1, "end_seconds": 0.3}))
        line.send(pcm(0.5, 16_000))
        line.send("end")
        while told[-1]["saying"] != 2:
            happening = json.loads(events.recv(300.0))
            told += [happening] if happening["type"] == "word" else []
    text = "Good morning to all of you"
    *first, again = told
    assert [one["text"] for one in first] == text.split()[: len(first)]
    assert [text[one["begin"] : one["end"]] for one in first] == text.split()[: len(first)]
    assert answer == {"type": "interrupted", "saying": 1, "heard": text[: first[-1]["end"]]}
    assert (again["text"], again["begin"]) == ("again", 0)


def test_a_microphone_is_spoken_at_once_and_the_other_is_listened_to(served: Any, wait: Callable[..., Any]) -> None:
    path = served.open()
    session = served.session(path)
    heard: list[int] = []
    hear = session.live.hear
    session.live.hear = lambda samples, rate: (heard.append(len(samples)), hear(samples, rate))
    with served.socket(f"{path}/pcm?rate=16000&kind=microphone") as mine:
        with served.socket(f"{path}/pcm?rate=16000&kind=hear") as other:
            for _ in range(10):
                other.send(pcm(0.1, 16_000))
            wait(lambda: sum(heard) == 16_000)
            assert session.live.statistics.spoken_seconds == 0
        for _ in range(10):
            mine.send(pcm(0.1, 16_000))
        # It comes faster than the clock goes: some of it is left out.
        told = session.live.statistics
        wait(lambda: told.spoken_seconds + told.trimmed_seconds > 0.9)


@pytest.mark.parametrize(
    ("query", "piece", "words"),
    [
        ("rate=16000", b"odd", "3 bytes of sound"),
        ("rate=16000", b"12" * (1 << 19) + b"1", "bytes of sound|frame"),
        ("rate=16000", "stop", "the text 'stop'"),
        ("rate=16000", '{"word": "x"}', 'a word such as {"word": "hello"'),
        ("rate=16000", '{"word": "x", "start_seconds": NaN, "end_seconds": 1}', "a word came with times nan"),
        ("rate=16000", '{"word": "x", "start_seconds": 1, "end_seconds": 0}', "a word came with times 1.0 to 0.0 s"),
        ("rate=16000", '{"word": " ", "start_seconds": 0, "end_seconds": 1}', "an empty text came"),
        ("kind=hear", '{"word": "x", "start_seconds": 0, "end_seconds": 1}', "the text"),
        ("rate=0", b"", "at 0 Hz"),
        ("rate=999999", b"", "999999 Hz"),
        ("rate=-5", b"", "rate came as '-5'"),
        ("rate=1e4", b"", "rate came as '1e4'"),
        ("rate=²", b"", "rate came as"),
        ("kind=shout", b"", "kind came as 'shout'"),
    ],
)
def test_a_stream_that_cannot_be_used_is_refused(served: Any, query: str, piece: Any, words: str) -> None:
    from urllib.parse import quote

    from websockets.exceptions import ConnectionClosed

    path = served.open()
    with served.socket(f"{path}/pcm?{quote(query, safe='=&')}") as line:
        with contextlib.suppress(ConnectionClosed):
            line.send(piece)  # It may have been closed already.
        with pytest.raises(ConnectionClosed) as closed:
            _last(line)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code in (1008, 1009)
        assert re.search(words, closed.value.rcvd.reason)
    assert served.client.get(path).status_code == 200


def _last(line: Any) -> None:
    while True:
        assert json.loads(line.recv(300.0))["type"] == "problem"


def test_a_session_that_is_not_there_has_no_streams(served: Any) -> None:
    for stream in ("pcm", "events"):
        with served.socket(f"/api/sessions/nobody/{stream}") as line:
            assert "no session by that id" in json.loads(line.recv(300.0))["detail"]


def test_events_tell_states_rates_and_controls(served: Any, sound: Callable[..., bytes]) -> None:
    path = served.open()
    with served.socket(f"{path}/events") as events:
        served.client.post(f"{path}/speak", content=sound(0.5))
        served.client.patch(f"{path}/controls", json={"emotion": "happy"})
        told: list[dict[str, Any]] = []
        while [one["state"] for one in told if one["type"] == "state"][-2:] != ["speaking", "idle"]:
            told.append(json.loads(events.recv(300.0)))
            assert len(told) < 100, told
        while told[-1]["type"] != "rates":
            told.append(json.loads(events.recv(300.0)))
        served.client.delete(path)
        while told[-1]["type"] != "closed":
            told.append(json.loads(events.recv(300.0)))
    assert [one["type"] for one in told[:2]] == ["state", "controls"]
    turned = [one["values"]["emotion"] for one in told if one["type"] == "controls"]
    assert turned == [None, "happy"]
    rates = next(one for one in told if one["type"] == "rates")
    assert rates["latency_ms"] >= 110  # what the driver hears ahead
    assert rates["frames_per_second"] > 0


def test_streams_keep_a_session_and_their_end_lets_it_go(serve: Any, wait: Callable[..., Any]) -> None:
    with serve(idle_seconds=1) as served:
        path = served.open()
        with served.socket(f"{path}/events") as events:
            time.sleep(1.6)
            assert json.loads(events.recv(300.0))["type"] == "state"
            assert served.client.get(path).status_code == 200
        wait(lambda: served.client.get("/api/health").json()["sessions"] == 0)


def test_a_session_ends_with_the_one_it_is_for_but_not_while_he_comes_back(
    served: Any, wait: Callable[..., Any]
) -> None:
    path, other = served.open(), served.open()
    session = served.session(path)
    with served.socket(f"{path}/events?ends=600"), served.socket(f"{path}/events?ends=1") as second:
        # Without a word of farewell, as of a process that is killed.
        second.socket.close()
        wait(lambda: session._owners == 1)
        assert session._ends_at == math.inf
    wait(lambda: not session._owners)
    assert session._ends_at < math.inf
    with served.socket(f"{path}/events?ends=1"), served.socket(f"{path}/events"), served.socket(f"{other}/events"):
        wait(lambda: session._owners)
        assert session._ends_at == math.inf
        assert not session.abandoned
    wait(lambda: session.closed, 30.0)
    assert served.client.get(other).status_code == 200


@pytest.mark.parametrize("told", ["0", "601", "-1", "nan", "1e9", "00001", ""])
def test_times_of_ending_that_cannot_be_are_told(served: Any, told: str) -> None:
    with served.socket(f"{served.open()}/events?ends={told}") as events:
        assert "ends came as" in json.loads(events.recv(300.0))["detail"]


def test_many_clients_come_and_vanish(served: Any, wait: Callable[..., Any]) -> None:
    path = served.open()
    session = served.session(path)
    for _ in range(60):
        with served.socket(f"{path}/events") as events:
            events.recv(300.0)
        broken = served.socket(f"{path}/pcm?kind=hear")
        broken.send(b"\0\0")
        broken.socket.close()
    wait(lambda: session.idle_seconds > 0)
    assert not session._listeners
    assert session._holds == 0
