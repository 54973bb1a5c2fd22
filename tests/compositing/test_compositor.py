"""Layers change what they should and nothing else; a background stands still, or runs at its own speed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from avatarfit.compositing import composite, parse_background, to_uint8
from avatarfit.compositing.backdrop import Backdrop, Still, VideoLoop
from avatarfit.compositing.clean_edges import CleanEdges
from avatarfit.compositing.compositor import Compositor, occupied
from avatarfit.compositing.look import ColourMatch, Grain, LightWrap
from avatarfit.compositing.shot import Shot
from avatarfit.contracts import InputError
from avatarfit.media import VideoWriter

SIZE = 128


def disc(colour: tuple[float, float, float], edge_px: float = 3.0) -> np.ndarray:
    """A soft disc, float32 [SIZE, SIZE, 4], premultiplied."""
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    alpha = np.clip((40 - np.hypot(x - SIZE / 2, y - SIZE / 2)) / edge_px + 0.5, 0, 1)
    return np.dstack([alpha * c for c in colour] + [alpha]).astype(np.float32)


def plain(level: tuple[int, int, int]) -> np.ndarray:
    return np.tile(np.array(level, np.uint8), (SIZE, SIZE, 1))


def test_over_a_backdrop_is_over_to_the_byte() -> None:
    random = np.random.default_rng(0)
    rgba, behind = random.random((37, 53, 4), np.float32), random.integers(0, 256, (37, 53, 3), np.uint8)
    rgba[..., :3] *= rgba[..., 3:]
    rgba[:5] = rgba[:, :9] = 0
    wanted = to_uint8(composite(rgba, behind)).astype(int)
    made = Compositor(Backdrop(Still(behind))).compose(rgba.copy(), 0, 0.0)
    assert made.dtype == np.uint8
    assert np.abs(made - wanted).max() <= 1
    assert abs((made - wanted).mean()) < 0.05  # neither brighter nor darker
    rgba[..., 3] = 1
    opaque = Compositor(Backdrop(Still(behind))).compose(rgba.copy(), 0, 0.0)
    assert (opaque != to_uint8(rgba[..., :3])).mean() < 1e-3  # but for halves
    np.testing.assert_array_equal(made[:5], behind[:5])


def test_without_a_backdrop_alpha_stays() -> None:
    rgba = disc((0.5, 0.25, 0.75))
    np.testing.assert_array_equal(Compositor().compose(rgba.copy(), 0, 0.0), rgba)


def test_a_person_nowhere_leaves_the_background() -> None:
    assert occupied(np.zeros((4, 4), np.uint8)) is None
    behind = plain((9, 8, 7))
    made = Compositor(Backdrop(Still(behind))).compose(np.zeros((SIZE, SIZE, 4), np.float32), 0, 0.0)
    np.testing.assert_array_equal(made, behind)
    made[:] = 0
    assert behind.any()  # the background is the caller's


def test_a_background_of_another_size_is_told() -> None:
    with pytest.raises(ValueError, match="wanted one size"):
        Compositor(Backdrop(Still(plain((0, 0, 0))[:8]))).compose(disc((1, 1, 1)), 0, 0.0)


def test_the_old_background_leaves_the_edge_and_nothing_changes_over_it() -> None:
    """A disc of one colour whose rim was painted with the plate, as a fit over a plate leaves it."""
    own, plate = (0.8, 0.5, 0.4), (0.05, 0.3, 0.8)
    true = disc(own, edge_px=4.0)
    share = np.clip(true[..., 3:] * 1.6, 0, 1)  # the rim is too opaque ...
    fitted = np.dstack([true[..., :3] + (share - true[..., 3:]) * np.float32(plate), share])  # ... and has the plate in
    behind = plain(tuple(round(255 * c) for c in plate))  # type: ignore[arg-type]
    clean = Compositor(CleanEdges(behind)).compose(fitted.copy(), 0, 0.0)
    over_plate = composite(fitted, behind), composite(clean, behind)
    assert np.abs(over_plate[0] - over_plate[1]).max() < 2 / 255
    for level in (0.0, 1.0):
        colour = np.full(3, level)
        before = np.abs(composite(fitted, colour) - composite(true, colour)).mean()
        after = np.abs(composite(clean, colour) - composite(true, colour)).mean()
        assert after < 0.15 * before
    assert np.abs(clean[..., 3] - true[..., 3]).mean() < 0.1 * np.abs(fitted[..., 3] - true[..., 3]).mean()


def test_a_clean_edge_stays_as_it_is() -> None:
    rgba = disc((0.8, 0.5, 0.4))
    made = Compositor(CleanEdges(plain((13, 77, 204)))).compose(rgba.copy(), 0, 0.0)
    assert np.abs(made - rgba).max() < 0.02


def test_colour_match_brings_the_means_together_and_does_not_flicker() -> None:
    person, behind = disc((0.6, 0.5, 0.5)), plain((60, 80, 120))
    match = Compositor(Backdrop(Still(behind)), ColourMatch(0.5))
    first = match.compose(person.copy(), 0, 0.0)[SIZE // 2, SIZE // 2].astype(int)
    again = match.compose(person.copy(), 1, 0.04)[SIZE // 2, SIZE // 2].astype(int)
    np.testing.assert_array_equal(first, again)
    assert 60 < first[0] < 153
    assert first[2] > first[0]  # towards the blue behind
    assert (Compositor(ColourMatch(1.0)).compose(person.copy(), 0, 0.0) == person).all()


def test_light_wrap_lights_the_edge_from_behind_and_not_the_middle() -> None:
    person, behind = disc((0.1, 0.1, 0.1)), plain((255, 255, 255))
    plain_one = Compositor(Backdrop(Still(behind))).compose(person.copy(), 0, 0.0).astype(int)
    wrapped = Compositor(Backdrop(Still(behind)), LightWrap(0.5)).compose(person.copy(), 0, 0.0).astype(int)
    gain = (wrapped - plain_one)[SIZE // 2, :, 0]
    assert gain[SIZE // 2] == 0
    assert gain.max() > 20
    assert (gain >= -1).all()
    shot = Shot(disc((0.1, 0.1, 0.1)), 0, 0.0, behind)
    LightWrap(0.5).apply(shot)
    np.testing.assert_allclose(shot.rgba[..., 3], person[..., 3], atol=1e-6)


def test_grain_has_the_strength_asked_for_and_stays_on_the_person() -> None:
    person = disc((0.5, 0.5, 0.5), edge_px=0.1)
    made = [Compositor(Grain(2.0, seed=3)).compose(person.copy(), index, 0.0) for index in (0, 1, 0)]
    inside, outside = person[..., 3] == 1, person[..., 3] == 0
    noise = (made[0] - person)[..., :3] * 255
    assert noise[inside].std() == pytest.approx(2.0, rel=0.15)
    assert not noise[outside].any()
    assert (made[0] != made[1]).any()
    np.testing.assert_array_equal(made[0], made[2])
    np.testing.assert_array_equal(made[0][..., 3], person[..., 3])


def test_the_grain_of_a_picture_is_found() -> None:
    random = np.random.default_rng(0)
    clean = np.tile(np.linspace(60, 180, 200), (200, 1))[..., None]
    noisy = np.clip(np.rint(clean + random.normal(0, 3, (200, 200, 3))), 0, 255).astype(np.uint8)
    gray = 3 * np.sqrt(0.299**2 + 0.587**2 + 0.114**2)  # the luma's noise
    assert Grain.of(noisy) == pytest.approx(gray, rel=0.25)


def loop(path: Path, levels: list[int], rate: float, width: int = 64, height: int = 48) -> Path:
    with VideoWriter(path, width, height, rate) as writer:
        for level in levels:
            writer.write(np.full((height, width, 3), level, np.uint8))
    return path


def test_a_video_runs_at_its_own_speed_and_begins_again(tmp_path: Path) -> None:
    path = loop(tmp_path / "b.mp4", [40, 80, 120, 160, 200], 10.0)
    video = VideoLoop(path, 96, 64)
    levels = [round(video.at(k / 25).mean() / 40) for k in range(30)]
    assert levels == [1 + int(k / 25 * 10 + 1e-6) % 5 for k in range(30)]
    assert video.at(0.0).shape == (64, 96, 3)
    assert round(video.at(0.0).mean() / 40) == 1
    assert video.at(0.01) is video.at(0.09)


def test_a_video_covers_a_picture_of_another_aspect(tmp_path: Path) -> None:
    rgb = np.zeros((48, 64, 3), np.uint8)
    rgb[:, 16:48] = 200
    with VideoWriter(tmp_path / "b.mp4", 64, 48, 25.0) as writer:
        writer.write(rgb)
    tall = VideoLoop(tmp_path / "b.mp4", 32, 64).at(0.0)
    assert tall.shape == (64, 32, 3)
    assert tall[:, 4:28].mean() > 190


def test_backgrounds_that_cannot_be_used(tmp_path: Path) -> None:
    small = loop(tmp_path / "small.mp4", [9], 25.0, 16, 16)
    with pytest.raises(InputError, match="only 16 pixels for the 512 across"):
        VideoLoop(small, 512, 512)
    slow = loop(tmp_path / "slow.mp4", [9, 9], 0.5)
    with pytest.raises(InputError, match=r"0\.5 pictures a second; wanted a video of 1 to 240"):
        VideoLoop(slow, 64, 48)
    (tmp_path / "no.mp4").write_text("no film")
    with pytest.raises(InputError, match="not a picture or video"):
        parse_background(str(tmp_path / "no.mp4"))
    assert parse_background(str(small)).video == small
    assert parse_background("none").nothing
