"""What a media file holds, without decoding more than a few pictures of it."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from avatarfit.contracts import InputError
from avatarfit.media._container import open_input, video_stream
from avatarfit.media._outline import outline_of
from avatarfit.media.tone_map import DynamicRange


@dataclass(frozen=True)
class MediaInfo:
    """A video file's outline.

    Attributes:
        path: the file.
        width_px, height_px: size of the upright picture with square pixels.
        frame_rate_hz: average rate of the stored frames; duplicates count.
        duration_seconds: length of the video.
        frame_count_estimate: number of stored frames, from the index where there is one, else rate times length.
        frame_count_announced: number of stored frames by the index, 0 where there is none.
        has_audio: whether there is sound.
        audio_sample_rate_hz: None without sound.
        rotation_degrees: clockwise turn that the file asks a player for: 0, 90, 180 or 270. Already in the size above.
        interlaced: each frame is made of two fields; reading makes it whole.
        dynamic_range: "sdr", "hlg" or "pq"; reading gives SDR.
    """

    path: Path
    width_px: int
    height_px: int
    frame_rate_hz: float
    duration_seconds: float
    frame_count_estimate: int
    has_audio: bool
    audio_sample_rate_hz: int | None
    rotation_degrees: int
    interlaced: bool = False
    dynamic_range: DynamicRange = "sdr"
    frame_count_announced: int = 0


def probe(path: str | Path) -> MediaInfo:
    """Outline of the video at `path`; the first pictures are decoded, so an unreadable codec is found here.

    Raises:
        InputError: not a readable video; the sentence says why.
    """
    import av

    path = Path(path)
    wanted = "a video of one person"
    with open_input(path, wanted) as container:
        stream = video_stream(container, path)
        outline = outline_of(container, stream)
        if outline is None:
            raise InputError(f"{path} holds no picture that can be decoded", wanted, "copy or record the file again")
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        if stream.duration is not None and stream.time_base is not None:
            seconds = float(stream.duration * stream.time_base)
        elif container.duration is not None:
            seconds = container.duration / av.time_base
        else:
            seconds = stream.frames / float(rate)
        width, height = outline.size
        sound = container.streams.audio[0] if container.streams.audio else None
        return MediaInfo(
            path=path,
            width_px=width,
            height_px=height,
            frame_rate_hz=float(rate),
            duration_seconds=seconds,
            frame_count_estimate=stream.frames or round(seconds * float(rate)),
            has_audio=sound is not None,
            audio_sample_rate_hz=sound.rate if sound is not None else None,
            rotation_degrees=outline.orientation.clockwise_degrees,
            interlaced=outline.interlaced,
            dynamic_range=outline.dynamic_range,
            frame_count_announced=stream.frames,
        )
