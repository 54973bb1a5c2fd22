"""Sinks: what goes in comes out, an encoder's error reaches the one who writes, files appear whole."""

from __future__ import annotations

from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

from avatarfit.contracts import InputError
from avatarfit.media import read_video
from avatarfit.output import OutputOptions, contact_sheet, open_sink, side_by_side, write_png


def test_a_sink_keeps_every_picture_in_order(tmp_path: Path) -> None:
    pictures = [np.full((16, 16, 3), 10 * k, np.uint8) for k in range(20)]
    with open_sink(tmp_path / "a.mkv", OutputOptions("ffv1"), 16, 16, 25) as sink:
        for picture in pictures:
            sink.write(picture)
    back = [f.rgb for f in read_video(tmp_path / "a.mkv")]
    np.testing.assert_array_equal(np.stack(back), np.stack(pictures))


def test_an_encoders_error_reaches_the_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though many more pictures come than the queue holds."""

    def fail(*_: object) -> None:
        raise ArithmeticError("broken")

    monkeypatch.setattr("avatarfit.media.segments.coded_frame", fail)

    def write() -> None:
        with open_sink(tmp_path / "a.mp4", OutputOptions(), 16, 16, 25) as sink:
            for _ in range(50):
                sink.write(np.zeros((16, 16, 3), np.uint8))

    with pytest.raises(ArithmeticError, match="broken"):
        write()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("channels", [None, 3, 4])
def test_png_round_trip(tmp_path: Path, channels: int | None) -> None:
    shape = (5, 7) if channels is None else (5, 7, channels)
    picture = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    write_png(tmp_path / "a.png", picture)
    np.testing.assert_array_equal(iio.imread(tmp_path / "a.png"), picture)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_png_refusals(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        write_png(tmp_path / "no" / "a.png", np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(ValueError, match="wanted uint8"):
        write_png(tmp_path / "a.png", np.zeros((2, 2, 3)))


def test_contact_sheet_places() -> None:
    pictures = [np.full((3, 4, 3), 100 + k, np.uint8) for k in range(5)]
    sheet = contact_sheet(pictures, columns=2, gap_px=1)
    assert sheet.shape == (3 * 4 + 1, 2 * 5 + 1, 3)
    for k in range(5):
        row, column = divmod(k, 2)
        assert (sheet[1 + row * 4 : 4 + row * 4, 1 + column * 5 : 5 + column * 5] == 100 + k).all()
    with pytest.raises(ValueError, match="one size"):
        contact_sheet([])


def test_side_by_side_multiplies_the_error() -> None:
    truth, rendered = np.full((2, 2, 3), 100, np.uint8), np.full((2, 2, 3), 90, np.uint8)
    row = side_by_side(truth, rendered)
    assert (row[:, :2] == 100).all()
    assert (row[:, 2:4] == 90).all()
    assert (row[:, 4:] == 40).all()
