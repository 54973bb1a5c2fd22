"""Sound in and out: mono float32 on the clip's clock."""

from __future__ import annotations

import math
import os
import wave
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from avatarfit.contracts import AudioClip, SoundError
from avatarfit.media._container import first_picture_seconds, open_input

_WANTED = "a file with speech in it, such as a WAV"
_GAP_SECONDS = 0.05
_LARGEST_PADDING = 4096
_LONGEST_SECONDS = 6 * 3600
_SIDE, _BACK, _NONE = 0.7071, 0.5, 0.0
_MIX = {"FL": _SIDE, "FR": _SIDE, "FC": 1.0, "FLC": 1.0, "FRC": 1.0, "LFE": _NONE, "LFE2": _NONE}
"""Shares in one channel (ITU-R BS.775-4, table 2: 3/2 to mono); those behind and beside count half."""


def read_audio(path: str | Path) -> AudioClip:
    """The first sound stream of a sound or video file, mixed to one channel (`mono_shares`), at its own rate.

    `start_seconds` is where the sound begins relative to the first picture (0 for a file without pictures). Gaps over
    50 ms in the stream's times become silence, so that later sound stays in step with the pictures.

    Raises:
        SoundError: no such file, not a media file, no sound in it, its rate or channels change, or over six hours long.
    """
    import av

    path = Path(path)
    with open_input(path, _WANTED, SoundError) as container:
        if not container.streams.audio:
            raise SoundError(f"{path} has no sound in it", _WANTED, "give a file with a sound track")
        picture_seconds = first_picture_seconds(container)
        if picture_seconds is not None:
            container.seek(0)
        stream = container.streams.audio[0]
        frames = container.decode(stream)
        first = next(frames, None)
        if first is None:
            raise SoundError(f"{path} holds no sound that can be decoded", _WANTED, "copy or record the file again")
        # What the container states may be half of what is decoded (spectral band replication).
        rate, start = first.rate, first.time or 0.0
        to_float = av.AudioResampler(format="flt", layout=first.layout, rate=rate)
        shares = mono_shares([channel.name for channel in first.layout.channels])
        pieces: list[np.ndarray] = []
        count = 0
        for frame in chain([first], frames):
            seconds = frame.time
            if seconds is not None and seconds - start - count / rate > _GAP_SECONDS:
                gap = round((seconds - start) * rate) - count
                if (count + gap) / rate > _LONGEST_SECONDS:
                    raise SoundError(f"{path} claims over six hours of sound", _WANTED, "cut it into shorter pieces")
                pieces.append(np.zeros(gap, np.float32))
                count += gap
            if (frame.rate, frame.layout.nb_channels) != (rate, len(shares)):
                raise SoundError(
                    f"the sound of {path} changes its rate or channels at {count / rate:.2f} s", _WANTED,
                    "cut or convert the file to one kind of sound",
                )  # fmt: skip
            for part in to_float.resample(frame):
                mono = part.to_ndarray().reshape(-1, len(shares)) @ shares
                pieces.append(mono)
                count += len(mono)
    samples = np.concatenate(pieces)
    if stream.duration is not None and stream.time_base is not None:
        # The last block of a coded stream is padded; the container knows where the sound itself ends.
        stated = round(float(stream.duration * stream.time_base) * rate)
        if 0 < count - stated < _LARGEST_PADDING:
            samples = samples[:stated]
    if not np.isfinite(samples).all():
        raise SoundError(f"{path} holds samples that are not numbers", _WANTED, "export the sound again")
    return AudioClip(samples, rate, 0.0 if picture_seconds is None else float(start - picture_seconds))


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
    with open_input(path, _WANTED, SoundError) as container:
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


def resample(clip: AudioClip, sample_rate_hz: int) -> AudioClip:
    """The same sound at another rate, by a zero-phase polyphase filter; its start and length in seconds stay.

    Raises:
        ValueError: `sample_rate_hz` is not positive.
    """
    from scipy.signal import resample_poly

    if sample_rate_hz <= 0:
        raise ValueError(f"sample_rate_hz came as {sample_rate_hz}; wanted a positive rate")
    if sample_rate_hz == clip.sample_rate_hz or not len(clip.samples):
        return AudioClip(clip.samples, sample_rate_hz, clip.start_seconds)
    common = math.gcd(sample_rate_hz, clip.sample_rate_hz)
    samples = resample_poly(clip.samples, sample_rate_hz // common, clip.sample_rate_hz // common)
    result = AudioClip(samples.astype(np.float32), sample_rate_hz, clip.start_seconds)
    assert abs(result.duration_seconds - clip.duration_seconds) <= 1.0 / sample_rate_hz
    return result


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
