"""Names of frames and exact rates: SMPTE ST 12-1's own numbers, and no drift within a day."""

from __future__ import annotations

from fractions import Fraction

import pytest

from avatarfit.contracts import InputError
from avatarfit.media import Timecode, exact_rate, parse_rate

DROP = (Fraction(30000, 1001), Fraction(60000, 1001))


@pytest.mark.parametrize(
    ("text", "frames", "then"),
    [("00:00:59;29", 1, "00:01:00;02"), ("00:09:59;29", 1, "00:10:00;00"), ("00:01:59;29", 1, "00:02:00;02"),
     ("23:59:59;29", 1, "00:00:00;00"), ("00:00:00;00", 17982, "00:10:00;00"), ("10:00:00:00", 30, "10:00:01:00")],
)  # fmt: skip
def test_counting_at_29_97(text: str, frames: int, then: str) -> None:
    assert str(Timecode.parse(text, DROP[0]).later(frames)) == then


def test_counting_at_59_94_leaves_out_four() -> None:
    assert str(Timecode.parse("00:00:59;59", DROP[1]).later(1)) == "00:01:00;04"
    assert str(Timecode.parse("00:09:59;59", DROP[1]).later(1)) == "00:10:00;00"


@pytest.mark.parametrize(("rate", "dropped"), [(DROP[0], 2), (DROP[1], 4)])
def test_drop_frame_keeps_to_the_clock(rate: Fraction, dropped: int) -> None:
    for number in range(0, 24 * 3600 * 29, 4999):
        code = Timecode(number, rate, True)
        assert Timecode.parse(str(code), rate) == code
        hours, minutes, seconds, frames = code.fields
        named = 3600 * hours + 60 * minutes + seconds + Fraction(frames, code.frames_a_second)
        # SMPTE ST 12-1 allows the count to be 75 ms behind after a day.
        assert abs(named - number / rate) < (dropped + 1) / rate + Fraction(number, 24 * 3600 * 29) * Fraction(9, 100)


@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(25), Fraction(50), Fraction(60)])
def test_every_name_once_without_drop_frame(rate: Fraction) -> None:
    names = {str(Timecode(number, rate)) for number in range(3000)}
    assert len(names) == 3000
    assert all(str(Timecode.parse(name, rate)) == name for name in names)


@pytest.mark.parametrize(
    ("text", "rate", "said"),
    [("10:00", DROP[0], "wanted hours:minutes:seconds:frames"), ("00:00:00:25", Fraction(25), "names no frame"),
     ("24:00:00:00", Fraction(25), "names no frame"), ("10:00:00;00", Fraction(24000, 1001), "drop-frame only at"),
     ("00:01:00;01", DROP[0], "give 00:01:00;02")],
)  # fmt: skip
def test_refusals(text: str, rate: Fraction, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Timecode.parse(text, rate)


@pytest.mark.parametrize(
    ("text", "rate"),
    [("23.976", Fraction(24000, 1001)), ("23.98", Fraction(24000, 1001)), ("24", Fraction(24)), ("25", Fraction(25)),
     ("29.97", DROP[0]), ("30", Fraction(30)), ("50", Fraction(50)), ("59.94", DROP[1]), ("60", Fraction(60)),
     ("30000/1001", DROP[0])],
)  # fmt: skip
def test_rates_as_people_type_them(text: str, rate: Fraction) -> None:
    assert parse_rate(text) == rate
    assert exact_rate(float(rate)) == rate


def test_only_what_is_as_good_as_a_broadcast_rate_becomes_one() -> None:
    assert exact_rate(29.97) == DROP[0]
    assert exact_rate(29.98) == Fraction(1499, 50)
    # What is taken for another rate costs less than half a frame in an hour.
    for rate in (23.976, 29.97, 59.94):
        assert abs(3600 * Fraction(rate) / exact_rate(rate) - 3600) < Fraction(1, 120)


@pytest.mark.parametrize("text", ["0", "-25", "fast", "1/0", "1000"])
def test_no_rate(text: str) -> None:
    with pytest.raises(InputError, match="frame rate"):
        parse_rate(text)
