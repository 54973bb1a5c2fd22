"""What a driver learns from: mouths beside sound, and what of a sound means that nobody speaks or breathes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d, maximum_filter1d

from avatarfit.audio import (
    HOP_SECONDS,
    OTHER_COLUMNS,
    SpeechEncoder,
    SpeechFeatures,
    log_mel,
    look_ahead_seconds,
    require_audible,
    speech_features,
)
from avatarfit.audio.log_mel import band_edges_hz
from avatarfit.contracts import AudioClip, Motion, SoundError
from avatarfit.fitting.fresh_starts import fresh_starts
from avatarfit.fitting.speech_augmentation import Voice, as_voice
from avatarfit.media import resample
from avatarfit.model.audio_to_landmarks import LOOK_AHEAD_HOPS, PAST_HOPS, without_pitch
from avatarfit.model.rig import closed_gaps_cm, lip_aperture_cm

_BREATH_HZ = 1_000.0
_HEARD_DB, _RANGE_DB = 5.0, 25.0
_BACK_HOPS, _AHEAD_HOPS, _EASE_HOPS = 10, 9, 4.0
_FEWEST = 5
_MOST_COLUMNS, _MOST_BESIDE = 64, 24


@dataclass(frozen=True)
class Mouths:
    """What is to be predicted, at the clip's T frames.

    Attributes:
        table: float32 [T, M + 1]: coefficients, then how closed the lips are, 0 to 1.
        rest: float32 [M], the mouth when nobody speaks.
        closed: bool [T], frames with closed lips.
    """

    table: np.ndarray
    rest: np.ndarray
    closed: np.ndarray


@dataclass(frozen=True)
class Lesson:
    """Features with their surroundings, and for each token its target and whether it has one."""

    hops: np.ndarray  # float32 [PAST_HOPS + n * stride + LOOK_AHEAD_HOPS, D]
    targets: np.ndarray  # float32 [n, M + 1]
    known: np.ndarray  # bool [n]
    seconds: np.ndarray  # float64 [n], when in the clip


@dataclass(frozen=True)
class Columns:
    """Some of an encoder's columns, and what brings them onto few axes of unit spread; nothing does where they are fit
    to be seen.

    Attributes:
        first, stop: which columns. Level, pitch, voicing and activity stand beside all.
        offset: float32 [C]. turn: float32 [C, K].
        hear_pitch: without, pitch and voicing count as 0.
    """

    first: int
    stop: int
    offset: np.ndarray
    turn: np.ndarray
    hear_pitch: bool = True

    @property
    def kept(self) -> int:
        """K."""
        return self.turn.shape[1]

    @staticmethod
    def of(values: np.ndarray, encoder: SpeechEncoder) -> Columns:
        """The columns that the transformers hear, of features float32 [F, C + 4] in which someone speaks.

        Columns that are normalised as they come, such as mel bands, stay as they are, and no others are heard.
        """
        if encoder.prior is not None:
            return Columns(0, len(encoder.prior.mean), np.zeros(0, np.float32), np.zeros((0, 0), np.float32))
        return Columns._turned(values, 0, encoder.column_count, _MOST_COLUMNS)

    @staticmethod
    def beside(values: np.ndarray, encoder: SpeechEncoder) -> Columns | None:
        """The columns that `of` leaves; None where it leaves none."""
        first = encoder.column_count if encoder.prior is None else len(encoder.prior.mean)
        stop = encoder.column_count
        return Columns._turned(values, first, stop, _MOST_BESIDE) if first < stop else None

    @staticmethod
    def _turned(values: np.ndarray, first: int, stop: int, most: int) -> Columns:
        """Onto at most so many of the first principal components over speech."""
        count = stop - first
        spoken = values[values[:, -1] > 0.5, first:stop].astype(np.float64)
        offset = spoken.mean(axis=0)
        variance, vectors = np.linalg.eigh(np.cov(spoken.T).reshape(count, count))
        keep = np.argsort(variance)[::-1][: min(count, most)]
        # What hardly varies must not be blown up to unit spread.
        spread = np.sqrt(np.maximum(variance[keep], 1e-3 * max(float(variance.max()), 1e-12)))
        return Columns(first, stop, offset.astype(np.float32), (vectors[:, keep] / spread).astype(np.float32))

    def seen(self, values: np.ndarray) -> np.ndarray:
        """Features [F, C + 4] as the network sees them."""
        if not self.hear_pitch:
            values = without_pitch(torch.from_numpy(values)).numpy()
        columns = values[:, self.first : self.stop]
        if self.kept:
            columns = (columns - self.offset) @ self.turn
        return np.concatenate([columns, values[:, -OTHER_COLUMNS:]], axis=1)


@dataclass(frozen=True)
class Heard:
    """One clip as it is learned from.

    Attributes:
        own: features of the clip's sound, heard in one and then from fresh starts.
        others: of it in other voices. speeds: of these.
        mouths: what is to be predicted, at `pts_seconds` [T].
    """

    own: list[SpeechFeatures]
    others: list[SpeechFeatures]
    speeds: list[float]
    mouths: Mouths
    pts_seconds: np.ndarray
    stride_hops: int
    frame_rate_hz: float

    def own_lessons(self, columns: Columns) -> list[Lesson]:
        """In the clip's own voice, the whole of it first."""
        return [self._lesson(columns, features, 1.0) for features in self.own]

    def lessons(self, columns: Columns) -> tuple[list[Lesson], list[Lesson]]:
        """`own_lessons`, and in other voices."""
        return self.own_lessons(columns), [
            self._lesson(columns, *other) for other in zip(self.others, self.speeds, strict=True)
        ]

    def _lesson(self, columns: Columns, features: SpeechFeatures, speed: float) -> Lesson:
        return lesson(
            features, columns.seen(features.values), self.mouths.table, self.pts_seconds, speed,
            self.stride_hops, self.frame_rate_hz,
        )  # fmt: skip


def listen(
    motion: Motion, landmarks_cm: np.ndarray, sound: AudioClip, frame_rate_hz: float, encoder: SpeechEncoder,
    voices: Sequence[Voice], random: np.random.Generator,
) -> Heard:  # fmt: skip
    """A clip's sound and mouths, ready to learn from.

    Raises:
        SoundError: the clip has no sound at its frames, it is silent, or nobody speaks.
        ValueError: lengths differ.
    """
    if len(landmarks_cm) != len(motion) or len(motion) < 2:
        raise ValueError(f"{len(landmarks_cm)} landmarks and {len(motion)} frames came; wanted as many, at least 2")
    heard = _audible_part(sound, motion.pts_seconds, encoder)
    features = speech_features(heard, encoder)
    if not (features.activity > 0.5).any():
        raise SoundError("Nobody seems to speak in the clip", "a clip with speech", "choose another clip or stretch")
    stride = min(max(round(1 / (HOP_SECONDS * frame_rate_hz)), 1), 5)
    learned = mouths(motion, landmarks_cm, heard, features)
    others, speeds = [], []
    for number, voice in enumerate(voices):
        other = as_voice(heard, voice, random)
        # By turns as in the middle of a session and as in its first seconds.
        parts = fresh_starts(other, random, encoder) if number % 2 else [speech_features(other, encoder)]
        others += parts
        speeds += [voice.speed] * len(parts)
    out = Heard(
        [features, *fresh_starts(heard, random, encoder)], others, speeds, learned, motion.pts_seconds, stride,
        frame_rate_hz,
    )  # fmt: skip
    own = lesson(features, features.values[:, :1], learned.table, motion.pts_seconds, 1.0, stride, frame_rate_hz)
    if not own.known.any():
        raise SoundError("No frame of the clip has sound", "sound that runs beside the pictures", "check the clip")
    return out


def _audible_part(sound: AudioClip, pts_seconds: np.ndarray, encoder: SpeechEncoder) -> AudioClip:
    """The sound beside the frames, at the encoder's rate; not what comes later, which may be held out.

    Raises:
        SoundError: there is none, or it is silent.
    """
    require_audible(sound)
    rate = encoder.sample_rate_hz
    sound = resample(sound, rate)
    ahead = LOOK_AHEAD_HOPS * HOP_SECONDS + look_ahead_seconds(encoder)
    stop = round((pts_seconds[-1] + ahead - sound.start_seconds) * rate)
    heard = AudioClip(sound.samples[: max(stop, 0)], rate, sound.start_seconds)
    require_audible(heard)
    return heard


def mouths(motion: Motion, landmarks_cm: np.ndarray, sound: AudioClip, features: SpeechFeatures) -> Mouths:
    """The mouths to learn.

    Where nothing is heard, no breath either, the mouth to learn is the resting one: what a clip's mouth does there no
    sound tells, it hangs open or is shut by chance, and a mouth that moves in silence looks wrong.

    Args:
        sound: of the frames, mono at 16 kHz, unchanged; `features` of it.
    """
    gap = lip_aperture_cm(landmarks_cm)
    low, high = closed_gaps_cm(gap)
    closed = np.clip((high - gap) / max(high - low, 1e-6), 0, 1)
    rest = resting_mouth(motion, landmarks_cm, features)
    heard = features.at(_heard(sound, features), motion.pts_seconds)[:, None]
    at_rest = np.append(rest, 1.0)
    table = at_rest + heard * (np.concatenate([motion.face.mouth, closed[:, None]], axis=1) - at_rest)
    return Mouths(table.astype(np.float32), rest, gap <= low)


def resting_mouth(motion: Motion, landmarks_cm: np.ndarray, features: SpeechFeatures) -> np.ndarray:
    """float32 [M]: the median mouth of quiet frames with closed lips; of all with closed lips if few are quiet."""
    aperture = lip_aperture_cm(landmarks_cm)
    closed = aperture <= closed_gaps_cm(aperture)[0]
    quiet = closed & (features.at(features.activity, motion.pts_seconds) < 0.3)
    return np.median(motion.face.mouth[quiet if quiet.sum() >= _FEWEST else closed], axis=0).astype(np.float32)


def _heard(sound: AudioClip, features: SpeechFeatures) -> np.ndarray:
    """float32 [F], 1 where speech or breath is heard, eased to 0 where nothing is for a fifth of a second.

    Breath lies above 1 kHz; what counts is the level there over the quietest twentieth of the sound.
    """
    bands = log_mel(sound.samples)[:, band_edges_hz()[1:-1] > _BREATH_HZ].mean(axis=1) * (10 / np.log(10))
    level = gaussian_filter1d(bands, 2.0, mode="nearest")
    quietest, loudest = np.percentile(level, [5, 95])
    heard = (level > min(quietest, loudest - _RANGE_DB) + _HEARD_DB) | (features.values[:, -2] > 0.5)
    size = _BACK_HOPS + _AHEAD_HOPS + 1
    # The filter's window is centred; the origin moves it so that it spans so much back and ahead.
    held = maximum_filter1d(heard.astype(np.float32), size, mode="nearest", origin=size // 2 - _AHEAD_HOPS)
    return gaussian_filter1d(held, _EASE_HOPS, mode="nearest")


def lesson(
    features: SpeechFeatures, values: np.ndarray, table: np.ndarray, pts_seconds: np.ndarray, speed: float,
    stride: int, frame_rate_hz: float,
) -> Lesson:  # fmt: skip
    """Tokens of a sound played at `speed` beside what is to be learned, interpolated to the tokens' times.

    Args:
        values: float32 [F, D], what the network sees of the features.
        table: float32 [T, V] at `pts_seconds` [T] of the sound at its own speed.
    """
    count = -(-len(features) // stride)
    times = (features.start_seconds + np.arange(count) * stride * HOP_SECONDS) * speed
    pts = pts_seconds
    targets = np.stack([np.interp(times, pts, column) for column in table.T], axis=1).astype(np.float32)
    after = np.clip(np.searchsorted(pts, times - 1e-6), 1, len(pts) - 1)
    width = pts[after] - pts[after - 1]
    known = (times >= pts[0] - 1e-6) & (times <= pts[-1] + 1e-6) & (width < 1.5 / frame_rate_hz)
    hops = np.arange(-PAST_HOPS, count * stride + LOOK_AHEAD_HOPS)
    return Lesson(values[np.clip(hops, 0, len(features) - 1)], targets, known, times)
