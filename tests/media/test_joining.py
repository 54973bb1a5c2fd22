from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from avatarfit.media import VideoWriter, join_videos, probe, read_gray_video


def write(path: Path, levels: list[int], rate_hz: float) -> Path:
    with VideoWriter(path, 32, 24, rate_hz, codec="ffv1", pixel="gray8") as out:
        for level in levels:
            out.write(np.full((24, 32), level, np.uint8))
    return path


@pytest.mark.parametrize("rate_hz", [25, 30000 / 1001, 60])
def test_joined_films_show_all_pictures_in_order_and_are_found_by_time(tmp_path: Path, rate_hz: float) -> None:
    films = [write(tmp_path / f"{k}.mkv", list(range(k * 40, k * 40 + n)), rate_hz) for k, n in enumerate((7, 1, 40))]
    wanted = [*range(7), 40, *range(80, 120)]
    join_videos(films, tmp_path / "all.mkv", rate_hz)
    assert [int(p[0, 0]) for p in read_gray_video(tmp_path / "all.mkv")] == wanted
    for start in (0, 6, 7, 8, 30, 47):
        assert [int(p[0, 0]) for p in read_gray_video(tmp_path / "all.mkv", start / rate_hz)] == wanted[start:]
    assert probe(tmp_path / "all.mkv").frame_rate_hz == pytest.approx(rate_hz, rel=1e-3)


def test_joining_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    film = write(tmp_path / "a.mkv", [1, 2], 25)
    (tmp_path / "all.mkv").write_bytes(b"before")
    with pytest.raises(OSError, match="missing"):
        join_videos([film, tmp_path / "missing.mkv"], tmp_path / "all.mkv", 25)
    assert (tmp_path / "all.mkv").read_bytes() == b"before"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mkv", "all.mkv"]
