"""Controls that may be turned while a session runs: every change is eased from where the values stand."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from avatarfit.driving.control_values import Controls, ControlTrack, Settings
from avatarfit.pipeline.listening import Attention

_EASE_SECONDS = 0.3
_NAMES = tuple(f.name for f in fields(ControlTrack))


class LiveControls:
    """What `DriverStream` asks for controls, with settings that change.

    Args:
        settings: to begin with.
        attention: how far the person listens; then eyes that are free look at the camera.
    """

    neutral = False
    """It may be turned at any time."""

    def __init__(self, settings: Settings, attention: Attention) -> None:
        self._attention = attention
        self._target = _values(settings)
        self._origin = self._target
        self._began = -np.inf
        self.settings = settings

    def turn(self, settings: Settings, at_seconds: float) -> None:
        """Goes to other settings from a time on that has not been asked for yet."""
        self._origin = {name: value[0] for name, value in self._eased(np.array([at_seconds])).items()}
        self._target, self._began, self.settings = _values(settings), at_seconds, settings

    def at(self, pts_seconds: np.ndarray) -> ControlTrack:
        """See `Controls`."""
        values = self._eased(np.asarray(pts_seconds, np.float64))
        looking = self._attention.at(pts_seconds)
        if looking.any():
            values["gaze"] = np.maximum(values["gaze"], looking)
        return ControlTrack(**values)

    def _eased(self, pts_seconds: np.ndarray) -> dict[str, np.ndarray]:
        if (pts_seconds >= self._began + _EASE_SECONDS).all():
            each = np.zeros(len(pts_seconds), np.int64)
            return {name: value[None][each] for name, value in self._target.items()}
        x = np.clip((pts_seconds - self._began) / _EASE_SECONDS, 0, 1)
        share = x * x * (3 - 2 * x)
        out = {}
        for name in _NAMES:
            low, high = self._origin[name], self._target[name]
            out[name] = low + share.reshape(-1, *[1] * low.ndim) * (high - low)
        return out


def _values(settings: Settings) -> dict[str, np.ndarray]:
    track = Controls(settings).at(np.zeros(1))
    return {name: getattr(track, name)[0] for name in _NAMES}
