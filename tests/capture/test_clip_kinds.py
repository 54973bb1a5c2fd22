"""Clips of every kind, from the synthetic performer: several people, gaps, still pictures, a full disk, Ctrl-C."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from avatarfit.capture import ClipFolder, capture_clip, view_choice
from avatarfit.capture.clip_notes import tell_sound
from avatarfit.capture.stages import load_tensors
from avatarfit.cli.main import main
from avatarfit.contracts import AudioClip, Camera, FaceError, InputError
from avatarfit.contracts.events import Event, Finished, Note
from avatarfit.media import SoundSpan, VideoWriter, probe, read_video
from avatarfit.performer import Performance, Performer

SIDE, COUNT, RATE_HZ = 160, 28, 25.0
WIDE, HIGH = 1100, 260
PLACES = ((40, 50), (800, 30))
"""Where the two performers' pictures lie in the wide one."""


@pytest.fixture(scope="module")
def performances() -> list[tuple[np.ndarray, Performance]]:
    """Two performers: pictures uint8 [T, side, side, 3], and what they did."""
    made = []
    for seed in (0, 1):
        performer = Performer(seed, SIDE)
        performance = performer.performance(COUNT / RATE_HZ, RATE_HZ, seed)
        made.append((np.stack([performer.render(performance, k).rgb for k in range(COUNT)]), performance))
    return made


def write(path: Path, pictures: np.ndarray, sound: AudioClip | None = None) -> Path:
    height, width = pictures.shape[1:3]
    with VideoWriter(path, width, height, RATE_HZ, crf=14, sound=sound) as out:
        for picture in pictures:
            out.write(picture)
    return path


@pytest.fixture(scope="module")
def pair(performances: list[tuple[np.ndarray, Performance]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both performers side by side; the left one talks."""
    wide = np.full((COUNT, HIGH, WIDE, 3), (120, 125, 135), np.uint8)
    for (pictures, _), (x, y) in zip(performances, PLACES, strict=True):
        wide[:, y : y + SIDE, x : x + SIDE] = pictures
    return write(tmp_path_factory.mktemp("pair") / "pair.mp4", wide, performances[0][1].sound)


@pytest.fixture
def few_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view_choice, "_LOOKS", 5)


def test_people_are_counted_from_the_left(pair: Path, few_looks: None) -> None:
    info = probe(pair)
    for face, (x, _) in enumerate(PLACES, start=1):
        choice = view_choice.choose_view(pair, info, face=face)
        assert choice.face is not None
        assert x < choice.face.x_px < x + SIDE
        assert choice.view.x_px <= x + 0.2 * SIDE
        assert choice.view.x_px + choice.view.width_px >= x + 0.8 * SIDE
        assert any(f"face {face} of 2, counted from the left at 0.00 s" in text for text in choice.notes)
        assert view_choice.ViewChoice.from_json(json.loads(json.dumps(choice.to_json()))) == choice
    with pytest.raises(FaceError, match=r"--face came as 3 and at most 2 faces are seen at once in pair\.mp4"):
        view_choice.choose_view(pair, info, face=3)
    kept_whole = view_choice.choose_view(pair, info, "source", face=1)
    assert kept_whole.view.width_px == kept_whole.view.working_width_px == WIDE


@pytest.fixture(scope="module")
def captured(pair: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[ClipFolder, list[Event]]:
    heard: list[Event] = []
    folder = tmp_path_factory.mktemp("captured") / "clip"
    options = {"size": 128, "frame_rate_hz": 12.5, "face": 1}
    return capture_clip(pair, folder, **options, landmarker="none", on_event=heard.append), heard


def test_the_chosen_person_is_captured_at_the_chosen_size_and_rate(
    captured: tuple[ClipFolder, list[Event]], performances: list[tuple[np.ndarray, Performance]], pair: Path
) -> None:
    clip, heard = captured
    view, truth = clip.view, performances[0][1]
    assert (max(clip.camera.width_px, clip.camera.height_px), clip.frame_rate_hz) == (128, 12.5)
    assert clip.manifest["view"] == view.crop_json() | {"frame_rate_hz": 12.5}
    source = clip.manifest["source"]
    assert (source["width_px"], source["height_px"], source["file_frame_rate_hz"]) == (WIDE, HIGH, 25.0)
    assert (source["interlaced"], source["dynamic_range"], source["rotation_degrees"]) == (False, "sdr", 0)
    taken = [f["source_index"] for f in clip.manifest["frames"]]
    assert set(taken) <= set(range(0, COUNT, 2))
    assert len(taken) >= COUNT // 2 - 1
    np.testing.assert_allclose(clip.pts_seconds, np.array(taken) / 25, atol=1e-3)
    wanted = view.to_working(truth.landmarks_px[taken, :, :2] + PLACES[0])
    error = np.linalg.norm(clip.landmarks_px[..., :2] - wanted, axis=2)
    assert np.median(error) < 1.5
    whole = [f.rgb for f in read_video(pair)]
    for frame, index, (person, labels) in zip(clip.frames(), taken, clip.masks(), strict=True):
        cut = whole[index][view.y_px : view.y_px + view.height_px, view.x_px : view.x_px + view.width_px]
        assert frame.rgb.shape[:2] == person.shape == labels.shape == clip.plate().shape[:2]
        assert np.abs(frame.rgb.mean(axis=(0, 1)) - cut.mean(axis=(0, 1))).max() < 3
    notes = " ".join(e.text for e in heard if isinstance(e, Note))
    for said in (
        "face 1 of 2",
        "12.5 of 25 pictures a second",
        "are taken: head and shoulders",
        "is seen for 1.1 s only",
    ):
        assert said in notes


def test_another_size_is_another_capture_and_the_same_one_is_taken_from_before(
    captured: tuple[ClipFolder, list[Event]], pair: Path, tmp_path: Path
) -> None:
    clip, _ = captured
    heard: list[Event] = []
    again = capture_clip(
        pair, clip.path, size=128, frame_rate_hz=12.5, face=1, landmarker="none", on_event=heard.append
    )
    assert all(e.reused for e in heard if isinstance(e, Finished))
    assert again.content_hash == clip.content_hash
    assert "face 1 of 2" in " ".join(e.text for e in heard if isinstance(e, Note))
    folder = tmp_path / "other"
    shutil.copytree(clip.path, folder)

    def stop(event: Event) -> None:
        if isinstance(event, Finished) and event.stage == "view":
            assert not event.reused
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        capture_clip(pair, folder, size=130, frame_rate_hz=12.5, face=1, landmarker="none", on_event=stop)


def test_a_full_disk_is_one_sentence_and_what_was_finished_stays(
    captured: tuple[ClipFolder, list[Event]], pair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "clip"
    shutil.copytree(captured[0].path, folder)
    (folder / "work" / "masks.json").unlink()
    (folder / "clip.json").unlink()
    (folder / "labels.mkv.part").symlink_to("/dev/full")  # every write to it fails as on a full disk
    command = ["capture", str(pair), "-o", str(folder), "--size", "128", "--fps", "12.5", "--face", "1"]
    assert main([*command, "--landmarker", "none"]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("avatarfit: the disk that holds")
    assert "is full; wanted room" in last
    assert not list(folder.rglob("*.part"))
    assert not (folder / "clip.json").exists()
    heard: list[Event] = []
    capture_clip(pair, folder, size=128, frame_rate_hz=12.5, face=1, landmarker="none", on_event=heard.append)
    reused = {e.stage: e.reused for e in heard if isinstance(e, Finished)}
    assert all(reused[stage] for stage in ("view", "observe", "pose", "register"))
    assert not reused["masks"]


@pytest.mark.parametrize("name", ["observations.safetensors", "alpha.mkv", "pose.json"])
def test_no_stage_leaves_half_a_file_on_a_full_disk(
    name: str, captured: tuple[ClipFolder, list[Event]], pair: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "clip"
    shutil.copytree(captured[0].path, folder)
    stage = "pose" if name == "pose.json" else "observe"
    (folder / "work" / f"{stage}.json").unlink()
    (folder / "work" / f"{name}.part").symlink_to("/dev/full")
    with pytest.raises(InputError, match="is full"):
        capture_clip(pair, folder, size=128, frame_rate_hz=12.5, face=1, landmarker="none")
    assert not list(folder.rglob("*.part"))
    assert not list(folder.rglob("*.rows"))
    assert not (folder / "work" / f"{stage}.json").exists()


def test_ctrl_c_stops_with_130_and_the_same_command_goes_on(pair: Path, tmp_path: Path) -> None:
    folder = tmp_path / "clip"
    command = [sys.executable, "-m", "avatarfit", "capture", str(pair), "-o", str(folder), "--size", "128"]
    with subprocess.Popen([*command, "--landmarker", "none"], stderr=subprocess.PIPE, text=True) as process:
        while not (folder / "work" / "observe.json").exists():
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate()
    assert process.returncode == 130
    assert told.splitlines()[-1] == "avatarfit: stopped."
    assert not list(folder.rglob("*.part"))
    assert not (folder / "clip.json").exists()
    heard: list[Event] = []

    def stop(event: Event) -> None:
        heard.append(event)
        if isinstance(event, Finished) and event.stage == "observe":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        capture_clip(pair, folder, size=128, landmarker="none", on_event=stop)
    assert [(e.stage, e.reused) for e in heard if isinstance(e, Finished)] == [("view", True), ("observe", True)]


def until_posed(path: Path, folder: Path) -> list[str]:
    """Captures up to the head poses; what was said."""
    heard: list[Event] = []

    def stop(event: Event) -> None:
        heard.append(event)
        if isinstance(event, Finished) and event.stage == "pose":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        capture_clip(path, folder, landmarker="none", on_event=stop)
    return [e.text for e in heard if isinstance(e, Note)]


def test_a_face_that_leaves_for_a_while_is_kept_and_the_gap_is_told(
    performances: list[tuple[np.ndarray, Performance]], tmp_path: Path
) -> None:
    pictures = performances[0][0].copy()
    pictures[12:18] = (120, 125, 135)
    notes = until_posed(write(tmp_path / "gap.mp4", pictures), tmp_path / "clip")
    assert any("show no face, the longest stretch from 0.48 to " in text for text in notes)
    solved = load_tensors(tmp_path / "clip" / "work" / "pose.safetensors")
    kept = set(solved["source_index"].tolist())
    assert not kept & set(range(12, 18))
    assert kept >= set(range(1, 12)) | set(range(21, COUNT))
    at = solved["source_index"].tolist().index(11)
    assert not solved["linked"][at]


def test_a_still_picture_as_a_film_is_refused(
    performances: list[tuple[np.ndarray, Performance]], tmp_path: Path
) -> None:
    film = write(tmp_path / "still.mp4", np.repeat(performances[0][0][:1], 20, axis=0))
    with pytest.raises(InputError, match=r"still\.mp4 shows one still picture throughout; wanted a film of a person"):
        capture_clip(film, tmp_path / "clip", landmarker="none")


def test_a_picture_file_is_refused(performances: list[tuple[np.ndarray, Performance]], tmp_path: Path) -> None:
    import cv2

    for name in ("face.png", "face.jpg"):
        cv2.imwrite(str(tmp_path / name), performances[0][0][0])
        with pytest.raises(InputError, match="is a still picture; wanted a video of one person"):
            capture_clip(tmp_path / name, tmp_path / "clip", landmarker="none")


def test_a_clip_of_one_second_is_captured_and_a_shorter_one_refused(
    performances: list[tuple[np.ndarray, Performance]], tmp_path: Path
) -> None:
    pictures = performances[1][0]
    heard: list[Event] = []
    clip = capture_clip(
        write(tmp_path / "second.mp4", pictures[:25]), tmp_path / "clip", landmarker="none", on_event=heard.append
    )
    assert len(clip) >= 24
    assert any(
        "is seen for 1.0 s only; an avatar that speaks wants 20 s" in e.text for e in heard if isinstance(e, Note)
    )
    assert any("has no sound" in e.text for e in heard if isinstance(e, Note))
    with pytest.raises(
        FaceError, match=r"a face was found in only \d+ of the 8 pictures of blink\.mp4; wanted at least"
    ):
        capture_clip(write(tmp_path / "blink.mp4", pictures[:8]), tmp_path / "short", landmarker="none")


def test_sound_that_begins_late_or_ends_early_is_told_and_filled_with_silence(
    captured: tuple[ClipFolder, list[Event]],
) -> None:
    heard: list[Event] = []
    tell_sound("a.mp4", SoundSpan(0.0, 10.05), 10.0, heard.append)
    assert heard == []
    tell_sound("a.mp4", SoundSpan(0.52, 8.0), 10.0, heard.append)
    tell_sound("a.mp4", None, 10.0, heard.append)
    texts = [e.text for e in heard if isinstance(e, Note)]
    assert [t.split(";")[0] for t in texts[:2]] == [
        "the sound of a.mp4 begins 0.52 s after the pictures", "the sound of a.mp4 ends 2.00 s before the pictures",
    ]  # fmt: skip
    assert texts[2].startswith("a.mp4 has no sound")
    sound = captured[0].audio()
    assert sound.start_seconds <= 0
    assert sound.start_seconds + sound.duration_seconds >= captured[0].pts_seconds[-1]


def test_a_face_that_leaves_the_crop_is_told() -> None:
    from avatarfit.capture.clip_notes import tell_cut_off
    from avatarfit.capture.source_view import SourceView

    points = np.random.default_rng(0).uniform(20, 80, (40, 478, 3)).astype(np.float32)
    view, camera = SourceView(100, 0, 100, 100, 100, 100), Camera(100, 100, 200, 50, 50)
    heard: list[Event] = []
    tell_cut_off(points, view, (400, 100), camera, heard.append)
    points[:6, 0, 1] = -3  # above the source's own edge: nothing was cut away there
    tell_cut_off(points, view, (400, 100), camera, heard.append)
    assert heard == []
    points[:6, 0, 0] = 103
    tell_cut_off(points, view, (400, 100), camera, heard.append)
    assert next(e.text for e in heard if isinstance(e, Note)).startswith("in 6 pictures the face reaches beyond")


def test_the_folder_is_not_made_for_wishes_that_cannot_be_met(pair: Path, tmp_path: Path) -> None:
    for options in ({"size": 100}, {"frame_rate_hz": 26.0}, {"face": 7}):
        with pytest.raises(InputError):
            capture_clip(pair, tmp_path / "clip", **options)
        assert not os.path.exists(tmp_path / "clip")


def test_how_a_clip_is_read_is_told_where_it_matters() -> None:
    from avatarfit.capture.clip_notes import tell_reading
    from avatarfit.media import MediaInfo

    def told(interlaced: bool, dynamic_range: str) -> list[str]:
        heard: list[Event] = []
        info = MediaInfo(Path("a.mov"), 64, 64, 25.0, 4.0, 100, False, None, 0, interlaced, dynamic_range)
        tell_reading(info, heard.append)
        return [e.text for e in heard if isinstance(e, Note)]

    assert told(False, "sdr") == []
    both = told(True, "hlg")
    assert "interlaced; one whole picture is made of each frame's two fields" in both[0]
    assert "high dynamic range (HLG); it is tone-mapped to SDR, BT.709" in both[1]
    assert "(PQ)" in told(False, "pq")[0]


def test_what_is_taken_of_a_picture_is_told_with_its_reason() -> None:
    from avatarfit.capture.view_choice import _view_about
    from avatarfit.media import MediaInfo

    small, large = np.array([[300.0, 100, 400, 230]]), np.array([[100.0, 60, 400, 450]])

    def told(boxes: np.ndarray, width: int, height: int, size: int | None) -> tuple[int, int, str]:
        info = MediaInfo(Path("a.mov"), width, height, 25.0, 4.0, 100, False, None, 0)
        view, text = _view_about(boxes, info, size)
        return view.width_px, view.working_width_px, text

    width, working, text = told(small, 1920, 1080, None)
    assert width == working < 500
    assert "px at (" in text
    assert "within 100x130 px" in text
    assert text.endswith("--size source keeps all of it")
    width, working, text = told(small, 1920, 1080, 256)
    assert (working, text.split("; ")[1]) == (256, "scaled to 256x256")
    assert told(large, 512, 512, 256)[::2] == (
        512, "the whole 512x512 picture is taken, for head and shoulders nearly fill it; scaled to 256x256",
    )  # fmt: skip
    assert told(small, 512, 512, 512)[2] == (
        "the whole 512x512 picture is taken, for it is hardly larger than was asked for"
    )
    assert told(small, 512, 512, 720)[2].endswith("enlarged to 720x720, as asked, which adds no detail")
