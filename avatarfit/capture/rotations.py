"""Batched rotation algebra for the pose solver; rotation vectors in radians, matrices [..., 3, 3]."""

from __future__ import annotations

import numpy as np


def skew(v: np.ndarray) -> np.ndarray:
    """[..., 3, 3] with `skew(a) @ b == cross(a, b)`, of vectors [..., 3]."""
    out = np.zeros((*v.shape[:-1], 3, 3), v.dtype)
    out[..., 0, 1], out[..., 0, 2], out[..., 1, 2] = -v[..., 2], v[..., 1], -v[..., 0]
    out[..., 1, 0], out[..., 2, 0], out[..., 2, 1] = v[..., 2], -v[..., 1], v[..., 0]
    return out


def matrix_of(rotvec: np.ndarray) -> np.ndarray:
    """Rotation matrices [T, 3, 3] of rotation vectors [T, 3]."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_rotvec(rotvec).as_matrix()


def rotvec_of(matrix: np.ndarray) -> np.ndarray:
    """Rotation vectors [T, 3] of matrices [T, 3, 3]."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_matrix(matrix).as_rotvec()


def left_jacobian(rotvec: np.ndarray) -> np.ndarray:
    """[T, 3, 3] J with `exp(r + dr) = exp(J dr) exp(r)` to first order (Barfoot 2017, eq. 7.77)."""
    angle = np.linalg.norm(rotvec, axis=-1)[..., None, None]
    small = angle < 1e-5
    safe = np.where(small, 1.0, angle)
    k = skew(rotvec)
    a = np.where(small, 0.5, (1 - np.cos(safe)) / safe**2)
    b = np.where(small, 1 / 6, (safe - np.sin(safe)) / safe**3)
    return np.eye(3) + a * k + b * (k @ k)


def continuous_wxyz(matrix: np.ndarray) -> np.ndarray:
    """Unit quaternions wxyz [T, 4] of matrices [T, 3, 3], signs chosen so that neighbours in time are close."""
    from scipy.spatial.transform import Rotation

    q = Rotation.from_matrix(matrix).as_quat()[:, [3, 0, 1, 2]]
    if q[0, 0] < 0:
        q[0] = -q[0]
    flips = np.sign((q[1:] * q[:-1]).sum(axis=1))
    q[1:] *= np.cumprod(np.where(flips < 0, -1.0, 1.0))[:, None]
    return q


def similarity_to(points: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Least-squares similarities (Umeyama 1991) that take each of T point sets onto one target.

    Args:
        points: [T, N, 3].
        target: [N, 3].

    Returns:
        scale [T], rotation [T, 3, 3], shift [T, 3] with `target ~ scale * rotation @ point + shift`.
    """
    mean, target_mean = points.mean(axis=1), target.mean(axis=0)
    centred, wanted = points - mean[:, None], target - target_mean
    u, s, vt = np.linalg.svd(wanted.T @ centred)
    sign = np.ones_like(s)
    sign[:, 2] = np.sign(np.linalg.det(u @ vt))
    rotation = np.einsum("tij,tj,tjk->tik", u, sign, vt)
    scale = (s * sign).sum(axis=1) / np.maximum((centred**2).sum(axis=(1, 2)), 1e-12)
    shift = target_mean - scale[:, None] * np.einsum("tij,tj->ti", rotation, mean)
    return scale, rotation, shift
