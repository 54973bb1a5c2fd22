"""What stands behind the person: the clip's own background, one colour, a picture, a video, or nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avatarfit.contracts import InputError
from avatarfit.media import probe

NAMED_COLOURS = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "grey": (128, 128, 128),
    "gray": (128, 128, 128),
    "green": (0, 177, 64),
    "blue": (0, 71, 187),
}
"""Green and blue are the usual chroma-key cloths."""

_WANTED = "clip, none, a colour such as green or #00b140, a picture or a video file"


@dataclass(frozen=True)
class Background:
    """A background that is made to fit any size.

    Attributes:
        rgb: uint8 [H, W, 3] picture or [3] colour; None stands for the clip's own background.
        video: a video file instead.
        nothing: whether the picture stays transparent.
        name: what a person called it.
    """

    rgb: np.ndarray | None = None
    video: Path | None = None
    nothing: bool = False
    name: str = "clip"

    @property
    def is_clips_own(self) -> bool:
        """Whether the background of the clip is meant that the person was filmed before."""
        return self.rgb is None and self.video is None and not self.nothing

    def at(self, plate: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] of the plate's size; a picture is scaled to cover it and cut in the middle."""
        if self.rgb is None:
            return plate
        height, width = plate.shape[:2]
        if self.rgb.ndim == 1:
            return np.tile(self.rgb, (height, width, 1))
        import cv2

        scale = max(height / self.rgb.shape[0], width / self.rgb.shape[1])
        size = (max(width, round(self.rgb.shape[1] * scale)), max(height, round(self.rgb.shape[0] * scale)))
        scaled = cv2.resize(self.rgb, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
        top, left = (size[1] - height) // 2, (size[0] - width) // 2
        return np.ascontiguousarray(scaled[top : top + height, left : left + width])


def parse_background(text: str) -> Background:
    """A background from what a person typed: "clip", "none", a colour's name, "#rrggbb", or a file's path.

    Raises:
        InputError: none of these, or the picture cannot be read.
    """
    plain = plain_background(text)
    if plain is not None:
        return plain
    path = Path(text)
    if not path.is_file():
        raise InputError(f"the background {text!r} is no colour and no file", _WANTED, "check the spelling")
    import cv2

    bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if bgr is not None:
        return Background(np.ascontiguousarray(bgr[:, :, ::-1]), name=text)
    try:
        probe(path)
    except InputError as error:
        raise InputError(
            f"the background {text} is not a picture or video that can be read", _WANTED,
            "give a PNG, JPEG or video file",
        ) from error  # fmt: skip
    return Background(video=path, name=text)


def plain_background(text: str) -> Background | None:
    """A background for which no file is looked at: "clip", "none", a colour's name or "#rrggbb"; None else."""
    if text == "clip":
        return Background(None)
    if text == "none":
        return Background(nothing=True, name=text)
    if text.lower() in NAMED_COLOURS:
        return Background(np.array(NAMED_COLOURS[text.lower()], np.uint8), name=text)
    if re.fullmatch(r"#?[0-9a-fA-F]{6}", text):
        return Background(np.frombuffer(bytes.fromhex(text.removeprefix("#")), np.uint8), name=text)
    return None
