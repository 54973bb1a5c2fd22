"""How far a clip's sound is out of step with the mouth.

The mouth's opening is predicted from the sound's spectrum by ridge regression at every shift between the two; the shift
at which the prediction agrees best with the mouth, on stretches that it was not fitted on, is where they belong
together. The linear operator from spectrum to face is that of FaceSync (Slaney and Covell, "FaceSync: a linear
operator for measuring synchronization of video facial images and audio tracks", NIPS 2000). On real speech it agrees
with the mouth twice as well as the sound's loudness does.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from avatarfit.audio.log_mel import HOP_SECONDS, SAMPLE_RATE_HZ, log_mel
from avatarfit.contracts import AudioClip, SoundError
from avatarfit.contracts.events import Listener, Note
from avatarfit.model.rig import lip_aperture_cm

VERSION = 1
"""Of the method; capture's stage key holds it."""

SURE = 0.9
"""Confidence from which an offset may be believed."""

_REACH_HOPS = 100
_MOUTH_LEADS_SECONDS = 0.027
"""The lips open this much before the sound that belongs to it: 0.010 to 0.035 s on performers of 12 and 24 s, whose
sound is exactly in step, and 0.036 and 0.047 s on two real clips."""

_ERROR_SECONDS = 0.01
"""What the method itself may be off by; nobody is told of less than this beyond half a frame."""

_FEWEST_SECONDS = 4.0
_MOST_SECONDS = 180.0
_BANDS = 20
_LOUD_RANGE = 9.0
_SMOOTH_HOPS, _DRIFT_HOPS = 3.0, 50.0
_RIDGE = 0.1
_FOLDS = 5
_BLOCK_HOPS = 100
_RESAMPLES = 200
_AGREE_SECONDS = 0.03


@dataclass(frozen=True)
class AudioOffset:
    """The measured offset.

    Attributes:
        seconds: how much later the sound comes than the mouth; negative where it comes too early.
        confidence: 0..1, the share of random choices of the clip's seconds that give the same offset within 0.03 s.
        correlation: of the mouth's opening with its prediction, at that offset.
    """

    seconds: float
    confidence: float
    correlation: float


def audio_offset(pts_seconds: np.ndarray, landmarks_cm: np.ndarray, sound: AudioClip) -> AudioOffset | None:
    """Measures the offset of a clip, within a second to either side; None where under four seconds can be compared.

    Args:
        pts_seconds: float64 [T], rising.
        landmarks_cm: float32 [T, 478, 3] in the head frame.
        sound: the clip's sound; its `start_seconds` is on the clock of `pts_seconds`.
    """
    from avatarfit.media import resample

    gap, valid, first_seconds = _mouth(pts_seconds, lip_aperture_cm(landmarks_cm).astype(np.float64))
    if len(gap) * HOP_SECONDS < _FEWEST_SECONDS:
        return None
    spectrum = _spectrum(resample(sound, SAMPLE_RATE_HZ).samples)
    hops = np.arange(-_REACH_HOPS, len(gap) + _REACH_HOPS)
    at = np.rint(hops + (first_seconds - sound.start_seconds) / HOP_SECONDS).astype(int)
    heard = (at >= 0) & (at < len(spectrum))
    if (heard[_REACH_HOPS:-_REACH_HOPS] & valid).sum() * HOP_SECONDS < _FEWEST_SECONDS:
        return None
    bands = spectrum[np.clip(at, 0, len(spectrum) - 1)]
    shifts = np.arange(-_REACH_HOPS, _REACH_HOPS + 1)
    sums = np.stack([_agreement(gap, valid, bands, heard, _REACH_HOPS + shift) for shift in shifts])
    return _summary(shifts * HOP_SECONDS, sums)


def measured_offset(
    clip: Path, pts_seconds: np.ndarray, landmarks_cm: np.ndarray, frame_rate_hz: float, shift: float | str,
    on_event: Listener,
) -> dict[str, float]:  # fmt: skip
    """The offset of a clip's sound as figures of a stage, and what a person should know of it.

    Args:
        clip: the video with its sound.
        pts_seconds, landmarks_cm: as in `audio_offset`.
        frame_rate_hz: the pictures'; within half a frame sound and mouth are in step.
        shift: seconds by which the sound is late and is moved back, or "auto" for the measured ones where they are
            sure and over half a frame; 0 leaves it.
        on_event: told of an offset that is sure and over half a frame, and of what `auto` did.

    Returns:
        `shift_seconds`; and `offset_seconds`, `confidence` and `correlation` where they could be measured.
    """
    from avatarfit.media import read_audio

    moved = 0.0 if isinstance(shift, str) else float(shift)
    try:
        found = audio_offset(pts_seconds, landmarks_cm, read_audio(clip))
    except SoundError as cause:  # the pictures are good without it; who needs the sound is told again
        on_event(Note("sound", f"the sound cannot be used: {cause}"))
        return {"shift_seconds": moved}
    sure = found is not None and found.confidence >= SURE
    apart = found is not None and abs(found.seconds) > 0.5 / frame_rate_hz + _ERROR_SECONDS
    if shift == "auto" and found is not None and sure and apart:
        moved = found.seconds
    if found is None or not sure:
        on_event(Note("sound", "whether sound and mouth are in step cannot be told from this clip"))
    elif apart or moved:
        side = "after" if found.seconds > 0 else "before"
        done = f"it is moved by {-moved * 1000:+.0f} ms" if moved else "--audio-offset auto mends that"
        on_event(Note("sound", f"the sound comes {abs(found.seconds) * 1000:.0f} ms {side} the mouth; {done}"))
    values = {"shift_seconds": moved}
    if found is not None:
        values |= {
            "offset_seconds": found.seconds, "confidence": found.confidence, "correlation": found.correlation,
        }  # fmt: skip
    return values


def _mouth(pts_seconds: np.ndarray, aperture_cm: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """The opening on a grid of hops, freed from slow drift; where it was really seen; the grid's first time."""
    from scipy.ndimage import gaussian_filter1d

    middle, half = (pts_seconds[0] + pts_seconds[-1]) / 2, _MOST_SECONDS / 2
    first, last = max(pts_seconds[0], middle - half), min(pts_seconds[-1], middle + half)
    times = np.arange(first, last, HOP_SECONDS)
    following = np.clip(np.searchsorted(pts_seconds, times), 1, len(pts_seconds) - 1)
    step = np.diff(pts_seconds)
    # Across a hole in the kept pictures the opening is not known.
    valid = step[following - 1] < 3 * np.median(step)
    gap = gaussian_filter1d(np.interp(times, pts_seconds, aperture_cm), _SMOOTH_HOPS, mode="nearest")
    return gap - gaussian_filter1d(gap, _DRIFT_HOPS, mode="nearest"), valid, float(first)


def _spectrum(samples: np.ndarray) -> np.ndarray:
    """Log-mel bands [F, _BANDS] without what is far below the loud parts, without drift, at unit deviation."""
    from scipy.ndimage import gaussian_filter1d

    bands = log_mel(samples, _BANDS).astype(np.float64)
    if not len(bands):
        return bands
    bands = np.maximum(bands, np.percentile(bands.max(axis=1), 95) - _LOUD_RANGE)
    bands = gaussian_filter1d(bands, _SMOOTH_HOPS, axis=0, mode="nearest")
    bands -= gaussian_filter1d(bands, _DRIFT_HOPS, axis=0, mode="nearest")
    return bands / np.maximum(bands.std(axis=0), 1e-9)


def _agreement(gap: np.ndarray, valid: np.ndarray, bands: np.ndarray, heard: np.ndarray, start: int) -> np.ndarray:
    """Sums [blocks, 3] of mouth x prediction, mouth squared and prediction squared, the sound read from `start` on."""
    use = valid & heard[start : start + len(gap)]
    sound, mouth = bands[start : start + len(gap)] * use[:, None], gap * use
    edges = np.linspace(0, len(gap), _FOLDS + 1).astype(int)
    parts = [slice(a, b) for a, b in pairwise(edges)]
    gram, cross = [sound[p].T @ sound[p] for p in parts], [sound[p].T @ mouth[p] for p in parts]
    ridge = _RIDGE * max(int(use.sum()), 1) * np.eye(bands.shape[1])
    predicted = np.empty(len(gap))
    for k, part in enumerate(parts):
        rest = [j for j in range(_FOLDS) if j != k]
        operator = np.linalg.solve(sum(gram[j] for j in rest) + ridge, sum(cross[j] for j in rest))
        predicted[part] = sound[part] @ operator
    starts = np.arange(0, len(gap), _BLOCK_HOPS)
    products = np.stack([mouth * predicted, mouth * mouth, predicted * predicted], axis=1)
    return np.asarray(np.add.reduceat(products, starts, axis=0))


def _summary(shifts_seconds: np.ndarray, sums: np.ndarray) -> AudioOffset:
    """The best shift of sums [shifts, blocks, 3], and how often random blocks agree with it (Efron's bootstrap)."""
    rng = np.random.default_rng(0)
    blocks = sums.shape[1]
    curve = _correlation(sums.sum(axis=1))
    best = int(np.argmax(curve))
    if not 0 < best < len(curve) - 1 or not curve[best] > 0:  # no top within reach
        return AudioOffset(0.0, 0.0, float(max(curve[best], 0.0)))
    draws = rng.multinomial(blocks, np.full(blocks, 1 / blocks), size=_RESAMPLES)
    peaks = shifts_seconds[np.argmax(_correlation(np.einsum("rb,sbc->rsc", draws, sums)), axis=1)]
    confidence = float((np.abs(peaks - shifts_seconds[best]) <= _AGREE_SECONDS + 1e-9).mean())
    seconds = shifts_seconds[best] + _parabola_top(curve, best) * HOP_SECONDS - _MOUTH_LEADS_SECONDS
    return AudioOffset(float(seconds), confidence, float(curve[best]))


def _correlation(sums: np.ndarray) -> np.ndarray:
    scale = np.sqrt(np.maximum(sums[..., 1] * sums[..., 2], 1e-20))
    return np.asarray(sums[..., 0] / scale)


def _parabola_top(curve: np.ndarray, best: int) -> float:
    """Where between the samples the top lies, in samples from `best`."""
    before, here, after = curve[best - 1 : best + 2]
    bend = before - 2 * here + after
    return float(0.5 * (before - after) / bend) if bend < 0 else 0.0
