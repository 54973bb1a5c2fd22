"""Sound in and out: mono float32 on the clip's clock."""

from __future__ import annotations

import math
import os
import wave
from pathlib import Path

import numpy as np

from avatarfit.contracts import AudioClip, SoundError
from avatarfit.media._container import first_picture_seconds, open_input

_WANTED = "a file with speech in it, such as a WAV"
_GAP_SECONDS = 0.05
_LARGEST_PADDING = 4096
_LONGEST_SECONDS = 6 * 3600


def read_audio(path: str | Path) -> AudioClip:
    """The first sound stream of a sound or video file: mean of its channels, at its own rate.

    `start_seconds` is where the sound begins relative to the first picture (0 for a file without pictures). Gaps over
    50 ms in the stream's times become silence, so that later sound stays in step with the pictures.

    Raises:
        SoundError: no such file, not a media file, no sound in it, or over six hours long.
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
        rate = stream.rate
        to_float = av.AudioResampler(format="fltp", layout=stream.layout, rate=rate)
        pieces: list[np.ndarray] = []
        count, start = 0, None
        for frame in container.decode(stream):
            seconds = frame.time
            if start is None:
                start = seconds or 0.0
            if seconds is not None and seconds - start - count / rate > _GAP_SECONDS:
                gap = round((seconds - start) * rate) - count
                if (count + gap) / rate > _LONGEST_SECONDS:
                    raise SoundError(f"{path} claims over six hours of sound", _WANTED, "cut it into shorter pieces")
                pieces.append(np.zeros(gap, np.float32))
                count += gap
            for part in to_float.resample(frame):
                mono = part.to_ndarray().mean(axis=0, dtype=np.float32)
                pieces.append(mono)
                count += len(mono)
        if not count:
            raise SoundError(f"{path} holds no sound that can be decoded", _WANTED, "copy or record the file again")
    samples = np.concatenate(pieces)
    if stream.duration is not None and stream.time_base is not None:
        # The last block of a coded stream is padded; the container knows where the sound itself ends.
        stated = round(float(stream.duration * stream.time_base) * rate)
        if 0 < count - stated < _LARGEST_PADDING:
            samples = samples[:stated]
    if not np.isfinite(samples).all():
        raise SoundError(f"{path} holds samples that are not numbers", _WANTED, "export the sound again")
    return AudioClip(samples, rate, 0.0 if picture_seconds is None else float((start or 0.0) - picture_seconds))


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
