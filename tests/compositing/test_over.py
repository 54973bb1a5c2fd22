"""Laws of "over", and backgrounds from what a person types."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from avatarfit.compositing import composite, key_and_fill, over, parse_background, to_straight_uint8, to_uint8
from avatarfit.contracts import InputError


def pictures(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    made = []
    for _ in range(count):
        rgba = rng.random((5, 7, 4), dtype=np.float32)
        rgba[..., :3] *= rgba[..., 3:]
        made.append(rgba)
    return made


def test_over_is_associative() -> None:
    a, b, c = pictures(3)
    np.testing.assert_allclose(over(over(a, b), c), over(a, over(b, c)), atol=1e-6)


def test_clear_is_neutral_and_opaque_hides() -> None:
    (a,) = pictures(1)
    clear = np.zeros_like(a)
    np.testing.assert_array_equal(over(clear, a), a)
    np.testing.assert_array_equal(over(a, clear), a)
    opaque = a.copy()
    opaque[..., 3] = 1
    np.testing.assert_array_equal(over(opaque, a), opaque)


def test_composite_is_over_an_opaque_picture() -> None:
    a, b = pictures(2)
    b[..., 3] = 1
    np.testing.assert_allclose(composite(a, b[..., :3]), over(a, b)[..., :3], atol=1e-6)


def test_composite_takes_bytes_and_one_colour() -> None:
    (a,) = pictures(1)
    white = np.full((5, 7, 3), 255, np.uint8)
    np.testing.assert_allclose(composite(a, white), a[..., :3] + 1 - a[..., 3:], atol=1e-6)
    np.testing.assert_array_equal(composite(a, np.ones(3)), composite(a, white))


def test_key_and_fill_rebuild_the_composite() -> None:
    (a,) = pictures(1)
    fill, key = key_and_fill(a)
    green = np.array([0, 255, 0])
    rebuilt = fill + (1 - key[..., None] / 255) * green
    np.testing.assert_allclose(rebuilt, composite(a, green / 255) * 255, atol=1.01)


def test_straight_alpha_divides_and_clear_pixels_are_black() -> None:
    rgba = np.array([[[0.25, 0.5, 0.0, 0.5], [0, 0, 0, 0]]], np.float32)
    np.testing.assert_array_equal(to_straight_uint8(rgba), [[[128, 255, 0, 128], [0, 0, 0, 0]]])


def test_bytes_round_and_clip() -> None:
    values = np.array([-0.5, 0.0, 0.499 / 255, 0.501 / 255, 1.0, 2.0])
    np.testing.assert_array_equal(to_uint8(values), [0, 0, 0, 1, 255, 255])


def test_backgrounds(tmp_path: Path) -> None:
    import cv2

    plate = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    np.testing.assert_array_equal(parse_background("clip").at(plate), plate)
    assert (parse_background("#102030").at(plate) == (16, 32, 48)).all()
    assert (parse_background("white").at(plate) == 255).all()
    cv2.imwrite(str(tmp_path / "b.png"), np.full((40, 20, 3), (30, 20, 10), np.uint8))
    picture = parse_background(str(tmp_path / "b.png")).at(plate)
    assert picture.shape == plate.shape
    assert (picture == (10, 20, 30)).all()


def test_a_background_that_is_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no colour and no file"):
        parse_background("greenish")
    (tmp_path / "b.png").write_text("no picture")
    with pytest.raises(InputError, match="not a picture"):
        parse_background(str(tmp_path / "b.png"))
