"""Sound out of bytes that a stranger sent: bounded, and nothing else is opened whatever the bytes ask for."""

from __future__ import annotations

import io

import numpy as np

from avatarfit.contracts import AudioClip, SoundError
from avatarfit.media.resampling import resample
from avatarfit.media.sound_blocks import SOUND_WANTED, DecodedSound

_NAME = "what came"
_FORMATS = "wav,w64,aiff,au,caf,flac,mp3,aac,ogg,mov,matroska,amr"
"""FFmpeg's demuxers that hold sound themselves; playlists, which name other files and addresses, are not among them."""
_RATES_HZ = 4_000, 384_000
_HIGHEST_HZ = 48_000


def read_audio_bytes(data: bytes, longest_seconds: float) -> AudioClip:
    """The first sound stream of a sound or video file's bytes, mixed to one channel; pictures are not looked at.

    Args:
        data: the whole file.
        longest_seconds: of sound in it.

    Returns:
        It, at its own rate or 48 kHz, whichever is lower; one sample or more.

    Raises:
        SoundError: no sound file, damaged, no sound in it, over `longest_seconds`, or a rate outside 4 to 384 kHz.
    """
    import av

    # No protocol at all: the bytes are here.
    options = {"format_whitelist": _FORMATS, "protocol_whitelist": "none"}
    try:
        with av.open(io.BytesIO(data), "r", options=options, metadata_errors="replace") as container:
            clip = _decoded(DecodedSound(container, _NAME, by_pictures=False), longest_seconds)
    except (av.FFmpegError, ValueError) as cause:
        reason = getattr(cause, "strerror", None) or type(cause).__name__
        raise SoundError(
            f"{_NAME} is no sound file that can be read ({reason})",
            SOUND_WANTED,
            "send WAV, FLAC, MP3, Ogg or M4A",
        ) from cause
    return resample(clip, min(clip.sample_rate_hz, _HIGHEST_HZ))


def _decoded(sound: DecodedSound, longest_seconds: float) -> AudioClip:
    rate, blocks, count = sound.sample_rate_hz, [], 0
    low, high = _RATES_HZ
    if not low <= rate <= high:
        raise SoundError(f"{_NAME} has {rate} samples a second", f"{low:,} to {high:,}", "resample it")
    for block in sound:
        blocks.append(block)
        count += len(block)
        if count > longest_seconds * rate:
            raise SoundError(
                f"{_NAME} holds over {longest_seconds:g} s of sound", f"at most {longest_seconds:g} s",
                "send it in parts",
            )  # fmt: skip
    if not count:
        raise SoundError(f"{_NAME} holds no sound", SOUND_WANTED, "look whether it was recorded")
    return AudioClip(np.concatenate(blocks), rate)
