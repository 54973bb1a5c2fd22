"""What one person's face has shown, and how its parts go together: the ground that controls and retargeting stand on.

An avatar looks right where its clip has been. So everything that changes a motion is projected onto the person's rig
and held to the range that the clip has shown.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avatarfit.contracts import FaceMotion, HeadPose, TorsoMotion
from avatarfit.model.driver_model import DriverModel
from avatarfit.model.rig import LIPS_INNER, MOUTH_REGION, UPPER_REGION, Rig

BEYOND = 0.3
"""So far beyond the shown range a control may go, as a share of the range."""

_SHOWN_PERCENTILES = (0.5, 99.5)
_NOISE_CM = {"mouth": 0.5, "upper": 0.3}
"""Uncertainty of a made-up movement: what the person's modes explain less than this well is shrunk (ridge)."""
_SIZE_PERCENTILE = 90.0
_SHUT_PERCENTILE = 1.0
_DROWSY = 0.25
"""Eyes closed farther than this share of the way are blinking, whatever they look at."""
_CLOSED_PERCENTILE, _WIDE_PERCENTILE = 15.0, 95.0
# Pairs of the inner lips' rings, upper and lower, that face each other.
_LIP_PAIRS = tuple((LIPS_INNER[20 - k], LIPS_INNER[k]) for k in range(2, 9))


@dataclass(frozen=True)
class Range:
    """What one group of coefficients has shown, float32 [N] each.

    Attributes:
        rest: the median.
        low, high: 0.5th and 99.5th percentile, and `BEYOND` of the distance between them farther out.
        size: 90th percentile of the coefficients' length. Being in standard deviations, all of them together are no
            likelier to be large than one alone.
    """

    rest: np.ndarray
    low: np.ndarray
    high: np.ndarray
    size: float

    @staticmethod
    def of(values: np.ndarray, rest: np.ndarray | None = None) -> Range:
        """The range of coefficients [T, N] seen in a clip."""
        low, high = np.percentile(values, _SHOWN_PERCENTILES, axis=0)
        margin = BEYOND * (high - low)
        centre = np.median(values, axis=0) if rest is None else rest
        centre, low, high = (np.asarray(x, np.float32) for x in (centre, low - margin, high + margin))
        return Range(centre, low, high, float(np.percentile(np.linalg.norm(values, axis=1), _SIZE_PERCENTILE)))

    def held(self, changed: np.ndarray, before: np.ndarray) -> np.ndarray:
        """Coefficients [T, N] that a control changed, held to the range or to where they were `before`.

        First each alone; then, where all together would be larger than the clip's, as much of the change as may be.
        """
        change = np.clip(changed, np.minimum(self.low, before), np.maximum(self.high, before)) - before
        power, along = np.square(change).sum(axis=1), (change * before).sum(axis=1)
        now = np.square(before).sum(axis=1)
        room = np.maximum(self.size**2, now) - now
        # The positive root of |before + share * change|^2 = the larger of size^2 and |before|^2.
        share = (np.sqrt(np.square(along) + power * room) - along) / np.maximum(power, 1e-12)
        return np.asarray(before + np.clip(share, 0, 1)[:, None] * change)


@dataclass(frozen=True)
class FaceSpace:
    """One person's face, as its rig and the clip tell it.

    Attributes:
        rig: the person's.
        mouth, upper, eyes: what the rig's coefficients have shown; rest is the mouth when nobody speaks, and the
            median of the others.
        lips: float32 [7, M], what each mouth coefficient adds to the gaps of the inner lips' pairs, centimetres; the
            fourth is the middle. `lips_rest_cm` [7]: the gaps with all coefficients at zero.
        closed_cm, wide_cm: middle gap of lips that are closed (15th percentile), and of a wide mouth (95th).
        opening: float32 [M], how the mouth changes for each centimetre that the middle gap widens.
        shut: the eyes' opening (mean of both coefficients) when they are closed.
        blink: float32 [U], how the upper face changes with that opening.
        lids: float32 [U + 2], how upper face and both openings change with the gaze's height.
        openings: float32 [U, 2], how both openings change with the upper face.
        mouths, uppers: float32 [N, M], [N', U], all that was seen.
    """

    rig: Rig
    mouth: Range
    upper: Range
    eyes: Range
    lips: np.ndarray
    lips_rest_cm: np.ndarray
    closed_cm: float
    wide_cm: float
    opening: np.ndarray
    shut: float
    blink: np.ndarray
    lids: np.ndarray
    openings: np.ndarray
    mouths: np.ndarray
    uppers: np.ndarray

    @staticmethod
    def of(rig: Rig, driver: DriverModel) -> FaceSpace:
        """What an avatar's own file tells."""
        habits = driver.habits
        mouths = driver.shapes.shapes_cm / driver.mouth_deviation_cm
        opened = habits.eyes[:, 4:].mean(axis=1)
        shut, rest = float(np.percentile(opened, _SHUT_PERCENTILE)), float(np.median(opened))
        awake = opened > rest + _DROWSY * (shut - rest)
        upper, eyes, looking = Range.of(habits.upper), Range.of(habits.eyes), Range.of(habits.eyes[awake])
        # Under closing lids irises are guessed far down.
        eyes.low[:4], eyes.high[:4] = looking.low[:4], looking.high[:4]
        at = {int(index): k for k, index in enumerate(MOUTH_REGION)}
        pairs = np.array([[at[a], at[b]] for a, b in _LIP_PAIRS])
        height = (rig.mouth_basis[:, pairs[:, 1], 1] - rig.mouth_basis[:, pairs[:, 0], 1]).T * rig.mouth_deviation_cm
        shape = rig.shape_cm[MOUTH_REGION, 1]
        lips_rest = shape[pairs[:, 1]] - shape[pairs[:, 0]]
        gap = mouths @ height[3] + lips_rest[3]
        closed, wide = np.percentile(gap, [_CLOSED_PERCENTILE, _WIDE_PERCENTILE])
        opening = _slope(gap, mouths)
        # Exactly one centimetre for each centimetre, also where a clip's mouth hardly moves.
        opening = opening + (1 - height[3] @ opening) * height[3] / max(float(height[3] @ height[3]), 1e-12)
        looks = np.concatenate([habits.upper, habits.eyes[:, 4:]], axis=1)[awake]
        return FaceSpace(
            rig, Range.of(mouths, driver.mouth_rest), upper, eyes,
            height.astype(np.float32), lips_rest.astype(np.float32), float(closed), float(max(wide, closed + 1e-3)),
            opening.astype(np.float32), min(shut, rest - 1e-3),
            _slope(opened, habits.upper).astype(np.float32),
            _slope(habits.eyes[awake][:, [1, 3]].mean(axis=1), looks).astype(np.float32),
            np.linalg.lstsq(habits.upper - upper.rest, habits.eyes[:, 4:] - eyes.rest[4:], rcond=None)[0],
            mouths, habits.upper,
        )  # fmt: skip

    def gaps_cm(self, mouth: np.ndarray) -> np.ndarray:
        """Gaps of the inner lips' pairs, float32 [T, 7], of mouth coefficients [T, M]."""
        return np.asarray(mouth @ self.lips.T + self.lips_rest_cm)

    def closure(self, eyes: np.ndarray) -> np.ndarray:
        """How far the eyes are closed, float [T]: 0 at rest and above, 1 shut."""
        rest = float(self.eyes.rest[4:].mean())
        return np.asarray(np.clip((rest - eyes[:, 4:].mean(axis=1)) / (rest - self.shut), 0, 1))

    def projected(self, displacement_cm: np.ndarray) -> FaceMotion:
        """The change of coefficients that comes nearest to displacements of the landmarks about rest.

        Ridge regression with the person's own deviations as prior (Hoerl and Kennard 1970): movements that this face
        hardly shows come out small.

        Args:
            displacement_cm: float [T, 478, 3].

        Returns:
            rows of changes; gaze, which is no expression, stays.
        """
        rig = self.rig
        parts = []
        for name, region, basis, deviation in (
            ("mouth", MOUTH_REGION, rig.mouth_basis, rig.mouth_deviation_cm),
            ("upper", UPPER_REGION, rig.upper_basis, rig.upper_deviation_cm),
        ):
            along = np.einsum("tlc,mlc->tm", displacement_cm[:, region], basis)
            parts.append(along * deviation / (np.square(deviation) + _NOISE_CM[name] ** 2))
        return FaceMotion(parts[0], parts[1], self.eyes_with(parts[1]))

    def eyes_with(self, upper: np.ndarray) -> np.ndarray:
        """What the eyes' coefficients, float [T, 6], change by along with the upper face's, [T, U]; gaze stays."""
        return np.concatenate([np.zeros((len(upper), 4)), upper @ self.openings], axis=1)


@dataclass(frozen=True)
class PersonRest:
    """This person's resting face and pose, as the clip's medians tell them; one frame each."""

    face: FaceMotion
    head: HeadPose
    torso: TorsoMotion
    landmarks_cm: np.ndarray

    @staticmethod
    def of(rig: Rig, driver: DriverModel) -> PersonRest:
        """From an avatar's file."""
        rest = driver.habits.stance(driver.habits.rest()[None])
        face = FaceMotion(driver.mouth_rest[None], rest.upper, rest.eyes)
        return PersonRest(
            face, HeadPose(rest.rotation_wxyz, rest.translation_cm), TorsoMotion(rest.torso_affine, rest.torso_shape),
            rig.landmarks_cm(face)[0],
        )  # fmt: skip


def _slope(cause: np.ndarray, effects: np.ndarray) -> np.ndarray:
    """Least-squares slopes float64 [N] of effects [T, N] over a cause [T]; zero where the cause does not vary."""
    centred = cause - cause.mean()
    power = float(centred @ centred)
    return np.asarray(centred @ (effects - effects.mean(axis=0)) / power if power > 1e-9 else 0 * effects[0])
