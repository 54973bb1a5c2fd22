"""Numbered PNG or EXR files of an output: in the work folder while they grow, in their place when all are there."""

from __future__ import annotations

import os
import re
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from avatarfit.contracts import AudioClip, InputError
from avatarfit.media import SoundBlocks
from avatarfit.media.segments import SOUND_RATE_HZ
from avatarfit.media.sound_track import write_sound
from avatarfit.media.timecode import Timecode
from avatarfit.output.options import NUMBER, OutputFormat
from avatarfit.output.picture_file import png_bytes, write_exr
from avatarfit.output.stored_colours import coded, linear, straight

if TYPE_CHECKING:
    from avatarfit.output.provenance import Sealer


class SequenceTrack:
    """Takes an output's pictures and makes one file of each, the sound as a WAV file beside them.

    PNG holds 8 bits, straight unless asked otherwise; EXR holds half floats, linear light with BT.709 primaries,
    premultiplied unless asked otherwise.

    Args:
        name: "picture", or "key" or "fill": what of the pictures it takes.
        form: of the output; numbered pictures.
        work: the folder in which it grows.
        rate: frames a second.
        takes_alpha: whether pictures come with alpha.
        sound: if there is any.
        timecode: of the first picture, if it has one.

    Raises:
        InputError: pictures of that name are in their place already.
    """

    def __init__(
        self,
        name: str,
        form: OutputFormat,
        work: Path,
        rate: Fraction,
        *,
        takes_alpha: bool,
        sound: AudioClip | SoundBlocks | None,
        timecode: str | None,
    ) -> None:
        assert form.picture_kind is not None
        self.name, self.path = name, form.track_path(name)
        self._form, self._takes_alpha, self._rate, self._sound = form, takes_alpha, rate, sound
        self._timecode = None if timecode is None else Timecode.parse(timecode, rate)
        pattern = self.path.suffix.lower() == f".{form.picture_kind}"
        self._folder = self.path.parent if pattern else self.path
        self._form_of_name = self.path.name if pattern else f"%06d.{form.picture_kind}"
        self._refuse_others()
        self._work = work / name
        self._work.mkdir(parents=True, exist_ok=True)
        for stray in self._work.glob("*.part"):
            stray.unlink()
        self.count = 0
        while (self._work / self._name_of(self.count)).is_file():
            self.count += 1

    def _refuse_others(self) -> None:
        before, after = _around_number(self._form_of_name)
        named = re.compile(f"{re.escape(before)}\\d+{re.escape(after)}")
        if self._folder.is_dir() and any(named.fullmatch(entry.name) for entry in self._folder.iterdir()):
            raise InputError(
                f"{self._folder} holds pictures named {self._form_of_name} already", "a place for new pictures",
                "choose another name, or remove them",
            )  # fmt: skip

    def _name_of(self, index: int) -> str:
        found = NUMBER.search(self._form_of_name)
        assert found is not None
        digits = int(found[1] or 1) if found[0].startswith("%") else len(found[0])
        return self._form_of_name[: found.start()] + f"{index:0{digits}d}" + self._form_of_name[found.end() :]

    def drop_from(self, frame: int) -> None:
        """Forget pictures from `frame` on."""
        while self.count > frame:
            self.count -= 1
            (self._work / self._name_of(self.count)).unlink()

    def write(self, picture: np.ndarray) -> None:
        """Append one picture as the sink takes it."""
        path = self._work / self._name_of(self.count)
        part = path.with_name(path.name + ".part")
        if self._form.picture_kind == "exr":
            code = None if self._timecode is None else self._timecode.later(self.count)
            write_exr(part, self._linear(picture), self._rate, code)
        else:
            part.write_bytes(png_bytes(self._coded(picture)))
        part.rename(path)
        self.count += 1

    def _coded(self, picture: np.ndarray) -> np.ndarray:
        if not self._takes_alpha:
            return picture
        if self.name == "key":
            return coded(picture[..., 3], 8)
        stored = picture if self._form.premultiplied else straight(picture)
        return coded(stored if self._form.stores_alpha else stored[..., :3], 8)

    def _linear(self, picture: np.ndarray) -> np.ndarray:
        if not self._takes_alpha:
            return linear(picture.astype(np.float32) / np.float32(255))
        alpha = picture[..., 3:]
        if self.name == "key":
            return alpha
        colours = linear(straight(picture)[..., :3])
        if self._form.premultiplied:
            colours *= alpha
        return np.concatenate([colours, alpha], axis=-1) if self._form.stores_alpha else colours

    def abandon(self) -> None:
        """Drop what is not whole."""
        for stray in self._work.glob("*.part"):
            stray.unlink()

    def finish(self, sealer: Sealer | None) -> None:
        """Make the sound, and sign everything, not yet in its place."""
        sound = self._work / self._sound_name()
        if self._sound is not None:
            write_sound(sound, self._sound, SOUND_RATE_HZ)
        if sealer is not None:
            from avatarfit.output.provenance import listing_of

            if self._sound is not None:
                sealer.seal(sound, self._folder / sound.name)
            names = [self._name_of(index) for index in range(self.count)]
            sealer.seal_sequence((self._work / name for name in names), self._work / listing_of(self.path).name)

    def release(self) -> None:
        """Put all files into their place, the pictures last; into a new folder in one step."""
        if not self._folder.exists():
            os.rename(self._work, self._folder)
            return
        pictures = {self._name_of(index) for index in range(self.count)}
        for path in sorted(self._work.iterdir(), key=lambda path: (path.name in pictures, path.name)):
            os.replace(path, self._folder / path.name)

    def _sound_name(self) -> str:
        before, _ = _around_number(self._form_of_name)
        return (before.rstrip("._- ") or "sound") + ".wav"


def _around_number(form_of_name: str) -> tuple[str, str]:
    found = NUMBER.search(form_of_name)
    assert found is not None
    return form_of_name[: found.start()], form_of_name[found.end() :]
