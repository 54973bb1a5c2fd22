from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from avatarfit.contracts import InputError
from avatarfit.fitting import frame_store
from avatarfit.fitting.frame_store import FrameStore


class Clip:
    """As much of a clip folder as is asked for before the first frame is read."""

    content_hash = "0"
    camera = frame_store.Camera(512, 512, 1200.0, 256.0, 256.0)

    def __len__(self) -> int:
        return 15_000


def test_frames_that_no_disk_can_hold_are_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame_store.shutil, "disk_usage", lambda _: SimpleNamespace(free=12_000_000_000))
    with pytest.raises(InputError, match=r"15000 frames of 512x512 px take 23\.6 GB in .*, 12\.0 GB are free"):
        FrameStore.build(Clip(), 512, tmp_path / "frames")
    assert not list((tmp_path / "frames").iterdir())
