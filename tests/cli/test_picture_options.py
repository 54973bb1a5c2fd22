"""What a person types about the picture becomes settings, or one clear sentence."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from avatarfit.cli.picture_options import PictureChoice
from avatarfit.contracts import InputError


def test_what_is_typed_is_what_is_set() -> None:
    typed = PictureChoice(
        size="1920x1080", scale=0.8, position="0.25,-0.1", safe_area=0.9, fps="59.94", torso="source",
        torso_clip=Path("me.work/clip"), light_wrap=0.3, grain="match",
    )  # fmt: skip
    settings = typed.settings()
    framing = settings.framing
    assert (framing.width_px, framing.height_px, framing.scale) == (1920, 1080, 0.8)
    assert (framing.right, framing.down, framing.safe_area) == (0.25, -0.1, 0.9)
    assert settings.rate == Fraction(60000, 1001)
    assert (settings.torso, settings.grain, settings.light_wrap) == ("source", "match", 0.3)


@pytest.mark.parametrize(
    ("text", "rate"),
    [("23.976", Fraction(24000, 1001)), ("29.97", Fraction(30000, 1001)), ("50", Fraction(50)), ("60", Fraction(60))],
)
def test_rates_of_broadcast(text: str, rate: Fraction) -> None:
    assert PictureChoice(fps=text).settings().rate == rate


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (PictureChoice(size="large"), "--size came as 'large'; wanted WIDTHxHEIGHT"),
        (PictureChoice(size="8192x4320"), "the size 8192x4320 came"),
        (PictureChoice(position="left"), "--position came as 'left'"),
        (PictureChoice(fps="often"), "the frame rate 'often' came"),
        (PictureChoice(torso="mine"), "--torso came as 'mine'; wanted model, source or none"),
        (PictureChoice(torso="source"), "--torso source came without a clip"),
        (PictureChoice(torso_clip=Path("c")), "--torso-clip came without --torso source"),
        (PictureChoice(light_wrap=2.0), "--light-wrap came as 2; wanted 0 to 1"),
        (PictureChoice(grain="much"), "--grain came as 'much'"),
        (PictureChoice(grain="-1"), "--grain came as -1"),
    ],
)
def test_what_cannot_be_is_said(choice: PictureChoice, said: str) -> None:
    with pytest.raises(InputError, match=said):
        choice.settings()
