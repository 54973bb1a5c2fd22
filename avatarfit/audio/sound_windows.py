"""A long sound through a network that must see a stretch of it at once: overlapping windows whose rows fade over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from avatarfit.audio.log_mel import HOP_SAMPLES, SAMPLE_RATE_HZ, hop_count

FRAME_SAMPLES = 2 * HOP_SAMPLES
"""From one frame of the network to the next, 20 ms: that of HuBERT, wav2vec2 and Whisper."""


@dataclass(frozen=True)
class Windows:
    """How a sound is cut; every length a multiple of 20 ms.

    A window answers for `step_seconds` of sound and hears `before_seconds` before and `after_seconds` after them.
    Within `fade_seconds` on both sides of where two meet, the rows go linearly over from one to the other.
    """

    before_seconds: float
    step_seconds: float
    after_seconds: float
    fade_seconds: float

    def __post_init__(self) -> None:
        for name in ("before_seconds", "step_seconds", "after_seconds", "fade_seconds"):
            frames = getattr(self, name) * SAMPLE_RATE_HZ / FRAME_SAMPLES
            if frames < 0 or abs(frames - round(frames)) > 1e-6:
                raise ValueError(f"{name} came as {getattr(self, name)}; wanted a multiple of 0.02 s")
        if self.step_seconds <= 0 or self.after_seconds <= 0:
            raise ValueError("step_seconds and after_seconds must be positive")
        if self.fade_seconds > min(self.before_seconds, self.after_seconds, self.step_seconds / 2):
            raise ValueError(
                f"fade_seconds came as {self.fade_seconds}; wanted no more than before, after and half a step"
            )

    @property
    def look_ahead_seconds(self) -> float:
        """So much sound after its moment a row needs at most."""
        return self.step_seconds + self.after_seconds + self.fade_seconds

    @property
    def length_seconds(self) -> float:
        """Of one window."""
        return self.before_seconds + self.step_seconds + self.after_seconds

    def __str__(self) -> str:
        lengths = (self.before_seconds, self.step_seconds, self.after_seconds, self.fade_seconds)
        return "+".join(f"{length:g}" for length in lengths) + "s"


LIVE = Windows(2.0, 0.04, 0.04, 0.02)
"""Windows whose rows are ready after 0.1 s of sound. The network runs 25 times a second, on two seconds each time."""


class WindowedRows:
    """See `RowStream`.

    Args:
        frames: float32 [n] -> float32 [J, columns], one row every 20 ms of the window it is given, J >= 1.
        columns: of a row.
        frame_centre: samples from a window's start to the middle of what its first frame hears.
        windows: how to cut.
    """

    def __init__(
        self, frames: Callable[[np.ndarray], np.ndarray], columns: int, frame_centre: float, windows: Windows
    ) -> None:
        self._frames, self._columns, self._centre = frames, columns, frame_centre
        self._before, self._step, self._after, self._fade = (
            round(seconds * SAMPLE_RATE_HZ)
            for seconds in (
                windows.before_seconds, windows.step_seconds, windows.after_seconds, windows.fade_seconds
            )
        )  # fmt: skip
        self._kept = np.zeros(0, np.float32)
        self._kept_from = self._done = self._hops = 0
        self._tail = np.zeros((0, columns), np.float32)

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Rows that have become ready, float32 [k, columns]."""
        self._kept = np.concatenate([self._kept, samples])
        rows = [np.zeros((0, self._columns), np.float32)]
        while self._heard >= self._done + self._step + self._after:
            rows.append(self._window(self._done + self._step + self._after, self._done + self._step - self._fade))
            self._done += self._step
            gone = max(self._done - self._before, 0) - self._kept_from
            if gone > 0:
                self._kept, self._kept_from = self._kept[gone:], self._kept_from + gone
        return np.concatenate(rows)

    def finish(self) -> np.ndarray:
        """All other rows."""
        if not hop_count(self._heard):
            return np.zeros((0, self._columns), np.float32)
        return self._window(self._heard, HOP_SAMPLES * hop_count(self._heard))

    @property
    def _heard(self) -> int:
        return self._kept_from + len(self._kept)

    def _window(self, stop: int, ready: int) -> np.ndarray:
        """Rows before sample `ready` out of the window that ends at sample `stop`; keeps those that fade on."""
        start = max(self._done - self._before, 0)
        frames = self._frames(self._kept[start - self._kept_from : stop - self._kept_from])
        last = min(ready + 2 * self._fade, HOP_SAMPLES * hop_count(self._heard))
        hops = np.arange(self._hops, -(-last // HOP_SAMPLES))
        position = np.clip((hops * HOP_SAMPLES - start - self._centre) / FRAME_SAMPLES, 0, len(frames) - 1)
        low = np.floor(position).astype(np.int64)
        part = (position - low).astype(np.float32)[:, None]
        rows = frames[low] * (1 - part) + frames[np.minimum(low + 1, len(frames) - 1)] * part
        if len(self._tail):
            # The window before knew these rows, too: from its end on to this one's own.
            share = ((np.arange(len(self._tail)) + 0.5) / len(self._tail)).astype(np.float32)[:, None]
            both = slice(0, len(self._tail))
            rows[both] = self._tail * (1 - share) + rows[both] * share
        count = -(-ready // HOP_SAMPLES) - self._hops
        self._tail = rows[count:]
        self._hops += count
        return rows[:count].astype(np.float32)
