"""Frame rates as exact fractions: 29.97 is 30000/1001, and an hour of it ends where its sound ends."""

from __future__ import annotations

from fractions import Fraction

from avatarfit.contracts import InputError

_NTSC = tuple(Fraction(1000 * whole, 1001) for whole in (24, 30, 48, 60, 120))
_SLACK = Fraction(2, 1_000_000)
_SPOKEN_SLACK = Fraction(5, 1000)


def exact_rate(rate_hz: float | Fraction) -> Fraction:
    """The fraction that a float such as 29.97 or 23.976 stands for, in frames a second.

    Only what is within two millionths of a rate of the NTSC family (SMPTE ST 12-1) becomes that rate: taken for
    another, an hour of pictures and its sound would still be less than 8 ms apart.

    Raises:
        ValueError: not a positive number.
    """
    if not 0 < rate_hz < 1e6:
        raise ValueError(f"a frame rate came as {rate_hz} Hz; wanted a positive number")
    rate = Fraction(rate_hz)
    near = [ntsc for ntsc in _NTSC if abs(rate / ntsc - 1) <= _SLACK]
    return near[0] if near else rate.limit_denominator(1001)


def parse_rate(text: str) -> Fraction:
    """A frame rate that a person typed: "25", "29.97", "23.98" or "30000/1001".

    Raises:
        InputError: no rate from 1 to 120 Hz.
    """
    try:
        rate = Fraction(text.strip())
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not 1 <= rate <= 120:
        raise InputError(
            f"the frame rate {text!r} came", "a number of frames a second from 1 to 120, such as 25, 29.97 or 60",
            "give one of these",
        )  # fmt: skip
    near = [ntsc for ntsc in _NTSC if abs(rate - ntsc) <= _SPOKEN_SLACK]
    return near[0] if near and rate.denominator > 1 else exact_rate(rate)
