"""Where spots of the rigid face seen in a few keyframes lie in every other picture, by matching the pictures.

The landmark network misreads the pose by a degree or two that depends on the pose, and flow from picture to picture
adds up its own errors. Skin does neither: a pore is where it is. A keyframe's face is warped to how the other picture
should show it, both are freed of slow shading (which stays with the lamp, not with the skin), and Lucas-Kanade finds
what little is left: the warp takes the foreshortening away that a matched window of fixed shape cannot follow.
Lucas and Kanade 1981; Bouguet 2001; Klein and Murray 2007, "Parallel tracking and mapping", for keyframes and warps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from avatarfit.capture.face_points import OUTER_EYE_CORNERS

EYE_DISTANCE_PX = 134.0
"""Faces are matched at the size at which the outer eye corners lie this far apart; the constants below hold there."""

_LARGEST_BLOW_UP = 2.0
_WINDOW = (17, 17)
_LEVELS = 1
_ENOUGH_STEPS = (3, 20, 0.02)  # iterations, and the step in pixels after which a spot counts as found
_SHADING_PX = ((9, 9), (11, 11))
_CONTRAST = 4.0
_ROUND_TRIP_PX = 0.7
_MARGIN_PX = 28
_GRID_PX = 8
_FEWEST_SPOTS = 12
_ENOUGH = 0.6
_LEAST_SIDE_PX = 48
_NO_MAP = np.empty(0)


@dataclass(frozen=True)
class FacePicture:
    """The face of one picture, ready for matching.

    Attributes:
        texture: uint8 [h, w], local contrast about 128.
        origin_px: [2], the texture's top left corner in the picture.
        scale: texture pixels per picture pixel.
    """

    texture: np.ndarray
    origin_px: np.ndarray
    scale: float

    def inside(self, points_px: np.ndarray) -> np.ndarray:
        """Picture points [N, 2] in the texture."""
        return (points_px - self.origin_px) * self.scale

    def outside(self, points: np.ndarray) -> np.ndarray:
        """Texture points [N, 2] in the picture."""
        return points / self.scale + self.origin_px


def matching_scale(landmarks_px: np.ndarray) -> float:
    """Texture pixels per picture pixel for a clip with these landmarks [T, 478, 3]."""
    left, right = OUTER_EYE_CORNERS
    distance = np.median(np.linalg.norm(landmarks_px[:, left] - landmarks_px[:, right], axis=1))
    scale = min(EYE_DISTANCE_PX / max(float(distance), 1.0), _LARGEST_BLOW_UP)
    return 1.0 if 0.8 < scale < 1.25 else scale  # resampling costs more than a few per cent of size gain


def face_picture(gray: np.ndarray, points_px: np.ndarray, scale: float) -> FacePicture | None:
    """The part of a picture around points of the face, scaled, its slow shading taken off; None if it shows too little.

    Args:
        gray: uint8 [H, W].
        points_px: float [N, 2].
        scale: `matching_scale`.
    """
    import cv2

    margin = _MARGIN_PX / scale
    size = np.array(gray.shape[::-1])
    first = np.clip(np.floor(points_px.min(axis=0) - margin), 0, size).astype(int)
    last = np.clip(np.ceil(points_px.max(axis=0) + margin), 0, size).astype(int)
    if ((last - first) * scale < _LEAST_SIDE_PX).any():
        return None
    part = gray[first[1] : last[1], first[0] : last[0]]
    if scale != 1:
        wanted = np.round((last - first) * scale).astype(int).tolist()
        part = cv2.resize(part, wanted, interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA)
    shade = cv2.blur(cv2.blur(part, _SHADING_PX[0]), _SHADING_PX[1])  # as good as a Gaussian of 4 px, far cheaper
    texture = cv2.addWeighted(part, _CONTRAST, shade, -_CONTRAST, 128)
    return FacePicture(np.ascontiguousarray(texture), first.astype(np.float64), scale)


def match_spots(key: FacePicture, spots_px: np.ndarray, other: FacePicture, expected_px: np.ndarray) -> np.ndarray:
    """Where spots of the keyframe's skin lie in another picture.

    Args:
        key, other: the two pictures.
        spots_px: float [N, 2], in the keyframe.
        expected_px: float [N, 2], where the poses so far would have them in the other picture.

    Returns:
        float [N, 2], in the other picture; NaN where the way there and back does not close, or nothing is seen.
    """
    import cv2

    out = np.full((len(spots_px), 2), np.nan)
    spots, expected = key.inside(spots_px), other.inside(expected_px)
    height, width = other.texture.shape
    seen = ((expected > 4) & (expected < [width - 4, height - 4])).all(axis=1)
    if seen.sum() < _FEWEST_SPOTS:
        return out
    center = expected[seen].mean(axis=0)
    reach = float(np.abs(expected[seen] - center).max())
    # Displacement from the other picture back to the keyframe, a cubic in the place: smooth, as a face's is.
    powers = _cubic((expected - center) / reach)
    gram = powers[seen].T @ powers[seen] + 1e-3 * np.eye(powers.shape[1])
    factors = np.linalg.solve(gram, powers[seen].T @ (spots - expected)[seen])

    def displaced(points: np.ndarray) -> np.ndarray:
        return _cubic(np.clip((points - center) / reach, -1.25, 1.25)) @ factors

    # The displacement at the middles of square cells; resizing makes it linear between them.
    across, down = -(-width // _GRID_PX), -(-height // _GRID_PX)
    cells = np.stack(np.meshgrid(np.arange(across), np.arange(down)), axis=-1).reshape(-1, 2) * _GRID_PX + _GRID_PX / 2
    source = (cells + displaced(cells) - 0.5).astype(np.float32).reshape(down, across, 2)
    places = cv2.resize(source, None, fx=_GRID_PX, fy=_GRID_PX, interpolation=cv2.INTER_LINEAR)[:height, :width]
    warped = cv2.remap(key.texture, places, _NO_MAP, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    at = expected.copy()
    for _ in range(2):
        at = spots - displaced(at)
    start = np.ascontiguousarray(at - 0.5, np.float32)[:, None]
    end, there, _ = cv2.calcOpticalFlowPyrLK(
        warped, other.texture, start, start.copy(), winSize=_WINDOW, maxLevel=_LEVELS, criteria=_ENOUGH_STEPS
    )
    back, home, _ = cv2.calcOpticalFlowPyrLK(
        other.texture, warped, end, end.copy(), winSize=_WINDOW, maxLevel=0, criteria=_ENOUGH_STEPS,
        flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
    )  # fmt: skip
    gap = np.linalg.norm((back - start)[:, 0], axis=1)
    good = seen & (there[:, 0] == 1) & (home[:, 0] == 1) & (gap < _ROUND_TRIP_PX)
    out[good] = other.outside(end[good, 0].astype(np.float64) + 0.5)
    return out


def _cubic(place: np.ndarray) -> np.ndarray:
    """Products of powers up to the third, [N, 10]."""
    out = np.ones((len(place), 10))
    x, y = place.T
    out[:, 1], out[:, 2] = x, y
    out[:, 3], out[:, 4], out[:, 5] = x * x, x * y, y * y
    out[:, 6:9] = out[:, 3:6] * x[:, None]
    out[:, 9] = out[:, 5] * y
    return out


def pose_distance_state(rotation: np.ndarray, translation_cm: np.ndarray) -> np.ndarray:
    """[K, 6] coordinates in which likeness of view is a plain distance: a tenth of a radian counts as 2 cm sideways."""
    from scipy.spatial.transform import Rotation

    middle = Rotation.from_matrix(rotation).mean().as_matrix()
    turn = Rotation.from_matrix(rotation @ middle.T).as_rotvec()
    return np.concatenate([turn * 10, translation_cm * [0.5, 0.5, 0.2]], axis=1)


def spread_pictures(state: np.ndarray, first: int, count: int, trimmed: float = 0.0) -> list[int]:
    """Up to `count` pictures that cover the poses, from `first` on, the farthest next (Gonzalez 1985).

    Args:
        state: [K, 6], `pose_distance_state`.
        first: where to begin.
        count: how many.
        trimmed: share of the outermost pictures passed over: a pose found wrong lies far from all others.
    """
    chosen = [first]
    distance = np.linalg.norm(state - state[first], axis=1)
    while len(chosen) < min(count, len(state)):
        outer = int(np.argsort(distance, kind="stable")[int((1 - trimmed) * (len(state) - 1))])
        if distance[outer] < 1e-9:
            break
        chosen.append(outer)
        distance = np.minimum(distance, np.linalg.norm(state - state[outer], axis=1))
    return chosen


@dataclass(frozen=True)
class Keyframes:
    """Pictures whose skin is known in three dimensions.

    Attributes:
        pictures: one `FacePicture` each.
        state: float [C, 6], their `pose_distance_state`.
        spots_px: float [C, R, 2], where each one's spots lie in it.
        spots_cm: float [C, R, 3], the same in the head frame.
    """

    pictures: list[FacePicture]
    state: np.ndarray
    spots_px: np.ndarray
    spots_cm: np.ndarray

    def nearest(self, state: np.ndarray, count: int) -> np.ndarray:
        """The `count` keyframes of the likest poses, int [K, <= count], for states [K, 6]."""
        distance = np.linalg.norm(state[:, None] - self.state, axis=2)
        return np.argsort(distance, axis=1, kind="stable")[:, :count]


def register_faces(
    grays: Iterable[np.ndarray],
    keys: Keyframes,
    chosen: np.ndarray,
    expected_px: Callable[[int, int], np.ndarray],
    scale: float,
) -> np.ndarray:
    """Matches every picture with its keyframes, the next one only where those before did not show enough.

    Args:
        grays: K pictures uint8 [H, W], in order.
        keys: the keyframes.
        chosen: int [K, N], which keyframes each picture is matched with, the best first; -1 for none.
        expected_px: called with a picture's index and a keyframe, gives its spots' expected places [R, 2].
        scale: `matching_scale`.

    Returns:
        float32 [K, N, R, 2], the spots' places in each picture; NaN where they were not found.
    """
    found = np.full((*chosen.shape, keys.spots_px.shape[1], 2), np.nan, np.float32)

    def match(index: int, gray: np.ndarray) -> None:
        wanted = [(slot, key, expected_px(index, key)) for slot, key in enumerate(chosen[index]) if key >= 0]
        if not wanted:
            return
        picture = face_picture(gray, np.concatenate([w[2] for w in wanted]), scale)
        if picture is not None:
            for slot, key, expected in wanted:
                found[index, slot] = match_spots(keys.pictures[key], keys.spots_px[key], picture, expected)
                if np.isfinite(found[index, slot, :, 0]).mean() > _ENOUGH:
                    break

    for index, gray in enumerate(grays):
        match(index, gray)
    return found
