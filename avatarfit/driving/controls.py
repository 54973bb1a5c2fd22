"""Applies controls to a motion, frame by frame: a function of each frame and its time alone, so it runs live as well.

Closed lips stay closed: whatever a control adds to the gap between the lips fades as the gap nears that of closed lips.
Shut eyes stay shut in the same way.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from avatarfit.contracts import FaceMotion, HeadPose, Motion, TorsoMotion, rotations
from avatarfit.driving.control_values import ControlSource, ControlTrack
from avatarfit.driving.emotions import emotion_offsets
from avatarfit.driving.face_space import FaceSpace, PersonRest
from avatarfit.model.driver_model import DriverModel
from avatarfit.model.rig import Rig

_FADE_SHARE = 0.3
"""Offsets are whole from this share of the way between closed and wide lips."""
_GAZE_LIFE = 0.25
"""So much of its own motion a held gaze keeps: eyes that stand quite still look dead."""
_EYEBALL_CM = 1.2
_EYE_CORNERS = ((263, 362), (33, 133))


class MotionControls:
    """Controls for one avatar, `apply`ing them to motion as it comes.

    Args:
        controls: what is asked for.
        rig, driver: of the avatar.
    """

    def __init__(self, controls: ControlSource, rig: Rig, driver: DriverModel) -> None:
        self.controls = controls
        self._rig, self._driver = rig, driver
        if not controls.neutral:
            # What is worked out once must not hold up the first frame of a live session.
            _ = self._lips_kept, self._rest

    @cached_property
    def space(self) -> FaceSpace:
        """What the person's face has shown."""
        return FaceSpace.of(self._rig, self._driver)

    @cached_property
    def _rest(self) -> PersonRest:
        return PersonRest.of(self._rig, self._driver)

    @cached_property
    def _offsets(self) -> FaceMotion:
        return emotion_offsets(self.space)

    @cached_property
    def _lips_kept(self) -> np.ndarray:
        """float [6, M]: the emotions' offsets less all that opens or closes the lips."""
        offsets, lips = self._offsets.mouth.astype(np.float64), self.space.lips.astype(np.float64)
        # The pairs' rows are nearly alike: the small ridge takes the few directions in which lips really part.
        part = np.linalg.solve(lips @ lips.T + 1e-3 * np.trace(lips @ lips.T) * np.eye(len(lips)), lips @ offsets.T)
        kept = offsets - part.T @ lips
        middle = lips[3]
        return np.asarray(kept - np.outer(kept @ middle, middle) / max(float(middle @ middle), 1e-12))

    def blink_rate(self, pts_seconds: np.ndarray) -> np.ndarray:
        """How many times as often as the person's own blinks come, float64 [T]; what generates blinks asks for it."""
        return self.controls.at(pts_seconds).blink_rate

    def apply(self, motion: Motion) -> Motion:
        """The motion under the controls; exactly the same where none is turned."""
        if self.controls.neutral:
            return motion
        track = self.controls.at(motion.pts_seconds)
        head, torso = self._head(motion, track)
        upper, eyes = self._eyes(motion, head, track)
        return Motion(motion.pts_seconds, FaceMotion(self._mouth(motion.face.mouth, track), upper, eyes), head, torso)

    def _mouth(self, before: np.ndarray, track: ControlTrack) -> np.ndarray:
        space = self.space
        if not (np.any(track.lip_opening != 1) or np.any(track.expression != 1) or track.emotion_lower.any()):
            return before
        middle = space.lips[3].astype(np.float64)
        gap = before @ middle + space.lips_rest_cm[3]
        open_share = _smooth((gap - space.closed_cm) / (_FADE_SHARE * (space.wide_cm - space.closed_cm)))
        # All that is not the mouth's opening grows or shrinks with the expression; the middle gap stays.
        about = before - space.mouth.rest
        opened = np.outer(about @ middle, space.opening)
        mouth = before + (track.expression - 1)[:, None] * (about - opened)
        mouth = mouth + np.outer((track.lip_opening - 1) * np.maximum(gap - space.closed_cm, 0), space.opening)
        kept = track.emotion_lower @ self._lips_kept
        whole = track.emotion_lower @ self._offsets.mouth
        mouth = mouth + kept + open_share[:, None] * (whole - kept)
        wanted = mouth @ middle + space.lips_rest_cm[3]
        mouth = space.mouth.held(mouth, before)
        # Holding to the range may have moved the lips: near closure the gap is put right, and none gets below closed.
        now = mouth @ middle + space.lips_rest_cm[3]
        gap_cm = np.maximum(wanted + open_share * (now - wanted), np.minimum(gap, space.closed_cm))
        return np.asarray(mouth + np.outer(gap_cm - now, middle) / max(float(middle @ middle), 1e-12), np.float32)

    def _eyes(self, motion: Motion, head: HeadPose, track: ControlTrack) -> tuple[np.ndarray, np.ndarray]:
        space, face = self.space, motion.face
        if not (np.any(track.expression != 1) or track.emotion_upper.any() or track.gaze.any()):
            return face.upper, face.eyes
        closure = space.closure(face.eyes)
        awake = (1 - _smooth(closure))[:, None]
        blinking = np.outer(closure * (space.shut - space.eyes.rest[4:].mean()), space.blink)
        upper = face.upper + (track.expression - 1)[:, None] * awake * (face.upper - space.upper.rest - blinking)
        eyes = face.eyes.astype(np.float64)
        gaze = _GAZE_LIFE * (eyes[:, :4] - space.eyes.rest[:4]) + self._looking(head, track.gaze_degrees)
        gaze = np.clip(space.eyes.rest[:4] + gaze, space.eyes.low[:4], space.eyes.high[:4])
        # Under closed lids the irises are guessed: there the gaze stays what it was.
        change = awake * track.gaze[:, None] * (gaze - eyes[:, :4])
        eyes[:, :4] += change
        # Lids follow the gaze up and down.
        lids = awake * np.outer(change[:, [1, 3]].mean(axis=1), space.lids)
        upper = upper + lids[:, :-2] + awake * (track.emotion_upper @ self._offsets.upper)
        eyes[:, 4:] += lids[:, -2:] + awake * (track.emotion_upper @ self._offsets.eyes[:, 4:])
        eyes = np.clip(eyes, np.minimum(space.eyes.low, face.eyes), np.maximum(space.eyes.high, face.eyes))
        return np.asarray(space.upper.held(upper, face.upper), np.float32), np.asarray(eyes, np.float32)

    def _looking(self, head: HeadPose, degrees: np.ndarray) -> np.ndarray:
        """Where the irises go, float [T, 4], about rest, to look `degrees` [T, 2] right and up of the camera.

        In the clip's median pose the resting gaze is taken to meet the camera, as of people who speak to it.
        """
        rest = rotations(self._rest.head.rotation_wxyz)
        turned = (rotations(head.rotation_wxyz) * rest.inv()).as_matrix()
        right, up = np.radians(degrees).T
        direction = np.stack([np.sin(right), -np.sin(up), -np.cos(right) * np.cos(up)], axis=1)
        seen = np.einsum("tji,tj->ti", turned, direction)
        shift = _EYEBALL_CM * seen[:, :2] / np.maximum(np.linalg.norm(seen, axis=1, keepdims=True), 1e-9)
        shape = self.space.rig.shape_cm
        width = np.array([np.linalg.norm(shape[a, :2] - shape[b, :2]) for a, b in _EYE_CORNERS])
        return np.concatenate([shift / w for w in width], axis=1) / self.space.rig.eyes_deviation[:4]

    def _head(self, motion: Motion, track: ControlTrack) -> tuple[HeadPose, TorsoMotion]:
        if np.all(track.head_motion == 1):
            return motion.head, motion.torso
        rest, share = self._rest, track.head_motion[:, None]
        mixed = rest.head.rotation_wxyz + share * (
            motion.head.rotation_wxyz * np.sign(motion.head.rotation_wxyz @ rest.head.rotation_wxyz[0])[:, None]
            - rest.head.rotation_wxyz
        )
        head = HeadPose(
            mixed / np.linalg.norm(mixed, axis=1, keepdims=True),
            rest.head.translation_cm + share * (motion.head.translation_cm - rest.head.translation_cm),
        )
        torso = TorsoMotion(
            rest.torso.affine + share[:, :, None] * (motion.torso.affine - rest.torso.affine),
            rest.torso.shape + share * (motion.torso.shape - rest.torso.shape),
        )
        return head, torso


def _smooth(x: np.ndarray) -> np.ndarray:
    x = np.clip(x, 0, 1)
    return np.asarray(x * x * (3 - 2 * x))
