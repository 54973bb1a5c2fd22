"""What a report shows of one picture: the face's landmarks, the labels over it, the matte on a checkerboard."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avatarfit.capture.clip_folder import FACE, HAIR, MOUTH_INTERIOR, NECK, TORSO
from avatarfit.capture.face_points import FACE_OVAL
from avatarfit.model.rig import LEFT_EYE, LIPS_INNER, LIPS_OUTER, RIGHT_EYE

SHOWN_PX = 300
"""Longer side of a shown picture: readable on a phone, about 20 kB."""
LABEL_COLORS: dict[int, tuple[str, tuple[int, int, int]]] = {
    FACE: ("face", (244, 162, 89)),
    HAIR: ("hair", (122, 81, 190)),
    MOUTH_INTERIOR: ("mouth interior", (214, 40, 57)),
    NECK: ("neck", (84, 176, 92)),
    TORSO: ("torso", (60, 120, 216)),
}
"""Name and colour of each label but the background; told apart by people with red-green blindness, too."""
_OPACITY = 0.5
_CHECKER = (205, 150)
_SQUARES = 24
_LINE, _IRIS, _LIP = (64, 224, 208), (255, 209, 71), (255, 92, 138)


@dataclass(frozen=True)
class Shown:
    """A picture as it is kept for showing.

    Attributes:
        whole: uint8 [h, w, 3], at most `SHOWN_PX` long.
        face: uint8 [s, s, 3], the surroundings of the face, with its landmarks drawn.
    """

    whole: np.ndarray
    face: np.ndarray


def reduced(picture: np.ndarray) -> np.ndarray:
    """A picture [H, W] or [H, W, 3] with its longer side at most `SHOWN_PX`."""
    import cv2

    scale = min(1.0, SHOWN_PX / max(picture.shape[:2]))
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def shown(rgb: np.ndarray, landmarks_px: np.ndarray) -> Shown:
    """What is kept of a picture, uint8 [H, W, 3], with its landmarks [478, 3]."""
    return Shown(reduced(rgb), face_with_landmarks(rgb, landmarks_px))


def face_with_landmarks(rgb: np.ndarray, landmarks_px: np.ndarray) -> np.ndarray:
    """A square around the face, uint8 [SHOWN_PX, SHOWN_PX, 3]: landmarks as dots, oval, lids, lips, irises as lines."""
    import cv2

    points = landmarks_px[:, :2]
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    side = 1.35 * float(np.ptp(points, axis=0).max())
    scale = SHOWN_PX / side
    corner = middle - side / 2
    # Pixel centres lie at + 0.5 here and at whole numbers in OpenCV.
    shift = (0.5 - corner) * scale - 0.5
    turn = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    out = cv2.warpAffine(rgb, turn, (SHOWN_PX, SHOWN_PX), flags=how, borderMode=cv2.BORDER_CONSTANT)
    placed = np.round(((points - corner) * scale - 0.5) * 16).astype(np.int32)
    for x, y in placed[:468]:
        cv2.circle(out, (int(x), int(y)), 12, _LINE, -1, cv2.LINE_AA, 4)
    for loop, color in (
        (FACE_OVAL, _LINE), (LEFT_EYE, _LINE), (RIGHT_EYE, _LINE), (LIPS_OUTER, _LIP), (LIPS_INNER, _LIP),
        ((469, 470, 471, 472), _IRIS), ((474, 475, 476, 477), _IRIS),
    ):  # fmt: skip
        cv2.polylines(out, [_ring(placed, loop)], True, color, 1, cv2.LINE_AA, 4)
    return out


def _ring(placed: np.ndarray, loop: tuple[int, ...] | np.ndarray) -> np.ndarray:
    """The loop's points in order round their middle: the eyes' landmarks come as upper and lower lid."""
    points = placed[list(loop)]
    middle = points.mean(axis=0)
    if len(points) in (len(LEFT_EYE), 4):
        points = points[np.argsort(np.arctan2(points[:, 1] - middle[1], points[:, 0] - middle[0]))]
    return points


def with_labels(whole: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Labels uint8 [H, W] as colours over a (reduced) picture, their borders drawn darker."""
    import cv2

    small = cv2.resize(labels, whole.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    out = whole.astype(np.float32) * 0.9
    for value, (_, color) in LABEL_COLORS.items():
        inside = small == value
        out[inside] = (1 - _OPACITY) * whole[inside] + _OPACITY * np.array(color, np.float32)
    border = np.zeros(small.shape, bool)
    border[1:] |= small[1:] != small[:-1]
    border[:, 1:] |= small[:, 1:] != small[:, :-1]
    out[border] *= 0.45
    return out.clip(0, 255).astype(np.uint8)


def on_checkerboard(whole: np.ndarray, person: np.ndarray) -> np.ndarray:
    """The person of a (reduced) picture over a checkerboard, by alpha uint8 [H, W]."""
    alpha = _resized(person, whole)[..., None].astype(np.float32) / 255
    height, width = whole.shape[:2]
    square = max(4, max(height, width) // _SQUARES)
    y, x = np.mgrid[0:height, 0:width] // square
    board = np.where((x + y) % 2, *_CHECKER)[..., None].astype(np.float32)
    return (alpha * whole + (1 - alpha) * board + 0.5).clip(0, 255).astype(np.uint8)


def plate_with_invented(plate: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """The background plate, reduced, with diagonal stripes where `seen` (bool [H, W]) is False."""
    whole = reduced(plate)
    invented = _resized((~seen).astype(np.uint8) * 255, whole)[..., None] > 127
    y, x = np.mgrid[0 : whole.shape[0], 0 : whole.shape[1]]
    stripe = ((x + y) // 5 % 3 == 0)[..., None] & invented
    out = whole.astype(np.float32)
    out = np.where(stripe, 0.35 * out + 0.65 * np.array([255, 120, 0], np.float32), out)
    return out.clip(0, 255).astype(np.uint8)


def _resized(gray: np.ndarray, like: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.resize(gray, like.shape[1::-1], interpolation=cv2.INTER_AREA)


def choose_pictures(state: np.ndarray, residual_px: np.ndarray, spread: int, worst: int) -> tuple[list[int], list[int]]:
    """Which pictures to show.

    Args:
        state: float [T, D], what is to be spread over (pose, mouth, lids), each column in its own unit.
        residual_px: float [T].

    Returns:
        `spread` pictures by farthest-point sampling from the most usual one, in time order; and `worst` of the largest
        residuals, no two within a twentieth of the clip of each other, worst first, none twice.
    """
    scaled = (state - np.median(state, axis=0)) / np.maximum(np.ptp(state, axis=0), 1e-9)
    first = int(np.argmin(np.square(scaled).sum(axis=1)))
    chosen = [first]
    distance = np.square(scaled - scaled[first]).sum(axis=1)
    distance[first] = -1
    while len(chosen) < min(spread, len(state)):
        chosen.append(int(np.argmax(distance)))
        distance = np.minimum(distance, np.square(scaled - scaled[chosen[-1]]).sum(axis=1))
        distance[chosen] = -1
    bad: list[int] = []
    apart = len(state) / 20
    for index in np.argsort(-residual_px).tolist():
        if len(bad) == worst:
            break
        if index not in chosen and all(abs(index - other) >= apart for other in bad):
            bad.append(index)
    return sorted(chosen), bad
