"""Landmarks without the head's motion: each is placed in the head frame so that it projects exactly onto its pixel.

A pixel fixes two of a landmark's three coordinates. The third, depth in the head frame, starts from the network's own
z, brought onto the rigid shape by a similarity per frame; that is noisy, so it is replaced by a linear function of the
expression (the principal components of the two well-measured coordinates), fitted over the clip.
"""

from __future__ import annotations

import numpy as np

from avatarfit.capture.face_points import CHIN, FOREHEAD_TOP, OUTER_EYE_CORNERS, RIGID
from avatarfit.capture.pose_solver import RigidSolution, mean_rigid_shape
from avatarfit.capture.rotations import similarity_to
from avatarfit.contracts.geometry import Camera

OUTER_EYE_DISTANCE_CM = 8.9
"""Sets the scale, which a picture cannot give."""

_CHUNK = 1024
_COMPONENTS = 24
_RIDGE = 0.02


def prior_shape_cm(landmarks_px: np.ndarray) -> np.ndarray:
    """Rigid shape [R, 3] in the head frame, from the network's own 3-D landmarks [T, 478, 3] alone."""
    wanted = np.concatenate([RIGID, [FOREHEAD_TOP, CHIN, *OUTER_EYE_CORNERS]])
    # A few hundred frames give the same mean as all of them.
    mean = mean_rigid_shape(landmarks_px[:: max(1, len(landmarks_px) // 400), wanted])
    turn, shift, scale = _head_axes(mean[-2], mean[-1], mean[-4], mean[-3])
    return (scale * (mean - shift) @ turn.T)[: len(RIGID)]


def _head_axes(
    right_eye: np.ndarray, left_eye: np.ndarray, forehead: np.ndarray, chin: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Rotation [3, 3], origin [3] and scale with `head = scale * rotation @ (point - origin)`.

    x runs from the outer eye corner at the picture's left to the other; y is square to it, as near as can be to the
    line from the top of the forehead to the chin, which is upright in a head that faces the camera.
    """
    x = (left_eye - right_eye) / np.linalg.norm(left_eye - right_eye)
    down = chin - forehead
    y = down - x * (down @ x)
    y /= np.linalg.norm(y)
    scale = OUTER_EYE_DISTANCE_CM / float(np.linalg.norm(left_eye - right_eye))
    return np.stack([x, y, np.cross(x, y)]), (left_eye + right_eye) / 2, scale


def place_landmarks(
    landmarks_px: np.ndarray, solution: RigidSolution, camera: Camera, fit_count: int
) -> tuple[np.ndarray, RigidSolution]:
    """Pose-normalised landmarks, and the solution moved to the final head frame.

    Args:
        landmarks_px: float32 [T, 478, 3].
        solution: poses of these frames.
        camera: the camera of the solve.
        fit_count: the depth model is fitted on the first `fit_count` frames only.

    Returns:
        landmarks_cm float32 [T, 478, 3], whose projection by the returned poses is `landmarks_px[..., :2]`; and the
        solution in the head frame that the clip's mean landmarks define.
    """
    count = len(landmarks_px)
    depth = np.empty((count, landmarks_px.shape[1]), np.float32)
    for first in range(0, count, _CHUNK):
        part = slice(first, first + _CHUNK)
        points = landmarks_px[part].astype(np.float64)
        scale, rotation, shift = similarity_to(points[:, RIGID], solution.shape_cm)
        depth[part] = scale[:, None] * np.einsum("tj,tnj->tn", rotation[:, 2], points) + shift[:, None, 2]
    plane = _on_rays(landmarks_px, depth, solution, camera)[..., :2]
    depth = _expression_depth(plane, depth, fit_count)
    landmarks_cm = _on_rays(landmarks_px, depth, solution, camera)

    mean = landmarks_cm[:fit_count].mean(axis=0, dtype=np.float64)
    turn, origin, scale_one = _head_axes(*mean[[*OUTER_EYE_CORNERS, FOREHEAD_TOP, CHIN]])
    for first in range(0, count, _CHUNK):  # in place: a clip's landmarks are the largest thing held
        part = slice(first, first + _CHUNK)
        landmarks_cm[part] = scale_one * (landmarks_cm[part] - origin) @ turn.T
    moved = RigidSolution(
        scale_one * (solution.shape_cm - origin) @ turn.T,
        solution.rotation @ turn.T,
        scale_one * (solution.translation_cm + solution.rotation @ origin),
        solution.residual_px,
    )
    return landmarks_cm, moved


def _on_rays(landmarks_px: np.ndarray, depth: np.ndarray, solution: RigidSolution, camera: Camera) -> np.ndarray:
    """float32 [T, N, 3] head-frame points with the given z that lie on the pixels' rays."""
    out = np.empty(landmarks_px.shape, np.float32)
    center = np.array([camera.center_x_px, camera.center_y_px])
    for first in range(0, len(out), _CHUNK):
        part = slice(first, first + _CHUNK)
        rotation, translation = solution.rotation[part], solution.translation_cm[part]
        plane = (landmarks_px[part, :, :2] - center) / camera.focal_px
        ray = np.concatenate([plane, np.ones_like(plane[..., :1])], axis=2)
        turned = np.einsum("tji,tnj->tni", rotation, ray)
        origin = np.einsum("tji,tj->ti", rotation, translation)
        # (distance * turned - origin).z = depth; a head in profile looks along its own plane, so keep away from 0 / 0.
        along = np.where(np.abs(turned[..., 2]) < 0.2, 0.2, turned[..., 2])
        distance = (depth[part] + origin[:, None, 2]) / along
        out[part] = distance[..., None] * turned - origin[:, None]
    return out


def _expression_depth(plane: np.ndarray, depth: np.ndarray, fit_count: int) -> np.ndarray:
    """Depth [T, N] as its mean plus a ridge regression on the principal components of `plane` [T, N, 2]."""
    import scipy.linalg

    centred = np.array(plane).reshape(len(plane), -1)
    depth_mean = np.median(depth[:fit_count], axis=0)
    centred -= centred[:fit_count].mean(axis=0)
    covariance = centred[:fit_count].T @ centred[:fit_count] / fit_count
    kept = min(_COMPONENTS, fit_count - 1)
    if fit_count < 3:
        return np.repeat(depth_mean[None], len(depth), axis=0)
    # Only the largest: all of them take twice as long.
    span = [len(covariance) - kept, len(covariance) - 1]
    variance, vectors = scipy.linalg.eigh(covariance.astype(np.float64), subset_by_index=span)
    if variance[-1] <= 0:
        return np.repeat(depth_mean[None], len(depth), axis=0)
    score = centred @ vectors / np.sqrt(np.maximum(variance, 0) + 1e-12)
    fitted = score[:fit_count]
    gram = fitted.T @ fitted / fit_count + _RIDGE * np.eye(kept)
    slope = np.linalg.solve(gram, fitted.T @ (depth[:fit_count] - depth_mean) / fit_count)
    # Beyond the fitted range a linear model runs away; three deviations is as far as it is trusted.
    return (np.clip(score, -3, 3) @ slope + depth_mean).astype(np.float32)
