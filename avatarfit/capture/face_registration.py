"""Where the face of every picture lies against one reference picture, by matching the pictures themselves.

The landmark network answers with slow errors of about a pixel (at 512) that depend on pose, and flow from picture to
picture adds up its own. Matching each picture to the same reference has neither: it halves the distance between the
poses' motion and the pictures' over a second and more. Where the head is turned so far that the reference does not
match, a second picture with a nearer pose helps out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from avatarfit.capture.face_points import RIGID
from avatarfit.contracts.geometry import Camera

_WINDOW = (21, 21)
_LEVELS = 1
_ROUND_TRIP_PX_AT_512 = 0.7
_KEYFRAMES = 12
_NEAR = 0.8
_IN_FLIGHT = 8


@dataclass(frozen=True)
class Registration:
    """Matches of K pictures with their keyframes.

    Attributes:
        keyframe: int64 [K, 2]; first the reference, then the keyframe of the nearest pose; -1 for none.
        shift_px: float32 [K, 2, R, 2], from the rigid landmarks' places in the keyframe to the same spots of skin in
            the picture; NaN where they were not found.
    """

    keyframe: np.ndarray
    shift_px: np.ndarray


def pose_distance_state(rotation: np.ndarray, translation_cm: np.ndarray) -> np.ndarray:
    """[K, 6] coordinates in which likeness of view is a plain distance: a tenth of a radian counts as 2 cm sideways."""
    from scipy.spatial.transform import Rotation

    middle = Rotation.from_matrix(rotation).mean().as_matrix()
    turn = Rotation.from_matrix(rotation @ middle.T).as_rotvec()
    return np.concatenate([turn * 10, translation_cm * [0.5, 0.5, 0.2]], axis=1)


def choose_keyframes(state: np.ndarray, reference: int) -> list[int]:
    """The reference and pictures that cover the other poses; the outermost three per cent are nobody's business."""
    chosen = [reference]
    distance = np.linalg.norm(state - state[reference], axis=1)
    while len(chosen) < min(_KEYFRAMES, len(state)):
        outer = int(np.argsort(distance)[int(0.97 * (len(state) - 1))])
        if distance[outer] < _NEAR:
            break
        chosen.append(outer)
        distance = np.minimum(distance, np.linalg.norm(state - state[outer], axis=1))
    return chosen


def match_face(
    gray: np.ndarray, other: np.ndarray, points_px: np.ndarray, guess_px: np.ndarray, round_trip_px: float
) -> np.ndarray:
    """How spots of skin moved between two pictures that may lie far apart in time.

    Args:
        gray, other: uint8 [H, W].
        points_px: float32 [N, 2] in `gray`.
        guess_px: float32 [N, 2], their expected motion.
        round_trip_px: matches that do not come back to their start within this are dropped.

    Returns:
        float32 [N, 2]; NaN where there is no match.
    """
    import cv2

    start = np.ascontiguousarray(points_px, np.float32)[:, None] - np.float32(0.5)
    guess = np.ascontiguousarray(guess_px, np.float32)[:, None]
    flags = cv2.OPTFLOW_USE_INITIAL_FLOW
    end, there, _ = cv2.calcOpticalFlowPyrLK(
        gray, other, start, start + guess, winSize=_WINDOW, maxLevel=_LEVELS, flags=flags
    )
    back, home, _ = cv2.calcOpticalFlowPyrLK(
        other, gray, end, end - guess, winSize=_WINDOW, maxLevel=_LEVELS, flags=flags
    )
    shift = np.asarray(end - start, np.float32)[:, 0]
    gap = np.linalg.norm((back - start)[:, 0], axis=1)
    shift[(there[:, 0] == 0) | (home[:, 0] == 0) | (gap > round_trip_px)] = np.nan
    return shift


def register_faces(
    grays: Iterable[np.ndarray],
    key_grays: dict[int, np.ndarray],
    reference: int,
    state: np.ndarray,
    landmarks_px: np.ndarray,
    projected_px: np.ndarray,
    camera: Camera,
) -> Registration:
    """Matches every picture with the reference and with the keyframe of the nearest pose.

    Args:
        grays: K pictures uint8 [H, W], in order.
        key_grays: the keyframes' pictures by their index.
        reference: index of the reference, one of the keyframes.
        state: [K, 6], `pose_distance_state`.
        landmarks_px: float [K, 478, 3].
        projected_px: float [K, R, 2], the rigid shape under the poses so far: where to look.
        camera: gives the picture size that tolerances scale with.
    """
    count = len(state)
    tolerance = _ROUND_TRIP_PX_AT_512 * max(camera.width_px, camera.height_px) / 512
    others = [k for k in key_grays if k != reference]
    keyframe = np.full((count, 2), -1)
    keyframe[:, 0] = reference
    if others:
        distances = np.linalg.norm(state[:, None] - state[others], axis=2)
        keyframe[:, 1] = np.array(others)[np.argmin(distances, axis=1)]
        keyframe[keyframe[:, 1] == np.arange(count), 1] = -1
    keyframe[reference, 0] = -1
    shift = np.full((count, 2, len(RIGID), 2), np.nan, np.float32)

    def match(index: int, gray: np.ndarray) -> None:
        for slot, key in enumerate(keyframe[index]):
            # The second keyframe is only for pictures that the reference does not reach.
            if key >= 0 and not (slot == 1 and np.isfinite(shift[index, 0, :, 0]).mean() > 0.6):
                guess = projected_px[index] - projected_px[key]
                shift[index, slot] = match_face(
                    key_grays[key], gray, landmarks_px[key, RIGID, :2], guess, tolerance
                )  # fmt: skip

    with ThreadPoolExecutor(2) as pool:
        waiting: deque[Future[None]] = deque()
        for index, gray in enumerate(grays):
            waiting.append(pool.submit(match, index, gray))
            if len(waiting) > _IN_FLIGHT:
                waiting.popleft().result()
        for future in waiting:
            future.result()
    return Registration(keyframe, shift)
