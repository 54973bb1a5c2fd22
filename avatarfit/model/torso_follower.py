"""Where the torso is when only the head's motion is known: what this person's clip shows, by ridge regression.

The head rides on the torso, so its place tells most of where that is (Hoerl and Kennard 1970, ridge regression); of how
the clothes give way it tells little, so those are held near rest. What the head did a moment before or does after adds
nothing (measured).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avatarfit.contracts import HeadPose, TorsoMotion, rotations

_AFFINE_RIDGE, _SHAPE_RIDGE = 0.005, 1.0
"""Shares of the samples' number; inputs are in deviations."""


@dataclass(frozen=True)
class TorsoFollower:
    """A linear map from the head's pose to the torso's motion.

    Attributes:
        mean, deviation: float64 [6], of rotation vector and translation.
        weights: float64 [7, 6 + S]; the last row is the constant.
    """

    mean: np.ndarray
    deviation: np.ndarray
    weights: np.ndarray

    @staticmethod
    def fit(head: HeadPose, torso: TorsoMotion) -> TorsoFollower:
        """What one clip's T frames show."""
        inputs = _inputs(head)
        mean, deviation = inputs.mean(axis=0), np.maximum(inputs.std(axis=0), 1e-6)
        x = np.concatenate([(inputs - mean) / deviation, np.ones((len(inputs), 1))], axis=1)
        held = np.diag(np.append(np.full(inputs.shape[1], float(len(x))), 0))
        weights = [
            np.linalg.solve(x.T @ x + ridge * held, x.T @ y.astype(np.float64))
            for ridge, y in ((_AFFINE_RIDGE, torso.affine.reshape(len(torso), 6)), (_SHAPE_RIDGE, torso.shape))
        ]
        return TorsoFollower(mean, deviation, np.concatenate(weights, axis=1))

    def torso(self, head: HeadPose) -> TorsoMotion:
        """The torso's motion under a head's, T frames."""
        x = (_inputs(head) - self.mean) / self.deviation
        y = x @ self.weights[:-1] + self.weights[-1]
        return TorsoMotion(y[:, :6].reshape(-1, 2, 3), y[:, 6:])


def _inputs(head: HeadPose) -> np.ndarray:
    """float64 [T, 6]."""
    return np.concatenate([rotations(head.rotation_wxyz).as_rotvec(), head.translation_cm], axis=1)
