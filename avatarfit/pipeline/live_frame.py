"""What goes through a live session: moments to be drawn, and frames that leave with their sound."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from avatarfit.contracts import Motion

if TYPE_CHECKING:
    from avatarfit.pipeline.spoken_words import SpokenWord

SOUND_HZ = 48_000
"""Rate of the sound that leaves: what Opus and films take."""


class LiveState(StrEnum):
    """What the person is doing."""

    IDLE = "idle"
    LISTENING = "listening"
    SPEAKING = "speaking"


@dataclass(frozen=True)
class Moment:
    """One frame's motion, before it is drawn.

    Attributes:
        index: of the frame on the session's line.
        motion: of one frame.
        state: what the person is doing.
    """

    index: int
    motion: Motion
    state: LiveState


@dataclass(frozen=True)
class LiveFrame:
    """A picture and the sound that belongs to its time.

    Attributes:
        index: 0, 1, ...: none is left out but where `LiveStatistics.lost_frames` says so.
        pts_seconds: time of the frame and of its first sample since the session's start.
        picture: uint8 [H, W, 3], or premultiplied uint8 [H, W, 4] where alpha was asked for; not to be changed.
        picture_pts_seconds: the time that the picture shows. It is `pts_seconds`, but where drawing was late.
        sound: int16 [n], mono at 48 kHz: exactly the samples up to the next frame.
        state: what the person is doing.
        fresh: the picture has not left before.
        words: that begin in `sound`, in order, where the voice told their times.
    """

    index: int
    pts_seconds: float
    picture: np.ndarray
    picture_pts_seconds: float
    sound: np.ndarray
    state: LiveState
    fresh: bool = True
    words: tuple[SpokenWord, ...] = ()


@dataclass
class LiveStatistics:
    """Counts since a session's start.

    Attributes:
        frames: that left. pictures: that were drawn.
        dropped_pictures: frames that left with an older picture, drawing being late.
        lost_frames: that nobody fetched for a second; their sound is lost too.
        slips: times that the whole session stood still for a second or more, and `slip_seconds` for how long.
        underruns: times that sound ran dry in the middle, and went on within 0.3 s.
        trimmed_seconds: live sound that was left out because it came faster than the clock.
        spoken_seconds: sound that went through.
        interrupts, nods: how many.
        driver_ms, drawing_ms: running means of the work for one frame.
        delay_ms: running mean of how late frames leave after they are due.
    """

    frames: int = 0
    pictures: int = 0
    dropped_pictures: int = 0
    lost_frames: int = 0
    slips: int = 0
    slip_seconds: float = 0.0
    underruns: int = 0
    trimmed_seconds: float = 0.0
    spoken_seconds: float = 0.0
    interrupts: int = 0
    nods: int = 0
    driver_ms: float = 0.0
    drawing_ms: float = 0.0
    delay_ms: float = 0.0

    def as_dict(self) -> dict[str, float]:
        """JSON-able."""
        return asdict(self)


def running(mean: float, value: float) -> float:
    """A mean that forgets within some dozens of values."""
    return value if mean == 0 else mean + 0.05 * (value - mean)
