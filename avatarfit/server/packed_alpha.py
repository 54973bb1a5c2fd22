"""Alpha for coders that have none: a picture's colours above its matte, in one opaque picture of twice the height.

Colours stay premultiplied, so that no coder sees an edge that the picture does not have. The matte's first row lies at
a multiple of 16, where VP8 and H.264 begin a macroblock: no block mixes colours with matte.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

_BLOCK_PX = 16
_MATTE_LUMA = np.rint(16 + np.arange(256) * (219 / 255)).astype(np.uint8)
_GREY = 128


@dataclass(frozen=True)
class PackedLayout:
    """Where a picture lies in what is coded.

    Attributes:
        width_px, height_px: of the picture.
        alpha: whether its matte lies below it.
    """

    width_px: int
    height_px: int
    alpha: bool

    @property
    def coded_width_px(self) -> int:
        """The picture's, made even for 4:2:0."""
        return self.width_px + self.width_px % 2

    @property
    def matte_row_px(self) -> int:
        """First row of the matte, or, without one, past the end."""
        return -(-self.height_px // _BLOCK_PX) * _BLOCK_PX if self.alpha else self.height_px + self.height_px % 2

    @property
    def coded_height_px(self) -> int:
        """Of colours and matte together."""
        return self.matte_row_px * (1 + self.alpha)


def pack_i420(picture: np.ndarray, layout: PackedLayout) -> np.ndarray:
    """A picture as coders take it, by ITU-R BT.601 in its narrow range, as browsers read VP8.

    Args:
        picture: uint8 [H, W, 3], or [H, W, 4] premultiplied. Without alpha it has the matte 255; where the layout has
            no alpha, what is transparent is black.
        layout: of pictures of this size.

    Returns:
        uint8 [3 h / 2, w], the planes of 4:2:0 one after the other, for the coded size w, h.

    Raises:
        ValueError: the picture has another size.
    """
    if picture.shape[:2] != (layout.height_px, layout.width_px):
        raise ValueError(f"a picture of {picture.shape[:2]} came for {layout}")
    rows, columns = layout.matte_row_px, layout.coded_width_px
    below, right = rows - layout.height_px, columns - layout.width_px
    if below or right:
        # The edge goes on: a black border would ring into the picture.
        picture = cv2.copyMakeBorder(picture, 0, below, 0, right, cv2.BORDER_REPLICATE)
    has_matte = picture.shape[2] == 4
    colours = cv2.cvtColor(picture, cv2.COLOR_RGBA2YUV_I420 if has_matte else cv2.COLOR_RGB2YUV_I420)
    if not layout.alpha:
        return colours
    out = np.full((3 * rows, columns), _GREY, np.uint8)
    luma = rows * columns
    chroma = luma // 4
    flat, given = out.reshape(-1), colours.reshape(-1)
    flat[:luma] = given[:luma]
    matte = flat[luma : 2 * luma].reshape(rows, columns)
    if has_matte:
        cv2.LUT(cv2.extractChannel(picture, 3), _MATTE_LUMA, dst=matte)
    else:
        matte[:] = _MATTE_LUMA[255]
    flat[2 * luma : 2 * luma + chroma] = given[luma : luma + chroma]
    flat[2 * luma + 2 * chroma : 2 * luma + 3 * chroma] = given[luma + chroma :]
    return out


def unpack(coded: np.ndarray, layout: PackedLayout) -> np.ndarray:
    """What was packed, for clients in Python; pages do the same in a shader.

    Args:
        coded: uint8 [h, w, 3], RGB of the coded size.

    Returns:
        uint8 [H, W, 4], premultiplied, or [H, W, 3] where the layout has no alpha.

    Raises:
        ValueError: another size.
    """
    if coded.shape != (layout.coded_height_px, layout.coded_width_px, 3):
        raise ValueError(f"a coded picture of {coded.shape} came for {layout}")
    colours = coded[: layout.height_px, : layout.width_px]
    if not layout.alpha:
        return colours
    # Grey has three equal channels but for the coder's noise; green weighs most in luma.
    matte = coded[layout.matte_row_px : layout.matte_row_px + layout.height_px, : layout.width_px, 1]
    return np.dstack([np.minimum(colours, matte[..., None]), matte])
