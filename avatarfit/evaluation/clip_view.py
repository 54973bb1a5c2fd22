"""A clip folder seen at an avatar's size: pictures, and what is known of each."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from avatarfit.contracts import Camera, InputError, Motion, TorsoMotion
from avatarfit.evaluation.composites import face_matte, head_matte
from avatarfit.evaluation.regions import mouth_box, person_mask
from avatarfit.evaluation.scores import Truth
from avatarfit.evaluation.split import Split

if TYPE_CHECKING:
    from avatarfit.capture.clip_folder import ClipFolder
    from avatarfit.model.avatar import Avatar


class ClipView:
    """A clip's pictures and measurements at the size of an avatar's camera, one frame at a time.

    Raises:
        InputError: the aspect ratios differ.
    """

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

    def landmarks_px(self, index: int | slice | list[int]) -> np.ndarray:
        """float64 [..., 478, 2]: the clip's own landmarks, pixels of this size."""
        return np.asarray(self.clip.landmarks_px[index], np.float64)[..., :2] * self._scale

    def _resize(self, picture: np.ndarray) -> np.ndarray:
        import cv2

        if picture.shape[:2] == (self.height, self.width):
            return picture
        return cv2.resize(picture, (self.width, self.height), interpolation=cv2.INTER_AREA)

    def frames(self, stretches: Collection[range]) -> Iterator[tuple[int, np.ndarray]]:
        """(index, uint8 [H, W, 3]) of the stretches' frames."""
        for part in stretches:
            for index, frame in enumerate(self.clip.frames(part.start, part.stop), part.start):
                yield index, self._resize(frame.rgb)

    def truths(
        self, stretches: Collection[range], wanted: Collection[int], whole: bool = False
    ) -> Iterator[tuple[int, np.ndarray, Truth | None]]:
        """(index, picture, truth) of the stretches' frames; truth is given for the wanted ones.

        Args:
            whole: give every attribute of `Truth`; otherwise what PSNR and SSIM need.
        """
        masks = chain.from_iterable(self.clip.masks(part.start, part.stop) for part in stretches)
        for (index, rgb), (alpha, labels) in zip(self.frames(stretches), masks, strict=True):
            yield index, rgb, self._truth(index, rgb, alpha, labels, whole) if index in wanted else None

    def _truth(self, index: int, rgb: np.ndarray, alpha: np.ndarray, labels: np.ndarray, whole: bool) -> Truth:
        import cv2

        points = self.landmarks_px(index)
        person, mouth = person_mask(self._resize(alpha)), mouth_box(points, self.width, self.height)
        head = head_matte(alpha, labels, self.width, self.height)
        if not whole:
            return Truth(rgb, person, mouth, head)
        small = cv2.resize(labels, (self.width, self.height), interpolation=cv2.INTER_NEAREST)
        return Truth(rgb, person, mouth, head, face_matte(points, self.width, self.height), small, points)


def measured_motion(avatar: Avatar, clip: ClipFolder) -> Motion:
    """The clip's motion in the avatar's own rig and torso modes: as stored where they are equal, else encoded anew."""
    motion = clip.motion()
    if not _same(avatar.rig.to_tensors(), clip.rig().to_tensors()):
        motion = replace(motion, face=avatar.rig.encode(np.asarray(clip.landmarks_cm)))
    modes = clip.torso_modes()
    if not _same(avatar.torso_modes.to_tensors(), modes.to_tensors()):
        shape = avatar.torso_modes.recoded(motion.torso.shape, modes)
        motion = replace(motion, torso=TorsoMotion(motion.torso.affine, shape))
    return motion


def _same(mine: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> bool:
    return mine.keys() == theirs.keys() and all(np.array_equal(mine[k], theirs[k]) for k in mine)


def check_same_landmarks(avatar: Avatar, clip: ClipFolder) -> None:
    """Raise where avatar and clip have landmarks of different networks.

    Raises:
        InputError: they have.
    """
    mine, theirs = avatar.made.get("landmarks"), clip.manifest["landmarks"]
    if mine is not None and mine != theirs:
        raise InputError(
            f"the avatar was fitted with landmarks of {mine}, and the clip folder's are of {theirs}",
            "landmarks of one network, for those of two differ by some pixels",
            "capture the clip with the avatar's landmarker (--landmarker), or fit the avatar again",
        )


def evenly(split: Split, held_out: bool, count: int | None) -> list[int]:
    """`count` indices evenly spaced over the held-out (or the training) frames; all where there are no more."""
    frames = list(chain.from_iterable(split.held_out if held_out else split.training()))
    total = len(frames)
    if count is None or count >= total:
        return frames
    return [frames[(2 * k + 1) * total // (2 * count)] for k in range(count)]
