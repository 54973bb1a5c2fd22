"""How well a clip's head pose agrees with the pictures: the rigid skin's motion by the pose against its motion in them.

Measured on skin that the pose solve does not look at: corners of the picture at least 6 px (for a face with its outer
eye corners 134 px apart) away from every rigid landmark, followed by Lucas-Kanade in a smaller window than the solve's.
Lids and brows are left out. Over one frame this shows trembling, over many frames wandering.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from avatarfit.capture.face_points import EYES_AND_BROWS, RIGID
from avatarfit.capture.face_registration import FacePicture, face_picture, matching_scale
from avatarfit.contracts.geometry import Camera, HeadPose

HELD_OUT_PX = 6.0
"""Least distance of a measured feature from every landmark of the solve."""

_REACH_PX, _MOVING_PX = 18.0, 12.0
_WINDOW = (11, 11)
_LEVELS = 3
_ROUND_TRIP_PX = 0.3
_FEATURES, _FEWEST_FEATURES = 80, 8
_PAIRS = 600


@dataclass(frozen=True)
class Disagreement:
    """Difference of the pose's motion from the pictures' over pairs of frames, in pixels of a 512-pixel-wide picture.

    Attributes:
        frames_apart: how far apart the pairs are.
        pairs: how many were measured.
        features: how many features a pair had, in the middle.
        rms_px: root mean square over pairs of the median feature's difference.
        shared_px: the same of the difference that a pair's features share (their median vector): the pose's own part.
        p95_px: the 95th percentile over pairs of the median feature's difference.
    """

    frames_apart: int
    pairs: int
    features: float
    rms_px: float
    shared_px: float
    p95_px: float


def measure_pose(
    grays: Callable[[], Iterable[np.ndarray]],
    head: HeadPose,
    landmarks_cm: np.ndarray,
    landmarks_px: np.ndarray,
    camera: Camera,
    frames_apart: Iterable[int] = (1, 25, 100),
) -> list[Disagreement]:
    """Disagreement of poses and pictures, for each distance that the clip is long enough for.

    Args:
        grays: a function that starts an iterator over the K pictures, uint8 [H, W].
        head: K poses.
        landmarks_cm: float [K, 478, 3], pose-normalised; their mean is the surface that the skin lies on.
        landmarks_px: float [K, 478, 3]; says how large the face is.
        camera: the poses' camera.
        frames_apart: distances of the pairs.
    """
    rotation = head.matrices()[:, :, :3].astype(np.float64)
    shape = landmarks_cm.mean(axis=0, dtype=np.float64)
    scale = matching_scale(landmarks_px)
    to_512 = 512 / max(camera.width_px, camera.height_px)
    out = []
    for apart in frames_apart:
        starts = range(0, len(head) - apart, max(1, (len(head) - apart) // _PAIRS))
        if len(starts) == 0:
            continue
        stops = {start + apart for start in starts}
        wanted: set[int] = set(starts) | stops
        waiting: dict[int, FacePicture] = {}
        gaps = []
        for index, gray in enumerate(grays()):
            if index not in wanted:
                continue
            points = camera.project(shape @ rotation[index].T + head.translation_cm[index].astype(np.float64))
            picture = face_picture(gray, points[RIGID], scale)
            if picture is not None and index in stops and index - apart in waiting:
                start = index - apart
                gap = _gap_px(
                    waiting.pop(start), picture, shape, rotation[[start, index]],
                    head.translation_cm[[start, index]].astype(np.float64), camera,
                )  # fmt: skip
                if gap is not None:
                    gaps.append(gap * to_512)
            if picture is not None and index in starts:
                waiting[index] = picture
        if gaps:
            out.append(_summed_up(apart, gaps))
    return out


def _summed_up(apart: int, gaps: list[np.ndarray]) -> Disagreement:
    middle = np.array([np.median(np.linalg.norm(gap, axis=1)) for gap in gaps])
    shared = np.array([np.median(gap, axis=0) for gap in gaps])
    return Disagreement(
        frames_apart=apart,
        pairs=len(gaps),
        features=float(np.median([len(gap) for gap in gaps])),
        rms_px=float(np.sqrt(np.mean(middle**2))),
        shared_px=float(np.sqrt(np.mean((shared**2).sum(axis=1)))),
        p95_px=float(np.quantile(middle, 0.95)),
    )


def held_out_features(picture: FacePicture, landmarks_px: np.ndarray) -> np.ndarray:
    """Corners of rigid skin away from the solve's landmarks [478, 2]: float [N, 2], in the picture's texture."""
    import cv2

    mask = np.zeros(picture.texture.shape, np.uint8)
    for indices, radius, value in ((RIGID, _REACH_PX, 255), (RIGID, HELD_OUT_PX, 0), (EYES_AND_BROWS, _MOVING_PX, 0)):
        for x, y in np.round(picture.inside(landmarks_px[indices]) * 16 - 8).astype(int).tolist():
            cv2.circle(mask, (x, y), round(radius * 16), (value,), -1, shift=4)
    found = cv2.goodFeaturesToTrack(picture.texture, _FEATURES, 0.02, HELD_OUT_PX, mask=mask)
    return np.zeros((0, 2)) if found is None else found[:, 0].astype(np.float64) + 0.5


def _gap_px(
    picture: FacePicture, other: FacePicture, shape: np.ndarray, rotation: np.ndarray, translation: np.ndarray,
    camera: Camera,
) -> np.ndarray | None:  # fmt: skip
    """Motion by the pose minus motion in the pictures, [N, 2] pixels; None where too few features are followed."""
    import cv2

    points = shape @ rotation[0].T + translation[0]
    landmarks = camera.project(points)
    features = held_out_features(picture, landmarks)
    moved, inside = _moved_with_head(picture.outside(features), landmarks, points[:, 2], rotation, translation, camera)
    features, moved = features[inside], moved[inside]
    if len(features) < _FEWEST_FEATURES:
        return None
    start = np.ascontiguousarray(features - 0.5, np.float32)[:, None]
    guess = np.ascontiguousarray(other.inside(moved) - 0.5, np.float32)[:, None]
    first, second = _same_size(picture.texture, other.texture)
    end, there, _ = cv2.calcOpticalFlowPyrLK(
        first, second, start, guess.copy(), winSize=_WINDOW, maxLevel=_LEVELS,
        flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
    )  # fmt: skip
    back, home, _ = cv2.calcOpticalFlowPyrLK(
        second, first, end, end - guess + start, winSize=_WINDOW, maxLevel=_LEVELS,
        flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
    )  # fmt: skip
    good = (there[:, 0] == 1) & (home[:, 0] == 1)
    good &= np.linalg.norm((back - start)[:, 0], axis=1) < _ROUND_TRIP_PX
    if good.sum() < _FEWEST_FEATURES:
        return None
    return np.asarray(moved[good] - other.outside(end[good, 0].astype(np.float64) + 0.5))


def _same_size(*pictures: np.ndarray) -> list[np.ndarray]:
    """Pictures grown to the right and downwards to one size, in flat grey."""
    import cv2

    height, width = (max(p.shape[k] for p in pictures) for k in range(2))
    return [
        cv2.copyMakeBorder(p, 0, height - p.shape[0], 0, width - p.shape[1], cv2.BORDER_CONSTANT, value=(128,))
        for p in pictures
    ]


def _moved_with_head(
    places_px: np.ndarray, landmarks_px: np.ndarray, depth: np.ndarray, rotation: np.ndarray, translation: np.ndarray,
    camera: Camera,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Where places of the first picture are in the second if they lie on flat facets between the rigid landmarks.

    Returns:
        [N, 2] pixels, and bool [N], which places lie between the landmarks at all.
    """
    from scipy.spatial import Delaunay

    facets = Delaunay(landmarks_px[RIGID])
    facet = facets.find_simplex(places_px)
    transform = facets.transform[facet]
    two = np.einsum("nij,nj->ni", transform[:, :2], places_px - transform[:, 2])
    share = np.concatenate([two, 1 - two.sum(axis=1, keepdims=True)], axis=1)
    # Over a plane it is the inverse of depth that is linear in the picture.
    z = 1 / (share / depth[RIGID][facets.simplices[facet]]).sum(axis=1)
    plane = (places_px - [camera.center_x_px, camera.center_y_px]) / camera.focal_px
    points = np.concatenate([plane, np.ones((len(plane), 1))], axis=1) * z[:, None]
    in_head = (points - translation[0]) @ rotation[0]
    return camera.project(in_head @ rotation[1].T + translation[1]), facet >= 0
