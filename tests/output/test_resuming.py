"""A run that stops leaves nothing that looks finished, and one that goes on makes what a single run would have made."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avatarfit.contracts import AudioClip, InputError
from avatarfit.output import OutputOptions, open_sink

COUNT, SECONDS, RATE = 30, 0.4, 25
FILMS = [("a.mp4", {}), ("a.mp4", {"codec": "h265"}), ("a.mp4", {"codec": "av1"}), ("a.webm", {"alpha": "straight"}),
         ("a.mov", {"alpha": "premultiplied"}), ("a.mkv", {"alpha": "straight"}),
         ("a.mov", {"codec": "prores4444", "key_fill": True})]  # fmt: skip

CHILD = """
import sys, time
import numpy as np
from avatarfit.output import OutputOptions, open_sink
with open_sink(sys.argv[1], OutputOptions(**eval(sys.argv[2])), 64, 64, 25, segment_seconds=0.4) as sink:
    for k in range(1000):
        sink.write(np.full((64, 64, 3), k % 200, np.uint8))
        print(k, flush=True)
        time.sleep(0.01)
"""


def make(
    path: Path, picture: Any, options: dict[str, Any], stop_at: int | None = None, resume: bool = False, **more: Any
) -> int:
    """Write a film; the number of the first picture that was asked for."""
    sound = AudioClip(np.sin(np.arange(16000 * COUNT // RATE) / 5).astype(np.float32) * 0.3, 16000)
    with open_sink(
        path, OutputOptions(**options, resume=resume), 97, 81, RATE, sound, segment_seconds=SECONDS, **more
    ) as sink:
        for k in range(sink.first_frame, COUNT):
            if k == stop_at:
                raise InterruptedError("stopped")
            sink.write(picture(k))
        return sink.first_frame


@pytest.mark.parametrize(("name", "options"), FILMS, ids=lambda value: value if isinstance(value, str) else str(value))
def test_a_film_made_in_two_runs_is_that_of_one(
    tmp_path: Path, person: Any, scene: Any, read_stored: Any, name: str, options: dict[str, Any]
) -> None:
    alpha = OutputOptions(**options).takes_alpha
    picture, channels = (person if alpha else scene), (4 if alpha and not options.get("key_fill") else 3)
    for folder in ("once", "twice"):
        (tmp_path / folder).mkdir()
    make(tmp_path / "once" / name, picture, options)
    again = tmp_path / "twice" / name
    with pytest.raises(InterruptedError):
        make(again, picture, options, stop_at=17)
    assert [path.name for path in again.parent.iterdir()] == [f"{name}.part"]
    assert make(again, picture, options, resume=True) == 10
    whole = sorted(path.name for path in (tmp_path / "once").iterdir())
    assert sorted(path.name for path in again.parent.iterdir()) == whole
    for file in whole:
        first, second = (read_stored(tmp_path / folder / file, channels) for folder in ("once", "twice"))
        assert len(first) == len(second) == COUNT
        np.testing.assert_array_equal(np.stack(first), np.stack(second))


@pytest.mark.parametrize("kind", ["png", "exr"])
def test_pictures_made_in_two_runs_are_those_of_one(tmp_path: Path, person: Any, kind: str) -> None:
    options = {"codec": kind, "alpha": "straight"}
    make(tmp_path / "once", person, options)
    with pytest.raises(InterruptedError):
        make(tmp_path / "twice", person, options, stop_at=17)
    assert not (tmp_path / "twice").exists()
    assert make(tmp_path / "twice", person, options, resume=True) == 17
    names = sorted(path.name for path in (tmp_path / "once").iterdir())
    assert len(names) == COUNT + 1
    for name in names:
        assert (tmp_path / "twice" / name).read_bytes() == (tmp_path / "once" / name).read_bytes()


@pytest.mark.parametrize(
    ("name", "options"), [("a.mp4", {}), ("a.mkv", {"codec": "ffv1"}), ("take", {"codec": "png"})], ids=str
)
def test_a_killed_run_leaves_nothing_that_looks_finished(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    words = [sys.executable, "-c", CHILD, str(tmp_path / name), repr(options)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if int(line) >= 27:
                break
        child.send_signal(signal.SIGKILL)
    assert [path.name for path in tmp_path.iterdir()] == [f"{name}.part"]
    left = {path.suffix for path in tmp_path.rglob("*") if path.is_file()} - {".json", ".part", ".segment"}
    assert left <= {".png"}
    with open_sink(tmp_path / name, OutputOptions(**options, resume=True), 64, 64, 25, segment_seconds=0.4) as sink:
        assert 0 < sink.first_frame <= 28
        assert sink.first_frame % 10 == 0 or name == "take"
        for k in range(sink.first_frame, 35):
            sink.write(np.full((64, 64, 3), k % 200, np.uint8))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    if name == "take":
        assert len(list((tmp_path / name).iterdir())) == 35
    else:
        from avatarfit.media import read_video

        levels = [int(np.median(frame.rgb)) for frame in read_video(tmp_path / name)]
        assert np.abs(np.array(levels) - np.arange(35)).max() <= (0 if name == "a.mkv" else 2)


def test_a_run_that_stopped_while_joining_is_only_joined(tmp_path: Path, scene: Any, read_stored: Any) -> None:
    class Broken:
        def seal(self, part: Path, target: Path) -> None:
            assert part.exists()
            assert not target.exists()
            raise InterruptedError("stopped")

    with pytest.raises(InterruptedError):
        make(tmp_path / "a.mp4", scene, {}, sealer=Broken())
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4.part"]
    assert make(tmp_path / "a.mp4", scene, {}, resume=True) == COUNT
    assert len(read_stored(tmp_path / "a.mp4")) == COUNT


def test_another_run_is_not_gone_on_with(tmp_path: Path, scene: Any) -> None:
    with pytest.raises(InterruptedError):
        make(tmp_path / "a.mp4", scene, {}, stop_at=17, made_from={"seed": 1, "avatar": "ab"})
    with pytest.raises(InputError, match="was another: seed 1 not 2;"):
        make(tmp_path / "a.mp4", scene, {}, resume=True, made_from={"seed": 2, "avatar": "ab"})
    with pytest.raises(InputError, match="codec h264 not h265"):
        make(tmp_path / "a.mp4", scene, {"codec": "h265"}, resume=True, made_from={"seed": 1, "avatar": "ab"})
    # Without --resume the run begins anew.
    assert make(tmp_path / "a.mp4", scene, {}, made_from={"seed": 2}) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_a_run_that_stops_before_a_segment_is_whole_leaves_nothing(tmp_path: Path, scene: Any) -> None:
    (tmp_path / "a.mp4").write_bytes(b"former")
    with pytest.raises(InterruptedError):
        make(tmp_path / "a.mp4", scene, {}, stop_at=7)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
    assert (tmp_path / "a.mp4").read_bytes() == b"former"


def test_files_in_step_go_on_from_the_same_picture(tmp_path: Path, person: Any) -> None:
    options = {"codec": "prores4444", "key_fill": True}
    with pytest.raises(InterruptedError):
        make(tmp_path / "a.mov", person, options, stop_at=25)
    # As if the run had been killed between the two.
    last = sorted((tmp_path / "a.mov.part" / "key").iterdir())[-1]
    assert last.name == "00000010-00000019.segment"
    last.unlink()
    assert make(tmp_path / "a.mov", person, options, resume=True) == 10


def test_what_others_left_in_the_way_is_not_removed(tmp_path: Path, scene: Any) -> None:
    (tmp_path / "a.mp4.part").mkdir()
    (tmp_path / "a.mp4.part" / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="in the way"):
        make(tmp_path / "a.mp4", scene, {})
    assert (tmp_path / "a.mp4.part" / "letter.txt").read_text() == "dear"
