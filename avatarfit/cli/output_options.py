"""Options of the command line for what is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from avatarfit.cli.types import MaybeText

if TYPE_CHECKING:
    from avatarfit.output import OutputOptions


@dataclass(frozen=True)
class OutputChoice:
    """How pictures and sound are stored."""

    codec: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """h264, h265, av1, vp9, prores4444, ffv1, png or exr; what the output's suffix says if not given: .mp4, .mov and
    .mkv are h264 (with --alpha prores4444 and ffv1), .webm is vp9. png and exr want a folder or frame_%06d.png."""
    alpha: Annotated[str, tyro.conf.arg(metavar="none|straight|premultiplied")] = "none"
    """Keep the picture transparent where nobody stands: in .mov (ProRes 4444), .webm (VP9), .mkv (FFV1), PNG or EXR;
    colours straight, or premultiplied by alpha."""
    key_fill: bool = False
    """Write two files in step, NAME.fill.EXT and NAME.key.EXT, for a keyer; the fill premultiplied (shaped) unless
    --alpha straight."""
    audio_codec: Annotated[str | None, tyro.conf.arg(metavar="aac|pcm")] = None
    """The sound's coding, at 48 kHz: aac, or pcm of 24 bits; aac if not given, in ProRes and FFV1 files pcm."""
    timecode: MaybeText = None
    """Time code of the first frame, such as 10:00:00:00, or 10:00:00;00 for drop-frame at 29.97 and 59.94."""
    resume: bool = False
    """Go on with what a stopped run of the same command has left in OUTPUT.part."""

    @property
    def options(self) -> OutputOptions:
        """As the library takes them; words are checked there."""
        from avatarfit.output import OutputOptions

        return OutputOptions(
            self.codec, self.alpha, self.key_fill, self.audio_codec, self.timecode, self.resume  # type: ignore[arg-type]
        )  # fmt: skip
