"""Whether two captures show one person, by the layout of what moves with the skull."""

from __future__ import annotations

import numpy as np

from avatarfit.capture.face_points import RIGID
from avatarfit.model.rig import OUTER_EYE_DISTANCE_CM

OTHER_PERSON = 0.0105
"""From this distance on it is somebody else.

Measured on three people: captures of other times of one clip, or by other versions, are at most 0.005 apart, single
stretches of half a second to two seconds at most 0.0087 (95th percentile 0.006); different people are 0.0129 or more.
One person on different days, or through different lenses, has not been measured.
"""


def rigid_distance(mean_cm: np.ndarray, other_cm: np.ndarray) -> float:
    """How far two mean faces are apart, in eye distances; lower is likelier one person.

    The landmarks that move with the skull, as seen from the front: of the second face they are turned in space, scaled
    and shifted until they come nearest to the first's, and the root mean square distance in the plane of the face is
    left. Depth, which is the network's guess, only says what a turn does.

    Args:
        mean_cm, other_cm: float [478, 3], means of landmarks in the head's frame.
    """
    from scipy.optimize import least_squares
    from scipy.spatial.transform import Rotation

    a, b = (np.asarray(points, np.float64)[RIGID] for points in (mean_cm, other_cm))
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)

    def apart(guess: np.ndarray) -> np.ndarray:
        turned = np.exp(guess[3]) * Rotation.from_rotvec(guess[:3]).apply(b)
        return np.asarray((turned[:, :2] - a[:, :2]).ravel())

    left = least_squares(apart, np.zeros(4)).fun
    return float(np.sqrt(2 * np.square(left).mean()) / OUTER_EYE_DISTANCE_CM)
