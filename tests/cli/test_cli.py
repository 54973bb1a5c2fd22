"""The door: help is instant, every bad input is one line and exit code 2 before long work, Ctrl-C is 130."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from avatarfit.cli.main import main
from avatarfit.contracts import AudioClip
from avatarfit.media import VideoWriter, write_wav

COMMANDS = (
    "fit", "drive", "dub", "evaluate", "compare", "convert", "fit-driver", "capture", "report", "export-clip",
    "import-clip", "fetch", "inspect", "demo", "doctor",
)  # fmt: skip


def video(path: Path, sound: bool = True) -> Path:
    clip = AudioClip(np.zeros(8000, np.float32), 16000) if sound else None
    with VideoWriter(path, 64, 64, 25, sound=clip) as writer:
        for level in range(12):
            writer.write(np.full((64, 64, 3), level * 20, np.uint8))
    return path


def speech(path: Path) -> Path:
    write_wav(path, AudioClip(np.zeros(8000, np.float32), 16000))
    return path


def avatar(path: Path, version: int = 3) -> Path:
    import json

    from safetensors.numpy import save

    header = json.dumps({"format": "avatarfit.avatar", "version": version, "made": {"seed": 3}})
    path.write_bytes(save({"plate": np.zeros((2, 2, 3), np.uint8)}, metadata={"avatarfit": header}))
    return path


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The one line that a refusal prints."""
    code = main([str(w) for w in words])
    shown = capsys.readouterr()
    assert code == 2, shown.err
    assert shown.out == ""
    lines = shown.err.splitlines()
    assert len(lines) == 1, shown.err
    assert lines[0].startswith("avatarfit: ")
    assert "wanted" in lines[0]
    return lines[0]


@pytest.mark.parametrize("words", [[], ["--help"], *([c, "--help"] for c in COMMANDS)])
def test_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert all(c in shown for c in COMMANDS) if len(words) < 2 else words[0] in shown


def test_help_loads_no_heavy_package() -> None:
    script = (
        "import sys\n"
        "from avatarfit.cli.main import main\n"
        "try:\n    main(['fit', '--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'mediapipe', 'cv2', 'av', 'scipy', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_package_itself_loads_nothing_heavy_and_offers_its_names() -> None:
    script = (
        "import sys, avatarfit\n"
        "assert not {'torch', 'mediapipe', 'numpy'} & set(sys.modules)\n"
        "assert {'Avatar', 'fit', 'drive', 'evaluate'} <= set(dir(avatarfit))\n"
        "assert avatarfit.AvatarfitError.exit_code == 2\n"
        "try:\n    avatarfit.nonsense\nexcept AttributeError as e:\n    assert 'nonsense' in str(e)\n"
        "else:\n    raise AssertionError\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_module_run_and_version() -> None:
    done = subprocess.run([sys.executable, "-m", "avatarfit", "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "avatarfit 0.1.0\n")


def test_an_unknown_word_is_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["fit", "a.mp4", "-o", "b.avatar", "--sise", "3"])
    assert stop.value.code == 2
    assert "--sise" in capsys.readouterr().err


def test_ctrl_c(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from avatarfit.cli.look_commands import Doctor

    def stop(_: Doctor) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(Doctor, "run", stop)
    assert main(["doctor"]) == 130
    assert capsys.readouterr().err == "avatarfit: stopped.\n"


def test_a_fault_of_our_own_keeps_its_traceback() -> None:
    script = (
        "import sys\n"
        "from avatarfit.cli.look_commands import Doctor\n"
        "Doctor.run = lambda self: 1 / 0\n"
        "from avatarfit.cli.main import main\n"
        "sys.exit(main(['doctor']))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ZeroDivisionError" in done.stderr


@pytest.mark.parametrize("command", ["fit", "capture"])
def test_clips_that_cannot_be_used(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / ("a.avatar" if command == "fit" else "clip")
    (tmp_path / "text.mp4").write_text("not a video\n" * 99)
    whole = video(tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    (tmp_path / "empty").mkdir()
    assert "there is no file" in refused(capsys, command, tmp_path / "no.mp4", "-o", out)
    assert "is not a video" in refused(capsys, command, tmp_path / "text.mp4", "-o", out)
    assert "cut short" in refused(capsys, command, tmp_path / "cut.mp4", "-o", out)
    assert "is a folder" in refused(capsys, command, tmp_path / "empty", "-o", out)
    assert "no video in it" in refused(capsys, command, speech(tmp_path / "a.wav"), "-o", out)
    assert not out.exists()
    assert not out.with_suffix(".work").exists()


def test_fit_needs_sound(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    silent = video(tmp_path / "silent.mp4", sound=False)
    assert "has no sound" in refused(capsys, "fit", silent, "-o", tmp_path / "a.avatar")


def test_fit_outputs_and_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = video(tmp_path / "clip.mp4")
    good = tmp_path / "a.avatar"
    assert "there is no folder" in refused(capsys, "fit", clip, "-o", tmp_path / "no" / "a.avatar")
    assert "does not end in .avatar" in refused(capsys, "fit", clip, "-o", tmp_path / "a.bin")
    assert "is a folder" in refused(capsys, "fit", clip, "-o", tmp_path)
    assert "--size" in refused(capsys, "fit", clip, "-o", good, "--size", 8)
    assert "--minutes" in refused(capsys, "fit", clip, "-o", good, "--minutes", -1)
    assert "--minutes" in refused(capsys, "fit", clip, "-o", good, "--minutes", "nan")
    assert "--steps" in refused(capsys, "fit", clip, "-o", good, "--steps", 0)
    assert "both" in refused(capsys, "fit", clip, "-o", good, "--steps", 5, "--minutes", 1)
    assert "is a file" in refused(capsys, "fit", clip, "-o", good, "--work-dir", clip)
    said = refused(capsys, "fit", clip, "-o", good, "--head", "marble")
    assert "--head came as marble; wanted gaussian or hashgrid" in said
    assert not good.with_suffix(".work").exists()


def test_sizes_rates_and_faces(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip, out = video(tmp_path / "clip.mp4"), tmp_path / "clip"
    for words, said in (
        (["--size", "big"], "--size came as big; wanted a whole number of pixels, or source"),
        (["--size", 64], "--size came as 64; wanted 128 to 2048 pixels, or source"),
        (["--fps", 50], "--fps came as 50 and clip.mp4 has 25 pictures a second; wanted that or less"),
        (["--fps", 0], "--fps came as 0"), (["--face", 0], "--face came as 0; wanted 1 to 6"),
    ):  # fmt: skip
        assert said in refused(capsys, "capture", clip, "-o", out, *words)
    assert "--fps came as 26" in refused(capsys, "fit", clip, "-o", tmp_path / "a.avatar", "--fps", 26)
    assert not out.exists()
    assert not (tmp_path / "a.work").exists()
    out.mkdir()
    (out / "clip.json").write_text("{}")
    said = refused(capsys, "fit", out, "-o", tmp_path / "a.avatar", "--face", 1)
    assert "--face came with a clip folder" in said


def test_a_picture_is_no_clip(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import cv2

    cv2.imwrite(str(tmp_path / "face.jpg"), np.full((64, 64, 3), 90, np.uint8))
    for command, out in (("fit", "a.avatar"), ("capture", "clip")):
        assert "is a still picture" in refused(capsys, command, tmp_path / "face.jpg", "-o", tmp_path / out)


def test_a_full_disk_anywhere_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from avatarfit.cli.look_commands import Doctor

    def full(_: Doctor) -> int:
        with open("/dev/full", "wb", buffering=0) as device:
            return device.write(b"more")

    monkeypatch.setattr(Doctor, "run", full)
    assert main(["doctor"]) == 2
    assert capsys.readouterr().err == "avatarfit: the disk is full; make room and run the same command again.\n"


def test_drive_sounds_outputs_and_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    someone, words, out = avatar(tmp_path / "a.avatar"), speech(tmp_path / "a.wav"), tmp_path / "o.mp4"
    (tmp_path / "text.wav").write_text("not a sound\n" * 99)

    def drive(*more: object, audio: Path = words, output: Path = out) -> str:
        return refused(capsys, "drive", someone, "--audio", audio, "-o", output, *more)

    assert "there is no file" in drive(audio=tmp_path / "no.wav")
    assert "is not a video or sound file" in drive(audio=tmp_path / "text.wav")
    assert "has no sound in it" in drive(audio=video(tmp_path / "silent.mp4", sound=False))
    assert "there is no folder" in drive(output=tmp_path / "no" / "o.mp4")
    assert "ends in .txt" in drive(output=tmp_path / "o.txt")
    assert "has no suffix" in drive(output=tmp_path)
    (tmp_path / "folder.mp4").mkdir()
    assert "is a folder" in drive(output=tmp_path / "folder.mp4")
    assert "--head-motion" in drive("--head-motion", -1)
    assert "--blink-rate came as 9.0; wanted a number from 0 to 5" in drive("--blink-rate", 9)
    assert "--emotion came as bored" in drive("--emotion", "bored")
    assert "--gaze came as 99,0" in drive("--gaze", "99,0")
    assert "cannot be read" in drive("--controls", tmp_path / "no.toml")
    assert "is a video, whose motion was not measured yet" in drive(
        "--pose-from", video(tmp_path / "v.mp4", sound=False)
    )
    assert "there is no file or folder" in drive("--expression-from", tmp_path / "no.csv")
    assert "together with another source" in drive("--motion", tmp_path / "m.csv", "--pose-from", "still")
    assert "does not end in .csv" in drive("--export-motion", tmp_path / "m.txt")
    assert "no sound came" in refused(capsys, "drive", someone, "-o", out)
    assert "no output came" in refused(capsys, "drive", someone, "--audio", words)
    assert "--lip-strength" in drive("--lip-strength", 99)
    assert "--lle-strength" in drive("--lle-strength", 2)
    assert "--variation" in drive("--variation", 1.5)
    assert "no colour and no file" in drive("--background", "nowhere")
    assert "there is no folder" in drive("--report", tmp_path / "no" / "r.json")
    assert not out.exists()


@pytest.mark.parametrize("command", ["drive", "evaluate", "inspect"])
def test_avatars_that_cannot_be_used(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = tmp_path / "clip"
    more: dict[str, list[object]] = {
        "drive": ["--audio", speech(tmp_path / "a.wav"), "-o", tmp_path / "o.mp4"],
        "evaluate": ["--clip", clip],
        "inspect": [],
    }
    if command == "evaluate":
        pytest.importorskip("avatarfit.capture.clip_folder")
        clip.mkdir()
        (clip / "clip.json").write_text("{}")
    good = avatar(tmp_path / "a.avatar").read_bytes()
    (tmp_path / "cut.avatar").write_bytes(good[: len(good) - 5])
    (tmp_path / "text.avatar").write_text("not an avatar\n" * 9)
    newer = avatar(tmp_path / "newer.avatar", version=99)
    assert "there is no file" in refused(capsys, command, tmp_path / "no.avatar", *more[command])
    assert "damaged" in refused(capsys, command, tmp_path / "cut.avatar", *more[command])
    assert "damaged" in refused(capsys, command, tmp_path / "text.avatar", *more[command])
    assert "version 99" in refused(capsys, command, newer, *more[command])


def test_evaluate_inputs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    someone = avatar(tmp_path / "a.avatar")
    (tmp_path / "empty").mkdir()
    assert "does not exist" in refused(capsys, "evaluate", someone, "--clip", tmp_path / "no")
    assert "is a file" in refused(capsys, "evaluate", someone, "--clip", someone)
    assert "clip.json" in refused(capsys, "evaluate", someone, "--clip", tmp_path / "empty")
    clip = ["--clip", tmp_path / "empty"]
    assert "there is no folder" in refused(capsys, "evaluate", someone, *clip, "--json", tmp_path / "no" / "r.json")
    assert "is a file" in refused(capsys, "evaluate", someone, *clip, "--pictures", someone)
    assert "--frames" in refused(capsys, "evaluate", someone, *clip, "--frames", 0)
    assert "is a file" in refused(capsys, "evaluate", someone, *clip, "--report", someone)
    assert "last or blocks" in refused(capsys, "evaluate", someone, *clip, "--split", "some")
    (tmp_path / "empty" / "clip.json").write_text("{}")
    assert "where no file is" in refused(capsys, "evaluate", someone, *clip, "--syncnet", tmp_path / "no.model")


def test_convert_inputs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    someone, out = avatar(tmp_path / "a.avatar"), tmp_path / "b.avatar"

    def convert(*more: object, to: str = "gaussian", output: Path = out, of: Path = someone) -> str:
        return refused(capsys, "convert", of, "--to", to, "-o", output, *more)

    assert "--to came as marble; wanted gaussian" in convert(to="marble")
    assert "is the avatar itself" in convert(output=someone)
    assert "does not end in .avatar" in convert(output=tmp_path / "b.bin")
    assert "--steps" in convert("--steps", 0)
    assert "both" in convert("--steps", 5, "--minutes", 1)
    assert "does not exist" in convert("--clip", tmp_path / "no")
    assert "is a file" in convert("--work-dir", someone)
    assert "there is no file" in convert(of=tmp_path / "no.avatar")
    assert "parts do not fit" in convert()
    assert not out.with_suffix(".work").exists()


def test_compare_inputs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    someone = avatar(tmp_path / "a.avatar")
    assert "does not exist" in refused(capsys, "compare", someone, someone, "--clip", tmp_path / "no")
    clip = tmp_path / "clip"
    clip.mkdir()
    (clip / "clip.json").write_text("{}")
    words = ["compare", someone, tmp_path / "no.avatar", "--clip", clip]
    assert "--frames" in refused(capsys, *words, "--frames", 0)
    assert "there is no folder" in refused(capsys, *words, "--json", tmp_path / "no" / "r.json")


def test_the_table_of_a_comparison() -> None:
    from avatarfit.cli.compare_command import differences_table

    row = {"a": 30.0, "b": 31.5, "difference": 1.5, "direction": "higher", "better": "b", "interval": [1.0, 2.0]}
    missing = row | {"a": None, "b": None, "difference": None, "better": ""}
    shown = differences_table({"figures": {"x.psnr_db": row, "lpips": missing}}, "one.avatar", "two.avatar")
    assert "A is one.avatar, B is two.avatar" in shown
    assert "30.000    31.500     1.500  B        1.000 to 2.000" in shown
    assert "lpips" not in shown


def test_demo_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert "is a file" in refused(capsys, "demo", "--output-dir", tmp_path / "file")
    assert "--minutes" in refused(capsys, "demo", "--output-dir", tmp_path / "d", "--minutes", 0)
    assert not (tmp_path / "d").exists()


def test_inspect_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import json

    someone = avatar(tmp_path / "a.avatar")
    assert main(["inspect", str(someone)]) == 0
    shown = capsys.readouterr().out
    assert "version 3" in shown
    assert "plate uint8 [2, 2, 3]" in shown
    assert main(["inspect", str(someone), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["header"]["made"] == {"seed": 3}


def test_doctor_names_everything(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["doctor"])
    shown = capsys.readouterr().out
    assert code == (1 if "  missing  " in shown else 0)
    names = "python", "torch", "native kernels", "backend auto", "heads", "GPU", "face landmarks", "encoders", "gsplat"
    for name in names:
        assert any(line.startswith(name) for line in shown.splitlines()), name


@pytest.mark.parametrize("command", ["capture", "fit"])
def test_a_landmarker_or_an_offset_that_cannot_be_is_refused_first(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = video(tmp_path / "clip.mp4")
    start = [command, clip, "-o", tmp_path / ("a.avatar" if command == "fit" else "clip")]
    line = refused(capsys, *start, "--landmarker", tmp_path / "no.task")
    assert "no.task, where no file is" in line
    assert "--audio-offset came as soon; wanted auto, or a number of seconds" in refused(
        capsys, *start, "--audio-offset", "soon"
    )
    assert "--audio-offset came as -20; wanted a number from -10 to 10" in refused(
        capsys, *start, "--audio-offset", "-20"
    )


def test_a_focal_length_reaches_the_capture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = video(tmp_path / "clip.mp4")
    assert "focal_px came as -5" in refused(capsys, "capture", clip, "-o", tmp_path / "clip", "--focal", "-5")
