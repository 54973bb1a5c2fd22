"""How wrong a predicted mouth is: landmarks, the lips' gap, closed lips, and motion from token to token."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from avatarfit.fitting.driver_lessons import Lesson
from avatarfit.model.rig import MOUTH_REGION, Rig

_UPPER_LIP, _LOWER_LIP = (int(np.flatnonzero(i == MOUTH_REGION)[0]) for i in (13, 14))


@dataclass(frozen=True)
class DriverLossConfig:
    """Weights beside the landmarks' own, which is 1."""

    gap_weight: float = 2.4
    """Of the inner lips' gap."""
    closed_gap_weight: float = 2.0
    """How much more the gap counts where the lips are (nearly) closed."""
    closure_weight: float = 1.0
    """Of the cross-entropy of closed lips."""
    closed_share: float = 2.0
    """How much more closed lips count in it than open ones, which are many more."""
    velocity_weight: float = 0.3
    """Of the landmarks' motion from token to token."""


class DriverLoss:
    """Landmarks in cm (the rig's basis is orthonormal, so scaled coefficients measure them).

    They are measured against the spread of the whole mouth region over the clip, the gap against its own.
    """

    def __init__(self, rig: Rig, config: DriverLossConfig, lesson: Lesson) -> None:
        self.config = config
        self.deviation = torch.from_numpy(rig.mouth_deviation_cm.copy())
        gap = rig.mouth_basis[:, _LOWER_LIP, 1] - rig.mouth_basis[:, _UPPER_LIP, 1]
        self.gap = torch.from_numpy(gap) * self.deviation
        gaps = lesson.targets[lesson.known, :-1] @ self.gap.numpy()
        self.gap_variance = max(float(gaps.var()), 1e-6)
        self.variance = max(float(np.square(rig.mouth_deviation_cm).sum()), 1e-6)

    def weights(self) -> np.ndarray:
        """float64 [M + 1]: of each value's squared error, about those of the loss; for comparing linear models."""
        share = np.square(self.deviation.numpy()) / self.variance
        share += self.config.gap_weight * np.square(self.gap.numpy()) / self.gap_variance
        return np.append(share, self.config.closure_weight).astype(np.float64)

    def __call__(self, predicted: Tensor, target: Tensor, known: Tensor) -> Tensor:
        """Scalar.

        Args:
            predicted: [B, T, M + 1], coefficients and the logit of closed lips.
            target: [B, T, M + 1], coefficients and how closed the lips are.
            known: [B, T], 1 where there is a target.
        """
        weights, count = self.config, known.sum().clamp_min(1)
        off = predicted[..., :-1] - target[..., :-1]
        error, closed = off * self.deviation, target[..., -1]
        shape = (error.square().sum(-1) * known).sum() / (count * self.variance)
        weight = known * (1 + weights.closed_gap_weight * closed)
        gap = ((off @ self.gap).square() * weight).sum() / (weight.sum().clamp_min(1) * self.gap_variance)
        closure = functional.binary_cross_entropy_with_logits(
            predicted[..., -1], closed, known, reduction="sum", pos_weight=torch.tensor(weights.closed_share)
        )
        both = known[:, 1:] * known[:, :-1]
        velocity = ((error[:, 1:] - error[:, :-1]).square().sum(-1) * both).sum()
        velocity = velocity / (both.sum().clamp_min(1) * self.variance)
        return (
            shape + weights.gap_weight * gap + weights.closure_weight * closure / count
            + weights.velocity_weight * velocity
        )  # fmt: skip
