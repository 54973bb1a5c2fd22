"""From clips of the synthetic performer to a driver's prior, through the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from avatarfit.audio.log_mel_and_phonemes import log_mel_and_phonemes
from avatarfit.capture import ClipFolder, capture_clip
from avatarfit.cli.main import main
from avatarfit.fitting.driver_prior import DriverPrior
from avatarfit.fitting.driver_schooling import Schooling
from avatarfit.fitting.driver_trainer import DriverTrainingConfig, fit_driver
from avatarfit.performer import write_sample_clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prior")
    write_sample_clip(folder / "clip.mp4", 4.0, width_px=192, frame_rate_hz=25.0, seed=0)
    capture_clip(folder / "clip.mp4", folder / "clip")
    return folder / "clip"


def test_fit_driver_writes_a_prior_that_a_fit_begins_with(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "two.driver"
    assert main(["fit-driver", "--clips", str(clip), str(clip), "-o", str(path), "--steps", "6"]) == 0
    assert "2 people" in capsys.readouterr().out
    prior, folder = DriverPrior.load(path), ClipFolder.open(clip)
    fit_driver(
        folder.rig(), folder.motion(), folder.landmarks_cm, folder.audio(), 25.0, prior=prior,
        encoder=log_mel_and_phonemes(),
        config=DriverTrainingConfig(schooling=Schooling(steps=3, window_tokens=16), voices=()),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--clips", "none.clip", "-o", "x.driver"], "none.clip is no folder"),
        (["--clips", ".", "-o", "x.avatar"], "does not end in .driver"),
    ],
)
def test_bad_input_is_one_line(words: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit-driver", *words]) == 2
    said = capsys.readouterr().err
    assert text in said
    assert said.count("\n") == 1
