"""Keyframes of a clip: which pictures they are, and where their skin is in space."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from avatarfit.capture.face_points import RIGID
from avatarfit.capture.face_registration import (
    FacePicture,
    Keyframes,
    face_picture,
    match_spots,
    pose_distance_state,
    spread_pictures,
)
from avatarfit.capture.head_frame import prior_shape_cm
from avatarfit.capture.pose_refinement import spread_correction
from avatarfit.capture.pose_solver import RigidSolution
from avatarfit.capture.pose_structure import KNEES_PX, Sightings, point_deviations, solve_structure
from avatarfit.contracts import Camera, FaceError

_KEYFRAMES, _PICTURES = 12, 48
_KEYS_A_PICTURE = (4, 8)
_OUTERMOST = 0.01


def solve_keyframes(
    grays: Callable[[Collection[int]], Iterable[np.ndarray]],
    solution: RigidSolution,
    landmarks_px: np.ndarray,
    camera: Camera,
    scale: float,
) -> tuple[Keyframes, np.ndarray, RigidSolution]:
    """Finds the keyframes' skin in space from some pictures that cover the clip's poses.

    Args:
        grays: called with rising indices of the K pictures, goes through those, uint8 [H, W].
        solution: poses and shape from the landmarks.
        landmarks_px: float [K, 478, 3]; the rigid ones are the spots.
        camera: held fixed.
        scale: `matching_scale`.

    Returns:
        The keyframes; how surely each spot is found, [C, R] pixels; the solution with all its poses corrected.

    Raises:
        FaceError: no picture shows the face.
    """
    state = pose_distance_state(solution.rotation, solution.translation_cm)
    first = int(np.argmin(np.linalg.norm(state - np.median(state, axis=0), axis=1)))
    key_frames = spread_pictures(state, first, _KEYFRAMES, _OUTERMOST)
    frames = np.array(sorted({*key_frames, *spread_pictures(state, first, _PICTURES, _OUTERMOST)}))
    faces = {
        int(index): face_picture(gray, landmarks_px[index, RIGID, :2].astype(np.float64), scale)
        for index, gray in zip(frames, grays(frames.tolist()), strict=True)
    }
    shown = {index: face for index, face in faces.items() if face is not None}
    frames, key_frames = np.array(sorted(shown)), [k for k in key_frames if k in shown]
    if not key_frames:
        raise FaceError(
            "the face is hardly inside the pictures",
            "a face that shows whole",
            "use a clip in which the head is in view",
        )
    pictures = [shown[f] for f in frames.tolist()]
    own = np.searchsorted(frames, key_frames)
    spots_px = landmarks_px[key_frames][:, RIGID, :2].astype(np.float64)
    rotation, translation = solution.rotation[frames], solution.translation_cm[frames]
    # Depth from the network's own shape: the solution's is flatter, as the turns that the network sees are too small.
    prior = _on_shape(spots_px, prior_shape_cm(landmarks_px), rotation[own], translation[own], camera).reshape(-1, 3)
    points = prior
    # The second time with places expected by what the first found.
    for knees_px, several in zip(KNEES_PX, _KEYS_A_PICTURE, strict=True):
        now = pose_distance_state(rotation, translation)
        keys = Keyframes([pictures[k] for k in own], now[own], spots_px, points.reshape(*spots_px.shape[:2], 3))
        chosen = keys.nearest(now, several + 1)
        chosen = np.where(own[chosen] == np.arange(len(frames))[:, None], -1, chosen)
        found = _matches(pictures, keys, chosen, rotation, translation, camera)
        seen = Sightings.of(own, spots_px, chosen, found, 1 / scale)
        rotation, translation, points, error = solve_structure(
            rotation, translation, points, seen, camera, knees_px, prior
        )
        deviation = point_deviations(error, seen, len(points), 1 / scale).reshape(spots_px.shape[:2])
    moved = spread_correction(solution, state, frames, rotation, translation)
    now = pose_distance_state(moved.rotation, moved.translation_cm)
    keys = Keyframes(keys.pictures, now[key_frames], spots_px, points.reshape(*spots_px.shape[:2], 3))
    return keys, deviation, moved


def _matches(
    pictures: list[FacePicture], keys: Keyframes, chosen: np.ndarray, rotation: np.ndarray, translation: np.ndarray,
    camera: Camera,
) -> np.ndarray:  # fmt: skip
    """Where the chosen keyframes' spots lie in the pictures, float [S, N, R, 2]."""
    found = np.full((*chosen.shape, keys.spots_px.shape[1], 2), np.nan)

    def match(index: int) -> None:
        for slot, key in enumerate(chosen[index]):
            if key >= 0:
                expected = camera.project(keys.spots_cm[key] @ rotation[index].T + translation[index])
                found[index, slot] = match_spots(keys.pictures[key], keys.spots_px[key], pictures[index], expected)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(match, range(len(pictures))))
    return found


def _on_shape(
    spots_px: np.ndarray, shape_cm: np.ndarray, rotation: np.ndarray, translation: np.ndarray, camera: Camera
) -> np.ndarray:
    """Head-frame points [C, R, 3] on the pixels' rays, as deep as the shape's."""
    depth = np.einsum("cj,nj->cn", rotation[:, 2], shape_cm) + translation[:, None, 2]
    plane = (spots_px - [camera.center_x_px, camera.center_y_px]) / camera.focal_px
    points = np.concatenate([plane, np.ones_like(plane[..., :1])], axis=2) * depth[..., None]
    return np.einsum("cji,cnj->cni", rotation, points - translation[:, None])
