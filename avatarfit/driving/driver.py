"""Sound -> motion: the mouth from what is heard, the rest from the person's habits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d, maximum_filter1d

from avatarfit.audio import FEATURE_NAME, SAMPLE_RATE_HZ, SpeechFeatures, speech_features
from avatarfit.contracts import AudioClip, FaceMotion, FileFormatError, HeadPose, Motion, SoundError, TorsoMotion
from avatarfit.media import resample
from avatarfit.model.driver_model import DriverModel
from avatarfit.model.habits import HabitSampler
from avatarfit.model.rig import Rig

CHUNK_FRAMES = 500
# People do not close their mouths between words: the mouth goes to rest half a second after the last of them.
_HOLD_HOPS, _EARLY_HOPS = 50, 12
_EASE_HOPS = 8.0


@dataclass(frozen=True)
class DriveOptions:
    """What a person may turn."""

    seed: int = 0
    """Which of the endless sequences of blinks and head motion."""
    lip_strength: float = 1.2
    """Size of the lips' motion about rest, 0 to 2; 1 is what the fit predicts, smaller than life as all regression."""
    lle_strength: float = 0.3
    """How far mouth shapes are pulled onto the clip's own (locally linear embedding), 0 to 1."""
    head_motion: float = 1.0
    """Size of head and torso motion about rest, 0 to 1; blinks and gaze stay."""

    def __post_init__(self) -> None:
        for name, highest in (("lip_strength", 2.0), ("lle_strength", 1.0), ("head_motion", 1.0)):
            if not 0 <= getattr(self, name) <= highest:
                raise ValueError(f"{name} came as {getattr(self, name)}; wanted 0 to {highest:g}")


def drive(
    model: DriverModel,
    rig: Rig,
    sound: AudioClip,
    frame_rate_hz: float,
    *,
    seed: int = 0,
    lip_strength: float = DriveOptions.lip_strength,
    lle_strength: float = DriveOptions.lle_strength,
    head_motion: float = DriveOptions.head_motion,
) -> Motion:
    """The motion of a whole sound.

    Args:
        model, rig: of one avatar.
        sound: mono at any rate, by anyone. Silence is allowed: the mouth rests.
        frame_rate_hz: of the motion.
        seed, lip_strength, lle_strength, head_motion: see `DriveOptions`.

    Returns:
        `round(duration * frame_rate_hz)` frames (at least one), the first at the sound's start.

    Raises:
        SoundError: the sound is empty.
        FileFormatError: the model was fitted on other features, or for another rig.
        ValueError: an option is out of its range.
    """
    options = DriveOptions(seed, lip_strength, lle_strength, head_motion)
    return _joined(list(drive_chunks(model, rig, sound, frame_rate_hz, options)))


def drive_chunks(
    model: DriverModel,
    rig: Rig,
    sound: AudioClip,
    frame_rate_hz: float,
    options: DriveOptions | None = None,
    chunk_frames: int = CHUNK_FRAMES,
) -> Iterator[Motion]:
    """`drive`, piece by piece.

    Besides the sound and its features (27 kB a second) memory depends on `chunk_frames` only, and so does nothing else:
    the pieces together are what `drive` gives.

    Raises:
        as `drive`, before the first piece.
    """
    options = options or DriveOptions()
    if not len(sound.samples):
        raise SoundError("The sound is empty", "speech", "give a recording in which someone speaks")
    if not frame_rate_hz > 0 or chunk_frames < 1:
        raise ValueError(f"frame_rate_hz {frame_rate_hz} and chunk_frames {chunk_frames} came; wanted positive")
    if model.feature_name != FEATURE_NAME:
        raise FileFormatError(
            f"This avatar's driver hears {model.feature_name}", FEATURE_NAME, "fit the avatar again with this version"
        )
    if len(model.mouth_rest) != len(rig.mouth_deviation_cm):
        raise FileFormatError(
            f"The driver moves {len(model.mouth_rest)} mouth coefficients",
            f"the rig's {len(rig.mouth_deviation_cm)}",
            "use driver and rig of one avatar",
        )
    return _chunks(model, sound, frame_rate_hz, options, chunk_frames)


def _chunks(
    model: DriverModel, sound: AudioClip, frame_rate_hz: float, options: DriveOptions, chunk_frames: int
) -> Iterator[Motion]:
    features = speech_features(resample(sound, SAMPLE_RATE_HZ))
    speaking = _held(features.activity)
    habits = HabitSampler(model.habits, options.seed, frame_rate_hz, options.head_motion)
    total = max(round(sound.duration_seconds * frame_rate_hz), 1)
    for start in range(0, total, chunk_frames):
        pts = sound.start_seconds + np.arange(start, min(start + chunk_frames, total)) / frame_rate_hz
        mouth = _mouth(model, features, features.at(speaking, pts)[:, None], pts, options)
        stance = habits.next(len(pts))
        yield Motion(
            pts,
            FaceMotion(mouth, stance.upper, stance.eyes),
            HeadPose(stance.rotation_wxyz, stance.translation_cm),
            TorsoMotion(stance.torso_affine, stance.torso_shape),
        )


def _held(activity: np.ndarray) -> np.ndarray:
    """float32 [F]: voice activity, begun 120 ms early, held for half a second and eased."""
    size = _HOLD_HOPS + _EARLY_HOPS + 1
    # The filter's window is centred; the origin moves it so that it spans _HOLD_HOPS back and _EARLY_HOPS ahead.
    held = maximum_filter1d(activity, size, mode="nearest", origin=size // 2 - _EARLY_HOPS)
    return gaussian_filter1d(held, _EASE_HOPS, mode="nearest")


def _mouth(
    model: DriverModel, features: SpeechFeatures, speaking: np.ndarray, pts: np.ndarray, options: DriveOptions
) -> np.ndarray:
    """Mouth coefficients [T, M]: predicted, scaled about rest, at rest where nobody speaks, pulled onto the clip's."""
    rest = model.mouth_rest
    heard = _predicted(model, features, pts)
    mouth = rest + speaking * options.lip_strength * (heard - rest)
    return model.shapes(mouth * model.mouth_deviation_cm, options.lle_strength) / model.mouth_deviation_cm


def _predicted(model: DriverModel, features: SpeechFeatures, pts: np.ndarray) -> np.ndarray:
    """The network's tokens at times `pts`, through them by Catmull-Rom's cubic."""
    token_seconds = model.network.config.stride_hops * features.hop_seconds
    count = model.network.token_count(features.values)
    position = np.clip((pts - features.start_seconds) / token_seconds, 0, count - 1)
    # A frame that falls on a token but for rounding must not draw on one token more or less.
    position = np.where(np.abs(position - np.round(position)) < 1e-6, np.round(position), position)
    low = np.floor(position).astype(np.int64)
    first, last = max(int(low[0]) - 1, 0), min(int(low[-1]) + 2, count - 1)
    tokens = model.network.tokens(features.values, first, last + 1)
    before, here, after, later = (tokens[np.clip(low + k, 0, count - 1) - first] for k in (-1, 0, 1, 2))
    x = (position - low)[:, None].astype(np.float32)
    return here + 0.5 * x * (
        after - before + x * (2 * before - 5 * here + 4 * after - later + x * (3 * (here - after) + later - before))
    )


def _joined(parts: list[Motion]) -> Motion:
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
