"""How much an avatar looks like its person: frames it has never seen, rendered with their measured motion."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from avatarfit.compositing import composite
from avatarfit.contracts import Camera, InputError, Motion
from avatarfit.contracts.events import Finished, Listener, Note, Progress, Started, silent
from avatarfit.evaluation.baselines import MeanPicture, motion_features, nearest_frames
from avatarfit.evaluation.pictures import PictureLog
from avatarfit.evaluation.regions import mouth_box, person_mask
from avatarfit.evaluation.scores import Scores, Truth

if TYPE_CHECKING:
    from avatarfit.capture.clip_folder import ClipFolder
    from avatarfit.model.avatar import Avatar

TRAIN_SAMPLE = 100

DEFINITIONS = {
    "truth": "the clip's frames resized to the avatar's size by area averaging (OpenCV INTER_AREA), 8 bit",
    "render": "straight float pictures over the avatar's plate, before any encoding, with the clip's measured motion",
    "split": "held out is the last 1/11 of the kept frames; train is an even sample of the frames before it",
    "psnr_db": "mean over frames of each frame's PSNR on sRGB-coded values in [0, 1]; equal pictures count as 100 dB",
    "ssim": "mean over frames; Wang et al. 2004, Gaussian 11x11 of sigma 1.5, per RGB channel, whole windows only",
    "person": "pixels whose person alpha is above 1/2; square error averaged over them; SSIM map averaged over them",
    "mouth": "square around the outer lip contour, side 1.4 times the contour's longer side",
    "whole_frame": "all pixels",
    "baseline_mean": "every held-out frame answered by the mean training frame",
    "baseline_nearest": "every held-out frame answered by the training frame nearest in face landmarks and torso, px",
}


class _Clip:
    """A clip folder seen at the avatar's size."""

    def __init__(self, clip: ClipFolder, camera: Camera) -> None:
        self.clip, self.width, self.height = clip, camera.width_px, camera.height_px
        try:
            clip.camera.resized(camera.width_px, camera.height_px)
        except ValueError as cause:
            raise InputError(
                f"the clip is {clip.camera.width_px}x{clip.camera.height_px} px and the avatar "
                f"{camera.width_px}x{camera.height_px} px",
                "one aspect ratio",
                "give the clip folder that the avatar was fitted from",
            ) from cause
        self._scale = np.array([self.width / clip.camera.width_px, self.height / clip.camera.height_px])

    def _resize(self, picture: np.ndarray) -> np.ndarray:
        import cv2

        if picture.shape[:2] == (self.height, self.width):
            return picture
        return cv2.resize(picture, (self.width, self.height), interpolation=cv2.INTER_AREA)

    def frames(self, start: int, stop: int) -> Iterator[tuple[int, np.ndarray]]:
        """(index, uint8 [H, W, 3]) of kept frames."""
        for index, frame in enumerate(self.clip.frames(start, stop), start):
            yield index, self._resize(frame.rgb)

    def truths(self, start: int, stop: int, wanted: set[int]) -> Iterator[tuple[int, np.ndarray, Truth | None]]:
        """(index, picture, truth) of kept frames; truth is given for the wanted ones."""
        masks = self.clip.masks(start, stop)
        for (index, rgb), (alpha, _) in zip(self.frames(start, stop), masks, strict=True):
            truth = None
            if index in wanted:
                points = np.asarray(self.clip.landmarks_px[index], np.float64)[:, :2] * self._scale
                truth = Truth(rgb, person_mask(self._resize(alpha)), mouth_box(points, self.width, self.height))
            yield index, rgb, truth


def _evenly(start: int, stop: int, count: int | None) -> list[int]:
    total = stop - start
    if count is None or count >= total:
        return list(range(start, stop))
    return [start + (2 * k + 1) * total // (2 * count) for k in range(count)]


def measured_motion(avatar: Avatar, clip: ClipFolder) -> Motion:
    """The clip's motion in the avatar's own rig: as stored where the rigs are equal, else encoded anew."""
    motion = clip.motion()
    mine, theirs = avatar.rig.to_tensors(), clip.rig().to_tensors()
    if mine.keys() == theirs.keys() and all(np.array_equal(mine[k], theirs[k]) for k in mine):
        return motion
    face = avatar.rig.encode(np.asarray(clip.landmarks_cm))
    return Motion(motion.pts_seconds, face, motion.head, motion.torso)


def evaluate_avatar(
    avatar: Avatar,
    clip: ClipFolder,
    *,
    frames_limit: int | None = None,
    pictures_dir: str | Path | None = None,
    backend: str = "auto",
    on_event: Listener = silent,
) -> dict[str, Any]:
    """Judge an avatar on the clip it was fitted from; see `DEFINITIONS` for what each figure means.

    One frame is in memory at a time; the training frames that the nearest-frame baseline needs wait in a temporary
    file that is gone afterwards.

    Args:
        avatar: to be judged.
        clip: its clip folder.
        frames_limit: judge this many held-out and at most as many training frames, evenly spaced; None: all held-out
            ones and 100 training ones.
        pictures_dir: where to put pictures "truth | render | error x 4" of some frames and of the worst; None: nowhere.
        backend: of the renderer.

    Returns:
        `{person, mouth, whole_frame: {psnr_db, ssim}}` on the held-out frames; the same under `train`, `baseline_mean`
        and `baseline_nearest`; `frames`, `size`, `worst_frames`, `definitions`.

    Raises:
        InputError: the clip is too short to hold frames out, has another aspect ratio than the avatar, or its landmarks
            are another network's.
    """
    from avatarfit.rendering.gaussian_renderer import GaussianRenderer

    began = time.perf_counter()
    view = _Clip(clip, avatar.camera)
    mine, theirs = avatar.made.get("landmarks"), clip.manifest["landmarks"]
    if mine is not None and mine != theirs:
        raise InputError(
            f"the avatar was fitted with landmarks of {mine}, and the clip folder's are of {theirs}",
            "landmarks of one network, for those of two differ by some pixels",
            "capture the clip with the avatar's landmarker (--landmarker), or fit the avatar again",
        )
    train_count, total = clip.train_count, len(clip)
    if total - train_count < 1 or train_count < 2:
        raise InputError(f"the clip has {total} usable frames", "at least 11", "record a longer clip")
    held_out = _evenly(train_count, total, frames_limit)
    train = _evenly(0, train_count, min(frames_limit or TRAIN_SAMPLE, TRAIN_SAMPLE))
    motion = measured_motion(avatar, clip)
    features = motion_features(clip.landmarks_px, motion.torso, clip.camera)
    nearest = nearest_frames(features, features[:train_count])
    renderer = GaussianRenderer(avatar.gaussians, avatar.camera, backend=backend)
    scores = {name: Scores() for name in ("held_out", "train", "baseline_mean", "baseline_nearest")}
    log = PictureLog(pictures_dir, held_out)

    stage = "evaluate"
    on_event(Started(stage, total))
    mean = MeanPicture()
    with tempfile.TemporaryFile() as file:
        slots = {int(index): slot for slot, index in enumerate(sorted({nearest[i] for i in held_out}))}
        shape = (len(slots), view.height, view.width, 3)
        answers = np.memmap(file, np.uint8, "w+", shape=shape)
        for index, rgb, truth in view.truths(0, train_count, set(train)):
            mean.add(rgb)
            if index in slots:
                answers[slots[index]] = rgb
            if truth is not None:
                scores["train"].add(truth, composite(renderer.render(motion, index), avatar.plate))
            on_event(Progress(stage, index + 1, total))
        mean_picture = mean.picture()
        for index, _, truth in view.truths(train_count, total, set(held_out)):
            if truth is not None:
                picture = composite(renderer.render(motion, index), avatar.plate)
                figures = scores["held_out"].add(truth, picture)
                scores["baseline_mean"].add(truth, mean_picture)
                scores["baseline_nearest"].add(truth, answers[slots[nearest[index]]] / 255.0)
                log.add(index, truth.rgb, picture, figures)
            on_event(Progress(stage, index + 1, total))
    written = log.write()
    if written:
        on_event(Note(stage, f"pictures are in {written}"))
    means = {name: scores[name].means() for name in scores}
    on_event(
        Finished(
            stage, time.perf_counter() - began, {"person.psnr_db": means["held_out"]["person"].get("psnr_db", 0.0)}
        )
    )
    return {
        **means["held_out"],
        "train": means["train"],
        "baseline_mean": means["baseline_mean"],
        "baseline_nearest": means["baseline_nearest"],
        "size": {"width_px": view.width, "height_px": view.height},
        "frames": {
            "clip": total,
            "training": train_count,
            "held_out": total - train_count,
            "held_out_judged": len(held_out),
            "training_judged": len(train),
        },
        "gaussians": int(avatar.gaussians.base.shape[0]),
        "worst_frames": log.worst_frames(),
        "definitions": DEFINITIONS,
    }
