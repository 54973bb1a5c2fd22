"""The kernel regression's part of a driver's fit: how much later than the mouth its sound comes, and the votes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from avatarfit.fitting.driver_lessons import Lesson
from avatarfit.model import kernel_regression
from avatarfit.model.audio_to_landmarks import PAST_HOPS, AudioToLandmarksConfig
from avatarfit.model.kernel_regression import KernelRegression

LEADS_HOPS = (0.0, 2.0, 4.0, 6.0)
_BLOCK_SECONDS, _FOLDS, _FEWEST_BLOCKS = 6.0, 3, 6


def kernel_for(config: AudioToLandmarksConfig, moments: Moments) -> KernelRegression:
    """An unsolved kernel regression for these moments, as the network's first."""
    centres, _, columns = moments.windows.shape
    return KernelRegression(centres, columns, moments.targets.shape[1], config.kernel_group, config.kernel_axes)


@dataclass(frozen=True)
class Moments:
    """Moments to learn from.

    Attributes:
        windows: float32 [N, L, D], the hops around each, as the kernel regression takes them.
        targets: float32 [N, M + 1].
        seconds: float [N], when they were in the clip.
    """

    windows: np.ndarray
    targets: np.ndarray
    seconds: np.ndarray

    @staticmethod
    def of(lessons: Sequence[Lesson], stride_hops: int, most: int) -> Moments:
        """At most so many of the lessons' tokens that have a target, evenly spread."""
        first, last = PAST_HOPS - kernel_regression.PAST_HOPS, PAST_HOPS + kernel_regression.AHEAD_HOPS + 1
        tokens = [(part, int(t)) for part in lessons for t in np.flatnonzero(part.known)]
        chosen = [tokens[i] for i in np.linspace(0, len(tokens) - 1, min(len(tokens), most)).astype(np.int64)]
        return Moments(
            np.stack([part.hops[t * stride_hops + first : t * stride_hops + last] for part, t in chosen]),
            np.stack([part.targets[t] for part, t in chosen]),
            np.array([part.seconds[t] for part, t in chosen]),
        )

    def only(self, which: np.ndarray) -> Moments:
        """Those of a mask bool [N]."""
        return Moments(self.windows[which], self.targets[which], self.seconds[which])

    def into(self, kernel: KernelRegression, lead_hops: float) -> None:
        """Fits the kernel regression's votes."""
        kernel.solve(torch.from_numpy(self.windows), torch.from_numpy(self.targets), lead_hops)


def blocks_of(moments: Moments) -> np.ndarray:
    """int64 [N]: the six seconds of the clip that each lies in."""
    return np.floor((moments.seconds - moments.seconds.min()) / _BLOCK_SECONDS).astype(np.int64)


def best_lead(config: AudioToLandmarksConfig, moments: Moments, weights: np.ndarray) -> float:
    """Which of `LEADS_HOPS` predicts blocks of six seconds best to which it was not fitted.

    Clips differ in it: recorders and codecs put sound and picture up to two frames apart. A clip of less than six
    blocks cannot tell, and has the usual one.

    Args:
        weights: float [M + 1], of each value's squared error.
    """
    block = blocks_of(moments)
    if len(np.unique(block)) < _FEWEST_BLOCKS:
        return config.lead_hops
    errors = []
    for lead in LEADS_HOPS:
        error = 0.0
        for fold in range(_FOLDS):
            inside, outside = moments.only(block % _FOLDS != fold), moments.only(block % _FOLDS == fold)
            kernel = kernel_for(config, inside)
            inside.into(kernel, lead)
            with torch.no_grad():
                told = kernel(torch.from_numpy(outside.windows), 1)[:, 0].numpy()
            error += float((np.square(told - outside.targets) @ weights).sum())
        errors.append(error)
    return LEADS_HOPS[int(np.argmin(errors))]
