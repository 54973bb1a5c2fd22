from __future__ import annotations

import numpy as np
import pytest

from avatarfit.capture.plate import PlateBuilder


def test_seen_pixels_get_the_exact_median_of_the_pictures_that_show_them() -> None:
    rng = np.random.default_rng(0)
    height, width = 40, 64
    pictures = rng.integers(0, 256, (9, height, width, 3)).astype(np.uint8)
    builder = PlateBuilder(height, width)
    for k, picture in enumerate(pictures):
        person = np.zeros((height, width), np.uint8)
        if k < 4:
            person[:, :20] = 255  # five pictures show the left, nine the right
        builder.add(picture, person)
    plate, seen = builder.finish()
    assert seen.all()
    np.testing.assert_array_equal(plate[:, :16], np.sort(pictures[4:, :, :16], axis=0)[2])
    np.testing.assert_array_equal(plate[:, 30:], np.sort(pictures[:, :, 30:], axis=0)[4])


def test_what_is_never_seen_is_painted_in_and_said_so() -> None:
    height, width = 80, 120
    wall = np.full((height, width, 3), (30, 120, 200), np.uint8)
    person = np.zeros((height, width), np.uint8)
    person[20:, 40:80] = 255
    builder = PlateBuilder(height, width)
    for _ in range(5):
        shown = wall.copy()
        shown[person > 0] = 255
        builder.add(shown, person)
    plate, seen = builder.finish()
    assert not seen[25:, 45:75].any()
    assert seen[:15].all()
    assert seen[:, :35].all()
    assert seen[:, 85:].all()
    assert np.abs(plate.astype(int) - wall).max() <= 3


def test_memory_bounds_the_number_of_pictures() -> None:
    assert PlateBuilder(256, 256).capacity == 61
    assert 7 <= PlateBuilder(2160, 3840).capacity < 15


def test_an_empty_plate_is_an_error() -> None:
    with pytest.raises(ValueError, match="no picture"):
        PlateBuilder(8, 8).finish()
