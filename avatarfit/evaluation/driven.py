"""The lips that an avatar's own driver makes of sound it was not fitted to, against the clip's, without a picture."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from avatarfit.audio import SpeechEncoder
from avatarfit.audio.log_mel import HOP_SECONDS
from avatarfit.contracts import AudioClip, Camera, FaceMotion, HeadPose
from avatarfit.evaluation.face_figures import MOUTH_20, correlation, lmd_px
from avatarfit.evaluation.lip_sound import Sound, lip_speed, silence_leakage
from avatarfit.model.rig import Rig, lip_aperture_cm

if TYPE_CHECKING:
    from avatarfit.model.avatar import Avatar

LEAD_SECONDS = 5.0
"""So much sound before a held-out stretch the driver hears, too: people do not begin to speak there."""
HIGH_HZ = 6.0
"""Lips hardly move faster on purpose: syllables come at 2 to 7 a second."""
_FILTER_ORDER, _FEWEST_FRAMES = 4, 30
_MUTED_SECONDS, _PLACES, _MOVED = 0.3, 3, 1e-3


def driven_mouth(
    avatar: Avatar, sound: AudioClip, pts_seconds: np.ndarray, encoder: SpeechEncoder | None = None
) -> np.ndarray:
    """The driver's mouth at times of one stretch: float32 [T, M], the rig's coefficients.

    Args:
        avatar: with its driver; the driver's own defaults are used.
        sound: of the clip, on the clock of `pts_seconds`.
        pts_seconds: float [T], rising.
        encoder: of the features that the driver was fitted with; None finds it among what is built in.

    Raises:
        SoundError: there is no sound at that time.
        FileFormatError: the driver does not fit the rig, or hears other features.
    """
    from avatarfit.driving.driver import drive

    stretch = heard(sound, pts_seconds, avatar.frame_rate_hz)
    motion = drive(avatar.driver, avatar.rig, stretch, avatar.frame_rate_hz, encoder=encoder)
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
    truth_cm: np.ndarray, closed_cm: tuple[float, float], pts_seconds: np.ndarray, sound: Sound | None,
) -> dict[str, Any]:  # fmt: skip
    """How a mouth compares with the true one; see `definitions` for each figure.

    Args:
        mouth: float [T, M], the rig's coefficients.
        face: the true expression, which upper face and eyes are taken from.
        head: the true poses; `camera` of the avatar.
        truth_px: float [T, 478, 2], the clip's landmarks at the camera's size.
        truth_cm: float [T, 478, 3], the clip's landmarks in the head's frame.
        closed_cm: of `model.rig.closed_gaps_cm`.
        sound: None leaves silence leakage out.
    """
    mine_cm = rig.landmarks_cm(FaceMotion(mouth, face.upper, face.eyes))
    gap, true_gap = lip_aperture_cm(mine_cm), lip_aperture_cm(truth_cm)
    figures: dict[str, Any] = {
        "lmd_px": float(lmd_px(truth_px, placed(mine_cm, head, camera)).mean()),
        "aperture_r": correlation(gap.astype(np.float64), true_gap.astype(np.float64)),
        **closure(true_gap, gap, *closed_cm),
        "jitter_above_6hz": jitter_ratio(mine_cm, truth_cm, pts_seconds),
        "silence_leakage": None,
    }
    if sound is not None:
        speech, pause = (sound.at(values, pts_seconds) for values in (sound.speech, sound.pause))
        figures["silence_leakage"] = silence_leakage(lip_speed(mine_cm[:, :, :2], pts_seconds), speech, pause)
    return figures


def closure(truth_cm: np.ndarray, driven_cm: np.ndarray, low_cm: float, high_cm: float) -> dict[str, float | None]:
    """Recall and precision of closed lips from the gaps of both, float [T]; higher is better; None where none close.

    Lips that are closed in one (gap up to `low_cm`) must be nearly closed in the other (up to `high_cm`): at one sharp
    border a hair's breadth would count. Recall alone is best for a mouth that never opens: the two belong together.
    """
    truth, driven = truth_cm <= low_cm, driven_cm <= low_cm
    return {
        "closure_recall": float((driven_cm <= high_cm)[truth].mean()) if truth.any() else None,
        "closure_precision": float((truth_cm <= high_cm)[driven].mean()) if driven.any() else None,
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


def latency(
    avatar: Avatar, sound: AudioClip, pts_seconds: np.ndarray, picture_ms: float, encoder: SpeechEncoder | None = None
) -> dict[str, float]:
    """How long after a sound its frame can be shown, milliseconds, in parts; lower is better.

    look_ahead_ms is measured, not read off the network's sizes: the loudest 0.3 s of each third of the sound are
    muted, one after the other, and it is the longest time before them at which the mouth already differs by a
    thousandth of the most that the muting changes. It falls on a frame, and so up to a frame short of what the
    driver waits for (`DriverStream.look_ahead_seconds`). network_ms is what of it the network itself hears ahead.
    motion_ms and picture_ms are times a frame on this machine; total_ms is look_ahead_ms and these two.

    Args:
        picture_ms: from motion to picture, a frame, as measured while rendering.
        encoder: of the features that the driver was fitted with; None finds it among what is built in.
    """
    from avatarfit.driving.driver import drive
    from avatarfit.model.audio_to_landmarks import LOOK_AHEAD_HOPS

    clip = heard(sound, pts_seconds, avatar.frame_rate_hz)
    began = time.perf_counter()
    usual = drive(avatar.driver, avatar.rig, clip, avatar.frame_rate_hz, encoder=encoder)
    motion_ms = 1000 * (time.perf_counter() - began) / len(usual)
    ahead = []
    length = round(_MUTED_SECONDS * clip.sample_rate_hz)
    for part in np.array_split(np.arange(len(clip.samples)), _PLACES):
        if len(part) <= length:
            continue
        energy = np.concatenate([[0.0], np.cumsum(np.square(clip.samples[part], dtype=np.float64))])
        first = int(part[0]) + int(np.argmax(energy[length:] - energy[:-length]))
        samples = clip.samples.copy()
        samples[first : first + length] = 0
        muted = AudioClip(samples, clip.sample_rate_hz, clip.start_seconds)
        other = drive(avatar.driver, avatar.rig, muted, avatar.frame_rate_hz, encoder=encoder)
        change = np.abs(other.face.mouth - usual.face.mouth).max(axis=1)
        if change.max() > 0:
            seen = usual.pts_seconds[np.argmax(change > _MOVED * change.max())]
            ahead.append(max(1000 * (clip.start_seconds + first / clip.sample_rate_hz - float(seen)), 0.0))
    parts = {
        "look_ahead_ms": max(ahead, default=0.0),
        "motion_ms": motion_ms,
        "picture_ms": picture_ms,
    }
    told = parts | {"total_ms": sum(parts.values()), "network_ms": 1000 * LOOK_AHEAD_HOPS * HOP_SECONDS}
    return {name: round(value, 2) for name, value in told.items()}
