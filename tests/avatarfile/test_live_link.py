"""Live Link Face tables: what is written is read back, and damage is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from avatarfit.avatarfile.live_link import ANGLE_NAMES, LIVE_LINK_NAMES, LiveLinkTake, read_live_link, write_live_link
from avatarfit.contracts import FileFormatError, InputError
from avatarfit.model.blendshapes import ARKIT_NAMES


def take(count: int, rate: float) -> LiveLinkTake:
    random = np.random.default_rng(0)
    return LiveLinkTake(
        np.arange(count) / rate, random.random((count, 52)).astype(np.float32),
        random.normal(0, 0.3, (count, 9)).astype(np.float32),
    )  # fmt: skip


def test_the_names_are_arkits() -> None:
    assert sorted(LIVE_LINK_NAMES) == sorted(ARKIT_NAMES)
    assert len(LIVE_LINK_NAMES) + len(ANGLE_NAMES) == 61


@pytest.mark.parametrize("rate", [24.0, 25.0, 30000 / 1001, 30.0, 50.0, 60.0])
def test_what_is_written_is_read_back(rate: float, tmp_path: Path) -> None:
    made = take(200, rate)
    write_live_link(tmp_path / "a.csv", made, rate)
    read = read_live_link(tmp_path / "a.csv")
    np.testing.assert_allclose(read.pts_seconds, made.pts_seconds, atol=1e-4)
    np.testing.assert_allclose(read.values, made.values, atol=1e-7)
    np.testing.assert_allclose(read.angles, made.angles, atol=1e-7)


def test_the_layout_is_the_apps(tmp_path: Path) -> None:
    write_live_link(tmp_path / "a.csv", take(61, 60.0), 60.0)
    lines = (tmp_path / "a.csv").read_text().splitlines()
    names = lines[0].split(",")
    assert names[:4] == ["Timecode", "BlendshapeCount", "EyeBlinkLeft", "EyeLookDownLeft"]
    assert names[-9:-6] == ["HeadYaw", "HeadPitch", "HeadRoll"]
    assert len(names) == 63
    assert lines[1].startswith("00:00:00:00.000,61,")
    assert lines[61].startswith("00:00:01:00.000,61,")


def test_columns_are_found_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        "Timecode,BlendShapeCount,JawOpen,eyeBlinkRight\n10:00:00:00.500,61,0.25,1.5\n10:00:00:01.500,61,0.5,0\n"
    )
    read = read_live_link(tmp_path / "a.csv")
    np.testing.assert_allclose(read.values[:, LIVE_LINK_NAMES.index("jawOpen")], [0.25, 0.5])
    np.testing.assert_allclose(read.values[:, LIVE_LINK_NAMES.index("eyeBlinkRight")], [1, 0])
    np.testing.assert_allclose(read.pts_seconds, [0, 1 / 60], atol=1e-6)
    assert not read.angles.any()


def test_a_row_that_goes_back_in_time_is_left_out(tmp_path: Path) -> None:
    rows = ["00:00:00:00.0", "00:00:00:02.0", "00:00:00:01.0", "00:00:00:03.0"]
    (tmp_path / "a.csv").write_text("Timecode,JawOpen\n" + "".join(f"{r},0.{k}\n" for k, r in enumerate(rows)))
    read = read_live_link(tmp_path / "a.csv")
    np.testing.assert_allclose(read.values[:, LIVE_LINK_NAMES.index("jawOpen")], [0.0, 0.1, 0.3])
    assert (np.diff(read.pts_seconds) > 0).all()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no column Timecode"),
        ("a,b\n1,2\n", "has no column Timecode"),
        ("Timecode,JawOpen\n", "has no rows"),
        ("Timecode,JawOpen\n00:00:00:00.0,x\n", "row 2 of .* is damaged"),
        ("Timecode,JawOpen\n00:00:00:00.0\n", "row 2 of .* is damaged"),
        ("Timecode,JawOpen\nnow,0.5\n", "time code 'now'"),
        ("Timecode,JawOpen\n00:00:-1:00.0,0.5\n", "time code"),
        ("Timecode,JawOpen\n00:00:00:00.0,nan\n", "NaN or infinity"),
    ],
)
def test_damage_is_told(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(FileFormatError, match=said):
        read_live_link(tmp_path / "a.csv")


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file"):
        read_live_link(tmp_path / "no.csv")
    (tmp_path / "b.csv").write_bytes(bytes(range(128, 256)) * 10)
    with pytest.raises(FileFormatError, match="no readable table"):
        read_live_link(tmp_path / "b.csv")
    with pytest.raises(InputError, match="cannot be written"):
        write_live_link(tmp_path / "no" / "a.csv", take(2, 25.0), 25.0)
