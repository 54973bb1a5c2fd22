"""A person's rig <-> ARKit's blendshapes.

Names that geometry gives honestly (avatarfit.model.blendshapes) are measured on the person's own scale, and come back
by ridge regression over the frames of the person's clip (Hoerl and Kennard 1970). What of a mouth or a brow they do not
say is told by the other names, as far as those movements (avatarfit.model.face_actions) on this face explain it: least
squares with values in 0..1. The jaw's way and the lips' parting are one name, `jawOpen`; `mouthClose`, which other
people's takes use for closed lips over an open jaw, is understood and never written.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from scipy.spatial.transform import Rotation

from avatarfit.avatarfile.live_link import ANGLE_NAMES, LIVE_LINK_NAMES, LiveLinkTake
from avatarfit.contracts import FaceMotion, HeadPose, rotations
from avatarfit.driving.face_space import FaceSpace
from avatarfit.model.blendshapes import GEOMETRY_NAMES, geometry_ranges, geometry_values
from avatarfit.model.driver_model import DriverModel
from avatarfit.model.face_actions import ACTION_NAMES, action_displacements_cm

_MOUTH_NAMES = ("jawOpen", "mouthSmileLeft", "mouthSmileRight")
_UPPER_NAMES = tuple(name for name in GEOMETRY_NAMES if name not in _MOUTH_NAMES)
_RIDGE = 1e-3
"""Share of the samples' number; inputs are in 0..1."""
_ACTION_RIDGE_CM2 = 0.5
"""Squared centimetres over all landmarks: names that hardly move this face stay small and never jump to 1."""
_STEPS = 200
_BLOCK = 1000
_EYEBALL_CM = 1.2
_EYE_CORNERS = ((263, 362), (33, 133))
_ARKIT_AXES = np.diag([1.0, -1.0, -1.0])
"""From the head's axes (y down, z into the head) to ARKit's (y up, z out of the face), and back."""


class BlendshapeMap:
    """Between one person's motion and ARKit's names.

    Args:
        space: what the person's face has shown.
        driver: of the same avatar.
    """

    def __init__(self, space: FaceSpace, driver: DriverModel) -> None:
        self.space = space
        habits = driver.habits
        self._rest_rotation = rotations(habits.stance(habits.rest()[None]).rotation_wxyz)
        mouths = (driver.shapes.shapes_cm / driver.mouth_deviation_cm).astype(np.float32)
        lower = self._landmarks(mouths, None, None)
        upper = self._landmarks(None, habits.upper, habits.eyes)
        is_mouth = np.array([name in _MOUTH_NAMES for name in GEOMETRY_NAMES])[:, None]
        # Measures of the mouth know nothing of the eyes' frames, and the other way round.
        self._ranges = np.where(is_mouth, geometry_ranges(lower), geometry_ranges(upper))
        self._mouth_slopes = _ridge(self._geometry(lower, _MOUTH_NAMES), mouths - space.mouth.rest)
        seen = np.concatenate([habits.upper - space.upper.rest, habits.eyes - space.eyes.rest], axis=1)
        self._upper_slopes = _ridge(self._geometry(upper, _UPPER_NAMES), seen)

    def take(self, pts_seconds: np.ndarray, face: FaceMotion, head: HeadPose) -> LiveLinkTake:
        """The person's motion by ARKit's names; the head's angles are about the person's resting pose."""
        parts = [slice(k, k + _BLOCK) for k in range(0, len(face), _BLOCK)]
        values = np.concatenate([self._values(face[part]) for part in parts])
        turned = _ARKIT_AXES @ (rotations(head.rotation_wxyz) * self._rest_rotation.inv()).as_matrix() @ _ARKIT_AXES
        angles = np.zeros((len(face), len(ANGLE_NAMES)), np.float32)
        angles[:, :3] = Rotation.from_matrix(turned).as_euler("YXZ")
        gaze = (face.eyes[:, :4] - self.space.eyes.rest[:4]) * self._gaze_cm / _EYEBALL_CM
        angles[:, [3, 4, 6, 7]] = np.arcsin(np.clip(gaze, -0.9, 0.9))
        return LiveLinkTake(np.asarray(pts_seconds) - pts_seconds[0], values, angles)

    def face(self, take: LiveLinkTake) -> FaceMotion:
        """A take as this person would do it, held to what the person has shown."""
        space, given = self.space, dict(zip(LIVE_LINK_NAMES, take.values.T, strict=True))
        actions = np.stack([given[name] for name in self._action_names], axis=1)
        mouth = _with_one(given, _MOUTH_NAMES) @ self._mouth_slopes + actions @ self._actions[0]
        # Lips that close over an open jaw.
        shut = np.clip(given["mouthClose"] / np.maximum(given["jawOpen"], 0.05), 0, 1)
        over = np.maximum(space.gaps_cm(mouth + space.mouth.rest)[:, 3] - space.closed_cm, 0)
        mouth = mouth - np.outer(shut * over, space.opening)
        seen = _with_one(given, _UPPER_NAMES) @ self._upper_slopes
        upper, eyes = seen[:, :-6] + actions @ self._actions[1], seen[:, -6:]
        eyes = eyes + space.eyes_with(actions @ self._actions[1])
        looks = take.angles[:, [3, 4, 6, 7]]
        if looks.any():
            eyes[:, :4] = np.sin(looks) * _EYEBALL_CM / self._gaze_cm
        out = (part.rest + change for part, change in
               ((space.mouth, mouth), (space.upper, upper), (space.eyes, eyes)))  # fmt: skip
        return FaceMotion(*(np.clip(values, part.low, part.high) for values, part in
                            zip(out, (space.mouth, space.upper, space.eyes), strict=True)))  # fmt: skip

    def rotation_wxyz(self, take: LiveLinkTake) -> np.ndarray:
        """The head's rotation, float32 [T, 4]; angles of 0 are the person's resting pose."""
        turned = _ARKIT_AXES @ Rotation.from_euler("YXZ", take.angles[:, :3]).as_matrix() @ _ARKIT_AXES
        return np.asarray((Rotation.from_matrix(turned) * self._rest_rotation).as_quat()[:, [3, 0, 1, 2]], np.float32)

    @cached_property
    def _gaze_cm(self) -> np.ndarray:
        """What a standard deviation of each gaze coefficient is on the eye, float [4]."""
        shape = self.space.rig.shape_cm
        width = [float(np.linalg.norm(shape[a, :2] - shape[b, :2])) for a, b in _EYE_CORNERS]
        return np.asarray(self.space.rig.eyes_deviation[:4] * np.repeat(width, 2))

    @cached_property
    def _action_names(self) -> tuple[str, ...]:
        return tuple(name for name in ACTION_NAMES if name not in GEOMETRY_NAMES)

    @cached_property
    def _actions(self) -> tuple[np.ndarray, np.ndarray]:
        """What each other name at 1 adds to the mouth's and the upper face's coefficients, float [A, M], [A, U]."""
        moved = action_displacements_cm(self.space.rig.shape_cm)
        found = self.space.projected(moved[[ACTION_NAMES.index(name) for name in self._action_names]])
        return found.mouth.astype(np.float64), found.upper.astype(np.float64)

    def _landmarks(self, mouth: np.ndarray | None, upper: np.ndarray | None, eyes: np.ndarray | None) -> np.ndarray:
        given = ((mouth, self.space.mouth), (upper, self.space.upper), (eyes, self.space.eyes))
        count = next(len(values) for values, _ in given if values is not None)
        filled = (np.tile(part.rest, (count, 1)) if values is None else values for values, part in given)
        return self.space.rig.landmarks_cm(FaceMotion(*filled))

    def _geometry(self, landmarks_cm: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
        values = geometry_values(landmarks_cm, self._ranges)
        return values[:, [GEOMETRY_NAMES.index(name) for name in names]]

    def _values(self, face: FaceMotion) -> np.ndarray:
        """float32 [T, 52]."""
        space, rig = self.space, self.space.rig
        measured = geometry_values(rig.landmarks_cm(face), self._ranges)
        given = dict(zip(GEOMETRY_NAMES, measured.T, strict=True))
        left_mouth = face.mouth - space.mouth.rest - _with_one(given, _MOUTH_NAMES) @ self._mouth_slopes
        left_upper = face.upper - space.upper.rest - (_with_one(given, _UPPER_NAMES) @ self._upper_slopes)[:, :-6]
        # Scaled by their deviations, coefficients measure centimetres over all landmarks of their half.
        left = np.concatenate([left_mouth * rig.mouth_deviation_cm, left_upper * rig.upper_deviation_cm], axis=1)
        actions = np.concatenate(
            [self._actions[0] * rig.mouth_deviation_cm, self._actions[1] * rig.upper_deviation_cm], axis=1
        )
        given |= dict(zip(self._action_names, _within_one(left, actions).T, strict=True))
        nothing = np.zeros(len(face))
        return np.stack([given.get(name, nothing) for name in LIVE_LINK_NAMES], axis=1).astype(np.float32)


def _with_one(given: dict[str, np.ndarray], names: tuple[str, ...]) -> np.ndarray:
    columns = [np.asarray(given[name], np.float64) for name in names]
    return np.stack([*columns, np.ones(len(columns[0]))], axis=1)


def _ridge(values: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Slopes and, last, the constant: float64 [P + 1, N]."""
    x = np.concatenate([values, np.ones((len(values), 1))], axis=1).astype(np.float64)
    held = np.diag(np.append(np.full(values.shape[1], _RIDGE * len(values)), 0))
    return np.linalg.solve(x.T @ x + held, x.T @ targets.astype(np.float64))


def _within_one(targets: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Weights [T, A] in 0..1 of `rows` [A, N] whose sums come nearest to `targets` [T, N], small ones preferred.

    Projected gradients with Nesterov's momentum (Beck and Teboulle 2009, FISTA).
    """
    gram = rows @ rows.T + _ACTION_RIDGE_CM2 * np.eye(len(rows))
    along = targets @ rows.T
    step = 1 / float(np.linalg.eigvalsh(gram)[-1])
    weights = ahead = np.zeros_like(along)
    momentum = 1.0
    for _ in range(_STEPS):
        new = np.clip(ahead - step * (ahead @ gram - along), 0, 1)
        after = (1 + np.sqrt(1 + 4 * momentum * momentum)) / 2
        ahead = new + (momentum - 1) / after * (new - weights)
        weights, momentum = new, after
    return weights
