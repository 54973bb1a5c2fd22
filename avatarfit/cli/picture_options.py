"""Options of the command line for what the picture shows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from avatarfit.cli.types import MaybeFloat, MaybePath, MaybeText

if TYPE_CHECKING:
    from avatarfit.pipeline.picture import PictureSettings


@dataclass(frozen=True)
class PictureChoice:
    """The picture: its size and rate, the torso, what stands behind, and how the person is fitted into it."""

    size: Annotated[str | None, tyro.conf.arg(metavar="WIDTHxHEIGHT")] = None
    """Such as 1920x1080; up to 4096x2160, any aspect. The person is drawn at this size, as high as in the clip."""
    scale: float = 1.0
    """How large the person is: 1 as in the clip, 0.1 to 10."""
    position: Annotated[str, tyro.conf.arg(metavar="RIGHT,DOWN")] = "0,0"
    """How far the person is moved, in widths and heights of the picture, such as 0.25,0 or -0.1,0.05."""
    safe_area: MaybeFloat = None
    """Keep the head within this share of the picture's middle, such as 0.9, whatever scale and position say."""
    fps: MaybeText = None
    """Frames a second, such as 23.976, 25, 29.97, 50, 59.94 or 60; the avatar's own if not given."""
    background: str = "clip"
    """clip, none (transparent), a colour such as green or "#00b140", a picture file, or a video, which is looped."""
    clean_edges: float = 1.0
    """How much of the clip's background is taken out of the outline over another one, 0 to 1."""
    torso: Annotated[str, tyro.conf.arg(metavar="model|source|none")] = "model"
    """model: as it was fitted; source: the clip's own frames under the head; none: head and neck alone."""
    torso_clip: MaybePath = None
    """The clip folder for --torso source, such as me.work/clip."""
    match_colour: float = 0.0
    """Bring the person's colours towards the background's, 0 to 1; 0.2 to 0.4 look natural."""
    light_wrap: float = 0.0
    """Let the background's light fall over the outline, 0 to 1; 0.2 to 0.5 look natural."""
    grain: Annotated[str, tyro.conf.arg(metavar="LEVELS|match")] = "0"
    """Noise over the person, in 8-bit levels, or match for the background's own."""

    def settings(self) -> PictureSettings:
        """As the library takes them.

        Raises:
            InputError: one of them cannot be used.
        """
        from avatarfit.compositing.framing import Framing
        from avatarfit.media.frame_rate import parse_rate
        from avatarfit.pipeline.picture import PictureSettings

        width, height = (None, None) if self.size is None else _size(self.size)
        right, down = _position(self.position)
        return PictureSettings(
            Framing(width, height, self.scale, right, down, self.safe_area),
            None if self.fps is None else parse_rate(self.fps),
            self.torso, self.torso_clip, self.clean_edges, self.match_colour, self.light_wrap,
            "match" if self.grain == "match" else _grain(self.grain),
        )  # fmt: skip


def _size(text: str) -> tuple[int, int]:
    from avatarfit.contracts import InputError

    found = re.fullmatch(r"(\d{1,6})[xX*](\d{1,6})", text.strip())
    if found is None:
        raise InputError(f"--size came as {text!r}", "WIDTHxHEIGHT in pixels", "give such as 1920x1080")
    return int(found[1]), int(found[2])


def _position(text: str) -> tuple[float, float]:
    from avatarfit.contracts import InputError

    try:
        right, down = (float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(
            f"--position came as {text!r}", "two numbers, to the right and down, in sizes of the picture",
            "give such as 0.25,0",
        ) from error  # fmt: skip
    return right, down


def _grain(text: str) -> float:
    from avatarfit.contracts import InputError

    try:
        return float(text)
    except ValueError as error:
        raise InputError(
            f"--grain came as {text!r}", "a number of 8-bit levels, or match", "give such as 1.5"
        ) from error
