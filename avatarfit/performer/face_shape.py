"""The performer's face at rest and the linear functions that move it.

Every expression is `rest + sum(coefficient * shape)` over MediaPipe's 478 landmarks, in centimetres of the head
frame; only the eyelids bend, around the eyeballs, so that a half-closed lid does not cut through the eye.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from avatarfit.capture.canonical_face import LOWER_INNER_LIP, UPPER_INNER_LIP, canonical_face
from avatarfit.performer.surface import smooth_step

SHAPES = ("jaw", "wide", "round", "press", "upper_raise", "tuck", "brow_raise", "brow_furrow")
"""Names of the shape functions, in the order of the coefficients. A coefficient of 1 is a strong, natural amount."""

FACE_OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152,
    148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
"""The border of the mesh, clockwise in the picture from the top of the forehead."""

# The eye at the picture's left is the person's right one. Each lid runs from the outer to the inner corner.
UPPER_LIDS = ((33, 246, 161, 160, 159, 158, 157, 173, 133), (263, 466, 388, 387, 386, 385, 384, 398, 362))
LOWER_LIDS = ((33, 7, 163, 144, 145, 153, 154, 155, 133), (263, 249, 390, 373, 374, 380, 381, 382, 362))
_LID_FOLDS = ((247, 30, 29, 27, 28, 56, 190), (467, 260, 259, 257, 258, 286, 414))
IRISES = ((468, 469, 470, 471, 472), (473, 474, 475, 476, 477))
"""Centre, then right, top, left, bottom of each iris as the network numbers them."""

UPPER_OUTER_LIP = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
LOWER_OUTER_LIP = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291)
BROWS = ((70, 63, 105, 66, 107, 55, 65, 52, 53, 46), (300, 293, 334, 296, 336, 285, 295, 282, 283, 276))
JAW_HINGE_CM = np.array([0.0, 2.2, 6.2])
JAW_OPEN_RADIANS = np.deg2rad(13.0)
EYEBALL_RADIUS_CM = 1.5
IRIS_RADIUS_CM = 0.6


def jaw_rotation(amount: float) -> np.ndarray:
    """Rotation matrix [3, 3] of the lower teeth and tongue about `JAW_HINGE_CM` at jaw coefficient `amount`."""
    return Rotation.from_euler("x", JAW_OPEN_RADIANS * amount).as_matrix()


@dataclass(frozen=True)
class FaceShape:
    """A face at rest with its shape functions.

    Attributes:
        rest_cm: float64 [478, 3].
        shapes_cm: float64 [len(SHAPES), 478, 3].
        eye_centers_cm: float64 [2, 3], centres of the eyeballs; the picture's left one first.
        triangles: int32 [852, 3], see `canonical_face`.
    """

    rest_cm: np.ndarray
    shapes_cm: np.ndarray
    eye_centers_cm: np.ndarray
    triangles: np.ndarray

    def landmarks_cm(self, coefficients: np.ndarray, blink: np.ndarray, gaze: np.ndarray) -> np.ndarray:
        """Landmarks float64 [T, 478, 3] in the head frame.

        Args:
            coefficients: [T, len(SHAPES)].
            blink: [T, 2], closure of each eye in 0..1, the picture's left one first.
            gaze: [T, 2], radians: to the picture's right, and down.
        """
        points = self.rest_cm + np.tensordot(coefficients, self.shapes_cm, axes=1)
        for side in range(2):
            self._close_lids(points, side, np.asarray(blink)[:, side, None, None])
            points[:, IRISES[side]] = self._iris(side, np.asarray(gaze))
        return points

    def _close_lids(self, points: np.ndarray, side: int, closure: np.ndarray) -> None:
        upper, lower = list(UPPER_LIDS[side][1:-1]), list(LOWER_LIDS[side][1:-1])
        up, low = points[:, upper], points[:, lower]
        meeting = 0.18 * up + 0.82 * low
        fold = list(_LID_FOLDS[side])
        points[:, fold] += 0.30 * closure * (meeting - up)
        # A lid slides over the eyeball: half way it stands further out than the straight line between its ends.
        bulge = np.array([0, 0, -0.5]) * np.linalg.norm(up - low, axis=2, keepdims=True)
        arc = closure * (1 - closure)
        points[:, upper] = up + closure * (meeting - up) + arc * bulge
        points[:, lower] = low + closure * (meeting - low)

    def _iris(self, side: int, gaze: np.ndarray) -> np.ndarray:
        """Iris landmarks [T, 5, 3]: the centre and four points of its rim, on the eyeball."""
        rotation = gaze_rotation(gaze)
        rim = np.deg2rad([0, 0, 90, 180, 270])
        flat = np.stack([np.cos(rim), -np.sin(rim), np.zeros(5)], axis=1) * IRIS_RADIUS_CM
        flat[0] = 0
        # The network numbers the rims as mirror pictures of each other.
        flat[:, 0] *= 1 if side == 0 else -1
        flat[:, 2] = -np.sqrt(EYEBALL_RADIUS_CM**2 - np.square(flat[:, :2]).sum(axis=1))
        return self.eye_centers_cm[side] + np.einsum("tij,pj->tpi", rotation, flat)


def gaze_rotation(gaze: np.ndarray) -> np.ndarray:
    """Rotation matrices [T, 3, 3] of eyeballs that look `gaze` [T, 2] radians to the picture's right and down."""
    return Rotation.from_euler("yx", np.stack([-gaze[:, 0], gaze[:, 1]], axis=1)).as_matrix()


def face_shape(seed: int) -> FaceShape:
    """A person: the canonical face with a few soft, symmetric deviations drawn from `seed`."""
    canonical = canonical_face()
    rng = np.random.default_rng([seed, 1])
    rest = canonical.vertices_cm.astype(np.float64)
    rest = rest + _personal_deviation(rest, rng)
    rest = (rest + rest[canonical.mirror] * [-1, 1, 1]) / 2
    rest -= (rest[33] + rest[263]) / 2
    rest *= 8.9 / (rest[263, 0] - rest[33, 0])
    for side in range(2):  # lids a little lower than the network's wide-eyed prior
        upper, lower = list(UPPER_LIDS[side][1:-1]), list(LOWER_LIDS[side][1:-1])
        rest[upper] += 0.08 * (rest[lower] - rest[upper])
    centers = []
    for side in range(2):
        lids = rest[list(UPPER_LIDS[side]) + list(LOWER_LIDS[side])]
        center = lids.mean(axis=0)
        front = lids[:, 2].min() - 0.02
        centers.append([center[0], center[1] - 0.03, front + EYEBALL_RADIUS_CM])
    return FaceShape(rest, _shape_functions(rest), np.array(centers), canonical.triangles)


def _personal_deviation(rest: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Jaw, cheek and nose made a little wider or narrower, in a smooth way."""
    width, jaw, nose, chin = rng.uniform(-1, 1, 4)
    y = rest[:, 1]
    out = np.zeros_like(rest)
    out[:, 0] = rest[:, 0] * (0.02 * width + (0.03 * jaw - 0.07) * smooth_step(y, 2, 10))
    out[:, 1] = 0.25 * chin * smooth_step(y, 5, 11)
    tip = np.exp(-np.square(rest - rest[1]).sum(axis=1) / (2 * 1.6**2))
    out[:, 2] = -0.2 * nose * tip
    return out


def _bell(offset: np.ndarray, sigma: tuple[float, float]) -> np.ndarray:
    return np.exp(-0.5 * ((offset[:, 0] / sigma[0]) ** 2 + (offset[:, 1] / sigma[1]) ** 2))


def _shape_functions(rest: np.ndarray) -> np.ndarray:
    mouth = (rest[13] + rest[14]) / 2
    half = float(rest[308, 0] - rest[78, 0]) / 2
    offset = rest - mouth
    across = np.abs(offset[:, 0]) / half
    inside = np.clip(across, 0, 1)
    below = offset[:, 1] > 0
    upper_lip = np.zeros(len(rest), bool)
    upper_lip[list(UPPER_INNER_LIP + UPPER_OUTER_LIP)] = True
    lower_lip = np.zeros(len(rest), bool)
    lower_lip[list(LOWER_INNER_LIP[1:-1] + LOWER_OUTER_LIP[1:-1])] = True
    below = (below | lower_lip) & ~(upper_lip & ~lower_lip)
    shapes = np.zeros((len(SHAPES), len(rest), 3))

    # The jaw: all below the mouth turns about the hinge; the corners of the mouth go half the way.
    down = np.abs(offset[:, 1])
    low = 0.4 + 0.6 * np.sqrt(1 - inside**2)
    high = 0.4 * inside**3 * (1 - smooth_step(down, 0, 3.0))
    weight = np.where(below, low + (1 - low) * smooth_step(down, 0.2, 3.2), high)
    weight *= 1 - smooth_step(rest[:, 2], 3.5, 6.0) * smooth_step(-rest[:, 1], -6, -2)
    turned = (rest - JAW_HINGE_CM) @ jaw_rotation(1.0).T + JAW_HINGE_CM - rest
    shapes[0] = weight[:, None] * turned

    corner = np.abs(offset[:, 0]) - half
    at_corner = np.exp(-0.5 * ((corner / 1.5) ** 2 + (offset[:, 1] / 1.5) ** 2))
    side = np.sign(offset[:, 0])
    reach = side * at_corner * smooth_step(np.abs(offset[:, 0]), 0, half)
    around = _bell(offset, (2.3, 1.6))
    lips = _bell(offset, (3.0, 1.0))
    shapes[1, :, 0] = 0.60 * reach
    shapes[1, :, 1] = -0.30 * np.abs(reach) - 0.10 * offset[:, 1] * lips
    shapes[1, :, 2] = 0.35 * np.abs(reach) + 0.08 * around
    shapes[2, :, 0] = -0.30 * offset[:, 0] * _bell(offset, (3.4, 1.9))
    shapes[2, :, 1] = 0.12 * np.where(below, 1, -1) * lips * (1 - inside**2)
    shapes[2, :, 2] = -0.65 * around
    shapes[3, :, 1] = -0.22 * offset[:, 1] * lips
    shapes[3, :, 2] = 0.12 * lips
    above = np.where(below, 0.0, 1.0) * (1 - inside**2)
    shapes[4, :, 1] = -0.40 * above * _bell(offset, (2.2, 1.6))
    shapes[4, :, 2] = -0.06 * above * lips
    under = np.where(below, 1.0, 0.0) * (1 - inside**2)
    shapes[5, :, 1] = -0.30 * under * _bell(offset, (2.2, 1.5))
    shapes[5, :, 2] = 0.25 * under * lips
    # Nothing but the jaw and the upper lip's raise may part closed lips, and the tuck only follows an open jaw.
    for k in (1, 2, 3):
        for a, b in zip(UPPER_INNER_LIP, LOWER_INNER_LIP, strict=True):
            shapes[k, [a, b]] = (shapes[k, a] + shapes[k, b]) / 2

    for brow in BROWS:
        center = rest[list(brow)].mean(axis=0)
        near = _bell(rest - center, (2.4, 1.0)) * (rest[:, 1] < center[1] + 1.2)
        shapes[6, :, 1] -= 0.45 * near
        inner = _bell(rest - rest[brow[4]], (1.2, 1.0))
        shapes[7, :, 1] += 0.22 * inner
        shapes[7, :, 0] -= 0.20 * inner * np.sign(center[0])
    for iris in IRISES:
        shapes[:, list(iris)] = 0
    return shapes
