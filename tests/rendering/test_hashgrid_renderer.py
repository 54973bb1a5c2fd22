"""The head that a field draws lies over the Gaussians, at any size, on any backend, and nothing of it is left out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from avatarfit.compositing import composite, over, to_uint8
from avatarfit.contracts import BackendError, Camera, Motion
from avatarfit.model.avatar import Avatar
from avatarfit.rendering.gaussian_renderer import GaussianRenderer
from avatarfit.rendering.hashgrid_renderer import HashgridRenderer
from avatarfit.rendering.renderer import renderer_of
from avatarfit.rendering.seen_pixels import occupied_blocks, seen_pixels

FRAMES = (0, 40, 77)


@pytest.fixture(scope="module")
def motion(someone) -> Motion:
    return someone.motion[:100]


def field_alone(avatar: Avatar, motion: Motion, frame: int, camera: Camera) -> np.ndarray:
    """What the field says of every pixel, float32 [H, W, 4]."""
    field = avatar.field
    state = field.frame_state(field.conditions(motion)[frame])
    return field.draw(camera, torch.from_numpy(motion.head.matrices()[frame]), state).numpy()


def test_the_head_lies_over_the_gaussians(hashgrid_avatar: Avatar, motion: Motion) -> None:
    camera = hashgrid_avatar.camera
    renderer = renderer_of(hashgrid_avatar, camera)
    assert isinstance(renderer, HashgridRenderer)
    behind = GaussianRenderer(hashgrid_avatar.gaussians, camera)
    for frame in FRAMES:
        front, back = field_alone(hashgrid_avatar, motion, frame, camera), behind.render(motion, frame)
        assert 0.1 < (front[:, :, 3] > 0.9).mean() < 0.8, "the scene is no test"
        assert (back[:, :, 3] * front[:, :, 3]).max() > 0.5
        np.testing.assert_allclose(renderer.render(motion, frame), over(front, back), atol=1e-5)


def test_over_a_background_it_is_the_picture_composited(hashgrid_avatar: Avatar, motion: Motion) -> None:
    renderer = renderer_of(hashgrid_avatar, hashgrid_avatar.camera)
    for frame in FRAMES:
        shown = renderer.render_over(motion, frame, hashgrid_avatar.plate)
        wanted = to_uint8(composite(renderer.render(motion, frame), hashgrid_avatar.plate))
        assert shown.dtype == np.uint8
        # What lies behind the field is a display's steps already when the field is laid over it.
        assert np.abs(shown.astype(int) - wanted).max() <= 1


def test_the_reference_gives_the_same_picture(hashgrid_avatar: Avatar, motion: Motion) -> None:
    kernels, reference = (renderer_of(hashgrid_avatar, hashgrid_avatar.camera, b) for b in ("cpu", "reference"))
    assert (kernels.backend, reference.backend) == ("cpu", "reference")
    for frame in FRAMES:
        difference = np.abs(kernels.render(motion, frame) - reference.render(motion, frame))
        # The Gaussians' kernels cut splats off at 1/255; everything else agrees to rounding.
        assert difference.max() < 8e-3
        assert difference.mean() < 1e-4


def test_a_larger_picture_shows_the_same_person(hashgrid_avatar: Avatar, motion: Motion) -> None:
    camera = hashgrid_avatar.camera
    small = renderer_of(hashgrid_avatar, camera).render(motion, 3)
    large = renderer_of(hashgrid_avatar, camera.resized(4 * camera.width_px, 4 * camera.height_px)).render(motion, 3)
    assert large.shape == (4 * camera.height_px, 4 * camera.width_px, 4)
    averaged = large.reshape(camera.height_px, 4, camera.width_px, 4, 4).mean(axis=(1, 3))
    head = field_alone(hashgrid_avatar, motion, 3, camera)[:, :, 3] > 0.99
    assert np.abs(averaged - small)[head].mean() < 0.02


def test_motion_is_prepared_once_and_told_apart(hashgrid_avatar: Avatar, motion: Motion) -> None:
    renderer = renderer_of(hashgrid_avatar, hashgrid_avatar.camera)
    first = renderer.render(motion, 5)
    other = renderer.render(motion[50:], 5)
    np.testing.assert_array_equal(other, renderer_of(hashgrid_avatar, hashgrid_avatar.camera).render(motion, 55))
    np.testing.assert_array_equal(renderer.render(motion, 5), first)
    assert np.abs(first - other).max() > 0.05


def test_an_empty_field_draws_nothing(hashgrid_avatar: Avatar, motion: Motion) -> None:
    from copy import deepcopy

    field = deepcopy(hashgrid_avatar.field)
    field.occupancy.zero_()
    camera = hashgrid_avatar.camera
    empty = HashgridRenderer(field, hashgrid_avatar.gaussians, camera)
    behind = GaussianRenderer(hashgrid_avatar.gaussians, camera)
    np.testing.assert_array_equal(empty.render(motion, 0), behind.render(motion, 0))


def test_a_gaussian_avatar_is_drawn_by_its_gaussians(hashgrid_avatar: Avatar) -> None:
    gaussian = replace(hashgrid_avatar, field=None)
    assert isinstance(renderer_of(gaussian, gaussian.camera), GaussianRenderer)


def test_a_backend_that_is_not_there_is_refused(hashgrid_avatar: Avatar) -> None:
    with pytest.raises(BackendError, match="backend 'tpu' is unknown; wanted one of"):
        renderer_of(hashgrid_avatar, hashgrid_avatar.camera, "tpu")


def test_every_ray_that_meets_an_occupied_block_is_looked_through() -> None:
    random = np.random.default_rng(0)
    box = (-8.0, -8.0, -8.0, 8.0, 8.0, 8.0)
    occupancy = torch.zeros(32**3 // 8, dtype=torch.uint8)
    occupancy[random.integers(0, len(occupancy), 12)] = 1
    blocks = occupied_blocks(box, occupancy)
    assert len(blocks) == 12
    np.testing.assert_allclose(blocks[:, 1] - blocks[:, 0], 1.0)
    camera = Camera(50, 40, 120.0, 25.0, 20.0)
    for distance in (60.0, 15.0, 3.0):
        head = np.array([[0.8, 0, 0.6, 1], [0, 1, 0, -2], [-0.6, 0, 0.8, distance]])
        chosen = set(map(tuple, seen_pixels(blocks, camera, head)))
        rows, columns = (v.ravel() for v in np.mgrid[:40, :50])
        directions = np.stack([(columns + 0.5 - 25) / 120, (rows + 0.5 - 20) / 120, np.ones(2000)], 1) @ head[:, :3]
        origin = -head[:, 3] @ head[:, :3]
        with np.errstate(divide="ignore"):
            ends = (blocks[:, :, None] - origin) / directions  # [B, 2, pixels, 3]
        near, far = ends.min(axis=1).max(axis=2), ends.max(axis=1).min(axis=2)
        meets = ((near < far) & (far > 0)).any(axis=0)
        missed = set(zip(columns[meets], rows[meets], strict=True)) - chosen
        assert not missed
        if distance == 60:
            assert 0 < meets.sum() < len(chosen) < 0.6 * 2000


def test_a_block_holds_the_cells_it_stands_for() -> None:
    from avatarfit.ops.march import morton_cell

    for side, width in ((4, 1 / 4), (16, 1 / 16), (64, 1 / 16)):
        for cell in (0, 37, side**3 * 5 // 7, side**3 - 1):
            occupancy = torch.zeros(side**3 // 8, dtype=torch.uint8)
            occupancy[cell // 8] = 1 << cell % 8
            middle = (morton_cell(torch.tensor([cell]))[0].numpy() + 0.5) / side
            (block,) = occupied_blocks((0.0, 0.0, 0.0, 1.0, 1.0, 1.0), occupancy)
            np.testing.assert_allclose(block[1] - block[0], width)
            assert ((block[0] < middle) & (middle < block[1])).all()
