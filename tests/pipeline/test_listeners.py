"""Events reach bars, the log, the curves and the preview as they were sent."""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path

import imageio.v3 as iio
import numpy as np

from avatarfit.contracts.events import Event, Finished, Note, Picture, Progress, Started
from avatarfit.pipeline.listeners import JsonLines, Listeners, Preview, TensorBoard, TerminalBars, together

EVENTS: list[Event] = [
    Started("fit", 3, "steps"),
    Progress("fit", 1, 3, {"loss": 0.5}),
    Note("fit", "the background moves"),
    Picture("fit", 2, "render", np.full((4, 6, 3), 77, np.uint8)),
    Progress("fit", 3, 3, {"loss": float("nan")}),
    Finished("fit", 1.25, {"psnr_db": 30.0}),
]


def test_json_lines_hold_every_event_but_pictures(tmp_path: Path) -> None:
    log = JsonLines(tmp_path / "events.jsonl")
    for event in EVENTS:
        log(event)
    log.close()
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["started", "progress", "note", "progress", "finished"]
    assert lines[1]["values"] == {"loss": 0.5}
    assert lines[3]["values"] == {"loss": None}
    assert lines[4]["seconds"] == 1.25


def test_bars_tell_notes_and_ends() -> None:
    stream = io.StringIO()
    bars = TerminalBars(stream)
    for event in EVENTS:
        bars(event)
    bars(Finished("capture", 0.0, reused=True))
    shown = stream.getvalue()
    assert "fit: the background moves" in shown
    assert "fit: done (1.2 s, psnr_db 30)" in shown
    assert "capture: done (taken from before)" in shown


def test_a_run_by_the_clock_shows_how_far_it_will_come() -> None:
    stream = io.StringIO()
    bars = TerminalBars(stream)
    bars(Started("avatar", None, "steps"))
    bars(Progress("avatar", 50, 200))
    bars._bars["avatar"].refresh()
    bars.close()
    assert "25%" in stream.getvalue()
    assert "50/200" in stream.getvalue()


def test_preview_is_the_newest_picture(tmp_path: Path) -> None:
    preview = Preview(tmp_path / "preview.png")
    for level in (10, 200):
        preview(Picture("fit", level, "render", np.full((4, 6, 3), level, np.uint8)))
    assert (iio.imread(tmp_path / "preview.png") == 200).all()
    assert [p.name for p in tmp_path.iterdir()] == ["preview.png"]


def test_tensorboard_holds_curves_and_pictures(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = TensorBoard(tmp_path)
    for event in EVENTS:
        board(event)
    board.close()
    found = EventAccumulator(str(tmp_path)).Reload()
    assert found.Scalars("fit/loss")[0].value == 0.5
    assert found.Scalars("fit/final/psnr_db")[0].value == 30
    assert found.Images("fit/render")[0].step == 2


def test_listeners_write_into_their_folder(tmp_path: Path) -> None:
    with Listeners(tmp_path / "run", io.StringIO()) as on_event:
        for event in EVENTS:
            on_event(event)
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["events.jsonl", "preview.png", "tensorboard"]


def test_events_of_several_threads_come_one_at_a_time() -> None:
    inside, worst = 0, 0

    def listener(_: Event) -> None:
        nonlocal inside, worst
        inside += 1
        worst = max(worst, inside)
        threading.Event().wait(0.0005)
        inside -= 1

    listen = together(listener)
    threads = [threading.Thread(target=lambda: [listen(EVENTS[0]) for _ in range(20)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert worst == 1
