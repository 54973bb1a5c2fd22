"""What an encoder may not do to the process."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from avatarfit.media.video_coding import CODINGS, add_pictures, coded_frame


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="no such priorities on this system: not run")
@pytest.mark.parametrize("name", sorted(CODINGS))
def test_no_encoder_takes_a_priority_of_its_own(tmp_path: Path, name: str) -> None:
    coding, before = CODINGS[name], os.sched_getscheduler(0)
    with av.open(str(tmp_path / f"a{coding.suffixes[-1]}"), "w") as container:
        stream = add_pictures(container, coding, 64, 64, Fraction(25), alpha=False)
        for index in range(3):
            frame = coded_frame(np.full((64, 64, 3), 60 * index, np.uint8), coding)
            frame.pts = index
            container.mux(stream.encode(frame))
            assert {os.sched_getscheduler(int(task)) for task in os.listdir("/proc/self/task")} == {before}
        container.mux(stream.encode(None))
    with av.open(str(tmp_path / f"a{coding.suffixes[-1]}")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 3
