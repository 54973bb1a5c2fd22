"""The dubbed region rides the head, and what is blended leaves the rest alone."""

from __future__ import annotations

import numpy as np
import pytest

from avatarfit.compositing.dub_blend import blended, changed, colour_match
from avatarfit.compositing.dub_region import JAW_EDGE, DubRegion
from avatarfit.contracts import Camera
from avatarfit.performer.face_shape import SHAPES, face_shape

CAMERA = Camera(200, 200, 468.0, 100.0, 100.0)
POSE = np.array([[1, 0, 0, 0], [0, 1, 0, -1], [0, 0, 1, 70]], np.float32)


@pytest.fixture(scope="module")
def region() -> DubRegion:
    return region_of(0.6)


def region_of(jaw: float) -> DubRegion:
    amounts = np.zeros((9, len(SHAPES)))
    amounts[:, SHAPES.index("jaw")] = np.linspace(0, jaw, 9)
    shape = face_shape(0)
    landmarks = shape.landmarks_cm(amounts, np.zeros((9, 2)), np.zeros((9, 2)))
    return DubRegion.of(landmarks[0], [landmarks[:, JAW_EDGE]])


def test_the_mask_moves_with_the_head_and_not_by_itself(region: DubRegion) -> None:
    """A part of the picture has the same mask as the whole; a head that moves by less than a pixel moves it by less."""
    part = Camera(200, 200, CAMERA.focal_px, CAMERA.center_x_px + 8, CAMERA.center_y_px)
    moved = POSE.copy()
    moved[0, 3] += 0.5 * 70 / CAMERA.focal_px
    for before, shifted, after in zip(
        region.masks(POSE, CAMERA), region.masks(POSE, part), region.masks(moved, CAMERA), strict=True
    ):
        assert np.array_equal(shifted[:, 8:], before[:, :-8])
        assert before.max() > 0.999
        assert before[0].max() == 0
        columns = np.arange(200)
        middle = [float((m.sum(axis=0) * columns).sum() / m.sum()) for m in (before, after)]
        assert middle[1] - middle[0] == pytest.approx(0.49, abs=0.1)
        assert np.abs(after[:, 1:] - (before[:, 1:] + before[:, :-1]) / 2).max() < 0.15


def test_the_edge_is_soft_and_lies_below_the_farthest_chin(region: DubRegion) -> None:
    may, must = region.masks(POSE, CAMERA)
    assert np.abs(np.diff(may, axis=0)).max() < 0.45
    assert np.abs(np.diff(may, axis=1)).max() < 0.45
    assert (must[may == 0] <= 1).all()
    assert may.sum() > (may * must).sum()
    lowest = [np.flatnonzero(region_of(jaw).masks(POSE, CAMERA)[0].any(axis=1)).max() for jaw in (0.0, 0.9)]
    assert lowest[1] > lowest[0] + 3


def test_the_box_holds_the_mask_at_every_pose(region: DubRegion) -> None:
    poses = np.stack([POSE, POSE + np.float32([[0, 0, 0, 3], [0, 0, 0, 2], [0, 0, 0, 5]])])
    left, top, right, bottom = region.box(poses, CAMERA)
    for pose in poses:
        rows, columns = np.nonzero(region.masks(pose, CAMERA)[0])
        assert left <= columns.min()
        assert columns.max() < right
        assert top <= rows.min()
        assert rows.max() < bottom
    away = POSE.copy()
    away[0, 3] = 100
    left, _, right, _ = region.box(away[None], CAMERA)
    assert right <= left


def test_light_is_matched_and_form_is_not() -> None:
    random = np.random.default_rng(0)
    own = random.integers(60, 180, (90, 110, 3)).astype(np.uint8)
    light = np.linspace(-12, 12, 110)[None, :, None] + np.array([5.0, 0, -5])
    lit = np.clip(np.rint(own + light), 0, 255).astype(np.uint8)
    assert np.abs(colour_match(lit, own, 6.0) - light)[10:-10, 10:-10].max() < 2
    formed = lit.copy()
    formed[40:46, 50:60] = 255  # such as a tooth that the avatar does not show
    assert np.abs(colour_match(formed, own, 6.0) - light)[10:-10, 10:-10].max() < 6


def test_blending_is_exact_at_both_ends() -> None:
    random = np.random.default_rng(1)
    original = random.integers(0, 256, (20, 30, 3)).astype(np.uint8)
    new = random.uniform(-20, 280, (20, 30, 3)).astype(np.float32)
    mask = np.zeros((20, 30), np.float32)
    mask[:, 10:20], mask[:, 20:] = 0.5, 1
    out = blended(original, new, mask)
    assert np.array_equal(out[:, :10], original[:, :10])
    assert np.array_equal(out[:, 20:], np.clip(np.rint(new[:, 20:]), 0, 255).astype(np.uint8))
    half = (original[:, 10:20] + np.clip(new[:, 10:20], 0, 255)) / 2
    assert np.abs(out[:, 10:20] - half).max() <= 0.51


def test_nothing_changes_where_both_mouths_look_alike() -> None:
    own = np.full((60, 60, 3), 120, np.uint8)
    new = own.copy()
    new[30, 30] = 160
    weight = changed(own, new, 4.0)
    assert weight[30, 30] == 1
    assert weight[30, 33] > 0.9
    assert (weight[:15] == 0).all()
    assert (weight[45:] == 0).all()
    assert (changed(own, own + np.uint8(1), 4.0) == 0).all()
