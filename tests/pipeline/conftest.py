from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest


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
def world(marking_driver: Callable[..., Any]) -> Callable[..., World]:
    def make(
        rate: float = 25.0,
        drawing_seconds: float | Callable[[int], float] = 0.005,
        driver: Any = None,
        draw: Callable[[Any], np.ndarray] = picture_of,
        **options: Any,
    ) -> World:
        from avatarfit.pipeline.live_stages import LiveStages

        stages = LiveStages(driver or marking_driver(rate), rate, 0.0, np.zeros((1, 1, 3), np.uint8), **options)
        if callable(drawing_seconds):
            return World(stages, drawing_seconds, draw)
        seconds = drawing_seconds
        return World(stages, lambda _index: seconds, draw)

    return make
