"""Sound in as it comes, motion out as soon as it can be known: the same frames live, from a file, and all at once.

A frame needs `look_ahead_seconds` of sound after its moment: what the resampler, the features and the network hear
ahead, and up to one hop of 10 ms, for the network is asked at the hops on either side of a frame. It depends on the
rows of features around it and, through the running normalisation, on the sound before; on nothing that comes later.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avatarfit.audio import (
    HOP_SECONDS,
    FeatureStream,
    SpeechEncoder,
    feature_name,
    look_ahead_seconds,
)
from avatarfit.audio.named_encoder import encoder_of
from avatarfit.contracts import FaceMotion, FileFormatError, HeadPose, Motion, TorsoMotion
from avatarfit.driving.control_values import Controls, ControlSource
from avatarfit.driving.controls import MotionControls
from avatarfit.driving.motion_sources import StanceSource
from avatarfit.media import StreamResampler
from avatarfit.model.audio_to_landmarks import LOOK_AHEAD_HOPS, PAST_HOPS
from avatarfit.model.driver_model import DriverModel
from avatarfit.model.habits import SOUND_COLUMNS, HabitSampler
from avatarfit.model.mouth_flow import SmoothNoise
from avatarfit.model.rig import Rig

# People do not close their mouths between words: the mouth begins to rest a tenth of a second after the last of them,
# and opens before the first. A longer hold follows the measured lips a little better (r 0.635 against 0.620) and lets
# them move twice as much in silence (0.24 of their speed in speech against 0.13; cross-validated on a minute).
_HOLD_HOPS, _CLOSING_HOPS, _OPENING_HOPS = 10, 12, 7
_ON_HOP = 0.07
"""A frame up to 0.7 ms past a hop stands on it; it would else wait for a whole hop more."""
_MOST_FRAMES = 500


@dataclass(frozen=True)
class DriveOptions:
    """What a person may turn."""

    seed: int = 0
    """Which of the endless sequences of blinks and head motion."""
    lip_strength: float = 1.2
    """Size of the lips' motion about rest, 0 to 2; 1 is what the fit predicts, smaller than life as all regression."""
    lle_strength: float = 0.3
    """How far mouth shapes are pulled onto the clip's own (locally linear embedding), 0 to 1."""

    variation: float = 0.0
    """Of the many mouths that a sound allows: 0 their mean, always the same; 1 one of them, drawn by the seed, with as
    much motion beside the mean as the person has."""

    def __post_init__(self) -> None:
        for name, highest in (("lip_strength", 2.0), ("lle_strength", 1.0), ("variation", 1.0)):
            if not 0 <= getattr(self, name) <= highest:
                raise ValueError(f"{name} came as {getattr(self, name)}; wanted 0 to {highest:g}")


class DriverStream:
    """One session of one avatar: `push` sound, take motion.

    Args:
        model, rig: of one avatar.
        sample_rate_hz: of the sound, any.
        frame_rate_hz: of the motion, any.
        options: see `DriveOptions`.
        encoder: of the features that the model was fitted with; None finds it among what is built in.
        start_seconds: time of the first sample and of the first frame.
        controls: what is turned, by time, of all motion.
        stances: all but the mouth; None re-plays the person's own habits.

    Raises:
        FileFormatError: the model was fitted on other features, or for another rig.
        ValueError: a rate is not positive.
    """

    def __init__(
        self,
        model: DriverModel,
        rig: Rig,
        sample_rate_hz: int,
        frame_rate_hz: float,
        options: DriveOptions | None = None,
        *,
        encoder: SpeechEncoder | None = None,
        start_seconds: float = 0.0,
        controls: ControlSource | None = None,
        stances: StanceSource | None = None,
    ) -> None:
        encoder = encoder_of(model.feature_name, None) if encoder is None else encoder
        _check(model, rig, encoder)
        if not frame_rate_hz > 0:
            raise ValueError(f"frame_rate_hz came as {frame_rate_hz}; wanted a positive rate")
        self.options = options or DriveOptions()
        self._model, self._rate, self._in_hz = model, frame_rate_hz, sample_rate_hz
        self._noise = _noise(model, self.options)
        self._resampler = StreamResampler(sample_rate_hz, encoder.sample_rate_hz)
        self._features = FeatureStream(encoder)
        self._start_seconds = start_seconds
        self._controls = MotionControls(controls or Controls(), rig, model)
        self._stances: StanceSource = stances or HabitSampler(
            model.habits, self.options.seed, frame_rate_hz,
            lambda seconds: self._controls.blink_rate(seconds + start_seconds),
        )  # fmt: skip
        self.look_ahead_seconds = (
            self._resampler.look_ahead_seconds
            + look_ahead_seconds(encoder)
            + LOOK_AHEAD_HOPS * HOP_SECONDS
            + _farthest_hop(frame_rate_hz) * HOP_SECONDS
        )
        """A frame is out when so much sound after its moment is in."""
        config = model.network.config
        self._context = config.past_tokens_total * config.stride_hops + PAST_HOPS
        self._history = max(self._context, _HOLD_HOPS + _CLOSING_HOPS) + 1
        self._rows = np.zeros((0, config.feature_count), np.float32)
        self._first_hop = 0  # of self._rows
        self._samples = self._frames = 0
        self._nothing = self._frames_of(0)
        model.network.eval()

    def push(self, samples: np.ndarray) -> Motion:
        """The frames, perhaps none, that have become known.

        Args:
            samples: float32 [n], any n >= 0. How the sound is cut into pieces changes nothing.
        """
        self._samples += len(samples)
        self._take(self._features.push(self._resampler.push(samples)))
        known = self._first_hop + len(self._rows) - 1 - LOOK_AHEAD_HOPS
        # Frame i stands at hop i * 100 / rate; all up to the last hop with its look-ahead can be told.
        count = int((known + _ON_HOP) * HOP_SECONDS * self._rate) + 2
        hops = self._hops(np.arange(self._frames, max(count, self._frames)))
        return self._next(int((np.ceil(hops) <= known).sum()) if known >= 0 else 0)

    def finish(self) -> Motion:
        """All other frames: `round(duration * frame_rate_hz)` in all, at least one if there was any sound."""
        self._take(self._features.push(self._resampler.finish()))
        self._take(self._features.finish())
        total = max(round(self._samples / self._in_hz * self._rate), 1) if self._samples else 0
        return self._next(max(total - self._frames, 0))

    def _take(self, rows: np.ndarray) -> None:
        if len(rows) and not self._first_hop and not len(self._rows):
            # Before the first hop it always was as at the first hop.
            rows = np.concatenate([np.repeat(rows[:1], self._history, axis=0), rows])
            self._first_hop = -self._history
        self._rows = np.concatenate([self._rows, rows])

    def _hops(self, frames: np.ndarray) -> np.ndarray:
        """Where frames stand, in hops."""
        position = frames / (self._rate * HOP_SECONDS)
        low = np.floor(position + 1e-9)
        return np.where(position - low <= _ON_HOP, low, position)

    def _next(self, count: int) -> Motion:
        if not count:
            return self._nothing
        parts = [self._frames_of(min(_MOST_FRAMES, count - done)) for done in range(0, count, _MOST_FRAMES)]
        keep = int(self._hops(np.array([self._frames]))[0]) - self._history
        if keep > self._first_hop:
            self._rows = self._rows[keep - self._first_hop :].copy()
            self._first_hop = keep
        return joined(parts)

    def _frames_of(self, count: int) -> Motion:
        frames = np.arange(self._frames, self._frames + count)
        self._frames += count
        hops = self._hops(frames)
        heard = self._at(np.floor(hops).astype(np.int64))[:, list(SOUND_COLUMNS)]
        pts = self._start_seconds + frames / self._rate
        stance = self._stances.next(count, heard)
        motion = Motion(
            pts,
            FaceMotion(self._mouth(hops), stance.upper, stance.eyes),
            HeadPose(stance.rotation_wxyz, stance.translation_cm),
            TorsoMotion(stance.torso_affine, stance.torso_shape),
        )
        return self._controls.apply(motion) if count else motion

    def _mouth(self, position: np.ndarray) -> np.ndarray:
        """Mouth coefficients [T, M]: predicted, scaled about rest, at rest in silence, pulled onto the clip's."""
        if not len(position):
            return np.zeros((0, len(self._model.mouth_rest)), np.float32)
        low = np.floor(position).astype(np.int64)
        weight = (position - low).astype(np.float32)[:, None]
        high = low + (weight[:, 0] > 0)
        hops, index = np.unique(np.concatenate([low, high]), return_inverse=True)
        options = self.options
        told = self._predicted(hops)
        if self._noise is not None and self._model.flow is not None:
            told[:, :-1] += options.variation * self._model.flow.sample(told, self._noise.at(hops))
        mouths = self._model.mouth(told, self._speaking(hops), options.lip_strength, options.lle_strength)
        below, above = mouths[index[: len(low)]], mouths[index[len(low) :]]
        return below + weight * (above - below)

    def _speaking(self, hops: np.ndarray) -> np.ndarray:
        """float32 [H]: voice activity, begun early, held, and eased on both sides."""
        activity = self._at(hops[:, None] + np.arange(-len(_GATE) + LOOK_AHEAD_HOPS + 1, LOOK_AHEAD_HOPS + 1))[..., -1]
        return (activity * _GATE).max(axis=1)

    def _predicted(self, hops: np.ndarray) -> np.ndarray:
        """What the network tells at `hops` [H], rising: float32 [H, M + 1]; each with its whole past."""
        config = self._model.network.config
        stride, past = config.stride_hops, config.past_tokens_total
        phases, phase = np.unique((hops - hops[0]) % stride, return_inverse=True)
        tokens = (hops - hops[0] - phases[phase]) // stride
        count = int(tokens.max()) + 1
        first = hops[0] + phases - self._context
        length = (past + count - 1) * stride + PAST_HOPS + LOOK_AHEAD_HOPS + 1
        heard = self._at(first[:, None] + np.arange(length))
        told: np.ndarray = self._model.tell(heard, past)[phase, tokens]
        return told

    def _at(self, hops: np.ndarray) -> np.ndarray:
        """Rows at hops; after the last the last. (Rows after what a frame hears are asked for, but change nothing.)"""
        if not hops.size:
            return np.zeros((*hops.shape, self._rows.shape[1]), np.float32)
        return self._rows[np.clip(hops - self._first_hop, 0, len(self._rows) - 1)]


def _gate() -> np.ndarray:
    """float32: how much speech at a hop opens the mouth, from the farthest past to `LOOK_AHEAD_HOPS` ahead."""
    closing = 0.5 - 0.5 * np.cos(np.pi * np.arange(1, _CLOSING_HOPS + 1) / (_CLOSING_HOPS + 1))
    opening = 0.5 + 0.5 * np.cos(np.pi * np.arange(1, _OPENING_HOPS + 1) / (_OPENING_HOPS + 1))
    full = np.ones(_HOLD_HOPS + 1 + LOOK_AHEAD_HOPS - _OPENING_HOPS)
    return np.concatenate([closing, full, opening]).astype(np.float32)


_GATE = _gate()


def _farthest_hop(frame_rate_hz: float) -> float:
    """How far, in hops, the hop after a frame is at most, at this rate."""
    position = np.arange(10_000) / (frame_rate_hz * HOP_SECONDS)
    past = position - np.floor(position + 1e-9)
    late = past > _ON_HOP
    return float((1 - past[late]).max()) if late.any() else 0.0


def _noise(model: DriverModel, options: DriveOptions) -> SmoothNoise | None:
    """What draws mouths; None where the mean is asked for.

    Raises:
        FileFormatError: the driver was fitted before mouths could be drawn.
    """
    if not options.variation:
        return None
    if model.flow is None:
        raise FileFormatError(
            "This avatar's driver knows only the mean mouth", "one that was fitted with what it leaves open",
            "fit the avatar again with this version, or leave --variation at 0",
        )  # fmt: skip
    return SmoothNoise(options.seed, len(model.flow.axes), float(model.flow.reach_hops))


def _check(model: DriverModel, rig: Rig, encoder: SpeechEncoder) -> None:
    if model.feature_name != feature_name(encoder):
        raise FileFormatError(
            f"This avatar's driver hears {model.feature_name}", feature_name(encoder),
            "give the features it was fitted with (--features), or fit the avatar again with this version",
        )  # fmt: skip
    if len(model.mouth_rest) != len(rig.mouth_deviation_cm):
        raise FileFormatError(
            f"The driver moves {len(model.mouth_rest)} mouth coefficients",
            f"the rig's {len(rig.mouth_deviation_cm)}",
            "use driver and rig of one avatar",
        )


def joined(parts: list[Motion]) -> Motion:
    """Pieces of one motion, one after the other; at least one piece."""
    parts = [part for part in parts if len(part)] or parts[:1]
    if len(parts) == 1:
        return parts[0]
    faces = [part.face for part in parts]
    return Motion(
        np.concatenate([part.pts_seconds for part in parts]),
        FaceMotion(*(np.concatenate([getattr(face, name) for face in faces]) for name in ("mouth", "upper", "eyes"))),
        HeadPose(
            np.concatenate([part.head.rotation_wxyz for part in parts]),
            np.concatenate([part.head.translation_cm for part in parts]),
        ),
        TorsoMotion(*(np.concatenate([getattr(part.torso, name) for part in parts]) for name in ("affine", "shape"))),
    )
