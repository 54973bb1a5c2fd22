"""A framing is a camera: what it shows lies where it says."""

from __future__ import annotations

import numpy as np
import pytest

from avatarfit.compositing.framing import Framing, beyond_clip, kept_safe, placed, placement
from avatarfit.contracts import Camera, InputError

OWN = Camera(256, 256, 600.0, 128.0, 120.0)


def test_the_avatars_own_size_is_its_own_camera() -> None:
    assert Framing().camera(OWN) == OWN
    assert Framing(256, 256).camera(OWN) is OWN


def test_the_clip_fills_the_height_and_stands_in_the_middle() -> None:
    camera = Framing(1920, 1080).camera(OWN)
    matrix = placement(OWN, camera)
    np.testing.assert_allclose(matrix @ [128, 0, 1], [960, 0], atol=1e-9)
    np.testing.assert_allclose(matrix @ [128, 256, 1], [960, 1080], atol=1e-9)
    past = beyond_clip(OWN, camera)
    assert past.keys() == {"left", "right"}
    assert past["left"] == pytest.approx((1920 - 1080) / 2 / 1920)


def test_scale_and_position() -> None:
    small = placement(OWN, Framing(512, 512, scale=0.5, right=0.25, down=-0.1).camera(OWN))
    np.testing.assert_allclose(small @ [128, 256, 1], [256 + 128, 512 - 51.2])  # stands on the lower border
    large = placement(OWN, Framing(512, 512, scale=2.0).camera(OWN))
    np.testing.assert_allclose(large @ [128, 0.4 * 256, 1], [256, 0.4 * 512])  # eyes stay


def test_points_and_plate_go_the_same_way() -> None:
    """A bright spot of the plate is found where the camera projects the point that made it."""
    point = np.array([[3.0, -2.0, 80.0]])
    u, v = OWN.project(point)[0]
    plate = np.zeros((256, 256, 3), np.uint8)
    y, x = np.mgrid[:256, :256] + 0.5
    plate[...] = (255 * np.exp(-((x - u) ** 2 + (y - v) ** 2) / 50))[..., None]
    for framing in (Framing(640, 360), Framing(360, 640, scale=1.3, right=0.1), Framing(128, 128, scale=0.8)):
        camera = framing.camera(OWN)
        seen = placed(plate, OWN, camera)[..., 0].astype(float)
        assert seen.shape == (camera.height_px, camera.width_px)
        rows, columns = np.mgrid[: seen.shape[0], : seen.shape[1]] + 0.5
        # Beyond the clip's border the spot comes again, mirrored.
        away = np.hypot(*(np.stack([columns, rows]) - camera.project(point)[0][:, None, None]))
        seen[(seen < 60) | (away > 60)] = 0
        found = np.array([(columns * seen).sum(), (rows * seen).sum()]) / seen.sum()
        np.testing.assert_allclose(found, camera.project(point)[0], atol=0.2)


def test_the_head_is_kept_in_the_safe_area() -> None:
    camera = Framing(1000, 500).camera(OWN)
    same, changed = kept_safe(camera, (300, 50, 600, 400), 0.9)
    assert same is camera
    assert not changed
    moved, changed = kept_safe(camera, (-100, 50, 200, 400), 0.9)
    assert changed
    assert moved.focal_px == camera.focal_px
    assert moved.center_x_px - camera.center_x_px == pytest.approx(150)
    smaller, _ = kept_safe(camera, (300, -100, 600, 500), 0.9)
    assert smaller.focal_px == pytest.approx(0.75 * camera.focal_px)
    top = 25 + (smaller.center_y_px - 25) - 0.75 * (camera.center_y_px + 100)
    assert top == pytest.approx(25)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"width_px": 10_000, "height_px": 10}, "the size 10000x10 came"),
        ({"width_px": 4096, "height_px": 4096}, "no more pixels than 4096x2160"),
        ({"width_px": 640}, "only one of width and height"),
        ({"scale": 0.0}, "--scale came as 0"),
        ({"down": 3.0}, "--position came with 3 down"),
        ({"safe_area": 0.1}, "--safe-area came as 0.1"),
    ],
)
def test_framings_that_cannot_be(given: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Framing(**given)


def test_four_k_is_allowed_both_ways() -> None:
    for size in ((4096, 2160), (2160, 3840), (3840, 2160)):
        camera = Framing(*size).camera(OWN)
        assert (camera.width_px, camera.height_px) == size
