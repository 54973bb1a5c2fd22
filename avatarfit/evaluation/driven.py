"""The lips that an avatar's own driver makes of sound it was not fitted to, against the clip's, without a picture."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from avatarfit.audio.log_mel import HOP_SECONDS
from avatarfit.contracts import AudioClip, Camera, FaceMotion, HeadPose
from avatarfit.evaluation.face_figures import MOUTH_20, correlation, lmd_px
from avatarfit.evaluation.lip_sound import Sound, lip_speed, silence_leakage
from avatarfit.model.rig import Rig, lip_aperture_cm

if TYPE_CHECKING:
    from avatarfit.model.avatar import Avatar

LEAD_SECONDS = 5.0
"""So much sound before a held-out stretch the driver hears, too: people do not begin to speak there."""
CLOSED_PERCENTILE = 15.0
HIGH_HZ = 6.0
"""Lips hardly move faster on purpose: syllables come at 2 to 7 a second."""
_FILTER_ORDER, _FEWEST_FRAMES = 4, 30
_MUTED_SECONDS, _PLACES, _MOVED = 0.3, 3, 0.25


def driven_mouth(avatar: Avatar, sound: AudioClip, pts_seconds: np.ndarray) -> np.ndarray:
    """The driver's mouth at times of one stretch: float32 [T, M], the rig's coefficients.

    Args:
        avatar: with its driver; the driver's own defaults are used.
        sound: of the clip, on the clock of `pts_seconds`.
        pts_seconds: float [T], rising.

    Raises:
        SoundError: there is no sound at that time.
        FileFormatError: the driver does not fit the rig, or hears other features.
    """
    from avatarfit.driving.driver import drive

    motion = drive(
        avatar.driver, avatar.rig, heard(sound, pts_seconds, avatar.frame_rate_hz), avatar.frame_rate_hz, head_motion=0
    )
    columns = [np.interp(pts_seconds, motion.pts_seconds, column) for column in motion.face.mouth.T]
    return np.stack(columns, axis=1).astype(np.float32)


def heard(
    sound: AudioClip, pts_seconds: np.ndarray, frame_rate_hz: float, lead_seconds: float = LEAD_SECONDS
) -> AudioClip:
    """A stretch's sound and up to `lead_seconds` before it, begun a whole number of frames before its first."""
    lead = np.floor(min(lead_seconds, max(pts_seconds[0] - sound.start_seconds, 0)) * frame_rate_hz) / frame_rate_hz
    first = round((pts_seconds[0] - lead - sound.start_seconds) * sound.sample_rate_hz)
    last = round((pts_seconds[-1] + 1 / frame_rate_hz - sound.start_seconds) * sound.sample_rate_hz)
    start = sound.start_seconds + max(first, 0) / sound.sample_rate_hz
    return AudioClip(sound.samples[max(first, 0) : max(last, 0)], sound.sample_rate_hz, start)


def placed(landmarks_cm: np.ndarray, head: HeadPose, camera: Camera) -> np.ndarray:
    """Landmarks [T, 478, 3] of the head's frame in the picture: float64 [T, 478, 2], pixels."""
    pose = head.matrices().astype(np.float64)
    return camera.project(np.einsum("tij,tlj->tli", pose[:, :, :3], landmarks_cm) + pose[:, None, :, 3])


def mouth_figures(
    mouth: np.ndarray, face: FaceMotion, rig: Rig, head: HeadPose, camera: Camera, truth_px: np.ndarray,
    truth_cm: np.ndarray, closed_below_cm: float, pts_seconds: np.ndarray, sound: Sound | None,
) -> dict[str, Any]:  # fmt: skip
    """How a mouth compares with the true one; see `definitions` for each figure.

    Args:
        mouth: float [T, M], the rig's coefficients.
        face: the true expression, which upper face and eyes are taken from.
        head: the true poses; `camera` of the avatar.
        truth_px: float [T, 478, 2], the clip's landmarks at the camera's size.
        truth_cm: float [T, 478, 3], the clip's landmarks in the head's frame.
        closed_below_cm: the gap below which lips are closed.
        sound: None leaves silence leakage out.
    """
    mine_cm = rig.landmarks_cm(FaceMotion(mouth, face.upper, face.eyes))
    gap, true_gap = lip_aperture_cm(mine_cm), lip_aperture_cm(truth_cm)
    figures: dict[str, Any] = {
        "lmd_px": float(lmd_px(truth_px, placed(mine_cm, head, camera)).mean()),
        "aperture_r": correlation(gap.astype(np.float64), true_gap.astype(np.float64)),
        **closure(true_gap < closed_below_cm, gap < closed_below_cm),
        "jitter_above_6hz": jitter_ratio(mine_cm, truth_cm, pts_seconds),
        "silence_leakage": None,
    }
    if sound is not None:
        speech = sound.at(sound.speech, pts_seconds)
        figures["silence_leakage"] = silence_leakage(lip_speed(mine_cm[:, :, :2], pts_seconds), speech)
    return figures


def closure(truth: np.ndarray, driven: np.ndarray) -> dict[str, float | None]:
    """Recall and precision of closed lips, bool [T] each; higher is better; None where none are closed.

    Recall alone is best for a mouth that never opens: the two belong together.
    """
    hits = int((truth & driven).sum())
    return {
        "closure_recall": hits / int(truth.sum()) if truth.any() else None,
        "closure_precision": hits / int(driven.sum()) if driven.any() else None,
    }


def jitter_ratio(mine_cm: np.ndarray, truth_cm: np.ndarray, pts_seconds: np.ndarray) -> float | None:
    """Motion of the mouth's 20 points above 6 Hz, root mean square, over the truth's: near 1 is best.

    Butterworth high-pass of order 4, there and back, without shift in time.

    Returns:
        None below 30 frames, at under 13 frames a second, or where the truth does not move.
    """
    from scipy.signal import butter, sosfiltfilt

    if len(pts_seconds) < _FEWEST_FRAMES:
        return None
    rate = 1 / float(np.median(np.diff(pts_seconds)))
    if rate < 2.1 * HIGH_HZ:
        return None
    sections = butter(_FILTER_ORDER, HIGH_HZ, "highpass", fs=rate, output="sos")
    fast = [
        sosfiltfilt(sections, p[:, MOUTH_20].reshape(len(p), -1).astype(np.float64), axis=0)
        for p in (mine_cm, truth_cm)
    ]
    energy = [float(np.sqrt(np.square(f).mean())) for f in fast]
    return energy[0] / energy[1] if energy[1] > 1e-9 else None


def latency(avatar: Avatar, sound: AudioClip, pts_seconds: np.ndarray, picture_ms: float) -> dict[str, float]:
    """How long after a sound its frame can be shown, milliseconds, in parts; lower is better.

    look_ahead_ms is measured, not read off the network's sizes: 0.3 s of the sound are muted at three places, and it is
    the longest time before such a place at which the mouth already differs by a quarter of the most that the muting
    changes. (Fainter changes reach everywhere, for the driver levels a recording by the whole of it.) network_ms is
    what of it the network itself hears ahead. motion_ms and picture_ms are times a frame on this machine; total_ms is
    look_ahead_ms and these two.

    Args:
        picture_ms: from motion to picture, a frame, as measured while rendering.
    """
    from avatarfit.driving.driver import drive
    from avatarfit.model.audio_to_landmarks import LOOK_AHEAD_HOPS

    clip = heard(sound, pts_seconds, avatar.frame_rate_hz)
    began = time.perf_counter()
    usual = drive(avatar.driver, avatar.rig, clip, avatar.frame_rate_hz, head_motion=0)
    motion_ms = 1000 * (time.perf_counter() - began) / len(usual)
    ahead = 0.0
    for place in range(1, _PLACES + 1):
        at = clip.start_seconds + clip.duration_seconds * place / (_PLACES + 1)
        samples = clip.samples.copy()
        first = round((at - clip.start_seconds) * clip.sample_rate_hz)
        samples[first : first + round(_MUTED_SECONDS * clip.sample_rate_hz)] = 0
        muted = AudioClip(samples, clip.sample_rate_hz, clip.start_seconds)
        other = drive(avatar.driver, avatar.rig, muted, avatar.frame_rate_hz, head_motion=0)
        change = np.abs(other.face.mouth - usual.face.mouth).max(axis=1)
        if change.max() > 0:
            ahead = max(ahead, 1000 * (at - float(usual.pts_seconds[np.argmax(change > _MOVED * change.max())])))
    parts = {"look_ahead_ms": ahead, "motion_ms": motion_ms, "picture_ms": picture_ms}
    told = parts | {"total_ms": sum(parts.values()), "network_ms": 1000 * LOOK_AHEAD_HOPS * HOP_SECONDS}
    return {name: round(value, 2) for name, value in told.items()}
