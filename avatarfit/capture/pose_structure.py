"""Poses of some pictures and the places in space of the skin they show, solved together from matches alone.

Structure from motion over keyframes: every spot of every keyframe is a point in the head frame; every match says where
a picture sees it. All poses and points are unknown at once, which lets the clip's own parallax say how deep the face
is; alternating between them would creep along that direction. Levenberg-Marquardt with the points eliminated (Schur
complement), robust by Geman and McClure 1987. Triggs et al. 2000, "Bundle adjustment: a modern synthesis", sections
6.1 and 6.3. A prior on every point keeps the frame of reference, and the depth where the head hardly turns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avatarfit.capture.rotations import matrix_of, rotvec_of, skew
from avatarfit.contracts.geometry import Camera

MATCH_DEVIATION = 0.25
"""Noise of one match, in pixels of a face with its outer eye corners 134 px apart."""

_OWN_DEVIATION = 0.1
_POINT_DEVIATION_CM = 0.6
_POSE_DEVIATION = np.array([0.08] * 3 + [1.0, 1.0, 3.0])
_KNEES = (4.0, 3.0, 2.0, 1.5, 1.0, 0.8, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7)
_FEW_SEEN = 3


@dataclass(frozen=True)
class Sightings:
    """M sightings of points.

    Attributes:
        picture: int [M], which picture sees.
        point: int [M], which point; no picture sees a point twice.
        place_px: float [M, 2], where.
        deviation_px: float [M], how surely.
    """

    picture: np.ndarray
    point: np.ndarray
    place_px: np.ndarray
    deviation_px: np.ndarray

    @staticmethod
    def of(
        own: np.ndarray, spots_px: np.ndarray, chosen: np.ndarray, found_px: np.ndarray, unit_px: float
    ) -> Sightings:
        """All sightings of S pictures.

        Args:
            own: int [C], the pictures that are the keyframes.
            spots_px: float [C, R, 2], the spots in their own keyframes.
            chosen: int [S, N], keyframes that each picture was matched with; -1 for none.
            found_px: float [S, N, R, 2], `register_faces`.
            unit_px: picture pixels to a pixel of the match.
        """
        count = spots_px.shape[1]
        known = np.isfinite(found_px[..., 0]) & (chosen >= 0)[..., None]
        picture, slot, spot = np.nonzero(known)
        point = chosen[picture, slot] * count + spot
        return Sightings(
            np.concatenate([picture, np.repeat(own, count)]),
            np.concatenate([point, np.arange(len(own) * count)]),
            np.concatenate([found_px[known], spots_px.reshape(-1, 2)]).astype(np.float64),
            np.repeat([MATCH_DEVIATION * unit_px, _OWN_DEVIATION * unit_px], [len(picture), len(own) * count]),
        )


def solve_structure(
    rotation: np.ndarray, translation_cm: np.ndarray, points_cm: np.ndarray, seen: Sightings, camera: Camera
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Poses and points that explain the sightings.

    Args:
        rotation, translation_cm: float [S, 3, 3] and [S, 3], the poses so far; held to weakly.
        points_cm: float [P, 3], head frame, the points so far; held to within 6 mm.
        seen: the sightings.
        camera: held fixed.

    Returns:
        rotation, translation_cm, points_cm, and the error of every sighting, [M, 2] pixels.
    """
    pose_count, point_count = len(rotation), len(points_cm)
    start_rotation, start_translation, prior = rotation, translation_cm, points_cm
    rotation, translation, points = rotation.copy(), translation_cm.copy(), points_cm.copy()
    by_picture, by_point = _Sums(seen.picture, pose_count), _Sums(seen.point, point_count)
    point_precision, pose_precision = 1 / _POINT_DEVIATION_CM**2, 1 / _POSE_DEVIATION**2

    def drift(r: np.ndarray, t: np.ndarray) -> np.ndarray:
        return np.concatenate([rotvec_of(r @ start_rotation.transpose(0, 2, 1)), t - start_translation], axis=1)

    def cost(r: np.ndarray, t: np.ndarray, x: np.ndarray, knee: float) -> float:
        error = _project(r, t, x, seen, camera)[0] - seen.place_px
        square = (error**2).sum(axis=1) / seen.deviation_px**2
        data = knee**2 * square / (square + knee**2)
        return float(
            data.sum() + point_precision * ((x - prior) ** 2).sum() + (pose_precision * drift(r, t) ** 2).sum()
        )

    damping = 1e-4
    for knee_px in _KNEES:
        knee = knee_px / MATCH_DEVIATION
        pixels, turned, by_place = _project(rotation, translation, points, seen, camera)
        error = pixels - seen.place_px
        square = (error**2).sum(axis=1) / seen.deviation_px**2
        weight = 1 / (1 + square / knee**2) ** 2 / seen.deviation_px**2
        pose_rows = np.concatenate([-by_place @ skew(turned), by_place], axis=2)
        point_rows = by_place @ rotation[seen.picture]
        weighted_pose, weighted_point = pose_rows * weight[:, None, None], point_rows * weight[:, None, None]
        poses = by_picture(weighted_pose.transpose(0, 2, 1) @ pose_rows)
        away = drift(rotation, translation)
        pose_right = -by_picture(np.einsum("mri,mr->mi", weighted_pose, error)) - pose_precision * away
        poses[:, range(6), range(6)] += pose_precision
        blocks = by_point(weighted_point.transpose(0, 2, 1) @ point_rows)
        blocks[:, range(3), range(3)] += point_precision
        point_right = -by_point(np.einsum("mri,mr->mi", weighted_point, error)) - point_precision * (points - prior)
        mixed = np.zeros((pose_count, 6, point_count, 3))
        mixed[seen.picture, :, seen.point] = weighted_pose.transpose(0, 2, 1) @ point_rows
        flat = mixed.reshape(pose_count * 6, -1)
        before = cost(rotation, translation, points, knee)
        for _ in range(6):
            inverse = np.linalg.inv(blocks * (1 + damping * np.eye(3)))
            # [6S, 3P] times a block-diagonal [3P, 3P], written out: einsum takes twice as long.
            rows = mixed.reshape(-1, point_count, 3)
            eliminated = sum(rows[..., k : k + 1] * inverse[:, k] for k in range(3)).reshape(flat.shape)
            normal = -eliminated @ flat.T
            for k in range(pose_count):
                normal[6 * k : 6 * k + 6, 6 * k : 6 * k + 6] += poses[k] * (1 + damping * np.eye(6))
            step = np.linalg.solve(normal, pose_right.ravel() - eliminated @ point_right.ravel())
            moved = (inverse @ (point_right - (flat.T @ step).reshape(-1, 3))[..., None])[..., 0]
            step = step.reshape(-1, 6)
            tried = matrix_of(step[:, :3]) @ rotation, translation + step[:, 3:], points + moved
            if cost(*tried, knee) <= before:
                rotation, translation, points = tried
                damping = max(damping / 5, 1e-9)
                break
            damping *= 10
    return rotation, translation, points, _project(rotation, translation, points, seen, camera)[0] - seen.place_px


def point_deviations(error_px: np.ndarray, seen: Sightings, point_count: int, unit_px: float) -> np.ndarray:
    """How surely each point is found, [P] pixels: the robust spread of its sightings' errors, never below the usual.

    Args:
        error_px: float [M, 2], from `solve_structure`.
        seen: the sightings.
        point_count: P; points hardly seen get twice the usual.
        unit_px: picture pixels to a pixel of the match.
    """
    length = np.linalg.norm(error_px, axis=1)
    other = seen.deviation_px > 1.01 * seen.deviation_px.min()
    order = np.lexsort((length[other], seen.point[other]))
    point, length = seen.point[other][order], length[other][order]
    first, count = np.searchsorted(point, np.arange(point_count)), np.bincount(point, minlength=point_count)
    out = np.full(point_count, 2 * MATCH_DEVIATION * unit_px)
    enough = count >= _FEW_SEEN
    out[enough] = np.maximum(length[(first + count // 2)[enough]], MATCH_DEVIATION * unit_px)
    return out


def _project(
    rotation: np.ndarray, translation: np.ndarray, points: np.ndarray, seen: Sightings, camera: Camera
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels [M, 2], points turned but not moved [M, 3], and the pixels' derivative [M, 2, 3] by the camera point."""
    turned = np.einsum("mij,mj->mi", rotation[seen.picture], points[seen.point])
    point = turned + translation[seen.picture]
    inverse = 1 / point[:, 2]
    by_place = np.zeros((len(point), 2, 3))
    by_place[:, 0, 0] = by_place[:, 1, 1] = camera.focal_px * inverse
    by_place[:, :, 2] = -camera.focal_px * point[:, :2] * inverse[:, None] ** 2
    return camera.project(point), turned, by_place


class _Sums:
    """Sums of rows that belong together, many times over the same belonging."""

    def __init__(self, group: np.ndarray, count: int) -> None:
        from scipy.sparse import csr_matrix

        ones = np.ones(len(group))
        self._gather = csr_matrix((ones, (group, np.arange(len(group)))), shape=(count, len(group)))

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(self._gather @ rows.reshape(len(rows), -1)).reshape(-1, *rows.shape[1:])
