"""Running mean and spread: the average of all that came, beginning with a prior, and slowly forgetting."""

from __future__ import annotations

import numpy as np


class RunningNormaliser:
    """Columns less their running mean, over their running spread (cepstral mean and variance normalisation, Viikki &
    Laurila 1998, without the delay of a whole recording).

    Args:
        mean, spread: float [C], what is taken to be so before anything came.
        prior_hops: how much that counts: as this many hops.
        memory_hops: in the long run the average reaches back about so many hops.
        limit: a column further than this many spreads from its mean counts as if it were there.
    """

    def __init__(
        self, mean: np.ndarray, spread: np.ndarray, prior_hops: float, memory_hops: float, limit: float = 3.0
    ) -> None:
        self._mean = mean.astype(np.float64)
        self._variance = np.square(spread, dtype=np.float64)
        self._least = self._variance * 0.05
        self._count, self._memory, self._limit = float(prior_hops), float(memory_hops), limit
        self._spread = np.sqrt(self._variance)
        self._far = limit * self._spread

    def step(self, row: np.ndarray, weight: float) -> np.ndarray:
        """The next row float [C] normalised, within the limit; it counts by `weight`, 0 to 1."""
        off = row - self._mean
        if weight > 1e-3:
            self._count = min(self._count + weight, self._memory)
            gain = weight / self._count
            # What lies far out, such as digital silence between words, must not weigh by how far.
            near = np.minimum(np.maximum(off, -self._far), self._far)
            step = gain * near
            self._mean += step
            off -= step
            near *= near
            near *= 1 - gain
            near -= self._variance
            near *= gain
            self._variance += near
            np.maximum(self._variance, self._least, out=self._variance)
            self._spread = np.sqrt(self._variance)
            self._far = self._limit * self._spread
        off /= self._spread
        return np.minimum(np.maximum(off, -self._limit), self._limit)
