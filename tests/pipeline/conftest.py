from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

HEARD_HZ = 16_000


class MarkingDriver:
    """A stand-in for a driver: a moment's mouth is the level of the sound at that moment."""

    sample_rate_hz = HEARD_HZ
    mouth_rest = np.zeros(1, np.float32)
    nods = 0

    def __init__(self, rate: float, look_ahead_seconds: float = 0.11, bare: bool = False) -> None:
        self._bare = bare  # moments without the checks of their parts, for hours of them
        self.look_ahead_seconds, self._rate = look_ahead_seconds, rate
        self._sound, self._first = np.zeros(0, np.float32), 0
        self._frame = 0
        self.settings: list[Any] = []
        self.most_kept = 0

    def push(self, samples: np.ndarray) -> list[Any]:
        from avatarfit.contracts import FaceMotion, HeadPose, Motion, TorsoMotion
        from avatarfit.pipeline.live_frame import LiveState, Moment

        self._sound = np.concatenate([self._sound, samples])
        self.most_kept = max(self.most_kept, len(self._sound))
        out = []
        while True:
            at = round(self._frame / self._rate * HEARD_HZ)
            if at + self.look_ahead_seconds * HEARD_HZ > self._first + len(self._sound):
                break
            level = float(np.abs(self._sound[max(at - self._first, 0) : at - self._first + 16]).max())
            motion: Any = SimpleNamespace(face=SimpleNamespace(mouth=np.full((1, 1), level)))
            motion = motion if self._bare else Motion(
                np.array([self._frame / self._rate]),
                FaceMotion(np.full((1, 1), level), np.zeros((1, 1)), np.zeros((1, 6))),
                HeadPose(np.array([[1.0, 0, 0, 0]]), np.zeros((1, 3))), TorsoMotion.still(1),
            )  # fmt: skip
            out.append(Moment(self._frame, motion, LiveState.SPEAKING if level > 0.01 else LiveState.IDLE))
            self._frame += 1
            gone = round(self._frame / self._rate * HEARD_HZ) - self._first
            self._sound, self._first = self._sound[gone:], self._first + gone
        return out

    def hear(self, samples: np.ndarray, rate_hz: int, now_seconds: float) -> None:
        pass

    def turn(self, settings: Any) -> None:
        self.settings.append(settings)


def picture_of(moment: Any) -> np.ndarray:
    """One pixel, as bright as the mouth is open."""
    return np.full((1, 1, 3), round(200 * float(moment.motion.face.mouth[0, 0])), np.uint8)


@dataclass
class World:
    """Stages under a simulated clock; drawing takes as long as it is said to."""

    stages: Any
    drawing_seconds: Callable[[int], float]
    draw: Callable[[Any], np.ndarray] = picture_of
    now: float = 0.0
    leaving: list[tuple[float, Any]] = field(default_factory=list)
    moments: list[Any] = field(default_factory=list)
    _job: Any = None
    _done_at: float = 0.0

    def run(self, until: float) -> list[tuple[float, Any]]:
        """What left, with the clock's time, up to a time."""
        first = len(self.leaving)
        stages = self.stages
        while self.now <= until:
            stages.step(self.now)
            if self._job is not None and self.now >= self._done_at - 1e-9:
                stages.drawn(self._job, self.draw(self._job))
                self._job = None
            if self._job is None:
                self._job = stages.next_moment(self.now)
                if self._job is not None:
                    self.moments.append(self._job)
                    self._done_at = self.now + self.drawing_seconds(self._job.index)
            while (frame := stages.leave(self.now)) is not None:
                self.leaving.append((self.now, frame))
            times = [stages.next_step(), stages.next_leave(), stages.grace_end()]
            if self._job is not None:
                times.append(self._done_at)
            self.now = min(time for time in times if time > self.now + 1e-9)
        return self.leaving[first:]


@pytest.fixture
def marking_driver() -> type[MarkingDriver]:
    return MarkingDriver


@pytest.fixture
def world() -> Callable[..., World]:
    def make(
        rate: float = 25.0,
        drawing_seconds: float | Callable[[int], float] = 0.005,
        driver: Any = None,
        draw: Callable[[Any], np.ndarray] = picture_of,
        **options: Any,
    ) -> World:
        from avatarfit.pipeline.live_stages import LiveStages

        stages = LiveStages(driver or MarkingDriver(rate), rate, 0.0, np.zeros((1, 1, 3), np.uint8), **options)
        if callable(drawing_seconds):
            return World(stages, drawing_seconds, draw)
        seconds = drawing_seconds
        return World(stages, lambda _index: seconds, draw)

    return make
