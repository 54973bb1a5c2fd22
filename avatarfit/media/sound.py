"""Sound in and out: mono float32 on the clip's clock."""

from __future__ import annotations

import math
import os
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avatarfit.contracts import AudioClip, SoundError
from avatarfit.media._container import first_picture_seconds, open_input
from avatarfit.media.sound_blocks import SOUND_WANTED, open_sound


def read_audio(path: str | Path) -> AudioClip:
    """The first sound stream of a sound or video file, mixed to one channel (`mono_shares`), at its own rate.

    `start_seconds` is where the sound begins relative to the first picture (0 for a file without pictures). Gaps over
    50 ms in the stream's times become silence, so that later sound stays in step with the pictures.

    Raises:
        SoundError: no such file, not a media file, no sound in it, its rate or channels change, or over six hours long.
    """
    with open_sound(path) as sound:
        samples = np.concatenate([np.zeros(0, np.float32), *sound])
        return AudioClip(samples, sound.sample_rate_hz, sound.start_seconds)


@dataclass(frozen=True)
class SoundSpan:
    """When a video's sound begins and ends, by its packets' time stamps; seconds on the pictures' clock."""

    start_seconds: float
    end_seconds: float


def sound_span(path: str | Path) -> SoundSpan | None:
    """The span of the first sound stream, without decoding it; None without sound.

    Raises:
        SoundError: not a readable file.
    """
    path = Path(path)
    with open_input(path, SOUND_WANTED, SoundError) as container:
        if not container.streams.audio:
            return None
        picture_seconds = first_picture_seconds(container) or 0.0
        container.seek(0)
        start, end = math.inf, -math.inf
        for packet in container.demux(container.streams.audio[0]):
            if packet.pts is not None and packet.time_base is not None:
                start = min(start, float(packet.pts * packet.time_base))
                end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
    return SoundSpan(start - picture_seconds, end - picture_seconds) if math.isfinite(start) else None


def covering(clip: AudioClip, start_seconds: float, end_seconds: float) -> AudioClip:
    """The same sound with silence put before and after it, so that it reaches from `start_seconds` to `end_seconds`."""
    rate = clip.sample_rate_hz
    before = max(0, round((clip.start_seconds - start_seconds) * rate))
    after = max(0, round((end_seconds - clip.start_seconds - clip.duration_seconds) * rate))
    if not before and not after:
        return clip
    return AudioClip(np.pad(clip.samples, (before, after)), rate, clip.start_seconds - before / rate)


def write_wav(path: str | Path, clip: AudioClip) -> None:
    """Write 16-bit mono PCM, atomically; samples beyond [-1, 1] are clipped, `start_seconds` is not stored.

    Raises:
        OSError: the folder is missing or may not be written.
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    try:
        with wave.open(str(part), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(clip.sample_rate_hz)
            file.writeframes(np.clip(np.rint(clip.samples * 32768), -32768, 32767).astype("<i2").tobytes())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
