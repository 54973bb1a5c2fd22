"""The clip's frames at the fitting size, on disk, read through the page cache: memory does not grow with the clip."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from avatarfit.capture.clip_folder import ClipFolder
from avatarfit.contracts import Camera, InputError
from avatarfit.contracts.events import Finished, Listener, Progress, Started, silent
from avatarfit.model.rig import LEFT_EYE, LIPS_OUTER, RIGHT_EYE

WEIGHT_SCALE = 64
"""Loss weights are stored as uint8; 64 is weight 1."""

_BACKGROUND_WEIGHT, _MOUTH_WEIGHT, _EYES_WEIGHT = 0.05, 2.5, 1.8


@dataclass(frozen=True)
class StoredFrame:
    """One frame.

    Attributes:
        rgb: uint8 [H, W, 3].
        person: uint8 [H, W], soft person alpha.
        labels: uint8 [H, W], see data/README.md.
        weight: uint8 [H, W], loss weight times 64: the person full, mouth and eyes more, the background little.
    """

    rgb: np.ndarray
    person: np.ndarray
    labels: np.ndarray
    weight: np.ndarray


@dataclass(frozen=True)
class FrameStore:
    """Frames of a clip at one size, memory-mapped; `len` is their number.

    Attributes:
        camera: the view at this size.
        rgb, person, labels, weight: as in `StoredFrame`, of the clip's T kept frames.
        kept: int [N], which of those are this store's frames, in order.
    """

    camera: Camera
    rgb: np.ndarray
    person: np.ndarray
    labels: np.ndarray
    weight: np.ndarray
    kept: np.ndarray

    def __len__(self) -> int:
        return len(self.kept)

    def __getitem__(self, index: int) -> StoredFrame:
        at = self.kept[index]
        return StoredFrame(self.rgb[at], self.person[at], self.labels[at], self.weight[at])

    def only(self, indices: np.ndarray) -> FrameStore:
        """The store of these frames, int [N]."""
        return replace(self, kept=self.kept[indices])

    @staticmethod
    def build(clip: ClipFolder, width_px: int, folder: Path, on_event: Listener = silent) -> FrameStore:
        """Opens the store in `folder`, making it first where it is missing or was made from another clip.

        Raises:
            InputError: the disk has no room for it.
        """
        camera = fitted_camera(clip.camera, width_px)
        size = (camera.width_px, camera.height_px)
        key = hashlib.sha256(f"2 {clip.content_hash} {size}".encode()).hexdigest()
        return FrameStore.kept_in(folder, key, camera, len(clip), lambda arrays: _fill(clip, arrays, on_event))

    @staticmethod
    def kept_in(
        folder: Path, key: str, camera: Camera, count: int, fill: Callable[[dict[str, np.ndarray]], None]
    ) -> FrameStore:
        """Opens the store of `count` frames in `folder`, where one with this key is whole; else makes it first.

        Args:
            fill: writes frames into the arrays that it is given: `rgb`, `person`, `labels` and `weight`.

        Raises:
            InputError: the disk has no room for it.
        """
        size = (camera.height_px, camera.width_px)
        shapes = {"rgb": (count, *size, 3), **dict.fromkeys(("person", "labels", "weight"), (count, *size))}
        done = folder / "done.json"
        if not (done.is_file() and json.loads(done.read_text()).get("key") == key):
            folder.mkdir(parents=True, exist_ok=True)
            done.unlink(missing_ok=True)
            _require_room(folder, shapes)
            arrays = {
                name: np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=np.uint8, shape=shape)
                for name, shape in shapes.items()
            }
            fill(arrays)
            for array in arrays.values():
                array.flush()
            partial = done.with_suffix(".part")
            partial.write_text(json.dumps({"key": key}))
            os.replace(partial, done)
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in shapes}
        return FrameStore(camera, **arrays, kept=np.arange(count))


def fitted_camera(camera: Camera, width_px: int) -> Camera:
    """The clip's view at another width, its aspect ratio kept."""
    return camera.resized(width_px, max(1, round(camera.height_px * width_px / camera.width_px)))


def _require_room(folder: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """Raises InputError unless the arrays fit: a full disk would kill a process that writes through a memory map."""
    wanted = sum(math.prod(shape) for shape in shapes.values())
    there = sum(path.stat().st_size for name in shapes if (path := folder / f"{name}.npy").is_file())
    free = shutil.disk_usage(folder).free + there
    if free < wanted:
        count, height, width = shapes["person"]
        raise InputError(
            f"{count} frames of {width}x{height} px take {wanted / 1e9:.1f} GB in {folder}, "
            f"{free / 1e9:.1f} GB are free",
            "room for them",
            "free some, name another --work-dir, or take a smaller --size or fewer pictures a second with --fps",
        )


def _fill(clip: ClipFolder, out: dict[str, np.ndarray], on_event: Listener) -> None:
    start = time.monotonic()
    on_event(Started("frames", len(clip)))
    size = out["person"].shape[2], out["person"].shape[1]
    scale = np.array(size) / (clip.camera.width_px, clip.camera.height_px)
    for index, (frame, (person, labels)) in enumerate(zip(clip.frames(), clip.masks(), strict=True)):
        out["rgb"][index] = cv2.resize(frame.rgb, size, interpolation=cv2.INTER_AREA)
        out["person"][index] = cv2.resize(person, size, interpolation=cv2.INTER_AREA)
        out["labels"][index] = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
        out["weight"][index] = loss_weight(out["person"][index], clip.landmarks_px[index, :, :2] * scale)
        if index % 25 == 24:
            on_event(Progress("frames", index + 1, len(clip)))
    on_event(Finished("frames", time.monotonic() - start))


def loss_weight(person: np.ndarray, landmarks_px: np.ndarray) -> np.ndarray:
    """`StoredFrame.weight` of a matte, uint8 [H, W], and landmarks [478, 2] in its pixels."""
    height, width = person.shape
    # The rim counts as the person: that is where hair and collar are won or lost.
    reach = max(3, width // 48) | 1
    near = cv2.dilate(person, np.ones((reach, reach), np.uint8)).astype(np.float32) / 255
    weight = _BACKGROUND_WEIGHT + (1 - _BACKGROUND_WEIGHT) * near
    for region, value in ((LIPS_OUTER, _MOUTH_WEIGHT), (LEFT_EYE, _EYES_WEIGHT), (RIGHT_EYE, _EYES_WEIGHT)):
        patch = np.zeros((height, width), np.uint8)
        hull = cv2.convexHull(landmarks_px[list(region)].round().astype(np.int32))
        cv2.fillConvexPoly(patch, hull, (1,))
        weight = np.maximum(weight, value * cv2.dilate(patch, np.ones((reach, reach), np.uint8)))
    return (weight * WEIGHT_SCALE).round().astype(np.uint8)
