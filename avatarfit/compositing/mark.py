"""A visible mark that says what the picture is: a line of text in a corner, drawn once, laid over every frame."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from avatarfit.avatarfile.consent import is_printable_line
from avatarfit.contracts import InputError

if TYPE_CHECKING:
    from avatarfit.compositing.shot import Shot

_Drawn = tuple[slice, slice, np.ndarray, np.ndarray, np.ndarray, np.ndarray]

USUAL_TEXT = "AI-generated"
_LONGEST = 80
_MARGIN, _HEIGHT, _LEAST_PX = 0.05, 0.036, 9
"""Share of the picture outside EBU R 95's area for graphics, on each side; letters' size as a share of the shorter
side, and at least in pixels."""
_PLATE_ALPHA = 0.62
"""So dark is the plate behind the letters: over a white picture they have 6 times its luminance (WCAG 2.2, 1.4.3, wants
4.5 times, which takes 0.54)."""


class Mark:
    """White letters on a dark, clear plate in the upper left corner of the area that is safe for graphics.

    As a layer it changes `shot.rgba`, which also a key shows; `stamp` lays it over a finished picture of either kind.

    Args:
        text: a line of up to 80 letters.
        font: a TrueType or OpenType file for letters that the fonts here lack.

    Raises:
        InputError: no such line, letters that no font here has, or a file that is no font.
    """

    def __init__(self, text: str = USUAL_TEXT, font: str | Path | None = None) -> None:
        text = text.strip()
        if not 0 < len(text) <= _LONGEST or not is_printable_line(text):
            raise InputError(
                f"--mark came with {len(text)} letters" if text else "--mark came without letters",
                f"a line of 1 to {_LONGEST} printable letters", f'say such as "{USUAL_TEXT}"',
            )  # fmt: skip
        self.text = text
        self._font = _font_for(text, None if font is None else Path(font))
        self._drawn: _Drawn | None = None
        self._size = (0, 0)

    def apply(self, shot: Shot) -> None:
        """Lay the mark over the person."""
        self.stamp(shot.rgba)

    def stamp(self, picture: np.ndarray) -> None:
        """Lay the mark over uint8 [H, W, 3], or premultiplied float32 [H, W, 4], in place.

        Raises:
            InputError: the picture is too small for the text.
            ValueError: another kind of picture.
        """
        opaque = picture.dtype == np.uint8 and picture.shape[2:] == (3,)
        if picture.ndim != 3 or not (opaque or (picture.dtype == np.float32 and picture.shape[2] == 4)):
            raise ValueError(
                f"stamp came with {picture.dtype} {list(picture.shape)}; wanted uint8 [H, W, 3] or float32 [H, W, 4]"
            )
        rows, columns, mark, clear, whole_mark, whole_clear = self._ready(picture.shape[1], picture.shape[0])
        under = picture[rows, columns]
        if opaque:
            # In 256ths, and half of one more to round to nearest: 16 bits are enough, and no floats are needed.
            sums = under * whole_clear
            sums += whole_mark
            np.right_shift(sums, 8, out=sums)
            under[...] = sums
        else:
            under *= clear
            under += mark

    def patch(self, width_px: int, height_px: int) -> tuple[slice, slice, np.ndarray]:
        """Rows and columns of the mark in a picture of this size, and the mark: premultiplied float32 [h, w, 4].

        Raises:
            InputError: the picture is too small for the text.
        """
        return self._ready(width_px, height_px)[:3]

    def _ready(self, width_px: int, height_px: int) -> _Drawn:
        """As `patch`; what it leaves of the picture, as wide; and colours and that once more in 256ths, uint16."""
        if self._drawn is None or self._size != (width_px, height_px):
            rows, columns, mark = self._draw(width_px, height_px)
            clear = np.repeat(1 - mark[..., 3:], 4, axis=2)
            whole_clear = np.rint(256 * clear[..., :3]).astype(np.uint16)
            whole_mark = np.rint(255 * 256 * mark[..., :3] + 128).astype(np.uint16)
            self._drawn, self._size = (rows, columns, mark, clear, whole_mark, whole_clear), (width_px, height_px)
        return self._drawn

    def _draw(self, width_px: int, height_px: int) -> tuple[slice, slice, np.ndarray]:
        from PIL import Image, ImageDraw

        room = width_px * (1 - 2 * _MARGIN)
        size = max(round(_HEIGHT * min(width_px, height_px)), 12)
        while self._plate_width(size) > room and size > _LEAST_PX:
            size -= 1
        width, height = self._plate_width(size), round(1.7 * size)
        left, top = round(_MARGIN * width_px), round(_MARGIN * height_px)
        if width > room or top + height > height_px:
            raise InputError(
                f"the mark {self.text!r} does not fit into {width_px}x{height_px} pixels", "a shorter text",
                f'say such as "{USUAL_TEXT}", or choose a larger --size',
            )  # fmt: skip
        letters = Image.new("L", (width, height))
        ImageDraw.Draw(letters).text(
            (width / 2, height / 2), self.text, fill=255, font=self._font(size), anchor="mm", stroke_width=0
        )
        # Drawn four times as large, for PIL does not smooth the corners.
        plate = Image.new("L", (4 * width, 4 * height))
        ImageDraw.Draw(plate).rounded_rectangle((0, 0, 4 * width - 1, 4 * height - 1), radius=1.4 * size, fill=255)
        dark = _PLATE_ALPHA / 255 * np.asarray(plate.resize((width, height), Image.Resampling.BOX), np.float32)
        white = np.asarray(letters, np.float32) / 255
        mark = np.stack([white, white, white, white + (1 - white) * dark], axis=-1)
        return slice(top, top + height), slice(left, left + width), mark

    def _plate_width(self, size: int) -> int:
        return round(self._font(size).getlength(self.text) + 1.2 * size)


def _font_for(text: str, given: Path | None) -> Any:
    """A function from size to a font that has all the text's letters: the given one, PIL's own, or matplotlib's."""
    from PIL import ImageFont

    lacking = ""
    fonts = [_font_file(given)] if given is not None else [ImageFont.load_default, *_dejavu()]
    for font in fonts:
        none = bytes(font(32).getmask("\uffff"))
        lacking = "".join(c for c in dict.fromkeys(text) if not c.isspace() and bytes(font(32).getmask(c)) == none)
        if not lacking:
            return font
    raise InputError(
        f"the font for the mark has no {lacking[:10]}", "a font with all the letters",
        "give one with --mark-font FONT.ttf",
    )  # fmt: skip


def _font_file(path: Path) -> Any:
    from PIL import ImageFont

    def at(size: int) -> Any:
        try:
            return ImageFont.truetype(str(path), size)
        except OSError as error:
            raise InputError(
                f"--mark-font {path} is no font that can be read", "a TrueType or OpenType file", "check the name"
            ) from error

    return at


def _dejavu() -> list[Any]:
    """matplotlib's font, which has Greek and Cyrillic too, where that package is here."""
    from importlib.util import find_spec

    found = find_spec("matplotlib")
    if found is None or found.origin is None:
        return []
    path = Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
    return [_font_file(path)] if path.is_file() else []
