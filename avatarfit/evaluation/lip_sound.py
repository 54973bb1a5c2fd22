"""Lips against sound: which of them is late, and whether the lips rest while nobody speaks."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.ndimage import minimum_filter1d

from avatarfit.audio.log_mel import HOP_SECONDS, SAMPLE_RATE_HZ
from avatarfit.audio.voice_activity import level_db, loud_level_db, voice_activity
from avatarfit.capture.audio_offset import audio_offset
from avatarfit.contracts import AudioClip
from avatarfit.evaluation.face_figures import MOUTH_20, correlation
from avatarfit.model.rig import OUTER_EYE_DISTANCE_CM

REACH_SECONDS, STEP_SECONDS = 0.5, 0.01
FEWEST_FRAMES = 10
"""So many frames of silence, and of speech, a leakage needs."""
_FEWEST_SECONDS = 2.0
_LOUD_RANGE_DB = 40.0
_SILENT, _SPOKEN, _EDGE_HOPS = 0.1, 0.5, 10


class Sound:
    """A clip's loudness and voice activity.

    Attributes:
        clip: the sound.
        speech: float32 [F] in 0..1, hops of 10 ms.
        pause: float32 [F], 1 where nobody speaks within 0.1 s: lips part before a word and close after it.
        level: float32 [F], decibels, nothing further than 40 dB below the loud parts.
    """

    def __init__(self, clip: AudioClip) -> None:
        from avatarfit.media import resample

        self.clip = clip
        level = level_db(resample(clip, SAMPLE_RATE_HZ).samples)
        self.speech = voice_activity(level)
        quiet = (self.speech < _SILENT).astype(np.float32)
        self.pause = minimum_filter1d(quiet, 2 * _EDGE_HOPS + 1, mode="nearest") if len(quiet) else quiet
        self.level = np.maximum(level, loud_level_db(level) - _LOUD_RANGE_DB)

    def at(self, values: np.ndarray, pts_seconds: np.ndarray) -> np.ndarray:
        """`values` [F] at times on the clip's clock, linear between hops, float64."""
        hops = np.arange(len(values)) * HOP_SECONDS + self.clip.start_seconds
        return np.interp(pts_seconds, hops, values) if len(values) else np.zeros(len(pts_seconds))


def lip_speed(steady: np.ndarray, pts_seconds: np.ndarray) -> np.ndarray:
    """Mean speed of the mouth's 20 points since the frame before, float [T], the points' unit a second; NaN first.

    Args:
        steady: float [T, 478, 2], the head's motion taken off (`face_figures.steadied`).
        pts_seconds: float [T].
    """
    out = np.full(len(steady), np.nan)
    step = np.diff(pts_seconds)
    way = np.linalg.norm(np.diff(steady[:, MOUTH_20], axis=0), axis=2).mean(axis=1)
    near = step < 2.5 * np.median(step) if len(step) else step > 0
    out[1:][near] = (way / step)[near]
    return out


def silence_leakage(speed: np.ndarray, speech: np.ndarray, pause: np.ndarray) -> float | None:
    """Lip speed in silence over lip speed in speech, 0 for lips that rest; lower is better.

    Args:
        speed: float [T], `lip_speed`.
        speech, pause: float [T] in 0..1, of `Sound`; above 0.5 someone speaks, nobody does.

    Returns:
        None where there are fewer than ten frames of either, or lips that never move.
    """
    known = np.isfinite(speed)
    quiet, loud = speed[known & (pause > _SPOKEN)], speed[known & (speech > _SPOKEN)]
    if min(len(quiet), len(loud)) < FEWEST_FRAMES or loud.mean() < 1e-9:
        return None
    return float(quiet.mean() / loud.mean())


def energy_offset(pts_seconds: np.ndarray, aperture: np.ndarray, sound: Sound) -> dict[str, float] | None:
    """The shift of the sound at which its level correlates best with the lips' gap.

    Returns:
        {offset_s: positive where the sound comes later than the lips, r: the correlation there}; None where less than
        two seconds can be compared or nothing moves.
    """
    known = np.isfinite(aperture)
    if known.sum() < 2 or np.ptp(pts_seconds[known]) < _FEWEST_SECONDS:
        return None
    shifts = np.arange(-round(REACH_SECONDS / STEP_SECONDS), round(REACH_SECONDS / STEP_SECONDS) + 1) * STEP_SECONDS
    found = [correlation(aperture, sound.at(sound.level, pts_seconds + shift)) for shift in shifts]
    curve = np.array([-1.0 if r is None else r for r in found])
    best = int(np.argmax(curve))
    if curve[best] <= 0:
        return None
    return {"offset_s": round(float(shifts[best]), 3), "r": round(float(curve[best]), 4)}


def spectrum_offset(pts_seconds: np.ndarray, steady: np.ndarray, sound: Sound) -> dict[str, float] | None:
    """`capture.audio_offset` on found landmarks: {offset_s, r, confidence}; None where under four seconds count."""
    known = np.isfinite(steady).all(axis=(1, 2))
    if known.sum() < 2:
        return None
    points = np.zeros((int(known.sum()), steady.shape[1], 3), np.float32)
    points[..., :2] = steady[known] * OUTER_EYE_DISTANCE_CM
    answer = audio_offset(pts_seconds[known], points, sound.clip)
    if answer is None:
        return None
    return {
        "offset_s": round(answer.seconds, 3), "r": round(answer.correlation, 4),
        "confidence": round(answer.confidence, 3),
    }  # fmt: skip


def offsets(pts_seconds: np.ndarray, steady: np.ndarray, sound: Sound) -> dict[str, Any]:
    """`{energy, spectrum}` of lips [T, 478, 2]."""
    gap = np.linalg.norm(steady[:, 14] - steady[:, 13], axis=1)
    return {
        "energy": energy_offset(pts_seconds, gap, sound),
        "spectrum": spectrum_offset(pts_seconds, steady, sound),
    }
