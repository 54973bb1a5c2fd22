"""Options for what is written reach the sink, and what is wrong with them is one sentence before any work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from avatarfit.cli.main import main
from avatarfit.cli.output_options import OutputChoice
from avatarfit.contracts import AudioClip
from avatarfit.media import write_wav
from avatarfit.output import OutputOptions


def test_every_option_reaches_the_sink() -> None:
    choice = OutputChoice("prores4444", "straight", True, "pcm", "10:00:00:00", True)
    assert choice.options == OutputOptions("prores4444", "straight", True, "pcm", "10:00:00:00", True)
    assert OutputChoice().options == OutputOptions()


@pytest.mark.parametrize(
    ("output", "words", "said"),
    [
        ("a.mp4", ["--codec", "divx"], "the codec 'divx' came; wanted one of h264,"),
        ("a.mp4", ["--codec", "prores4444"], "wanted a name that ends in .mov"),
        ("a.mp4", ["--alpha", "straight", "--background", "none"], "alpha was asked for in H.264, which has none"),
        ("a.webm", ["--audio-codec", "aac"], "wanted Opus"),
        ("a.png", [], "names one picture"),
        ("a.xyz", [], "ends in .xyz"),
    ],
)
def test_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], output: str, words: list[str], said: str
) -> None:
    write_wav(tmp_path / "s.wav", AudioClip(np.zeros(16000, np.float32), 16000))
    asked = ["drive", str(tmp_path / "no.avatar"), "--audio", str(tmp_path / "s.wav"), "-o", str(tmp_path / output)]
    assert main([*asked, *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.startswith("avatarfit: ")
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["s.wav"]
