"""The road of a hash-grid avatar on a few seconds of the synthetic performer: film, fit, drive, judge, convert."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import avatarfit
from avatarfit.avatarfile import read_avatar
from avatarfit.capture import ClipFolder, capture_clip
from avatarfit.cli.main import main
from avatarfit.contracts import InputError, Motion
from avatarfit.contracts.events import Event, Note
from avatarfit.evaluation import evaluate_avatar
from avatarfit.evaluation.clip_view import measured_motion
from avatarfit.media import probe
from avatarfit.model.avatar import Avatar
from avatarfit.performer import write_sample_clip
from avatarfit.pipeline.convert import convert_to_gaussian, own_motion
from avatarfit.rendering.renderer import renderer_of

SIZE = 96
PRESET = """driver_steps = 20
[gaussian]
count = 2000
basis_count = 8
steps = 300
relocate_every = 50
[hashgrid]
motion_cells = 16
basis_count = 8
hash_levels = 5
hash_coarsest = 8
hash_finest = 96
hash_rows_log2 = 14
plane_levels = 0
density_hidden = 16
colour_hidden = 16
occupancy_side = 32
step_cm = 0.35
patch_px = 48
steps = 250
occupancy_from = 60
occupancy_every = 30
gaussians = 900
gaussian_bases = 8
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip, its clip folder and a preset."""
    folder = tmp_path_factory.mktemp("hashgrid")
    write_sample_clip(folder / "clip.mp4", 3.0, width_px=192, frame_rate_hz=25.0, seed=0)
    capture_clip(folder / "clip.mp4", folder / "clip")
    (folder / "small.toml").write_text(PRESET)
    return folder


@pytest.fixture(scope="module")
def fitted(folder: Path) -> Path:
    avatarfit.fit(
        folder / "clip", folder / "who.avatar", head="hashgrid", size=SIZE, preset=str(folder / "small.toml"),
        work_dir=folder / "work",
    )  # fmt: skip
    return folder / "who.avatar"


def psnr_db(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * np.log10(((a.astype(float) - b) ** 2).mean() / 255**2))


def own_pictures(avatar: Avatar, motion: Motion, frames: range) -> np.ndarray:
    renderer = renderer_of(avatar, avatar.camera)
    return np.stack([renderer.render_over(motion, index, avatar.plate) for index in frames])


def test_it_looks_like_the_person_on_frames_it_has_not_seen(fitted: Path, folder: Path) -> None:
    avatar = avatarfit.Avatar.load(fitted)
    assert avatar.head == "hashgrid"
    figures = evaluate_avatar(
        avatar, ClipFolder.open(folder / "clip"), report_dir=folder / "report", pictures_only=True
    )
    assert figures["head"] == "hashgrid"
    assert figures["field_numbers"] > 10_000
    assert figures["person"]["psnr_db"] > figures["baseline_mean"]["person"]["psnr_db"] + 2
    assert "hash-grid field of" in (folder / "report" / "evaluation.html").read_text()


def test_it_speaks(fitted: Path, folder: Path) -> None:
    out = avatarfit.Avatar.load(fitted).drive(folder / "clip.mp4", folder / "talking.mp4", seed=1)
    info = probe(out)
    assert (info.width_px, info.height_px, info.has_audio) == (SIZE, SIZE, True)
    assert abs(info.frame_count_estimate - 75) <= 2


def test_a_second_fit_resumes_and_gives_the_same_numbers(fitted: Path, folder: Path) -> None:
    events: list[Event] = []
    avatarfit.fit(
        folder / "clip", folder / "again.avatar", head="hashgrid", size=SIZE, preset=str(folder / "small.toml"),
        work_dir=folder / "work", resume=True, on_event=events.append,
    )  # fmt: skip
    assert any(isinstance(e, Note) and "resumed at step 250" in e.text for e in events)
    first, second = read_avatar(fitted)[1], read_avatar(folder / "again.avatar")[1]
    for name in first:
        if name.startswith("field."):
            np.testing.assert_array_equal(first[name], second[name])


def test_inspect_names_the_head(fitted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(fitted)]) == 0
    assert "hashgrid, 0." in capsys.readouterr().out


def test_own_motion_is_what_the_person_has_shown(fitted: Path, folder: Path) -> None:
    avatar, clip = Avatar.load(fitted), ClipFolder.open(folder / "clip")
    motion = own_motion(avatar, 2 * clip.train_count, np.random.default_rng(0))
    seen = measured_motion(avatar, clip)[: clip.train_count]
    half = slice(0, clip.train_count)
    np.testing.assert_allclose(motion.face.mouth[half], seen.face.mouth, atol=1e-4)
    np.testing.assert_allclose(motion.face.eyes[half], seen.face.eyes, atol=1e-4)
    np.testing.assert_allclose(motion.head[half].matrices(), seen.head.matrices(), atol=1e-4)
    np.testing.assert_allclose(motion.torso.affine[half], seen.torso.affine, atol=1e-5)
    assert motion.face.mouth.min() >= seen.face.mouth.min() - 1e-4
    field = avatar.field
    assert field is not None
    inputs = field.conditions(motion, held=False)
    # Torso and pose are of one moment, so nothing of the whole is new but mouths with other poses.
    assert (inputs >= field.condition_low - 1e-3).all()
    assert (inputs <= field.condition_high + 1e-3).all()


@pytest.mark.parametrize("with_clip", [False, True])
def test_a_converted_avatar_shows_what_the_field_shows(fitted: Path, folder: Path, with_clip: bool) -> None:
    avatar, clip = avatarfit.Avatar.load(fitted), ClipFolder.open(folder / "clip")
    out = folder / f"converted-{with_clip}.avatar"
    options: dict[str, Any] = {"clip": clip.path} if with_clip else {"own_frames": 60}
    convert_to_gaussian(
        avatar, out, preset=str(folder / "small.toml"), work_dir=folder / f"work-{with_clip}", **options
    )
    converted = avatarfit.Avatar.load(out)
    assert (converted.head, converted.field) == ("gaussian", None)
    assert converted.made["converted"]["steps"] == 300
    assert converted.made["split"] == avatar.made["split"]
    motion = measured_motion(avatar, clip)
    held_out = range(clip.train_count, len(clip))
    truth, without = own_pictures(avatar, motion, held_out), np.broadcast_to(avatar.plate, (SIZE, SIZE, 3))
    shown = own_pictures(converted, motion, held_out)
    assert psnr_db(shown, truth) > psnr_db(np.broadcast_to(without, truth.shape), truth) + 8
    figures = [evaluate_avatar(a, clip, pictures_only=True)["person"]["psnr_db"] for a in (avatar, converted)]
    assert figures[1] > figures[0] - (0 if with_clip else 1)


def test_a_gaussian_avatar_is_not_converted(
    fitted: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from dataclasses import replace

    gaussian = tmp_path / "g.avatar"
    replace(Avatar.load(fitted), field=None).save(gaussian)
    with pytest.raises(InputError, match="is made of Gaussians already"):
        convert_to_gaussian(Avatar.load(gaussian), tmp_path / "x.avatar")
    assert main(["convert", str(gaussian), "--to", "gaussian", "-o", str(tmp_path / "x.avatar")]) == 2
    assert "is made of Gaussians already; wanted an avatar fitted with --head hashgrid" in capsys.readouterr().err
    assert not (tmp_path / "x.work").exists()
