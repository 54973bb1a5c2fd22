"""A whole sound -> its motion: everything pushed through one `DriverStream`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from avatarfit.audio import SpeechEncoder
from avatarfit.contracts import AudioClip, Motion, SoundError
from avatarfit.driving.driver_stream import DriveOptions, DriverStream, joined
from avatarfit.model.driver_model import DriverModel
from avatarfit.model.rig import Rig


def drive(
    model: DriverModel,
    rig: Rig,
    sound: AudioClip,
    frame_rate_hz: float,
    *,
    seed: int = 0,
    lip_strength: float = DriveOptions.lip_strength,
    lle_strength: float = DriveOptions.lle_strength,
    variation: float = DriveOptions.variation,
    encoder: SpeechEncoder | None = None,
) -> Motion:
    """The motion of a whole sound.

    Args:
        model, rig: of one avatar.
        sound: mono at any rate, by anyone. Silence is allowed: the mouth rests.
        frame_rate_hz: of the motion.
        seed, lip_strength, lle_strength, variation: see `DriveOptions`.
        encoder: of the features that the model was fitted with; None finds it among what is built in.

    Returns:
        `round(duration * frame_rate_hz)` frames (at least one), the first at the sound's start.

    Raises:
        SoundError: the sound is empty.
        FileFormatError: the model was fitted on other features, or for another rig.
        ValueError: an option is out of its range.
    """
    options = DriveOptions(seed, lip_strength, lle_strength, variation)
    stream = DriverStream(
        model, rig, sound.sample_rate_hz, frame_rate_hz, options, encoder=encoder, start_seconds=sound.start_seconds
    )
    return joined(list(drive_chunks(stream, [sound.samples])))


def drive_chunks(stream: DriverStream, blocks: Iterable[np.ndarray]) -> Iterator[Motion]:
    """Motion, piece by piece, from sound, block by block, in constant memory if the blocks are bounded.

    Args:
        stream: fresh.
        blocks: float32 [n] each.

    Raises:
        SoundError: all blocks together are empty.
    """
    some = False
    for block in blocks:
        some |= len(block) > 0
        motion = stream.push(block)
        if len(motion):
            yield motion
    if not some:
        raise SoundError("The sound is empty", "speech", "give a recording in which someone speaks")
    motion = stream.finish()
    if len(motion):
        yield motion
