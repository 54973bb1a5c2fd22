"""The whole road on a few seconds of the synthetic performer: film, capture, fit, avatar file, drive, evaluate."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import avatarfit
from avatarfit.capture import ClipFolder
from avatarfit.contracts import FileFormatError, InputError
from avatarfit.contracts.events import Event, Finished, Note
from avatarfit.evaluation import evaluate_avatar
from avatarfit.media import probe, read_audio, read_video
from avatarfit.performer import write_sample_clip
from avatarfit.pipeline.presets import load_preset

SECONDS, SIZE = 5.0, 128
PRESET = "driver_steps = 60\n[gaussian]\ncount = 2500\nbasis_count = 6\nsteps = 900\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("flow")


@pytest.fixture(scope="module")
def fitted(folder: Path) -> Path:
    """An avatar file fitted from a clip, with the clip and the work folder beside it."""
    write_sample_clip(folder / "clip.mp4", SECONDS, width_px=256, frame_rate_hz=25.0, seed=0)
    (folder / "small.toml").write_text(PRESET)
    avatarfit.fit(
        folder / "clip.mp4",
        folder / "who.avatar",
        size=SIZE,
        preset=str(folder / "small.toml"),
        work_dir=folder / "work",
    )
    return folder / "who.avatar"


def test_the_avatar_looks_like_the_person_on_frames_it_has_not_seen(fitted: Path, folder: Path) -> None:
    figures = evaluate_avatar(avatarfit.Avatar.load(fitted), ClipFolder.open(folder / "work" / "clip"))
    assert figures["person"]["psnr_db"] > figures["baseline_mean"]["person"]["psnr_db"] + 4
    assert figures["person"]["psnr_db"] > figures["baseline_nearest"]["person"]["psnr_db"] + 2
    assert figures["person"]["psnr_db"] > 22
    assert figures["mouth"]["psnr_db"] > 20


def test_it_speaks_for_as_long_as_the_sound_lasts(fitted: Path, folder: Path) -> None:
    avatar = avatarfit.Avatar.load(fitted)
    out = avatar.drive(folder / "clip.mp4", folder / "talking.mp4", seed=1)
    info = probe(out)
    assert (info.width_px, info.height_px, info.has_audio) == (SIZE, SIZE, True)
    sound = read_audio(folder / "clip.mp4")
    frames = [frame.rgb for frame in read_video(out)]
    assert abs(len(frames) - sound.duration_seconds * avatar.frame_rate_hz) <= 1
    assert abs(read_audio(out).duration_seconds - sound.duration_seconds) < 0.1
    motion = np.mean([np.abs(a.astype(int) - b).mean() for a, b in pairwise(frames)])
    assert motion > 0.1, "nobody moves"


def test_a_second_fit_reuses_the_capture_and_resumes(fitted: Path, folder: Path) -> None:
    before = fitted.read_bytes()
    events: list[Event] = []
    avatarfit.fit(
        folder / "clip.mp4", folder / "again.avatar", size=SIZE, preset=str(folder / "small.toml"),
        work_dir=folder / "work", resume=True, on_event=events.append,
    )  # fmt: skip
    assert any(isinstance(e, Finished) and e.reused for e in events)
    assert any(isinstance(e, Note) and "resumed at step 900" in e.text for e in events)
    first, second = avatarfit.Avatar.load(fitted), avatarfit.Avatar.load(folder / "again.avatar")
    np.testing.assert_array_equal(first.gaussians.base, second.gaussians.base)
    assert fitted.read_bytes() == before


def test_a_preset_for_the_flow_is_read(fitted: Path, folder: Path) -> None:
    assert load_preset(str(folder / "small.toml")).gaussian.count == 2500


def test_a_truncated_avatar_is_refused(fitted: Path, folder: Path) -> None:
    broken = folder / "broken.avatar"
    broken.write_bytes(fitted.read_bytes()[:5000])
    with pytest.raises(FileFormatError, match="truncated or damaged"):
        avatarfit.Avatar.load(broken)


def test_parts_that_do_not_fit_are_refused(fitted: Path, folder: Path) -> None:
    from avatarfit.avatarfile import read_avatar, write_avatar

    header, tensors = read_avatar(fitted)
    without_skin = {name: value for name, value in tensors.items() if name != "gaussians.skin"}
    for odd in ((header, without_skin), (header | {"frame_rate_hz": 0}, tensors), (header | {"camera": {}}, tensors)):
        write_avatar(folder / "odd.avatar", *odd)
        with pytest.raises(FileFormatError, match="parts do not fit"):
            avatarfit.Avatar.load(folder / "odd.avatar")


def test_fit_refuses_before_it_works(folder: Path) -> None:
    with pytest.raises(InputError, match="there is no clip"):
        avatarfit.fit(folder / "nothing.mp4", folder / "x.avatar")
    with pytest.raises(InputError, match="is not there"):
        avatarfit.fit(folder, folder / "none" / "x.avatar")
