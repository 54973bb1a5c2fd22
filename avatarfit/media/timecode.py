"""Time code: a name for every frame, hours:minutes:seconds:frames, with dropped names where the rate asks for them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from avatarfit.contracts import InputError

_DROP_RATES = {Fraction(30000, 1001): 2, Fraction(60000, 1001): 4}
_FORM = re.compile(r"(\d\d):(\d\d):(\d\d)([:;.])(\d\d)")


@dataclass(frozen=True)
class Timecode:
    """The time code of one frame (SMPTE ST 12-1).

    Attributes:
        number: frames since 00:00:00:00 in this count, below 24 hours.
        rate: frames a second.
        drop_frame: whether the first two (of 60: four) frame names of every minute but each tenth are left out, so
            that the count keeps to the clock at 29.97 and 59.94 Hz.
    """

    number: int
    rate: Fraction
    drop_frame: bool = False

    @property
    def frames_a_second(self) -> int:
        """Names in a second: the rate rounded up."""
        return -(-self.rate.numerator // self.rate.denominator)

    @classmethod
    def parse(cls, text: str, rate: Fraction) -> Timecode:
        """From "10:00:00:00", or "10:00:00;00" for drop-frame.

        Raises:
            InputError: not of this form, a name that this count leaves out, or drop-frame at a rate that has none.
        """
        wanted = "hours:minutes:seconds:frames such as 10:00:00:00, with ; before the frames for drop-frame"
        found = _FORM.fullmatch(text.strip())
        if found is None:
            raise InputError(f"the time code {text!r} came", wanted, "write it so")
        hours, minutes, seconds, frames = (int(found[k]) for k in (1, 2, 3, 5))
        drop = found[4] != ":"
        names = cls(0, rate).frames_a_second
        if hours > 23 or minutes > 59 or seconds > 59 or frames >= names:
            raise InputError(
                f"the time code {text!r} names no frame at {float(rate):.6g} frames a second",
                f"at most 23:59:59 and frame {names - 1}", "give one that is there",
            )  # fmt: skip
        if drop and rate not in _DROP_RATES:
            raise InputError(
                f"the drop-frame time code {text!r} came with {float(rate):.6g} frames a second",
                "drop-frame only at 29.97 or 59.94", "write : before the frames",
            )  # fmt: skip
        dropped = _DROP_RATES[rate] if drop else 0
        if drop and seconds == 0 and frames < dropped and minutes % 10:
            raise InputError(
                f"the time code {text!r} is left out in drop-frame", f"frame {dropped:02d} first in this minute",
                f"give {hours:02d}:{minutes:02d}:00;{dropped:02d}",
            )  # fmt: skip
        whole = 60 * hours + minutes
        number = (60 * whole + seconds) * names + frames - dropped * (whole - whole // 10)
        return cls(number, rate, drop)

    def later(self, frames: int) -> Timecode:
        """The time code so many frames later; after 24 hours it begins again."""
        dropped = _DROP_RATES[self.rate] if self.drop_frame else 0
        day = 24 * 3600 * self.frames_a_second - dropped * (1440 - 144)
        return Timecode((self.number + frames) % day, self.rate, self.drop_frame)

    @property
    def fields(self) -> tuple[int, int, int, int]:
        """Hours, minutes, seconds and frames as they are written."""
        number, names = self.number, self.frames_a_second
        if self.drop_frame:
            dropped = _DROP_RATES[self.rate]
            minute = 60 * names - dropped
            tens, rest = divmod(number, 10 * minute + dropped)
            number += dropped * (9 * tens + max(rest - dropped, 0) // minute)
        seconds, frames = divmod(number, names)
        return seconds // 3600, seconds // 60 % 60, seconds % 60, frames

    def __str__(self) -> str:
        hours, minutes, seconds, frames = self.fields
        return f"{hours:02d}:{minutes:02d}:{seconds:02d}{';' if self.drop_frame else ':'}{frames:02d}"
