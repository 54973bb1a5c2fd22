"""Pictures with alpha over backgrounds: layers that a `Compositor` goes through, framing, and a clip's own torso."""

from avatarfit.compositing.backdrop import Backdrop, Still, VideoLoop
from avatarfit.compositing.background import Background, parse_background
from avatarfit.compositing.clean_edges import CleanEdges
from avatarfit.compositing.compositor import Compositor
from avatarfit.compositing.framing import Framing
from avatarfit.compositing.look import ColourMatch, Grain, LightWrap
from avatarfit.compositing.over import composite, key_and_fill, over, to_straight_uint8, to_uint8
from avatarfit.compositing.shot import Layer, Shot

__all__ = [
    "Backdrop",
    "Background",
    "CleanEdges",
    "ColourMatch",
    "Compositor",
    "Framing",
    "Grain",
    "Layer",
    "LightWrap",
    "Shot",
    "Still",
    "VideoLoop",
    "composite",
    "key_and_fill",
    "over",
    "parse_background",
    "to_straight_uint8",
    "to_uint8",
]
