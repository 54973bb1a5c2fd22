"""Colours above their matte: what is unpacked is what was packed, for every size."""

from __future__ import annotations

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatarfit.server.packed_alpha import PackedLayout, pack_i420, unpack


def smooth(height: int, width: int, channels: int) -> np.ndarray:
    """A picture that survives 4:2:0: uint8 [H, W, C], its last channel no less than the others."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    waves = [0.5 + 0.4 * np.sin(3 * x + 2 * y * channel + channel) for channel in range(channels)]
    picture = np.stack(waves, axis=2)
    picture[..., :-1] *= picture[..., -1:]
    return np.asarray(np.rint(255 * picture), np.uint8)


def as_rgb(planes: np.ndarray) -> np.ndarray:
    return av.VideoFrame.from_ndarray(planes, format="yuv420p").to_ndarray(format="rgb24")


@given(st.integers(2, 70), st.integers(2, 70), st.booleans())
def test_layouts_are_even_and_hold_the_picture(width: int, height: int, alpha: bool) -> None:
    layout = PackedLayout(width, height, alpha)
    assert layout.coded_width_px % 2 == layout.coded_height_px % 2 == layout.matte_row_px % 2 == 0
    assert 0 <= layout.coded_width_px - width <= 1
    assert layout.matte_row_px >= height
    if alpha:
        assert layout.matte_row_px % 16 == 0
        assert layout.coded_height_px - layout.matte_row_px >= height
    else:
        assert layout.coded_height_px - height <= 1


@pytest.mark.parametrize(("height", "width"), [(64, 48), (33, 47), (50, 31), (31, 80)])
def test_what_is_unpacked_was_packed(height: int, width: int) -> None:
    picture = smooth(height, width, 4)
    layout = PackedLayout(width, height, True)
    back = unpack(as_rgb(pack_i420(picture, layout)), layout)
    assert back.shape == picture.shape
    # The matte passes through luma alone: rounding to 219 steps and back.
    assert np.abs(back[..., 3].astype(int) - picture[..., 3]).max() <= 1
    assert np.abs(back[..., :3].astype(int) - picture[..., :3]).mean() < 3
    assert (back[..., :3] <= back[..., 3:]).all()


def test_hard_mattes_stay_hard() -> None:
    picture = np.zeros((32, 32, 4), np.uint8)
    picture[8:24, 8:24] = 255
    layout = PackedLayout(32, 32, True)
    back = unpack(as_rgb(pack_i420(picture, layout)), layout)
    np.testing.assert_array_equal(back[..., 3], picture[..., 3])


def test_a_picture_without_alpha_has_a_full_matte() -> None:
    layout = PackedLayout(20, 20, True)
    assert (unpack(as_rgb(pack_i420(smooth(20, 20, 3), layout)), layout)[..., 3] == 255).all()


@pytest.mark.parametrize("channels", [3, 4])
def test_without_alpha_only_colours_are_coded(channels: int) -> None:
    picture = smooth(33, 48, channels)
    layout = PackedLayout(48, 33, False)
    planes = pack_i420(picture, layout)
    assert planes.shape == (34 * 3 // 2, 48)
    back = unpack(as_rgb(planes), layout)
    assert np.abs(back.astype(int) - picture[..., :3]).mean() < 3


def test_colours_are_those_that_browsers_read() -> None:
    """VP8's 4:2:0 is BT.601 in its narrow range (RFC 6386, section 9.2): red has luma 81."""
    red = np.full((16, 16, 3), (255, 0, 0), np.uint8)
    planes = pack_i420(red, PackedLayout(16, 16, False)).reshape(-1)
    assert abs(int(planes[0]) - 81) <= 1
    assert abs(int(planes[256]) - 90) <= 1
    assert abs(int(planes[-1]) - 240) <= 1


def test_other_sizes_are_refused() -> None:
    layout = PackedLayout(20, 20, True)
    with pytest.raises(ValueError, match="came for"):
        pack_i420(np.zeros((20, 21, 4), np.uint8), layout)
    with pytest.raises(ValueError, match="came for"):
        unpack(np.zeros((20, 20, 3), np.uint8), layout)
