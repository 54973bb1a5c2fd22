"""Sync-C and Sync-D of pictures that come one at a time, by SyncNet."""

from __future__ import annotations

from collections import deque

import numpy as np
import torch

from avatarfit.audio.log_mel import SAMPLE_RATE_HZ
from avatarfit.contracts import AudioClip
from avatarfit.evaluation.syncnet import SIDE_PX, WINDOW_FRAMES, WINDOW_HOPS, SyncNet, mfcc

RATE_HZ = 25.0
SHIFTS = 15
_CROP = 0.4
_FRAME_HOPS = 4
_BATCH = 64


def face_crop(rgb: np.ndarray, landmarks_px: np.ndarray) -> np.ndarray:
    """The face as SyncNet's pipeline cuts it: uint8 [224, 224, 3], blue first.

    A square of 1.4 times the box's longer side, lowered by a fifth of it. The box is the landmarks' own, where the
    public pipeline takes a face detector's.
    """
    import cv2

    low, high = landmarks_px[:, :2].min(axis=0), landmarks_px[:, :2].max(axis=0)
    half = float((high - low).max()) / 2
    middle = (low + high) / 2 + [0, half * _CROP]
    reach = half * (1 + _CROP)
    scale = SIDE_PX / (2 * reach)
    shift = (middle - reach) * -scale + 0.5 * scale - 0.5
    turn = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    out = cv2.warpAffine(
        rgb, turn, (SIDE_PX, SIDE_PX), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT,
        borderValue=(110, 110, 110),
    )  # fmt: skip
    return np.ascontiguousarray(out[..., ::-1])


class LipFeatures:
    """SyncNet's vectors of lips, one for every five pictures in a row at 25 a second.

    Attributes:
        seconds: when each window's first picture is shown.
        vectors: one float32 [D] a window.
    """

    def __init__(self, network: SyncNet, frame_rate_hz: float) -> None:
        self._network, self._half = network, 0.5 / max(frame_rate_hz, RATE_HZ)
        self._faces: deque[np.ndarray] = deque(maxlen=WINDOW_FRAMES)
        self._index, self._tick = -2, 0.0
        self.seconds: list[float] = []
        self.vectors: list[np.ndarray] = []

    def add(self, index: int, seconds: float, rgb: np.ndarray, landmarks_px: np.ndarray) -> None:
        """Look at frame `index`, shown at `seconds`; other rates than 25 give the picture nearest to each tick."""
        if index != self._index + 1:
            self._faces.clear()
            self._tick = seconds
        self._index = index
        while seconds >= self._tick - self._half:
            self._faces.append(face_crop(rgb, landmarks_px))
            if len(self._faces) == WINDOW_FRAMES:
                faces = torch.from_numpy(np.stack(self._faces)).permute(3, 0, 1, 2)[None].float()
                with torch.inference_mode():
                    self.vectors.append(self._network.lips(faces)[0].numpy())
                self.seconds.append(self._tick - (WINDOW_FRAMES - 1) / RATE_HZ)
            self._tick += 1 / RATE_HZ


def sync_scores(network: SyncNet, lips: LipFeatures, sound: AudioClip) -> dict[str, float] | None:
    """Sync-D, Sync-C and the offset of lips against a sound.

    The distance of each window from the sound at shifts of -15 to 15 frames, averaged over the windows; where the sound
    does not reach, a shift is left out (the public pipeline puts zeros there).

    Returns:
        {sync_d: the least mean distance, lower is better; sync_c: the median over the shifts minus it, higher is
        better; offset_frames: positive where the sound comes later than the lips}; None where there is no window.
    """
    from avatarfit.media import resample

    coefficients = mfcc(resample(sound, SAMPLE_RATE_HZ).samples)
    shifts = np.arange(-SHIFTS, SHIFTS + 1)
    starts = np.round((np.array(lips.seconds) - sound.start_seconds) * 100).astype(int)
    hops = starts[:, None] + _FRAME_HOPS * shifts
    fits = (hops >= 0) & (hops + WINDOW_HOPS <= len(coefficients))
    if not len(starts) or not fits.any(axis=0).all():
        return None
    needed = np.unique(hops[fits])
    vectors: dict[int, np.ndarray] = {}
    for at in range(0, len(needed), _BATCH):
        part = needed[at : at + _BATCH]
        windows = np.stack([coefficients[h : h + WINDOW_HOPS].T for h in part])
        with torch.inference_mode():
            vectors |= dict(zip(part.tolist(), network.sound(torch.from_numpy(windows)[:, None]).numpy(), strict=True))
    distance = np.full(hops.shape, np.nan)
    for row, column in zip(*np.nonzero(fits), strict=True):
        distance[row, column] = np.linalg.norm(lips.vectors[row] - vectors[int(hops[row, column])])
    mean = np.nanmean(distance, axis=0)
    best = int(np.argmin(mean))
    return {
        "sync_d": round(float(mean[best]), 4),
        "sync_c": round(float(np.median(mean) - mean[best]), 4),
        "offset_frames": int(shifts[best]),
    }
