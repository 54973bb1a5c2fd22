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

from avatarfit.capture.rotations import matrix_of, rotvec_of
from avatarfit.contracts.geometry import Camera

MATCH_DEVIATION = 0.25
"""Noise of one match, in pixels of a face with its outer eye corners 134 px apart."""

_OWN_DEVIATION = 0.1
_POINT_DEVIATION_CM = 0.5
_POSE_DEVIATION = np.array([0.08] * 3 + [1.0, 1.0, 3.0])
KNEES_PX = ((4.0, 3.0, 2.0, 1.5, 1.0, 0.8), (2.0, 1.5, 1.0, 0.8, 0.7, 0.7, 0.7, 0.7))
"""Beyond which error a sighting counts for little, step by step: from poses that landmarks gave; from better ones."""

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
    rotation: np.ndarray, translation_cm: np.ndarray, points_cm: np.ndarray, seen: Sightings, camera: Camera,
    knees_px: tuple[float, ...] = KNEES_PX[0] + KNEES_PX[1], prior_cm: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Poses and points that explain the sightings.

    Args:
        rotation, translation_cm: float [S, 3, 3] and [S, 3], the poses so far; held to weakly.
        points_cm: float [P, 3], head frame, the points so far.
        seen: the sightings.
        camera: held fixed.
        knees_px: one Levenberg-Marquardt step for each.
        prior_cm: float [P, 3], what the points are held to, within 5 mm; where they start when it is not given.

    Returns:
        rotation, translation_cm, points_cm, and the error of every sighting, [M, 2] pixels.
    """
    pose_count, point_count = len(rotation), len(points_cm)
    start_rotation, start_translation = rotation, translation_cm
    prior = points_cm if prior_cm is None else prior_cm
    rotation, translation, points = rotation.copy(), translation_cm.copy(), points_cm.copy()
    by_picture = [np.flatnonzero(seen.picture == k) for k in range(pose_count)]
    point_precision, pose_precision = 1 / _POINT_DEVIATION_CM**2, 1 / _POSE_DEVIATION**2

    def drift(r: np.ndarray, t: np.ndarray) -> np.ndarray:
        return np.concatenate([rotvec_of(r @ start_rotation.transpose(0, 2, 1)), t - start_translation], axis=1)

    def cost(r: np.ndarray, t: np.ndarray, x: np.ndarray, knee: float) -> float:
        square = (_error(r, t, x, seen, camera) ** 2).sum(axis=1) / seen.deviation_px**2
        data = knee**2 * square / (square + knee**2)
        return float(
            data.sum() + point_precision * ((x - prior) ** 2).sum() + (pose_precision * drift(r, t) ** 2).sum()
        )

    damping = 1e-4
    for knee_px in knees_px:
        knee = knee_px / MATCH_DEVIATION
        error = _error(rotation, translation, points, seen, camera)
        square = (error**2).sum(axis=1) / seen.deviation_px**2
        weight = 1 / (1 + square / knee**2) ** 2 / seen.deviation_px**2
        pose_square, pose_pull = np.zeros((pose_count, 6, 6)), np.zeros((pose_count, 6))
        point_square, point_pull = np.zeros((point_count, 3, 3)), np.zeros((point_count, 3))
        mixed = np.zeros((point_count, 3, pose_count, 6))
        for k, rows in enumerate(by_picture):
            which = seen.point[rows]
            by_pose, by_place = _derivatives(rotation[k], translation[k], points[which], camera)
            # Noise and knee as factors of both sides.
            root = np.sqrt(weight[rows])[:, None]
            by_pose, by_place, miss = by_pose * root, by_place * root, (error[rows] * root).T[..., None]
            flat_pose = by_pose.reshape(-1, 6)
            pose_square[k], pose_pull[k] = flat_pose.T @ flat_pose, -(flat_pose.T @ miss.ravel())
            point_square[which] += (by_place[..., None] * by_place[:, :, None]).sum(axis=0)
            point_pull[which] -= (by_place * miss).sum(axis=0)
            mixed[which, :, k] = (by_place[..., None] * by_pose[:, :, None]).sum(axis=0)
        mixed = mixed.reshape(point_count, 3, -1)
        pose_pull -= pose_precision * drift(rotation, translation)
        pose_square[:, range(6), range(6)] += pose_precision
        point_square[:, range(3), range(3)] += point_precision
        point_pull -= point_precision * (points - prior)
        before = cost(rotation, translation, points, knee)
        for _ in range(6):
            # With root @ root.T the points' inverse, what is eliminated is a product of a matrix with itself.
            root = np.linalg.cholesky(np.linalg.inv(point_square * (1 + damping * np.eye(3))))
            halves = (root.transpose(0, 2, 1) @ mixed).reshape(point_count * 3, -1)
            pull = (root.transpose(0, 2, 1) @ point_pull[..., None]).reshape(-1)
            normal = -(halves.T @ halves)
            for k in range(pose_count):
                normal[6 * k : 6 * k + 6, 6 * k : 6 * k + 6] += pose_square[k] * (1 + damping * np.eye(6))
            step = np.linalg.solve(normal, pose_pull.ravel() - halves.T @ pull)
            moved = (root @ (pull - halves @ step).reshape(-1, 3, 1))[..., 0]
            step = step.reshape(-1, 6)
            tried = matrix_of(step[:, :3]) @ rotation, translation + step[:, 3:], points + moved
            if cost(*tried, knee) <= before:
                rotation, translation, points = tried
                damping = max(damping / 5, 1e-9)
                break
            damping *= 10
    return rotation, translation, points, _error(rotation, translation, points, seen, camera)


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


def _error(
    rotation: np.ndarray, translation: np.ndarray, points: np.ndarray, seen: Sightings, camera: Camera
) -> np.ndarray:
    """Where the points project minus where they are seen, [M, 2] pixels."""
    turned = np.einsum("mij,mj->mi", rotation[seen.picture], points[seen.point])
    return camera.project(turned + translation[seen.picture]) - seen.place_px


def _derivatives(
    rotation: np.ndarray, translation: np.ndarray, points: np.ndarray, camera: Camera
) -> tuple[np.ndarray, np.ndarray]:
    """Derivatives of N points' pixels in one picture by its turn and shift, [2, N, 6], and by the point, [2, N, 3]."""
    turned = points @ rotation.T
    place = turned + translation
    inverse = camera.focal_px / place[:, 2]
    by_pose = np.zeros((2, len(place), 6))
    by_pose[0, :, 3] = by_pose[1, :, 4] = inverse
    by_pose[..., 5] = -inverse * place[:, :2].T / place[:, 2]
    (x, y, z), (a, b) = turned.T, by_pose[..., 5]
    # The derivative by the shift becomes (turned x it) by a turn.
    by_pose[0, :, 0], by_pose[0, :, 1], by_pose[0, :, 2] = y * a, z * inverse - x * a, -y * inverse
    by_pose[1, :, 0], by_pose[1, :, 1], by_pose[1, :, 2] = y * b - z * inverse, -x * b, x * inverse
    return by_pose, by_pose[..., 3:] @ rotation
