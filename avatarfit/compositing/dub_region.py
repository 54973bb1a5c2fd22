"""Where a dubbed face is drawn anew: a shape that rides the head, so that its edge never moves by itself.

The outline runs from ear to ear below the eyes, under the nose, and back outside of the jaw at its farthest: no mouth
of the whole footage, old or new, moves the edge; only the head's pose does, which has no noise of single pictures. What
lies within the jaw is always drawn anew; what lies beyond it, neck, collar and background, only where the old or the
new jaw, or its shadow, makes a difference.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from avatarfit.contracts import Camera

# fmt: off
UPPER_EDGE = np.array([93, 123, 50, 36, 98, 2, 327, 266, 280, 352, 323])
"""From the earlobe at the picture's left over the cheek and under the nose to the other earlobe."""
JAW_EDGE = np.array([361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149, 150, 136, 172, 58, 132])
"""And back round the chin."""
# fmt: on
FEATHER_CM = 0.8
"""Over which the new face fades, inside the outline."""
_UNDER_NOSE, _LIFT_CM = (98, 2, 327), 0.3
_BESIDE_CM, _BELOW_CM = 0.7, 1.6
"""How far the outline keeps off the jaw at its farthest: beside it, and below the chin, whose shadow moves with it."""
_WITHIN_CM, _UP_CM = 0.35, 2.0
"""What is always drawn ends so far within the resting jaw, whose own edge is then the footage's where nothing moves it;
upwards it is the outer edge alone that counts."""
_WITHIN_FEATHER_CM = 0.5
_REACH_PERCENTILE = 99.5


@dataclass(frozen=True)
class DubRegion:
    """The outline of what is drawn anew.

    Attributes:
        outline_cm: float64 [P, 3], in the head's frame, once round: nothing beyond it changes.
        within_cm: float64 [P, 3], likewise: within it all is drawn anew.
    """

    outline_cm: np.ndarray
    within_cm: np.ndarray

    @staticmethod
    def of(shape_cm: np.ndarray, jaws_cm: Iterable[np.ndarray]) -> DubRegion:
        """The region of a face and of all that its jaw will do.

        Args:
            shape_cm: float [478, 3], the face's mean landmarks in the head's frame.
            jaws_cm: courses float [T, 17, 3] of the landmarks `JAW_EDGE`; those of the footage and the new ones.
        """
        upper = shape_cm[UPPER_EDGE].astype(np.float64)
        upper[np.isin(UPPER_EDGE, _UNDER_NOSE), 1] -= _LIFT_CM
        jaw = shape_cm[JAW_EDGE].astype(np.float64)
        ring = np.concatenate([upper[-1:], jaw, upper[:1]])[:, :2]
        along = ring[2:] - ring[:-2]
        outward = np.stack([-along[:, 1], along[:, 0]], axis=1)  # from the left ear to the right one, y down
        outward *= (
            np.sign(((ring[1:-1] - ring.mean(axis=0)) * outward).sum()) / np.linalg.norm(outward, axis=1)[:, None]
        )
        reach = np.zeros(len(jaw))
        for course in jaws_cm:
            moved = ((course - jaw)[:, :, :2] * outward).sum(axis=2)
            reach = np.maximum(reach, np.percentile(moved, _REACH_PERCENTILE, axis=0))
        # A chin that is lower by so much drags the skin beside it along.
        reach = np.convolve(np.pad(reach, 1, mode="edge"), [0.25, 0.5, 0.25], "valid").clip(reach)
        down = np.clip(outward[:, 1], 0, 1) ** 2
        margin = _BESIDE_CM + (_BELOW_CM - _BESIDE_CM) * down
        margin[[0, -1]] /= 2  # there begins the ear
        inner_jaw, inner_upper = jaw.copy(), upper.copy()
        inner_jaw[:, :2] -= outward * _WITHIN_CM
        inner_upper[:, 1] -= _UP_CM
        jaw[:, :2] += outward * (reach + margin)[:, None]
        return DubRegion(np.concatenate([upper, jaw]), np.concatenate([inner_upper, inner_jaw]))

    def box(self, poses: np.ndarray, camera: Camera) -> tuple[int, int, int, int]:
        """Left, top, right, bottom (past the last) of whole pixels that hold the region at all poses, float [T, 3, 4],
        with room for the feather, inside of the picture; right <= left where none of it is in the picture."""
        around = np.concatenate([_placed(self.outline_cm, pose, camera) for pose in poses])
        room = FEATHER_CM * camera.focal_px / max(float(poses[:, 2, 3].min()), 1e-3)
        low, high = np.floor(around.min(axis=0) - room), np.ceil(around.max(axis=0) + room)
        size = camera.width_px, camera.height_px
        left, top, right, bottom = np.concatenate([np.clip(low, 0, size), np.clip(high, 0, size)]).astype(int).tolist()
        return left, top, right, bottom

    def masks(self, pose: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
        """How much of each pixel may be drawn anew, and how much must: float32 [H, W], 0 outside of the outline (or of
        what lies within the jaw), 1 from the feather's width inside of it.

        Args:
            pose: float [3, 4], the head's.
            camera: of the picture or a part of it.
        """
        per_cm = camera.focal_px / max(float(pose[2, 3]), 1e-3)
        may = _feathered(_placed(self.outline_cm, pose, camera), FEATHER_CM * per_cm, camera)
        return may, _feathered(_placed(self.within_cm, pose, camera), _WITHIN_FEATHER_CM * per_cm, camera)


def _placed(outline_cm: np.ndarray, pose: np.ndarray, camera: Camera) -> np.ndarray:
    """float64 [P, 2], pixels."""
    return camera.project(outline_cm @ pose[:, :3].T.astype(np.float64) + pose[:, 3])


def _feathered(outline_px: np.ndarray, feather_px: float, camera: Camera) -> np.ndarray:
    """0 on and outside of the outline, near 1 from `feather_px` inside; by a blur, which feels parts of a pixel."""
    import cv2

    blur_px = max(feather_px / 2, 0.7)
    room = int(np.ceil(4 * blur_px))
    inside = np.zeros((camera.height_px + 2 * room, camera.width_px + 2 * room), np.uint8)
    corners = np.round((_rounded(outline_px) - 0.5 + room) * 16).astype(np.int32)
    cv2.fillPoly(inside, [corners[:, None]], (255,), lineType=cv2.LINE_AA, shift=4)
    soft = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), blur_px)[room:-room, room:-room]
    along = np.clip(soft / 127.5 - 1, 0, 1)
    return np.asarray(along * along * (3 - 2 * along), np.float32)


def _rounded(corners: np.ndarray) -> np.ndarray:
    """The outline without corners, by Chaikin's cutting (An algorithm for high-speed curve generation, 1974)."""
    for _ in range(2):
        after = np.roll(corners, -1, axis=0)
        corners = np.stack([0.75 * corners + 0.25 * after, 0.25 * corners + 0.75 * after], axis=1).reshape(-1, 2)
    return corners
