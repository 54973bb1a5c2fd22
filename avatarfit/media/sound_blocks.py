"""Sound files read block by block, so that an hour takes no more memory than a second."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from avatarfit.contracts import SoundError
from avatarfit.media._container import first_picture_seconds, open_input

if TYPE_CHECKING:
    from av.container import InputContainer

SOUND_WANTED = "a file with speech in it, such as a WAV"
_GAP_SECONDS = 0.05
_LARGEST_PADDING = 4096
_LONGEST_SECONDS = 6 * 3600
_BLOCK_SAMPLES = 16_384
_SIDE, _BACK, _NONE = 0.7071, 0.5, 0.0
_MIX = {"FL": _SIDE, "FR": _SIDE, "FC": 1.0, "FLC": 1.0, "FRC": 1.0, "LFE": _NONE, "LFE2": _NONE}
"""Shares in one channel (ITU-R BS.775-4, table 2: 3/2 to mono); those behind and beside count half."""


@dataclass(frozen=True)
class SoundBlocks:
    """A sound file that was read through once and is known to be whole. Iterating decodes it again, block by block.

    Attributes:
        path: the file.
        sample_rate_hz: samples a second, mono.
        start_seconds: time of the first sample; 0 is the first picture, if there are pictures.
        sample_count: how many there are.
    """

    path: Path
    sample_rate_hz: int
    start_seconds: float
    sample_count: int

    @property
    def duration_seconds(self) -> float:
        """Length in seconds."""
        return self.sample_count / self.sample_rate_hz

    def __iter__(self) -> Iterator[np.ndarray]:
        """float32 [n] pieces of a second or less, n > 0, all together `sample_count` samples."""
        with open_sound(self.path) as sound:
            yield from sound


def sound_blocks(path: str | Path) -> SoundBlocks:
    """A sound file for block-wise reading: as `read_audio`, in constant memory.

    Raises:
        SoundError: as `read_audio`.
    """
    with open_sound(path) as sound:
        count = sum(len(block) for block in sound)
        return SoundBlocks(Path(path), sound.sample_rate_hz, sound.start_seconds, count)


class DecodedSound:
    """The first sound stream of an open file, mixed to one channel; to be iterated once, while the file is open.

    Args:
        container: the file.
        path: it, or what a person calls it.
        by_pictures: the sound's start is told on the pictures' clock, for which one picture is decoded.

    Attributes:
        sample_rate_hz, start_seconds: as in `SoundBlocks`.
    """

    def __init__(self, container: InputContainer, path: Path | str, by_pictures: bool = True) -> None:
        import av

        if not container.streams.audio:
            raise SoundError(f"{path} has no sound in it", SOUND_WANTED, "give a file with a sound track")
        picture_seconds = first_picture_seconds(container) if by_pictures else None
        if picture_seconds is not None:
            container.seek(0)
        self._path, self._stream = path, container.streams.audio[0]
        self._frames = container.decode(self._stream)
        first: Any = next(self._frames, None)
        if first is None:
            raise SoundError(
                f"{path} holds no sound that can be decoded", SOUND_WANTED, "copy or record the file again"
            )
        self._first = first
        # What the container states may be half of what is decoded (spectral band replication).
        self.sample_rate_hz: int = first.rate
        self._first_seconds = float(first.time or 0.0)
        self.start_seconds = 0.0 if picture_seconds is None else self._first_seconds - picture_seconds
        self._to_float = av.AudioResampler(format="flt", layout=first.layout, rate=first.rate)
        self._shares = mono_shares([channel.name for channel in first.layout.channels])

    def __iter__(self) -> Iterator[np.ndarray]:
        """float32 [n] blocks, n > 0.

        Raises:
            SoundError: rate or channels change, the sound is over six hours long, or holds samples that are no numbers.
        """
        waiting: list[np.ndarray] = []
        count = sent = 0
        for piece in self._pieces():
            waiting.append(piece)
            count += len(piece)
            # The end is held back: it may turn out to be padding.
            if count - sent >= _BLOCK_SAMPLES + _LARGEST_PADDING:
                block = np.concatenate(waiting)
                yield self._checked(block[:-_LARGEST_PADDING])
                sent, waiting = count - _LARGEST_PADDING, [block[-_LARGEST_PADDING:]]
        block = np.concatenate(waiting) if waiting else np.zeros(0, np.float32)
        if self._stream.duration is not None and self._stream.time_base is not None:
            # The last block of a coded stream is padded; the container knows where the sound itself ends.
            stated = round(float(self._stream.duration * self._stream.time_base) * self.sample_rate_hz)
            if 0 < count - stated < _LARGEST_PADDING:
                block = block[: stated - sent]
        if len(block):
            yield self._checked(block)

    def _pieces(self) -> Iterator[np.ndarray]:
        rate, count = self.sample_rate_hz, 0
        for frame in chain([self._first], self._frames):
            seconds = frame.time
            gap = 0 if seconds is None else round((seconds - self._first_seconds) * rate) - count
            gap = gap if gap > _GAP_SECONDS * rate else 0
            if (count + gap) / rate > _LONGEST_SECONDS:
                raise SoundError(
                    f"{self._path} claims over six hours of sound", SOUND_WANTED, "cut it into shorter pieces"
                )
            for start in range(0, gap, _BLOCK_SAMPLES):
                yield np.zeros(min(_BLOCK_SAMPLES, gap - start), np.float32)
            count += gap
            if (frame.rate, frame.layout.nb_channels) != (rate, len(self._shares)):
                raise SoundError(
                    f"the sound of {self._path} changes its rate or channels at {count / rate:.2f} s", SOUND_WANTED,
                    "cut or convert the file to one kind of sound",
                )  # fmt: skip
            for part in self._to_float.resample(frame):
                piece = part.to_ndarray().reshape(-1, len(self._shares)) @ self._shares
                yield piece
                count += len(piece)

    def _checked(self, block: np.ndarray) -> np.ndarray:
        if not np.isfinite(block).all():
            raise SoundError(f"{self._path} holds samples that are not numbers", SOUND_WANTED, "export the sound again")
        return block


@contextmanager
def open_sound(path: str | Path) -> Iterator[DecodedSound]:
    """The sound of a file, ready to be iterated once.

    Raises:
        SoundError: no such file, not a media file, or no sound in it.
    """
    path = Path(path)
    with open_input(path, SOUND_WANTED, SoundError) as container:
        yield DecodedSound(container, path)


def mono_shares(channels: list[str]) -> np.ndarray:
    """float32 [C], summing to 1: each channel's share in one, by FFmpeg's channel names (FL, FR, FC, LFE, BL, SL ...).

    Up to two channels, and channels without names, count alike. With more, speech is in the middle one, which therefore
    counts most; the low-frequency channel not at all (ITU-R BS.775-4).
    """
    if len(channels) < 3 or not set(channels) & {"FL", "FC"}:
        shares = np.ones(len(channels))
    else:
        shares = np.array([_MIX.get(name, _BACK) for name in channels])
    return (shares / shares.sum()).astype(np.float32)
