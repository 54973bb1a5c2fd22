"""Pictures with alpha over backgrounds."""

from avatarfit.compositing.background import Background, parse_background
from avatarfit.compositing.over import composite, key_and_fill, over, to_straight_uint8, to_uint8

__all__ = [
    "Background",
    "composite",
    "key_and_fill",
    "over",
    "parse_background",
    "to_straight_uint8",
    "to_uint8",
]
