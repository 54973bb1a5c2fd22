"""The avatar's shoulders brought to where other footage has them, for a collar lies against the jaw."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from avatarfit.capture.clip_folder import NECK, TORSO
from avatarfit.contracts import Camera, TorsoMotion
from avatarfit.pipeline.dub_footage import Footage

if TYPE_CHECKING:
    from avatarfit.model.avatar import Avatar

_PICTURES, _FEWEST = 6, 2
_LEAST_CORRELATION = 0.6
"""Below this the footage shows other clothes than the avatar wears."""
_COARSE = 4
_SMALLEST_PX = 400


def settled(avatar: Avatar, footage: Footage, backend: str = "auto") -> tuple[Footage, str]:
    """Footage whose torso motion puts the avatar's clothes onto the footage's, and a sentence about it, "" for none.

    In the avatar's own clip the torso was measured. Elsewhere only its movement is known, not where its rest is: some
    pictures of the avatar are matched with the footage over neck and clothes by the affine map that correlates best
    (Evangelidis and Psarakis, Parametric image alignment using enhanced correlation coefficient maximization, 2008),
    and the median map is laid over the motion.

    Args:
        footage: of the avatar's person; as it is where it is the avatar's own clip.
    """
    if footage.own_clip:
        return footage, ""
    from avatarfit.rendering.renderer import renderer_of

    camera = _working(footage)
    renderer = renderer_of(avatar, camera, backend)
    dubbed = np.flatnonzero(~footage.left)
    chosen = dubbed[np.linspace(0, len(dubbed) - 1, _PICTURES + 2).round().astype(int)[1:-1]]
    chosen = chosen[np.unique(footage.row[chosen], return_index=True)[1]]
    maps = []
    pictures = footage.clip.frames_at(footage.row[chosen].tolist())
    for index, frame in zip(chosen.tolist(), pictures, strict=True):
        row = int(footage.row[index])
        _, labels = next(footage.clip.masks(row, row + 1))
        drawn = renderer.render(footage.motion, index)
        clothes = np.isin(labels, (NECK, TORSO)) & (drawn[..., 3] > 0.5)
        clothes[: int(footage.clip.landmarks_px[row, 152, 1])] = False
        found = _aligned(frame.rgb, drawn[..., :3], clothes)
        if found is not None:
            maps.append(_normalised(found, camera))
    if len(maps) < _FEWEST:
        return footage, "the footage's clothes could not be matched with the avatar's; look at collars beside the jaw"
    settle = np.median(maps, axis=0)
    affine = footage.motion.torso.affine.astype(np.float64)
    moved = np.concatenate(
        [settle[:, :2] @ affine[:, :, :2], (affine[:, :, 2] @ settle[:, :2].T + settle[:, 2])[:, :, None]], axis=2
    )
    torso = TorsoMotion(moved.astype(np.float32), footage.motion.torso.shape)
    return replace(footage, motion=replace(footage.motion, torso=torso)), ""


def _working(footage: Footage) -> Camera:
    """The footage's camera for the clip folder's working pictures."""
    view, whole = footage.clip.view, footage.camera
    across, down = view.scale
    return Camera(
        view.working_width_px, view.working_height_px, whole.focal_px * float(view.scale.mean()),
        (whole.center_x_px - view.x_px) * across, (whole.center_y_px - view.y_px) * down,
    )  # fmt: skip


def _aligned(original: np.ndarray, drawn: np.ndarray, where: np.ndarray) -> np.ndarray | None:
    """The map float64 [2, 3] that takes pixels of `original` uint8 to those of `drawn` float, within `where`."""
    import cv2

    gray = cv2.cvtColor(original, cv2.COLOR_RGB2GRAY).astype(np.float32)
    other = cv2.cvtColor(np.clip(drawn * 255, 0, 255).astype(np.float32), cv2.COLOR_RGB2GRAY)
    mask = where.astype(np.uint8) * 255
    if where.sum() < _SMALLEST_PX:
        return None
    until = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 60, 1e-4)
    size = max(gray.shape[1] // _COARSE, 1), max(gray.shape[0] // _COARSE, 1)
    small = [cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in (gray, other)]
    small_mask = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
    still = np.eye(2, 3, dtype=np.float32)
    try:
        _, shifted = cv2.findTransformECC(small[0], small[1], still, cv2.MOTION_TRANSLATION, until, small_mask, 5)
        guess = np.asarray(shifted, np.float32) * np.array([1, 1, _COARSE], np.float32)
        correlation, found = cv2.findTransformECC(gray, other, guess, cv2.MOTION_AFFINE, until, mask, 5)
    except cv2.error:  # it does not converge where the two have nothing in common
        return None
    return np.asarray(found, np.float64) if correlation >= _LEAST_CORRELATION else None


def _normalised(found: np.ndarray, camera: Camera) -> np.ndarray:
    """From pixel indices, footage to avatar, to the image plane at z = 1, avatar to footage: float64 [2, 3]."""
    linear = np.linalg.inv(found[:, :2])
    shift = -linear @ found[:, 2]
    center = np.array([camera.center_x_px, camera.center_y_px]) - 0.5
    return np.concatenate([linear, ((linear @ center + shift - center) / camera.focal_px)[:, None]], axis=1)
