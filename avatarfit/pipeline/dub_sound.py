"""The new speech of footage: the mouth that it makes, and the sound track as long as the pictures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from avatarfit.contracts import Motion
from avatarfit.media import SoundBlocks, sound_blocks
from avatarfit.pipeline.dub_footage import Footage

if TYPE_CHECKING:
    from avatarfit.audio import SpeechEncoder
    from avatarfit.model.avatar import Avatar


def mouth_at(motion: Motion, pts_seconds: np.ndarray) -> np.ndarray:
    """float32 [N, M]: a motion's mouth at times of its clock, interpolated; before and after it as at its ends."""
    columns = [np.interp(pts_seconds, motion.pts_seconds, column) for column in motion.face.mouth.T]
    return np.stack(columns, axis=1).astype(np.float32)


def driven_mouth(
    avatar: Avatar, sound: SoundBlocks, footage: Footage, encoder: SpeechEncoder, options: dict[str, Any]
) -> np.ndarray:
    """The mouth that the driver makes of the sound, at the footage's pictures; at rest after the sound's end."""
    from avatarfit.driving import DriveOptions, DriverStream, drive_chunks
    from avatarfit.driving.driver_stream import joined

    rate = footage.clip.frame_rate_hz
    stream = DriverStream(
        avatar.driver, avatar.rig, sound.sample_rate_hz, rate, DriveOptions(**options), encoder=encoder
    )
    last = float(footage.pts_seconds[-1])
    pieces = []
    for piece in drive_chunks(stream, _followed_by_silence(sound, last + 1 / rate)):
        pieces.append(piece)
        if piece.pts_seconds[-1] > last:
            break
    return mouth_at(joined(pieces), footage.pts_seconds)


def _followed_by_silence(sound: SoundBlocks, seconds: float) -> Iterator[np.ndarray]:
    yield from sound
    missing = round(seconds * sound.sample_rate_hz) - sound.sample_count
    for start in range(0, missing, sound.sample_rate_hz):
        yield np.zeros(min(sound.sample_rate_hz, missing - start), np.float32)


class _CutSound(SoundBlocks):
    """A sound file up to `sample_count` samples."""

    def __iter__(self) -> Iterator[np.ndarray]:
        left = self.sample_count
        for block in super().__iter__():
            if left <= 0:
                return
            yield block[:left]
            left -= len(block)


def cut_to(sound: SoundBlocks, seconds: float) -> SoundBlocks:
    """The sound, up to so many seconds of it."""
    most = round(seconds * sound.sample_rate_hz)
    if sound.sample_count <= most:
        return sound
    return _CutSound(sound.path, sound.sample_rate_hz, sound.start_seconds, most)


def own_sound(footage: Footage) -> SoundBlocks | None:
    """The footage's own sound; None where it has none."""
    return None if footage.clip.manifest["source"]["audio"] is None else sound_blocks(footage.clip.source)
