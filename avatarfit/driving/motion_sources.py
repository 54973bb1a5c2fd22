"""Where motion comes from besides sound and habits: recordings of anybody, brought onto this person.

A recording's movements are taken from the resting face and pose it moves from to this person's own, and held to what
this person has shown. What a recording does not tell follows from what it does as in this person's clip: the neck from
the head's turn, the torso from the head.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from scipy.spatial.transform import Rotation

from avatarfit.avatarfile.live_link import LiveLinkTake
from avatarfit.avatarfile.motion_file import LandmarkMotion
from avatarfit.contracts import FaceMotion, HeadPose, Motion, TorsoMotion, rotations
from avatarfit.driving.blendshape_map import BlendshapeMap
from avatarfit.driving.face_space import BEYOND, FaceSpace, PersonRest
from avatarfit.model.driver_model import DriverModel
from avatarfit.model.habits import FADE_SECONDS, Habits, Stance
from avatarfit.model.rig import MOUTH_REGION, UPPER_REGION, Rig, eye_measures, lip_aperture_cm
from avatarfit.model.torso_follower import TorsoFollower

_CLOSED_PERCENTILE, _SHUT_PERCENTILE = 25, 1
_TURN_RIDGE = 0.02
_SAME_REST_CM = 1e-3
_PULL = 0.8
"""So far others' mouths are pulled onto shapes that this person has shown (locally linear embedding)."""


class StanceSource(Protocol):
    """Where head, torso, eyes and brows come from."""

    def next(self, count: int, heard: np.ndarray | None = None) -> Stance:
        """The next `count` frames; how many are asked at a time changes nothing.

        Args:
            heard: float [count, 3], the sound at each frame: `habits.SOUND`; None where there is none.
        """


class Retargeting:
    """Brings recordings onto one person.

    Args:
        rig, driver: of the avatar.
    """

    def __init__(self, rig: Rig, driver: DriverModel) -> None:
        self.rig, self.driver = rig, driver
        self.space = FaceSpace.of(rig, driver)
        self.rest = PersonRest.of(rig, driver)
        habits = driver.habits
        head = HeadPose(habits.rotation_wxyz, habits.translation_cm)
        self._torso = TorsoFollower.fit(head, TorsoMotion(habits.torso_affine, habits.torso_shape))
        turned = self._turns(head)
        held = np.eye(3) * _TURN_RIDGE * max(float(np.trace(turned.T @ turned)), 1e-9)
        moved = habits.translation_cm - self.rest.head.translation_cm
        self._neck = np.linalg.solve(turned.T @ turned + held, turned.T @ moved)
        self._turn_range, self._place_range = _bounds(turned), _bounds(moved)

    def from_take(self, take: LiveLinkTake) -> Motion:
        """A Live Link Face take; the head's place follows its turn."""
        shapes = BlendshapeMap(self.space, self.driver)
        head = HeadPose(shapes.rotation_wxyz(take), np.zeros((len(take.pts_seconds), 3)))
        turned = self._turns(head)
        return self._with_pose(take.pts_seconds, self._natural(shapes.face(take)), turned, turned @ self._neck, None)

    def from_landmarks(self, theirs: LandmarkMotion) -> Motion:
        """Landmarks and poses of anybody, this person's own included (which come back as they were)."""
        own = theirs.rest_landmarks_cm is not None and bool(
            np.abs(theirs.rest_landmarks_cm - self.rest.landmarks_cm).max() < _SAME_REST_CM
        )
        rest_cm = theirs.rest_landmarks_cm if theirs.rest_landmarks_cm is not None else _resting(theirs.landmarks_cm)
        rotation = rotations(theirs.head_rotation_wxyz)
        if own:
            turn, place = self.rest.head.rotation_wxyz, self.rest.head.translation_cm
        else:
            turn, place = _middle(rotation), np.median(theirs.head_translation_cm, axis=0, keepdims=True)
        turned = (rotation * rotations(turn).inv()).as_rotvec()
        torso = TorsoMotion(theirs.torso_affine) if own and theirs.torso_affine is not None else None
        face = self._face(theirs.landmarks_cm, rest_cm, scaled=not own)
        return self._with_pose(theirs.pts_seconds, face, turned, theirs.head_translation_cm - place, torso)

    def _face(self, landmarks_cm: np.ndarray, rest_cm: np.ndarray, scaled: bool) -> FaceMotion:
        rig, rest = self.rig, self.rest.face
        moved = landmarks_cm - rest_cm
        mouth = np.einsum("tlc,mlc->tm", moved[:, MOUTH_REGION], rig.mouth_basis) / rig.mouth_deviation_cm
        upper = np.einsum("tlc,mlc->tm", moved[:, UPPER_REGION], rig.upper_basis) / rig.upper_deviation_cm
        eyes = (eye_measures(landmarks_cm) - eye_measures(rest_cm[None])) / rig.eyes_deviation
        if scaled:
            # Others' eyes are wider or narrower than these; when they are shut, these are.
            deepest = float(np.percentile(eyes[:, 4:].mean(axis=1), _SHUT_PERCENTILE))
            depth = self.space.shut - float(rest.eyes[0, 4:].mean())
            eyes[:, 4:] *= np.clip(depth / min(deepest, -1e-3), 0.5, 2)
            # What this face hardly does is a guess in its coefficients, so it is shrunk.
            small = self.space.projected(moved)
            mouth, upper = small.mouth, small.upper
        given = ((rest.mouth + mouth, self.space.mouth), (rest.upper + upper, self.space.upper),
                 (rest.eyes + eyes, self.space.eyes))  # fmt: skip
        face = FaceMotion(*(np.clip(values, part.low, part.high) for values, part in given))
        return self._natural(face) if scaled else face

    def _natural(self, face: FaceMotion) -> FaceMotion:
        """A face of others, brought to what this person does with all of mouth, or of brows and lids, at once."""
        deviation = self.driver.mouth_deviation_cm
        mouth = self.driver.shapes(face.mouth * deviation, _PULL) / deviation
        return FaceMotion(mouth, self.space.upper.held(face.upper, self.rest.face.upper), face.eyes)

    def _with_pose(
        self, pts: np.ndarray, face: FaceMotion, turned: np.ndarray, moved: np.ndarray, torso: TorsoMotion | None
    ) -> Motion:
        """Turns (rotation vectors [T, 3]) and ways [T, 3] from rest, held to this person's range."""
        turned, moved = np.clip(turned, *self._turn_range), np.clip(moved, *self._place_range)
        rotation = Rotation.from_rotvec(turned) * rotations(self.rest.head.rotation_wxyz)
        head = HeadPose(rotation.as_quat()[:, [3, 0, 1, 2]], self.rest.head.translation_cm + moved)
        follows = self._torso.torso(head)
        return Motion(
            np.asarray(pts) - pts[0], face, head,
            follows if torso is None else TorsoMotion(torso.affine, follows.shape),
        )  # fmt: skip

    def _turns(self, head: HeadPose) -> np.ndarray:
        """Rotation vectors from rest, in the camera's axes, float64 [T, 3]."""
        return np.asarray((rotations(head.rotation_wxyz) * rotations(self.rest.head.rotation_wxyz).inv()).as_rotvec())


class Still:
    """Rest: nothing moves but the mouth."""

    def __init__(self, habits: Habits) -> None:
        self._rest = habits.stance(habits.rest()[None])

    def next(self, count: int, heard: np.ndarray | None = None) -> Stance:
        """See `StanceSource`."""
        parts = {name: np.repeat(getattr(self._rest, name), count, axis=0) for name in Stance.__dataclass_fields__}
        return Stance(**parts)


class Playback:
    """A recording from its start; after its end from the start again, by a cross-fade.

    Args:
        stance: N frames. pts_seconds: float [N], rising; frames of another rate are interpolated.
        frame_rate_hz: of the frames to come.
    """

    def __init__(self, stance: Stance, pts_seconds: np.ndarray, frame_rate_hz: float) -> None:
        torso = stance.torso_affine.reshape(len(pts_seconds), -1)
        rotation = stance.rotation_wxyz.copy()
        flips = np.cumprod(np.where((rotation[1:] * rotation[:-1]).sum(axis=1) < 0, -1, 1))
        rotation[1:] *= flips[:, None]
        self._parts = (stance.upper, stance.eyes, rotation, stance.translation_cm, torso, stance.torso_shape)
        self._pts, self._rate = np.asarray(pts_seconds, np.float64) - pts_seconds[0], frame_rate_hz
        self._fade = min(FADE_SECONDS, float(self._pts[-1]) / 2)
        self._frame = 0

    @staticmethod
    def of(motion: Motion, frame_rate_hz: float) -> Playback:
        """Of a motion's head, torso, eyes and brows."""
        return Playback(
            Stance(motion.face.upper, motion.face.eyes, motion.head.rotation_wxyz, motion.head.translation_cm,
                   motion.torso.affine, motion.torso.shape),
            motion.pts_seconds, frame_rate_hz,
        )  # fmt: skip

    @staticmethod
    def of_clip(habits: Habits, frame_rate_hz: float) -> Playback:
        """Of the clip that an avatar was fitted to, as it was."""
        stance = Stance(**{name: getattr(habits, name) for name in Stance.__dataclass_fields__})
        return Playback(stance, np.arange(len(habits)) / habits.frame_rate_hz, frame_rate_hz)

    def next(self, count: int, heard: np.ndarray | None = None) -> Stance:
        """See `StanceSource`."""
        seconds = (self._frame + np.arange(count)) / self._rate
        self._frame += count
        return self._around(seconds)

    def whole(self, count: int) -> Stance:
        """The first `count` frames without beginning again; after the end the last one stays."""
        return _stance([self._at(part, np.arange(count) / self._rate) for part in self._parts])

    def _around(self, seconds: np.ndarray) -> Stance:
        count = len(seconds)
        # Each round takes up the next one's beginning under its own end.
        length = float(self._pts[-1]) - self._fade
        at = seconds % length if length > 0 else np.zeros(count)
        again = (seconds >= length) & (at < self._fade) if length > 0 else np.zeros(count, bool)
        x = np.where(again, at / max(self._fade, 1e-9), 1.0)[:, None]
        share = x * x * (3 - 2 * x)
        out = []
        for part in self._parts:
            here, before = self._at(part, at), self._at(part, np.minimum(at + length, self._pts[-1]))
            out.append(before + share * (here - before))
        return _stance(out)

    def _at(self, part: np.ndarray, seconds: np.ndarray) -> np.ndarray:
        high = np.clip(np.searchsorted(self._pts, seconds, side="right"), 1, max(len(self._pts) - 1, 1))
        high = np.minimum(high, len(self._pts) - 1)
        low = np.maximum(high - 1, 0)
        width = np.maximum(self._pts[high] - self._pts[low], 1e-9)
        weight = np.clip((seconds - self._pts[low]) / width, 0, 1)[:, None]
        return np.asarray(part[low] + weight * (part[high] - part[low]))


def _stance(parts: list[np.ndarray]) -> Stance:
    upper, eyes, rotation, translation, torso, shape = (np.asarray(part, np.float32) for part in parts)
    rotation = rotation / np.linalg.norm(rotation, axis=1, keepdims=True)
    return Stance(upper, eyes, rotation, translation, torso.reshape(-1, 2, 3), shape)


class PoseAndExpression:
    """Head and torso from one source, eyes and brows from another."""

    def __init__(self, pose: StanceSource, expression: StanceSource) -> None:
        self._pose, self._expression = pose, expression

    def next(self, count: int, heard: np.ndarray | None = None) -> Stance:
        """See `StanceSource`."""
        pose, face = self._pose.next(count, heard), self._expression.next(count, heard)
        return Stance(
            face.upper, face.eyes, pose.rotation_wxyz, pose.translation_cm, pose.torso_affine, pose.torso_shape
        )


def at_rate(motion: Motion, frame_rate_hz: float) -> Motion:
    """A motion from its start to its end at another frame rate."""
    count = max(int(np.floor((motion.pts_seconds[-1] - motion.pts_seconds[0]) * frame_rate_hz + 1e-6)) + 1, 1)
    stance = Playback.of(motion, frame_rate_hz).whole(count)
    pts = np.arange(count) / frame_rate_hz
    mouth = np.stack(
        [np.interp(pts, motion.pts_seconds - motion.pts_seconds[0], column) for column in motion.face.mouth.T], axis=1
    )
    return Motion(
        pts, FaceMotion(mouth, stance.upper, stance.eyes), HeadPose(stance.rotation_wxyz, stance.translation_cm),
        TorsoMotion(stance.torso_affine, stance.torso_shape),
    )  # fmt: skip


def _resting(landmarks_cm: np.ndarray) -> np.ndarray:
    """The resting face of a recording that does not tell it: the median, with the mouth of closed lips."""
    gap = lip_aperture_cm(landmarks_cm)
    rest = np.median(landmarks_cm, axis=0)
    rest[MOUTH_REGION] = np.median(landmarks_cm[gap <= np.percentile(gap, _CLOSED_PERCENTILE)][:, MOUTH_REGION], axis=0)
    return np.asarray(rest)


def _middle(rotation: Rotation) -> np.ndarray:
    """The mean rotation, float [1, 4] wxyz."""
    return np.asarray(rotation.mean().as_quat()[[3, 0, 1, 2]][None])


def _bounds(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.percentile(values, (0.5, 99.5), axis=0)
    margin = BEYOND * (high - low)
    return low - margin, high + margin
