"""One film of an output: segments while it grows, one file in the end."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from avatarfit.contracts import AudioClip
from avatarfit.media import SoundBlocks
from avatarfit.media.segments import SegmentWriter
from avatarfit.output.options import OutputFormat
from avatarfit.output.stored_colours import coded, grey, straight, widened

if TYPE_CHECKING:
    from avatarfit.output.provenance import Sealer


class FilmTrack:
    """Takes an output's pictures and makes one file of them.

    Args:
        name: "picture", or "key" or "fill": what of the pictures it takes.
        form: of the output; a film's.
        work: the folder in which it grows.
        width_px, height_px, rate: of the pictures.
        takes_alpha: whether pictures come with alpha.
        sound: of the film, if it has any.
        timecode: of the first picture, if it has one.
        segment_frames: pictures in a segment.
    """

    def __init__(
        self,
        name: str,
        form: OutputFormat,
        work: Path,
        width_px: int,
        height_px: int,
        rate: Fraction,
        *,
        takes_alpha: bool,
        sound: AudioClip | SoundBlocks | None,
        timecode: str | None,
        segment_frames: int,
    ) -> None:
        assert form.coding is not None
        self.name, self.path = name, form.track_path(name)
        self._form, self._coding, self._takes_alpha = form, form.coding, takes_alpha
        self._sound, self._timecode = sound, timecode
        self._joined = work / f"{name}.unfinished{self.path.suffix}"
        self._writer = SegmentWriter(
            work / name, form.coding, width_px, height_px, rate, form.stores_alpha, segment_frames
        )

    @property
    def count(self) -> int:
        """Pictures that it has."""
        return self._writer.count

    def drop_from(self, frame: int) -> None:
        """Forget pictures from `frame` on, and some before it where segments want it."""
        self._writer.drop_from(frame)

    def write(self, picture: np.ndarray) -> None:
        """Append one picture as the sink takes it."""
        self._writer.write(self._stored(picture))

    def _stored(self, picture: np.ndarray) -> np.ndarray:
        bits = self._coding.depths[self._form.stores_alpha]
        if not self._takes_alpha:
            return widened(picture, bits)
        if self.name == "key":
            return grey(coded(picture[..., 3], bits))
        if not self._form.premultiplied:
            picture = straight(picture, spread=self._coding.name != "ffv1")
        return coded(picture if self._form.stores_alpha else picture[..., :3], bits)

    def abandon(self) -> None:
        """Drop what is not whole."""
        self._writer.abandon()
        self._joined.unlink(missing_ok=True)

    def finish(self, sealer: Sealer | None) -> None:
        """Make the file, not yet in its place, and sign it."""
        tags = {"comment": f"alpha: {'premultiplied' if self._form.premultiplied else 'straight'}"}
        if not self._takes_alpha:
            tags = {}
        if self._timecode is not None:
            tags["timecode"] = self._timecode
        self._writer.join(self._joined, sound=self._sound, sound_coding=self._form.sound_coding, tags=tags)
        if sealer is not None:
            sealer.seal(self._joined, self.path)

    def release(self) -> None:
        """Put the file into its place."""
        os.replace(self._joined, self.path)
