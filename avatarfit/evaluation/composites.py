"""Three ways to put a rendered person into a picture, which published figures mix up: each is judged by itself."""

from __future__ import annotations

import numpy as np

from avatarfit.capture.clip_folder import BACKGROUND, HEAD
from avatarfit.capture.face_points import FACE_OVAL

COMPOSITES = ("full", "head_over_true_torso", "paste_back")
FEATHER_PX = 3.0
"""Width over which a pasted face fades, inside the oval, pixels of the avatar's size."""
_BLUR_PX = 1.0


def head_matte(person: np.ndarray, labels: np.ndarray, width_px: int, height_px: int) -> np.ndarray:
    """How much of each pixel is head (face, mouth, hair): float32 [height, width] in 0..1.

    The person's soft alpha, times the head's share of the person's labels blurred by a Gaussian of 1 px.

    Args:
        person, labels: uint8 [H, W] of the clip folder, of any size.
        width_px, height_px: the wanted size.
    """
    import cv2

    size = width_px, height_px

    def share(mask: np.ndarray) -> np.ndarray:
        small = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.GaussianBlur(small, (0, 0), _BLUR_PX))

    head = share(np.isin(labels, HEAD))
    anyone = share(labels != BACKGROUND)
    alpha = cv2.resize(person, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    return np.asarray(alpha * np.divide(head, anyone, out=np.zeros_like(head), where=anyone > 1e-4), np.float32)


def face_matte(landmarks_px: np.ndarray, width_px: int, height_px: int) -> np.ndarray:
    """The face's oval, 1 inside, fading to 0 over its inner `FEATHER_PX`: float32 [height, width].

    Args:
        landmarks_px: float [478, 2 or more], pixels of that size.
    """
    import cv2

    inside = np.zeros((height_px, width_px), np.uint8)
    outline = np.round((landmarks_px[FACE_OVAL, :2] - 0.5) * 16).astype(np.int32)
    cv2.fillPoly(inside, [outline[:, None]], (1,), shift=4)
    # Beyond the picture's border there is no true picture to fade into.
    depth = cv2.distanceTransform(np.pad(inside, 1, mode="edge"), cv2.DIST_L2, 5)[1:-1, 1:-1]
    return np.asarray(np.clip(depth / FEATHER_PX, 0, 1), np.float32)


def composed(truth: np.ndarray, render: np.ndarray, head: np.ndarray, face: np.ndarray) -> dict[str, np.ndarray]:
    """The pictures of `COMPOSITES`, float32 [H, W, 3].

    Args:
        truth, render: float [H, W, 3] in [0, 1].
        head, face: `head_matte` and `face_matte`.
    """
    truth, render = truth.astype(np.float32, copy=False), render.astype(np.float32, copy=False)
    error = render - truth
    return {
        "full": render,
        "head_over_true_torso": truth + head[..., None] * error,
        "paste_back": truth + face[..., None] * error,
    }
