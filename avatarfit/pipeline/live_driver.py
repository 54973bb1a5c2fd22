"""Sound -> motion in a session: the driver, with a listener's ways around the person's habits."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

import numpy as np

from avatarfit.audio import SpeechEncoder
from avatarfit.audio.named_encoder import encoder_of
from avatarfit.audio.network_features import require_live
from avatarfit.driving import DriveOptions, DriverStream, Settings
from avatarfit.model.habits import HabitSampler, Stance
from avatarfit.pipeline.listening import Attention, Ear, Nods
from avatarfit.pipeline.live_controls import LiveControls
from avatarfit.pipeline.live_frame import LiveState, Moment

if TYPE_CHECKING:
    from avatarfit.driving.motion_sources import StanceSource
    from avatarfit.model.avatar import Avatar

_ACTIVE = 0.5
_SPEAKING_HOLD_SECONDS = 0.4
"""Pauses within speech are speech."""


class Driver(Protocol):
    """What turns a session's line of sound into moments; `LiveDriver`, or a stand-in."""

    look_ahead_seconds: float
    """A moment is told when so much sound after it is in."""
    sample_rate_hz: int
    mouth_rest: np.ndarray
    """float32 [M]."""

    @property
    def nods(self) -> int:
        """How often the head nodded."""

    def push(self, samples: np.ndarray) -> list[Moment]:
        """The moments that have become known. `samples`: float32 [n]."""

    def hear(self, samples: np.ndarray, rate_hz: int, now_seconds: float) -> None:
        """The other's voice, float32 [n], up to the time of the moment that is told now."""

    def turn(self, settings: Settings) -> None:
        """Other controls, from the next moment on."""


class LiveDriver:
    """See `Driver`. One person's driver, in real time.

    Args:
        avatar: whose.
        frame_rate_hz: of the motion.
        options: see `DriveOptions`.
        settings: controls to begin with.
        features: what the avatar's driver hears, if it is a network (`encoder_of`).
        stances: head, torso, eyes and brows; None for the person's own habits.

    Raises:
        InputError: the features hear too far ahead for a live voice.
        FileFormatError: as `encoder_of` and `DriverStream`.
    """

    def __init__(
        self,
        avatar: Avatar,
        frame_rate_hz: float,
        options: DriveOptions,
        settings: Settings,
        *,
        features: str | None = None,
        stances: StanceSource | None = None,
    ) -> None:
        encoder = encoder_of(avatar.driver.feature_name, features)
        require_live(encoder)
        self.sample_rate_hz = encoder.sample_rate_hz
        self.mouth_rest = avatar.driver.mouth_rest
        attention = Attention(frame_rate_hz)
        self._controls = LiveControls(settings, attention)
        habits = stances or HabitSampler(
            avatar.driver.habits, options.seed, frame_rate_hz, lambda pts: self._controls.at(pts).blink_rate
        )
        self._listener = _Listener(habits, attention, frame_rate_hz)
        self._stream = DriverStream(
            avatar.driver, avatar.rig, encoder.sample_rate_hz, frame_rate_hz, options,
            encoder=encoder, controls=self._controls, stances=self._listener,
        )  # fmt: skip
        self.look_ahead_seconds = self._stream.look_ahead_seconds
        warm(avatar, encoder)
        self._frames = 0
        self._rate = frame_rate_hz

    @property
    def nods(self) -> int:
        """How often the head nodded."""
        return self._listener.nods

    @property
    def settings(self) -> Settings:
        """The controls' values."""
        return self._controls.settings

    def push(self, samples: np.ndarray) -> list[Moment]:
        """See `Driver`."""
        motion = self._stream.push(samples)
        out = []
        for k in range(len(motion)):
            moment = motion if len(motion) == 1 else motion[k : k + 1]
            out.append(Moment(self._frames, moment, self._listener.states.popleft()))
            self._frames += 1
        return out

    def hear(self, samples: np.ndarray, rate_hz: int, now_seconds: float) -> None:
        """See `Driver`."""
        self._listener.ear.hear(samples, rate_hz, now_seconds)

    def turn(self, settings: Settings) -> None:
        """See `Driver`."""
        self._controls.turn(settings, self._frames / self._rate)


_WARM = set[str]()


def warm(avatar: Avatar, encoder: SpeechEncoder) -> None:
    """Loads what is loaded at first use: no session's first words are to wait for it."""
    if encoder.name not in _WARM:
        hiss = np.random.default_rng(0).normal(0, 0.1, encoder.sample_rate_hz // 2).astype(np.float32)
        DriverStream(avatar.driver, avatar.rig, encoder.sample_rate_hz, 25.0, encoder=encoder).push(hiss)
        _WARM.add(encoder.name)


class _Listener:
    """A `StanceSource` around another: attentive while the other speaks, nodding in the right places."""

    def __init__(self, habits: StanceSource, attention: Attention, frame_rate_hz: float) -> None:
        self._habits, self._attention, self._rate = habits, attention, frame_rate_hz
        self._nods = Nods(frame_rate_hz)
        self.ear = Ear()
        self.states: deque[LiveState] = deque()
        self._frame = 0
        self._spoke = -np.inf

    @property
    def nods(self) -> int:
        return self._nods.count

    def next(self, count: int, heard: np.ndarray | None = None) -> Stance:
        """See `StanceSource`."""
        for k in range(count):
            pts = (self._frame + k) / self._rate
            if heard is not None and heard[k, 0] > _ACTIVE:
                self._spoke = pts
            speaking = pts - self._spoke < _SPEAKING_HOLD_SECONDS
            listening = not speaking and self.ear.listening(pts)
            self._attention.next(pts, listening)
            if self.ear.nods(pts) and listening:
                self._nods.start()
            state = LiveState.SPEAKING if speaking else LiveState.LISTENING if listening else LiveState.IDLE
            self.states.append(state)
        self._frame += count
        return self._nods.over(self._habits.next(count, heard))
