"""Footage as an avatar sees it: every picture's head, face and shoulders in the avatar's own rig and camera."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from avatarfit.capture import ClipFolder, capture_clip
from avatarfit.capture.face_points import RIGID
from avatarfit.capture.rotations import continuous_wxyz
from avatarfit.contracts import Camera, FaceError, FaceMotion, HeadPose, InputError, Motion, TorsoMotion, rotations
from avatarfit.contracts.events import Listener
from avatarfit.driving.face_space import PersonRest
from avatarfit.evaluation.clip_view import check_same_landmarks, measured_motion
from avatarfit.evaluation.identity import OTHER_PERSON, rigid_distance
from avatarfit.media import probe, read_video
from avatarfit.model.avatar import Avatar

NOT_SEEN, ASKEW, MOMENT = "the person is not seen", "the head is turned away", "the person is seen for a moment only"
_FEWEST_SECONDS = 0.5
_WANTED = "footage of half a second or more that shows the avatar's person"
_SAME_SECONDS = 1e-3
_REPEATS = "repeats the picture before"
_BETWEEN_SECONDS = 0.15
"""Pictures that capture was told to leave out take what lies between their neighbours, up to so far apart."""
_BEYOND_DEGREES = np.array([10.0, 12.0, 20.0])
"""So far beyond what the avatar's clip shows may a head nod, turn and tilt: its sides were never seen."""
_SHORTEST_SECONDS = 0.2
_SHOWN_PERCENTILES = (0.5, 99.5)


@dataclass(frozen=True)
class Footage:
    """A captured film and what an avatar has to do to be in it; N pictures, all of the source's.

    Attributes:
        clip: the clip folder.
        pts_seconds: float64 [N].
        row: int [N], the kept picture of the clip folder that a picture shows, or the nearest before it.
        left: bool [N], the picture stays as it is; `reasons` [N] says why, "" elsewhere.
        cuts: bool [N], a new shot begins with the picture.
        motion: what the avatar does to look like each picture; where the person is not seen, as in the nearest one.
        camera: with which it is then drawn, of the source's whole upright picture.
        landmarks_cm: float32 [N, 478, 3] in the avatar's head frame.
        identity: distance from the avatar's person, eye distances (`rigid_distance`).
        own_clip: the avatar was fitted from this very capture.
    """

    clip: ClipFolder
    pts_seconds: np.ndarray
    row: np.ndarray
    left: np.ndarray
    reasons: tuple[str, ...]
    cuts: np.ndarray
    motion: Motion
    camera: Camera
    landmarks_cm: np.ndarray
    identity: float
    own_clip: bool

    def __len__(self) -> int:
        return len(self.pts_seconds)

    @staticmethod
    def of(avatar: Avatar, clip: ClipFolder) -> Footage:
        """What a clip folder shows, for an avatar of the same person.

        Raises:
            InputError: it shows somebody else, was captured with another network, or its source is gone.
            FaceError: in no picture the person faces the camera.
        """
        check_same_landmarks(avatar, clip)
        identity = rigid_distance(avatar.rig.shape_cm, np.asarray(clip.landmarks_cm).mean(axis=0))
        if not identity < OTHER_PERSON:
            raise InputError(
                f"{clip.source.name} shows somebody else than the avatar (identity distance {identity:.4f}, from "
                f"{OTHER_PERSON} on it is another person)", "footage of the avatar's person",
                "fit an avatar of the person in the footage",
            )  # fmt: skip
        motion, camera, landmarks = _as_the_avatar(avatar, clip)
        pts, cuts = _times(clip)
        row, share, left = _rows(pts, clip)
        reasons = np.where(left, NOT_SEEN, "").astype(object)
        placed = _interpolated(motion, row, share, pts)
        askew = ~left & _askew(avatar, placed.head)
        reasons[askew] = ASKEW
        moment = _moments(left | askew, cuts, max(round(_SHORTEST_SECONDS * clip.frame_rate_hz), 1))
        reasons[moment] = MOMENT
        left = left | askew | moment
        if left.all():
            raise FaceError(
                f"no picture of {clip.source.name} can be dubbed, for {max(set(reasons), key=list(reasons).count)}",
                "footage in which the person faces the camera about as in the avatar's clip", "choose other footage",
            )  # fmt: skip
        return Footage(
            clip, pts, row, left, tuple(reasons.tolist()), cuts, placed, camera, landmarks[row], identity,
            _is_own_clip(avatar, clip),
        )  # fmt: skip

    def stretches(self) -> list[range]:
        """Pictures that follow each other in one shot and are all dubbed."""
        broken = np.concatenate([[True], self.left[1:] | self.left[:-1] | self.cuts[1:]])
        edges = [*np.flatnonzero(broken | self.left).tolist(), len(self)]
        return [range(a, b) for a, b in pairwise(edges) if not self.left[a]]


def captured(avatar: Avatar, video: Path, work: Path, on_event: Listener) -> ClipFolder:
    """The footage's clip folder: `video` itself if it is one, else captured into `work`/clip, which is gone on with.

    Raises:
        InputError: not a readable video, or shorter than half a second.
        FaceError: no face.
    """
    if video.is_dir():
        return ClipFolder.open(video)
    info = probe(video)
    if info.duration_seconds < _FEWEST_SECONDS:
        raise InputError(f"{video} is {info.duration_seconds:.2f} s long", _WANTED, "give longer footage")
    # Landmarks of two networks are not compared: the footage is measured as the avatar's clip was.
    built_in = "mediapipe" in str(avatar.made.get("landmarks", ""))
    return capture_clip(video, work / "clip", landmarker="none" if built_in else "auto", on_event=on_event)


def _times(clip: ClipFolder) -> tuple[np.ndarray, np.ndarray]:
    """Times of all the source's pictures, float64 [N], and which begin a shot, bool [N]."""
    clip.check_source()
    if clip.manifest["view"].get("frame_rate_hz") is None:
        told = [entry["pts_seconds"] for name in ("frames", "rejects") for entry in clip.manifest[name]]
        pts = np.unique(np.array(told, np.float64))
    else:
        pts = _all_times(clip.source)
    cuts = np.zeros(len(pts), bool)
    for index in clip.manifest.get("cuts", []):
        cuts[min(int(np.searchsorted(pts, clip.pts_seconds[index] - _SAME_SECONDS)), len(pts) - 1)] = True
    return pts, cuts


def _all_times(source: Path) -> np.ndarray:
    seen: list[float] = []

    def unwanted(seconds: float) -> bool:
        seen.append(seconds)
        return False

    for _ in read_video(source, wanted=unwanted):
        pass
    return np.array(seen, np.float64)


def _rows(pts: np.ndarray, clip: ClipFolder) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each source picture the kept one it shows or follows, int [N]; how far it is on the way to the next one,
    float [N]; and whether the person is not seen, bool [N]."""
    kept = clip.pts_seconds
    row = np.clip(np.searchsorted(kept, pts + _SAME_SECONDS) - 1, 0, len(kept) - 1)
    late = pts - kept[row]
    exact = np.abs(late) <= _SAME_SECONDS
    after = np.minimum(row + 1, len(kept) - 1)
    gap = kept[after] - kept[row]
    share = np.where(exact | (gap <= 0), 0.0, late / np.maximum(gap, 1e-9))
    refused = {round(e["pts_seconds"], 3): e["reason"] for e in clip.manifest["rejects"]}
    left = np.zeros(len(pts), bool)
    for k in np.flatnonzero(~exact):
        reason = refused.get(round(float(pts[k]), 3))
        if reason == _REPEATS and late[k] > 0:
            share[k] = 0.0
        else:
            left[k] = reason is not None or not 0 < late[k] < gap[k] <= _BETWEEN_SECONDS
    return row, share, left


def _interpolated(motion: Motion, row: np.ndarray, share: np.ndarray, pts: np.ndarray) -> Motion:
    """The motion at all pictures."""
    after = np.minimum(row + 1, len(motion) - 1)
    weight = share.astype(np.float32)

    def between(values: np.ndarray) -> np.ndarray:
        first, second = values[row], values[after]
        return first + weight.reshape(-1, *[1] * (values.ndim - 1)) * (second - first)

    rotation = between(continuous_wxyz(rotations(motion.head.rotation_wxyz).as_matrix()).astype(np.float32))
    rotation /= np.linalg.norm(rotation, axis=1, keepdims=True)
    face, torso = motion.face, motion.torso
    return Motion(
        pts, FaceMotion(between(face.mouth), between(face.upper), between(face.eyes)),
        HeadPose(rotation, between(motion.head.translation_cm)),
        TorsoMotion(between(torso.affine), between(torso.shape)),
    )  # fmt: skip


def _askew(avatar: Avatar, head: HeadPose) -> np.ndarray:
    """bool [N]: the head is turned farther than the avatar knows it."""
    habits = avatar.driver.habits
    rest = rotations(PersonRest.of(avatar.rig, avatar.driver).head.rotation_wxyz)
    known = np.degrees((rotations(habits.rotation_wxyz) * rest.inv()).as_rotvec())
    low, high = np.percentile(known, _SHOWN_PERCENTILES, axis=0)
    turned = np.degrees((rotations(head.rotation_wxyz) * rest.inv()).as_rotvec())
    return np.asarray(((turned < low - _BEYOND_DEGREES) | (turned > high + _BEYOND_DEGREES)).any(axis=1))


def _moments(left: np.ndarray, cuts: np.ndarray, fewest: int) -> np.ndarray:
    """bool [N]: belongs to a stretch of fewer pictures than that."""
    edges = np.flatnonzero(np.concatenate([[True], (left[1:] != left[:-1]) | cuts[1:]]))
    out = np.zeros(len(left), bool)
    for a, b in pairwise([*edges.tolist(), len(left)]):
        out[a:b] = not left[a] and b - a < fewest and b - a < len(left)
    return out


def _as_the_avatar(avatar: Avatar, clip: ClipFolder) -> tuple[Motion, Camera, np.ndarray]:
    """Motion of the kept pictures, the camera of the source's whole picture, and landmarks, all as of the avatar.

    Of the clip that the avatar was fitted to all is as it was measured. Other footage has a head frame, a distance and
    a place in the picture of its own: the head is brought to the avatar's frame by the similarity between both faces'
    rigid landmarks, and seen through a camera that is moved and lengthened so that the head's middle place is where
    the avatar's head rests. Nothing of the picture changes by that but the perspective within the head by what the
    unknown focal lengths leave open, and neck and shoulders are asked for what the avatar knows.
    """
    view, working = clip.view, clip.camera
    scale = view.scale
    whole = clip.manifest["source"]
    source = Camera(
        int(whole["width_px"]), int(whole["height_px"]), working.focal_px / float(scale.mean()),
        working.center_x_px / scale[0] + view.x_px, working.center_y_px / scale[1] + view.y_px,
    )  # fmt: skip
    if _is_own_clip(avatar, clip):
        return measured_motion(avatar, clip), source, np.asarray(clip.landmarks_cm)
    from scipy.spatial.transform import Rotation

    measured = clip.motion()
    mean = np.asarray(clip.landmarks_cm).mean(axis=0, dtype=np.float64)
    turn, size, shift = _onto(mean[RIGID], avatar.rig.shape_cm[RIGID].astype(np.float64))
    landmarks = size * np.asarray(clip.landmarks_cm) @ turn.T + shift  # in the avatar's head frame
    rotation = rotations(measured.head.rotation_wxyz) * Rotation.from_matrix(turn).inv()
    place = size * measured.head.translation_cm - rotation.apply(np.tile(shift, (len(measured), 1)))

    rest = PersonRest.of(avatar.rig, avatar.driver).head.translation_cm[0].astype(np.float64)
    middle = np.median(place, axis=0)
    longer = rest[2] / middle[2]
    from_u, to_u = middle[:2] / middle[2], rest[:2] / rest[2]
    depth = place[:, 2] * longer
    normalised = (place[:, :2] / place[:, 2:] - from_u) / longer + to_u
    # Seen from elsewhere in the picture, the same head looks turned by the angle between the two directions.
    aside, _ = Rotation.align_vectors([[*to_u, 1.0]], [[*from_u, 1.0]])
    turned = (aside * rotation).as_quat()[:, [3, 0, 1, 2]]
    head = HeadPose(turned, np.concatenate([normalised * depth[:, None], depth[:, None]], axis=1))
    camera = replace(
        source, focal_px=source.focal_px * longer,
        center_x_px=source.center_x_px + source.focal_px * float(from_u[0] - longer * to_u[0]),
        center_y_px=source.center_y_px + source.focal_px * float(from_u[1] - longer * to_u[1]),
    )  # fmt: skip
    linear = measured.torso.affine[:, :, :2].astype(np.float64)
    moved = linear @ from_u + measured.torso.affine[:, :, 2] - from_u
    torso = np.concatenate([linear, (to_u - linear @ to_u + moved / longer)[:, :, None]], axis=2)
    shape = np.zeros((len(measured), avatar.torso_modes.count), np.float32)
    return (
        Motion(measured.pts_seconds, avatar.rig.encode(landmarks), head, TorsoMotion(torso, shape)), camera,
        landmarks.astype(np.float32),
    )  # fmt: skip


def _is_own_clip(avatar: Avatar, clip: ClipFolder) -> bool:
    theirs = clip.rig().to_tensors()
    return all(np.array_equal(value, theirs[name]) for name, value in avatar.rig.to_tensors().items())


def _onto(points: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """Rotation [3, 3], size and shift [3] that bring points [K, 3] nearest to `target` [K, 3] (Umeyama 1991)."""
    a, b = points.mean(axis=0), target.mean(axis=0)
    left, spread, right = np.linalg.svd((target - b).T @ (points - a))
    sign = np.array([1, 1, np.sign(np.linalg.det(left @ right))])
    turn = (left * sign) @ right
    size = float((spread * sign).sum() / np.square(points - a).sum())
    return turn, size, b - size * turn @ a
