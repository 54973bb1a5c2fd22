"""What a video stream's first pictures say about all of it: size, orientation, pixel shape, fields, dynamic range."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from typing import TYPE_CHECKING

from avatarfit.media._upright import Orientation
from avatarfit.media.tone_map import DynamicRange, Primaries

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

_LOOKED_AT = 4
# AVColorTransferCharacteristic and AVColorPrimaries (ITU-T H.273, tables 2 and 3).
_TRANSFERS: dict[int, DynamicRange] = {16: "pq", 18: "hlg"}
_PRIMARIES: dict[int, Primaries] = {9: "bt2020", 12: "display_p3"}


@dataclass(frozen=True)
class Outline:
    """Attributes:
    stored_width_px, stored_height_px: size as coded.
    pixel_aspect: width of a stored pixel over its height.
    orientation: how pictures are turned.
    interlaced: pictures are made of two fields.
    dynamic_range, primaries: the colours' coding; anything that is not named is BT.709.
    origin: time stamp of the first picture, None where the container stores no times.
    """

    stored_width_px: int
    stored_height_px: int
    pixel_aspect: Fraction
    orientation: Orientation
    interlaced: bool
    dynamic_range: DynamicRange
    primaries: Primaries
    origin: int | None

    @property
    def square_size(self) -> tuple[int, int]:
        """(width, height) with square pixels, not yet turned; the lines stay, as players have it."""
        return max(1, round(self.stored_width_px * self.pixel_aspect)), self.stored_height_px

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the upright picture with square pixels."""
        return self.orientation.size(*self.square_size)


def outline_of(container: InputContainer, stream: VideoStream) -> Outline | None:
    """The stream's outline, None where no picture can be decoded; the stream is left a few pictures on."""
    frames = list(islice(container.decode(stream), _LOOKED_AT))
    if not frames:
        return None
    first = frames[0]
    transfer = _TRANSFERS.get(int(first.color_trc), "sdr")
    aspect = stream.sample_aspect_ratio
    return Outline(
        first.width,
        first.height,
        Fraction(aspect) if aspect and Fraction(1, 8) < aspect < 8 else Fraction(1),
        Orientation.of(first),
        any(f.interlaced_frame for f in frames),
        transfer,
        _PRIMARIES.get(int(first.color_primaries), "bt709" if transfer == "sdr" else "bt2020"),
        first.pts if stream.time_base is not None else None,
    )
