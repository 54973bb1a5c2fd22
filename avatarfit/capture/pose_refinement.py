"""Poses that follow the pictures: the bundle adjustment's poses, corrected by matches with a reference picture.

Same unknowns and solver as `pose_solver`, shape held. Every match says where a spot of the rigid face, seen in a
keyframe, is in another picture; the keyframe's own pose is taken as it stands and brought up to date from sweep to
sweep. The landmarks only keep the whole from floating.
"""

from __future__ import annotations

import numpy as np

from avatarfit.capture.face_registration import Registration
from avatarfit.capture.pose_solver import (
    PoseSettings,
    RigidSolution,
    acceleration_step,
    add_flow_terms,
    best_shape,
    fix_gauge,
    hard,
    landmark_terms,
    project_with_jacobian,
    recentre,
)
from avatarfit.capture.rotations import matrix_of
from avatarfit.contracts.geometry import Camera

_LANDMARK_BIAS_PX = 1.5
_MATCH_DEVIATION_PX = 0.3
_MATCH_SHARE = 0.5
_FLOW_SHARE = 0.2
_MATCH_KNEES_PX = (4.0, 3.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0)
_CHUNK = 1024


def refine_poses(
    solution: RigidSolution,
    registration: Registration,
    landmarks_px: np.ndarray,
    flow_px: np.ndarray,
    flow_start_px: np.ndarray,
    linked: np.ndarray,
    camera: Camera,
    settings: PoseSettings | None = None,
) -> RigidSolution:
    """The solution with its poses corrected.

    Args:
        solution: what `solve_poses` found.
        registration: matches of the same K pictures.
        landmarks_px: float [K, R, 3], rigid landmarks.
        flow_px, flow_start_px, linked: as for `solve_poses`.
        camera, settings: as for `solve_poses`.
    """
    s = settings or PoseSettings()
    px = max(camera.width_px, camera.height_px) / 512
    observed = landmarks_px[..., :2].astype(np.float64)
    start = flow_start_px.astype(np.float64)
    linked = linked.copy()
    linked[-1:] = False
    shape, translation = solution.shape_cm, solution.translation_cm.copy()
    base, rotvec = recentre(solution.rotation)
    deviation = np.full(len(shape), s.landmark_deviation_px * px)
    share = 1 / ((_LANDMARK_BIAS_PX * px) ** 2 * float(np.sum(1 / deviation**2)))
    for knee in _MATCH_KNEES_PX:
        diagonal, gradient, coupling = landmark_terms(
            observed, shape, rotvec, translation, base, camera, deviation, share, px
        )
        add_flow_terms(
            diagonal, gradient, coupling, start, flow_px, linked, shape, rotvec, translation, base, camera,
            s.flow_deviation_px * px, _FLOW_SHARE,
        )  # fmt: skip
        _add_match_terms(diagonal, gradient, registration, shape, rotvec, translation, base, camera, px, knee * px)
        step = acceleration_step(diagonal, gradient, coupling, rotvec, translation, linked, s)
        rotvec, translation = rotvec + step[:, :3], translation + step[:, 3:]
    rotation = matrix_of(rotvec) @ base
    # An error of the reference's pose is now everybody's; the shape takes it up.
    for _ in range(3):
        moved, _ = best_shape(observed, shape, solution.shape_cm, rotation, translation, camera, deviation, s, px)
        shape = moved
    shape, rotation, translation = fix_gauge(shape, solution.shape_cm, rotation, translation)
    projected = camera.project(np.einsum("tij,nj->tni", rotation, shape) + translation[:, None])
    return RigidSolution(
        shape, rotation, translation, np.median(np.linalg.norm(projected - observed, axis=2), axis=1)
    )  # fmt: skip


def _add_match_terms(
    diagonal: np.ndarray, gradient: np.ndarray, registration: Registration, shape: np.ndarray, rotvec: np.ndarray,
    translation: np.ndarray, base: np.ndarray, camera: Camera, px: float, knee_px: float,
) -> None:  # fmt: skip
    keys = np.unique(registration.keyframe[registration.keyframe >= 0])
    if not len(keys):
        return
    where = np.zeros(len(rotvec), np.int64)
    where[keys] = np.arange(len(keys))
    at_keys, _ = project_with_jacobian(shape, rotvec[keys], translation[keys], base, camera)
    for first in range(0, len(rotvec), _CHUNK):
        part = slice(first, first + _CHUNK)
        projected, by_pose = project_with_jacobian(shape, rotvec[part], translation[part], base, camera)
        rows = by_pose.reshape(len(projected), -1, 6)
        for slot in range(registration.keyframe.shape[1]):
            key, shift = registration.keyframe[part, slot], registration.shift_px[part, slot]
            known = (key >= 0)[:, None] & np.isfinite(shift[..., 0])
            gap = projected - at_keys[where[np.maximum(key, 0)]] - np.nan_to_num(shift)
            error = np.where(known[..., None], gap, 0)
            weight = _MATCH_SHARE * known * hard(error, knee_px) / (_MATCH_DEVIATION_PX * px) ** 2
            scaled = rows * np.repeat(weight, 2, axis=1)[..., None]
            diagonal[part] += scaled.transpose(0, 2, 1) @ rows
            gradient[part] += np.einsum("tri,tr->ti", scaled, error.reshape(len(error), -1))


def without_shared_error(landmarks_px: np.ndarray, rigid: np.ndarray, projected_px: np.ndarray) -> np.ndarray:
    """Landmarks freed from the error that all landmarks of a picture share.

    The network misplaces the whole face by up to a pixel, shifted, turned and scaled. What carries its rigid landmarks
    onto the pose's projection (a 2-D similarity, robust) carries the others to where they belong.

    Args:
        landmarks_px: float32 [K, 478, 3].
        rigid: int [R], the rigid ones.
        projected_px: float [K, R, 2], where the pose has them.

    Returns:
        float32 [K, 478, 3]; z scaled along.
    """
    points = landmarks_px[:, rigid, :2].astype(np.float64)
    z, target = points[..., 0] + 1j * points[..., 1], projected_px[..., 0] + 1j * projected_px[..., 1]
    weight = np.ones(z.shape)
    turn = shift = np.zeros(0)
    for _ in range(4):
        total = weight.sum(axis=1, keepdims=True)
        mean, wanted = (weight * z).sum(1, keepdims=True) / total, (weight * target).sum(1, keepdims=True) / total
        a, b = z - mean, target - wanted
        turn = (weight * b * a.conj()).sum(1, keepdims=True) / (weight * np.abs(a) ** 2).sum(1, keepdims=True)
        shift = wanted - turn * mean
        gap = np.abs(turn * z + shift - target)
        weight = 1 / (1 + (gap / (2 * np.median(gap, axis=1, keepdims=True) + 1e-9)) ** 2)
    out = np.empty_like(landmarks_px)
    moved = turn * (landmarks_px[..., 0] + 1j * landmarks_px[..., 1].astype(np.float64)) + shift
    out[..., 0], out[..., 1] = moved.real, moved.imag
    out[..., 2] = landmarks_px[..., 2] * np.abs(turn)
    return out
