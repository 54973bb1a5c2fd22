"""Measures dubbing on the held-out frames of an avatar's own clip, with the mouth that they show, and prints JSON.

`face_psnr_db`: PSNR of the box about the face's oval, where the upper face is the footage's own. `mask_psnr_db`: PSNR
of what is drawn anew alone, squared errors weighted by the mask. Both are means over the frames, with the least beside
them; `unmatched` leaves the footage's light out, which is otherwise measured on the very frame that is drawn.

`edge_flicker`: how much the mask's edge (0.02 to 0.98) flickers, over how much the footage itself does there: root
mean square of `I(t - 1) - 2 I(t) + I(t + 1)`; 1 is best. With `--audio`, `edge_flicker_driven` is the same for the
mouth that the driver makes of a sound.

    python tools/measure_dub.py AVATAR CLIP_FOLDER [--audio WAV] [--frames N]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from avatarfit.audio.named_encoder import encoder_of
from avatarfit.capture import ClipFolder
from avatarfit.capture.face_points import FACE_OVAL
from avatarfit.driving import drive
from avatarfit.evaluation.split import split_of
from avatarfit.media import read_audio
from avatarfit.model.avatar import Avatar
from avatarfit.pipeline.dub_footage import Footage
from avatarfit.pipeline.dub_frames import DubbedFrame, dubbed_frames


def whole_mask(frame: DubbedFrame) -> np.ndarray:
    """The mask of the whole picture, float32 [H, W]."""
    mask = np.zeros(frame.original.shape[:2], np.float32)
    if frame.box is not None and frame.mask is not None:
        left, top, right, bottom = frame.box
        mask[top:bottom, left:right] = frame.mask
    return mask


def decibels(squared_error: float) -> float:
    """PSNR of a mean squared error in levels of 255."""
    return float(10 * np.log10(255**2 / max(squared_error, 1e-9)))


def psnrs(frames: list[DubbedFrame], landmarks_px: np.ndarray) -> dict[str, float]:
    """Both PSNRs, means and least, of frames and their landmarks [T, 478, 2] in the footage's pixels."""
    face, within = [], []
    for frame, points in zip(frames, landmarks_px, strict=True):
        error = np.square(frame.picture.astype(np.float64) - frame.original).mean(axis=2)
        low = np.maximum(np.floor(points[FACE_OVAL].min(axis=0)), 0).astype(int)
        high = np.ceil(points[FACE_OVAL].max(axis=0)).astype(int)
        mask = whole_mask(frame)
        face.append(decibels(float(error[low[1] : high[1], low[0] : high[0]].mean())))
        within.append(decibels(float((error * mask).sum() / max(float(mask.sum()), 1e-9))))
    told = {"face_psnr_db": np.mean(face), "face_least_db": np.min(face)}
    told |= {"mask_psnr_db": np.mean(within), "mask_least_db": np.min(within)}
    return {name: round(float(value), 2) for name, value in told.items()}


def edge_flicker(frames: list[DubbedFrame]) -> float:
    """See the module."""
    energy = np.zeros(2)
    for before, now, after in zip(frames, frames[1:], frames[2:], strict=False):
        edge = whole_mask(now)
        edge = (edge > 0.02) & (edge < 0.98)
        for k, name in enumerate(("picture", "original")):
            a, b, c = (getattr(frame, name)[edge].astype(np.float64) for frame in (before, now, after))
            energy[k] += float(np.square(a - 2 * b + c).sum())
    return round(float(np.sqrt(energy[0] / energy[1])), 4)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("avatar", type=Path)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--audio", type=Path)
    parser.add_argument("--frames", type=int, help="so many of the held-out frames, the first; all if not given")
    asked = parser.parse_args()
    avatar, clip = Avatar.load(asked.avatar), ClipFolder.open(asked.clip)
    footage = Footage.of(avatar, clip)
    held_out = split_of(avatar.made, len(clip), clip.train_count).held_out[-1]
    rows = held_out[: asked.frames] if asked.frames else held_out
    part = range(*(int(np.searchsorted(footage.row, k)) for k in (rows.start, rows.stop)))
    points = clip.landmarks_px[footage.row[part.start : part.stop], :, :2] / clip.view.scale
    points += [clip.view.x_px, clip.view.y_px]
    own = footage.motion.face.mouth
    frames = list(dubbed_frames(avatar, footage, own, part=part))
    told: dict[str, object] = {"frames": len(frames), "size": list(frames[0].original.shape[1::-1])}
    told |= psnrs(frames, points) | {"edge_flicker": edge_flicker(frames)}
    told["unmatched"] = psnrs(list(dubbed_frames(avatar, footage, own, part=part, matched=False)), points)
    if asked.audio is not None:
        encoder = encoder_of(avatar.driver.feature_name, None)
        motion = drive(avatar.driver, avatar.rig, read_audio(asked.audio), clip.frame_rate_hz, encoder=encoder)
        count = min(len(motion), len(part))
        said = own.copy()
        said[part.start : part.start + count] = motion.face.mouth[:count]
        driven = dubbed_frames(avatar, footage, said, part=range(part.start, part.start + count))
        told["edge_flicker_driven"] = edge_flicker(list(driven))
    print(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
