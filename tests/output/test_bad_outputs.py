"""What cannot be written is said in one sentence, before work begins where that can be known."""

from __future__ import annotations

import os
import resource
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avatarfit.contracts import AudioClip, InputError
from avatarfit.output import OutputOptions, check_output, open_sink


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("a.mp4", {"codec": "divx"}, "the codec 'divx' came; wanted one of h264, h265, av1"),
        ("a.mp4", {"alpha": "half"}, "the alpha 'half' came; wanted one of none, straight"),
        ("a.mp4", {"audio": "mp3"}, "the audio codec 'mp3' came; wanted one of aac, pcm"),
        ("a.avi", {}, "ends in .avi; wanted one of .mp4, .mov, .mkv, .webm"),
        ("a", {}, "has no suffix"),
        ("a.mp4", {"codec": "prores4444"}, "came for ProRes 4444; wanted a name that ends in .mov; name it a.mov"),
        ("a.mov", {"codec": "av1"}, "came for AV1; wanted a name that ends in .mp4 or .mkv or .webm"),
        ("a.mp4", {"codec": "ffv1"}, "name it a.mkv"),
        ("a.mkv", {"codec": "png"}, "came for PNG pictures"),
        ("a.exr", {"codec": "png"}, "came for PNG pictures"),
        ("a.png", {}, "names one picture; wanted a name with room for a number, or a folder; write a_%06d.png"),
        ("a.mp4", {"alpha": "straight"}, "alpha was asked for in H.264, which has none"),
        ("a.mkv", {"codec": "h265", "alpha": "straight"}, "alpha was asked for in H.265"),
        ("a.webm", {"audio": "aac"}, "AAC sound came for a WebM file; wanted Opus"),
        ("a.mp4", {"timecode": "10:00"}, "the time code '10:00' came"),
        ("a.mp4", {"timecode": "10:00:00;00"}, "wanted drop-frame only at 29.97 or 59.94"),
        ("no/a.mp4", {}, "there is no folder"),
        ("", {}, "has no suffix"),
        ("folder.mp4", {}, "is a folder"),
        ("file", {"codec": "png"}, "is a file; wanted a folder for the pictures"),
    ],
)
def test_refusals(tmp_path: Path, name: str, options: dict[str, Any], said: str) -> None:
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "file").touch()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError) as caught:
        open_sink(tmp_path / name, OutputOptions(**options), 64, 64, 25)
    assert said in str(caught.value)
    assert str(caught.value).count(".\n") == 0
    assert sorted(tmp_path.rglob("*")) == before


def test_pictures_too_small_for_the_coding(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="came for AV1; wanted at least 64 px either way"):
        open_sink(tmp_path / "a.mp4", OutputOptions("av1"), 640, 48, 25)


def test_pictures_of_another_take_are_not_overwritten(tmp_path: Path) -> None:
    def write() -> None:
        with open_sink(tmp_path / "take_%04d.png", OutputOptions(), 8, 8, 25) as sink:
            sink.write(np.zeros((8, 8, 3), np.uint8))

    (tmp_path / "take_0007.PNG.txt").touch()
    write()
    with pytest.raises(InputError, match=r"holds pictures named take_%04d\.png already"):
        write()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["take_0000.png", "take_0007.PNG.txt"]


def test_a_folder_that_may_not_be_written() -> None:
    """Root may write everywhere: the test gives its rights up for a moment."""
    root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o555)
        if root:
            os.seteuid(65534)
        try:
            with pytest.raises(InputError, match="may not be written; wanted an output path"):
                check_output(Path(folder) / "a.mp4", OutputOptions(), Fraction(25))
        finally:
            if root:
                os.seteuid(0)
            os.chmod(folder, 0o755)


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.mp4", {}), ("a.mp4", {"codec": "av1"}), ("a.mov", {"codec": "prores4444"}), ("a.mkv", {"codec": "ffv1"}),
     ("take", {"codec": "png"}), ("take", {"codec": "exr"})],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("limit", [6_000, 120_000])
def test_no_room_on_the_disk(tmp_path: Path, name: str, options: dict[str, Any], limit: int) -> None:
    """Files may grow to `limit` bytes, which stops pictures, segments, or the joined film and its sound."""
    random = np.random.default_rng(0)
    sound = AudioClip(random.standard_normal(80_000).astype(np.float32) * 0.1, 16_000)

    def write() -> None:
        with open_sink(tmp_path / name, OutputOptions(**options), 64, 64, 25, sound, segment_seconds=0.2) as sink:
            for _ in range(60):
                sink.write(random.integers(0, 256, (64, 64, 3), dtype=np.uint8))

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(InputError, match=r"the disk is full.*; make room and run the same command with --resume\."):
            write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path.name for path in tmp_path.iterdir()} <= {f"{name}.part"}
    assert not list(tmp_path.rglob("*unfinished*"))


def test_wrong_pictures(tmp_path: Path) -> None:
    for options, wrong in (
        (OutputOptions(), np.zeros((64, 64, 3), np.float32)), (OutputOptions(), np.zeros((64, 60, 3), np.uint8)),
        (OutputOptions("prores4444", "straight"), np.zeros((64, 64, 3), np.float32)),
    ):  # fmt: skip
        name = "a.mov"
        with (
            pytest.raises(ValueError, match="picture came as"),
            open_sink(tmp_path / name, options, 64, 64, 25) as sink,
        ):
            sink.write(wrong)
    with (
        pytest.raises(ValueError, match="no picture was written"),
        open_sink(tmp_path / "a.mp4", OutputOptions(), 64, 64, 25),
    ):
        pass
    assert list(tmp_path.iterdir()) == []
