"""Poses that follow the pictures: every picture's pose, found from the keyframes' skin it shows.

Same unknowns and solver as `pose_solver`, but the points are those that `pose_structure` placed, and stay. Flow joins
neighbours, the acceleration prior steadies what is seen badly, and the landmarks only keep a picture without matches
from floating.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from avatarfit.capture.face_points import OUTER_EYE_CORNERS
from avatarfit.capture.face_registration import Keyframes
from avatarfit.capture.pose_solver import (
    Flow,
    PoseSettings,
    RigidSolution,
    acceleration_step,
    best_shape,
    data_terms,
    fix_gauge,
    flat,
    hard,
    project_with_jacobian,
    recentre,
)
from avatarfit.capture.rotations import matrix_of, rotvec_of
from avatarfit.contracts.geometry import Camera

_LANDMARK_BIAS_PX = 1.5
_MATCH_SHARE = 0.5
_FLOW_SHARE = 0.2
_MATCH_KNEES_PX = (4.0, 2.0, 1.0, 1.0, 1.0)
_SHAPE_DEVIATION_CM = 0.1
_NEIGHBOURS = 4
_ERROR_REACH = 0.15
_ERROR_NOISE = 0.5
_CHUNK = 128


def spread_correction(
    solution: RigidSolution, state: np.ndarray, frames: np.ndarray, rotation: np.ndarray, translation_cm: np.ndarray
) -> RigidSolution:
    """All poses, corrected as the pictures of the likest poses were: the landmark network errs alike where poses are.

    Args:
        solution: K poses.
        state: [K, 6], their `pose_distance_state`.
        frames: int [S], pictures whose poses are known better.
        rotation, translation_cm: [S, 3, 3], [S, 3], those.

    Returns:
        The solution with its poses moved.
    """
    turn = rotvec_of(rotation @ solution.rotation[frames].transpose(0, 2, 1))
    shift = translation_cm - solution.translation_cm[frames]
    distance = np.linalg.norm(state[:, None] - state[frames], axis=2)
    nearest = np.argsort(distance, axis=1, kind="stable")[:, :_NEIGHBOURS]
    weight = 1 / (np.take_along_axis(distance, nearest, axis=1) + 0.05) ** 2
    weight /= weight.sum(axis=1, keepdims=True)
    turn, shift = (np.einsum("kn,knc->kc", weight, v[nearest]) for v in (turn, shift))
    return replace(
        solution, rotation=matrix_of(turn) @ solution.rotation, translation_cm=solution.translation_cm + shift
    )  # fmt: skip


def refine_poses(
    solution: RigidSolution,
    keys: Keyframes,
    spot_deviation_px: np.ndarray,
    chosen: np.ndarray,
    found_px: np.ndarray,
    landmarks_px: np.ndarray,
    flow_px: np.ndarray,
    linked: np.ndarray,
    camera: Camera,
    settings: PoseSettings | None = None,
) -> RigidSolution:
    """Poses and rigid shape of a clip whose keyframes' skin is known in space.

    Args:
        solution: poses to start from, and the shape so far.
        keys: the keyframes.
        spot_deviation_px: float [C, R], how surely each spot is found.
        chosen: int [K, N], which keyframes each picture was matched with; -1 for none.
        found_px: float [K, N, R, 2], `register_faces`.
        landmarks_px: float [K, R, 3], rigid landmarks.
        flow_px, linked: as for `solve_poses`.
        camera, settings: as for `solve_poses`.
    """
    s = settings or PoseSettings()
    px = max(camera.width_px, camera.height_px) / 512
    observed = landmarks_px[..., :2].astype(np.float64)
    linked = linked.copy()
    linked[-1:] = False
    flow = Flow(flow_px, linked, s.flow_deviation_px * px, _FLOW_SHARE)
    # A landmark of the keyframes is the spot of the same number in each: its place in space is theirs in the middle.
    shape, translation = np.median(keys.spots_cm, axis=0), solution.translation_cm.copy()
    base, rotvec = recentre(solution.rotation)
    deviation = np.full(len(shape), s.landmark_deviation_px * px)
    share = 1 / ((_LANDMARK_BIAS_PX * px) ** 2 * float(np.sum(1 / deviation**2)))
    unit = float(spot_deviation_px.min())
    for knee in _MATCH_KNEES_PX:
        diagonal, gradient, coupling = data_terms(
            observed, shape, rotvec, translation, base, camera, deviation, share, px, flow
        )
        for slot in range(chosen.shape[1]):
            _add_match_terms(
                diagonal, gradient, keys.spots_cm, spot_deviation_px, chosen[:, slot], found_px[:, slot], rotvec,
                translation, base, camera, knee * 4 * unit,
            )  # fmt: skip
        step = acceleration_step(diagonal, gradient, coupling, rotvec, translation, linked, s)
        rotvec, translation = rotvec + step[:, :3], translation + step[:, 3:]
    rotation = matrix_of(rotvec) @ base
    placed = replace(s, shape_deviation_cm=_SHAPE_DEVIATION_CM)
    prior = shape
    for _ in range(3):
        shape, _ = best_shape(observed, shape, prior, rotation, translation, camera, deviation, placed, px)
    shape, rotation, translation = fix_gauge(shape, solution.shape_cm, rotation, translation)
    projected = camera.project(shape @ rotation.transpose(0, 2, 1) + translation[:, None])
    return RigidSolution(
        shape, rotation, translation, np.median(np.linalg.norm(projected - observed, axis=2), axis=1)
    )  # fmt: skip


def _add_match_terms(
    diagonal: np.ndarray, gradient: np.ndarray, spots_cm: np.ndarray, deviation_px: np.ndarray, key: np.ndarray,
    found_px: np.ndarray, rotvec: np.ndarray, translation: np.ndarray, base: np.ndarray, camera: Camera,
    knee_px: float,
) -> None:  # fmt: skip
    for which in np.unique(key[key >= 0]):
        pictures = np.flatnonzero((key == which) & np.isfinite(found_px[..., 0]).any(axis=1))
        for first in range(0, len(pictures), _CHUNK):
            part = pictures[first : first + _CHUNK]
            projected, rows = project_with_jacobian(spots_cm[which], rotvec[part], translation[part], base, camera)
            known = np.isfinite(found_px[part, :, 0])
            error = np.where(known[..., None], projected - np.nan_to_num(found_px[part]), 0)
            weight = _MATCH_SHARE * known * hard(error, knee_px) / deviation_px[which] ** 2
            diagonal[part] += (rows * np.tile(weight, 2)[:, None]) @ rows.transpose(0, 2, 1)
            gradient[part] += (rows @ flat(weight[..., None] * error))[..., 0]


def without_pose_error(landmarks_px: np.ndarray, rigid: np.ndarray, projected_px: np.ndarray) -> np.ndarray:
    """Landmarks freed of what the network gets wrong about the pose, near where the pose says what is right.

    The network's errors depend on the pose and are alike for neighbours on the face, but not for the whole face: one
    shift or turn of all landmarks would spoil the lips to mend the temples (measured). So the rigid landmarks' errors
    are spread to their neighbourhood only, by Gaussian-process regression over the mean layout (Rasmussen and Williams
    2006, eq. 2.25): a landmark far from every rigid one stays as it is.

    Args:
        landmarks_px: float32 [K, 478, 3].
        rigid: int [R], the rigid ones.
        projected_px: float [K, R, 2], where the pose has them.

    Returns:
        float32 [K, 478, 3]; z unchanged.
    """
    layout = landmarks_px[..., :2].mean(axis=0, dtype=np.float64)
    left, right = OUTER_EYE_CORNERS
    reach = _ERROR_REACH * float(np.linalg.norm(layout[left] - layout[right]))
    square = ((layout[:, None] - layout[rigid]) ** 2).sum(axis=2)
    alike = np.exp(-square / (2 * reach**2))
    spread = np.linalg.solve(alike[rigid] + _ERROR_NOISE * np.eye(len(rigid)), alike.T).T
    out = landmarks_px.copy()
    for first in range(0, len(out), _CHUNK):
        part = slice(first, first + _CHUNK)
        error = projected_px[part] - landmarks_px[part][:, rigid, :2]
        out[part, :, :2] += np.einsum("nr,trc->tnc", spread, error, optimize=True)
    return out
