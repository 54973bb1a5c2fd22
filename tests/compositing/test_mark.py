from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from avatarfit.compositing.mark import USUAL_TEXT, Mark
from avatarfit.compositing.shot import Shot
from avatarfit.contracts import InputError

SIZES = [(256, 256), (1920, 1080), (1080, 1920), (97, 81)]


def luminance(picture: np.ndarray) -> np.ndarray:
    """WCAG 2.2's relative luminance of uint8 [H, W, 3]."""
    coded = picture / 255
    linear = np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)
    return np.asarray(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("level", [0, 128, 255])
@pytest.mark.parametrize("size", [(256, 256), (1920, 1080)])
def test_letters_are_legible_over_bright_and_dark(size: tuple[int, int], level: int) -> None:
    width, height = size
    picture = np.full((height, width, 3), level, np.uint8)
    mark = Mark()
    mark.stamp(picture)
    rows, columns, patch = mark.patch(width, height)
    letters = patch[..., 0] > 0.95
    plate = (patch[..., 0] == 0) & (patch[..., 3] > 0.6)
    assert letters.sum() > 30
    light = luminance(picture[rows, columns])
    assert (light[letters].mean() + 0.05) / (light[plate].mean() + 0.05) >= 4.5


@pytest.mark.parametrize("size", SIZES)
def test_it_lies_in_the_safe_area_and_touches_nothing_else(size: tuple[int, int]) -> None:
    width, height = size
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    before = picture.copy()
    mark = Mark()
    mark.stamp(picture)
    rows, columns, patch = mark.patch(width, height)
    assert patch.shape == (rows.stop - rows.start, columns.stop - columns.start, 4)
    assert rows.start >= round(0.05 * height)
    assert columns.start >= round(0.05 * width)
    assert rows.stop <= 0.96 * height
    assert columns.stop <= 0.96 * width
    assert (picture[rows, columns] != before[rows, columns]).any()
    picture[rows, columns] = before[rows, columns]
    np.testing.assert_array_equal(picture, before)


def test_it_grows_with_the_picture() -> None:
    mark = Mark()
    heights = [rows.stop - rows.start for rows, _, _ in (mark.patch(16 * k, 9 * k) for k in (60, 120, 240))]
    assert heights[1] == pytest.approx(2 * heights[0], rel=0.05)
    assert heights[2] == pytest.approx(4 * heights[0], rel=0.05)


def test_whole_numbers_and_floats_and_a_layer_agree() -> None:
    random = np.random.default_rng(1)
    behind = random.integers(0, 256, (128, 160, 3), np.uint8)
    rgba = np.zeros((128, 160, 4), np.float32)
    mark = Mark("KI-erzeugt: äöü")
    mark.apply(Shot(rgba, 0, 0.0))
    wanted = 255 * rgba[..., :3] + (1 - rgba[..., 3:]) * behind
    stamped = behind.copy()
    mark.stamp(stamped)
    # A half from rounding the result and a half from clearing in 256ths.
    assert np.abs(stamped - wanted).max() <= 1.01
    assert ((rgba[..., :3] <= rgba[..., 3:] + 1e-6) & (rgba[..., 3:] <= 1)).all()  # premultiplied


def test_texts_that_cannot_be_drawn_are_refused(tmp_path: Path) -> None:
    for text, said in (("", "without letters"), ("x" * 81, "81 letters"), ("a\x1b[2J", "printable")):
        with pytest.raises(InputError, match=said):
            Mark(text)
    with pytest.raises(InputError, match="--mark-font FONT"):
        Mark("\U00013000")  # a hieroglyph
    (tmp_path / "a.ttf").write_bytes(b"no font")
    with pytest.raises(InputError, match="is no font"):
        Mark(USUAL_TEXT, tmp_path / "a.ttf")
    with pytest.raises(InputError, match="does not fit into 64x64"):
        Mark("x" * 80).stamp(np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(ValueError, match="float64"):
        Mark().stamp(np.zeros((64, 64, 3)))
