"""A stream of samples cut into stretches around hops of 10 ms: hop k stands at sample 160 k."""

from __future__ import annotations

import numpy as np

from avatarfit.audio.log_mel import HOP_SAMPLES, hop_count


class HopWindows:
    """Keeps just the samples that hops still to come will see.

    Args:
        before, after: samples that a hop sees before its own and from its own on. Beyond both ends there is silence.
    """

    def __init__(self, before: int, after: int) -> None:
        self._before, self._after = before, after
        self._kept = np.zeros(before, np.float32)
        self._samples = self._hops = 0

    def push(self, samples: np.ndarray) -> np.ndarray:
        """The stretch of the hops that have become ready.

        Args:
            samples: float32 [n], any n.

        Returns:
            float32 [(k - 1) * 160 + before + after] for k >= 1 hops, [0] for none.
        """
        self._samples += len(samples)
        self._kept = np.concatenate([self._kept, samples])
        return self._taken(max((self._samples - self._after) // HOP_SAMPLES + 1 - self._hops, 0))

    def finish(self) -> np.ndarray:
        """The stretch of all other hops of the sound, with silence after it."""
        count = hop_count(self._samples) - self._hops
        missing = (count - 1) * HOP_SAMPLES + self._before + self._after - len(self._kept)
        self._kept = np.pad(self._kept, (0, max(missing, 0)))
        return self._taken(count)

    def _taken(self, count: int) -> np.ndarray:
        if count < 1:
            return self._kept[:0]
        stretch = self._kept[: (count - 1) * HOP_SAMPLES + self._before + self._after]
        self._kept = self._kept[count * HOP_SAMPLES :].copy()
        self._hops += count
        return stretch
