"""One rigid shape for the clip and a head pose for every frame, by bundle adjustment.

Unknowns: N shape points (centimetres, head frame) and per frame a rotation vector and a translation. Minimised:
 * robust reprojection error of the rigid landmarks, each landmark with its own measured noise;
 * error against image motion (optical flow of the pixels under the landmarks) between neighbouring frames: the flow
   sees small motions that the landmark network smears, the landmarks stop the flow from drifting;
 * second differences of the pose over time (an acceleration prior);
 * distance from a prior shape, the Procrustes mean of the network's own 3-D landmarks.
Gauss-Newton, alternating: poses given the shape (block-pentadiagonal normal equations), shape given the poses.
Triggs et al. 2000, "Bundle adjustment: a modern synthesis".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avatarfit.capture.block_solver import solve_block_pentadiagonal
from avatarfit.capture.rotations import left_jacobian, matrix_of, rotvec_of, similarity_to
from avatarfit.contracts.geometry import Camera

_CHUNK = 128
_ROBUST_PX_AT_512 = 1.5


@dataclass(frozen=True)
class PoseSettings:
    """Weights of the pose solve. Pixels are those of a 512-pixel-wide picture and are scaled to the clip's."""

    landmark_deviation_px: float = 0.5
    """Noise of one landmark before it is measured."""
    independent_fraction: float = 0.1
    """Share of the rigid landmarks that count as independent: their noise is shared within a frame."""
    flow_deviation_px: float = 0.15
    """Noise of one followed point."""
    flow_independent_fraction: float = 0.5
    """Share of the followed points that count as independent; measured: even far-apart pictures agree better so."""
    rotation_acceleration: float = 0.01
    """Standard deviation of the second difference of rotation, radians at 25 frames a second."""
    translation_acceleration_cm: float = 0.1
    """Standard deviation of the second difference of x and y translation."""
    depth_acceleration_cm: float = 0.2
    """Standard deviation of the second difference of z translation."""
    shape_deviation_cm: float = 0.3
    """How far a shape point may lie from the prior."""
    rounds: int = 8
    """Alternations of poses and shape."""


@dataclass(frozen=True)
class RigidSolution:
    """Attributes:
    shape_cm: float64 [N, 3], head frame.
    rotation: float64 [T, 3, 3]; translation_cm: float64 [T, 3]: `x_camera = rotation @ x_head + translation`.
    residual_px: float64 [T], median reprojection error of each frame.
    """

    shape_cm: np.ndarray
    rotation: np.ndarray
    translation_cm: np.ndarray
    residual_px: np.ndarray

    def project(self, camera: Camera) -> np.ndarray:
        """Pixels [T, N, 2] of the shape under every pose."""
        return camera.project(self.shape_cm @ self.rotation.transpose(0, 2, 1) + self.translation_cm[:, None])


def mean_rigid_shape(points: np.ndarray, iterations: int = 5) -> np.ndarray:
    """Generalised Procrustes mean [N, 3] of point sets [T, N, 3], in the first set's frame and size (Gower 1975)."""
    mean = points[len(points) // 2].astype(np.float64)
    mean -= mean.mean(axis=0)
    size = np.linalg.norm(mean)
    for _ in range(iterations):
        scale, rotation, shift = similarity_to(points, mean)
        mean = (scale[:, None, None] * (points @ rotation.transpose(0, 2, 1)) + shift[:, None]).mean(axis=0)
        mean -= mean.mean(axis=0)
        mean *= size / np.linalg.norm(mean)
    return mean


def solve_poses(
    landmarks_px: np.ndarray,
    prior_shape_cm: np.ndarray,
    camera: Camera,
    flow_px: np.ndarray | None = None,
    linked: np.ndarray | None = None,
    settings: PoseSettings | None = None,
) -> RigidSolution:
    """Head poses of a clip.

    Args:
        landmarks_px: float [T, N, 3], the rigid landmarks as measured (z only starts the search).
        prior_shape_cm: float [N, 3] in the head frame; fixes scale, origin and axes.
        camera: focal length and centre, held fixed.
        flow_px: float [T, N, 2], motion from frame t to t + 1 of the pixels under the landmarks; NaN where unknown.
        linked: bool [T], whether frame t and t + 1 are neighbours in time (the last is ignored); all when not given.
        settings: weights.

    Returns:
        The solution; its shape keeps the prior's origin, axes and scale in the least-squares sense.
    """
    s = settings or PoseSettings()
    px = max(camera.width_px, camera.height_px) / 512
    count, point_count = landmarks_px.shape[:2]
    observed = landmarks_px[..., :2].astype(np.float64)
    shape = prior_shape_cm.astype(np.float64).copy()
    linked = np.ones(count, bool) if linked is None else linked.copy()
    linked[-1:] = False

    base, rotvec, translation = _first_poses(landmarks_px.astype(np.float64), shape, camera)
    deviation = np.full(point_count, s.landmark_deviation_px * px)
    share = s.independent_fraction
    for step in range(s.rounds):
        fuse = flow_px is not None and step >= s.rounds // 2
        if fuse and flow_px is not None and step == s.rounds // 2:
            rotation = matrix_of(rotvec) @ base
            shared = _shared_jitter_px(flow_px, linked, shape, rotation, translation, camera)
            # All landmarks of a frame together are worth one measurement of this noise, not more.
            share = min(share, 1 / (max(shared, 0.05 * px) ** 2 * np.sum(1 / deviation**2)))
        image_motion = None
        if fuse and flow_px is not None:
            image_motion = Flow(flow_px, linked, s.flow_deviation_px * px, s.flow_independent_fraction)
        for _ in range(2):
            diagonal, gradient, coupling = data_terms(
                observed, shape, rotvec, translation, base, camera, deviation, share, px, image_motion
            )
            update = acceleration_step(diagonal, gradient, coupling, rotvec, translation, linked, s)
            rotvec, translation = rotvec + update[:, :3], translation + update[:, 3:]
        rotation = matrix_of(rotvec) @ base
        shape, error = best_shape(observed, shape, prior_shape_cm, rotation, translation, camera, deviation, s, px)
        shape, rotation, translation = fix_gauge(shape, prior_shape_cm, rotation, translation)
        base, rotvec = recentre(rotation)
        if count > 3 and step < s.rounds // 2:
            # A landmark's own noise: the robust spread of its error over the clip, never below half of the typical one.
            # Not measured once flow is fused, or landmarks would lose weight by disagreeing with the flow.
            spread = 1.4826 * np.median(np.abs(error), axis=(0, 2))
            deviation = np.maximum(spread, 0.5 * np.median(spread)) + 1e-6
    rotation = matrix_of(rotvec) @ base
    error = _reprojection(observed, shape, rotation, translation, camera)
    residual = np.median(np.linalg.norm(error, axis=2), axis=1)
    return RigidSolution(shape, rotation, translation, residual)


def _first_poses(points: np.ndarray, shape: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weak-perspective start: similarity of the network's 3-D landmarks to the shape."""
    scale, rotation, shift = similarity_to(points, shape)
    to_camera = rotation.transpose(0, 2, 1)
    depth = camera.focal_px * scale
    origin_px = np.einsum("tij,tj->ti", to_camera, -shift) / scale[:, None]
    center = np.array([camera.center_x_px, camera.center_y_px])
    translation = np.concatenate([(origin_px[:, :2] - center) * scale[:, None], depth[:, None]], axis=1)
    base, rotvec = recentre(to_camera)
    return base, rotvec, translation


def recentre(rotation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A middle rotation [3, 3] and rotation vectors [T, 3] about it, so that differences of vectors mean something."""
    from scipy.spatial.transform import Rotation

    base = Rotation.from_matrix(rotation).mean().as_matrix()
    return base, rotvec_of(rotation @ base.T)


def _reprojection(
    observed: np.ndarray, shape: np.ndarray, rotation: np.ndarray, translation: np.ndarray, camera: Camera
) -> np.ndarray:
    """[T, N, 2] projected minus observed."""
    return camera.project(shape @ rotation.transpose(0, 2, 1) + translation[:, None]) - observed


def project_with_jacobian(
    shape: np.ndarray, rotvec: np.ndarray, translation: np.ndarray, base: np.ndarray, camera: Camera
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels [T, N, 2] of shape points [N, 3], and their derivative [T, 6, 2N] by rotvec and translation.

    The derivative's columns are x of all points, then y of all points: long rows are what numpy is quick with.
    """
    count, point_count = len(rotvec), len(shape)
    turned = matrix_of(rotvec) @ base @ shape.T
    tx, ty, tz = turned.transpose(1, 0, 2)
    inverse = 1 / (tz + translation[:, 2:])
    x, y = (tx + translation[:, :1]) * inverse, (ty + translation[:, 1:2]) * inverse
    pixels = np.stack([camera.focal_px * x + camera.center_x_px, camera.focal_px * y + camera.center_y_px], axis=2)
    inverse *= camera.focal_px
    x_by_z, y_by_z = -inverse * x, -inverse * y
    rows = np.zeros((count, 6, 2, point_count))
    rows[:, 3, 0] = rows[:, 4, 1] = inverse
    rows[:, 5, 0], rows[:, 5, 1] = x_by_z, y_by_z
    # The derivative a of a pixel by the point becomes (turned x a) by a turn.
    by_turn = np.empty((count, 3, 2, point_count))
    by_turn[:, 0, 0], by_turn[:, 0, 1] = ty * x_by_z, ty * y_by_z - tz * inverse
    by_turn[:, 1, 0], by_turn[:, 1, 1] = tz * inverse - tx * x_by_z, -tx * y_by_z
    by_turn[:, 2, 0], by_turn[:, 2, 1] = -ty * inverse, tx * inverse
    rows = rows.reshape(count, 6, -1)
    np.matmul(left_jacobian(rotvec).transpose(0, 2, 1), by_turn.reshape(count, 3, -1), out=rows[:, :3])
    return pixels, rows


def flat(error: np.ndarray) -> np.ndarray:
    """Errors [T, N, 2] in the order of `project_with_jacobian`'s columns, [T, 2N, 1]."""
    return error.transpose(0, 2, 1).reshape(len(error), -1, 1)


def soft(error: np.ndarray, knee: float) -> np.ndarray:
    """Weights [T, N] of errors [T, N, 2] by pseudo-Huber: convex, so no frame can settle on a wrong pose."""
    return 1 / np.sqrt(1 + (error**2).sum(axis=-1) / knee**2)


def hard(error: np.ndarray, knee: float) -> np.ndarray:
    """Weights [T, N] of errors [T, N, 2] by Geman and McClure 1987: far errors count for nothing."""
    return 1 / (1 + (error**2).sum(axis=-1) / knee**2) ** 2


def _shared_jitter_px(
    flow: np.ndarray,
    linked: np.ndarray,
    shape: np.ndarray,
    rotation: np.ndarray,
    translation: np.ndarray,
    camera: Camera,
) -> float:
    """Noise, per frame and axis, that all landmarks of a frame have in common: how far poses from landmarks alone move
    otherwise than the picture does (median over the points of each step; two frames' noise is in it)."""
    if not linked.any():
        return 0.0
    points = camera.project(shape @ rotation.transpose(0, 2, 1) + translation[:, None])
    gap = np.diff(points, axis=0)[linked[:-1]] - flow[:-1][linked[:-1]]
    gap = gap[np.isfinite(gap[..., 0]).sum(axis=1) >= 5]
    if not len(gap):
        return 0.0
    return float(np.sqrt(np.mean(np.nanmedian(gap, axis=1) ** 2) / 2))


@dataclass(frozen=True)
class Flow:
    """Image motion of the rigid landmarks' pixels, T frames.

    Attributes:
        flow_px: float [T, N, 2], from frame t to t + 1; NaN where unknown.
        linked: bool [T], whether frame t and t + 1 are neighbours in time; the last is not.
        deviation_px: noise of one.
        share: of them that count as independent.
    """

    flow_px: np.ndarray
    linked: np.ndarray
    deviation_px: float
    share: float


def data_terms(
    observed: np.ndarray, shape: np.ndarray, rotvec: np.ndarray, translation: np.ndarray, base: np.ndarray,
    camera: Camera, deviation: np.ndarray, share: float, px: float, flow: Flow | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Normal equations of landmarks and flow: diagonal [T, 6, 6], gradient [T, 6], coupling [T, 6, 6] of t and t + 1.

    Of the flow it is the error of (motion of the solid point under a pixel) minus (its flow).
    """
    count = len(observed)
    diagonal, gradient, coupling = np.zeros((count, 6, 6)), np.zeros((count, 6)), np.zeros((count, 6, 6))
    for first in range(0, count, _CHUNK):
        last = min(first + _CHUNK, count)
        here, reach = slice(first, last), slice(first, min(last + 1, count))
        projected, rows = project_with_jacobian(shape, rotvec[reach], translation[reach], base, camera)
        weight, pull = np.zeros(projected.shape[:2]), np.zeros(projected.shape)
        error = projected[: last - first] - observed[here]
        own = share * soft(error, _ROBUST_PX_AT_512 * px) / deviation**2
        weight[: last - first] = own
        pull[: last - first] = own[..., None] * error
        steps = len(projected) - 1
        if flow is not None and steps:
            moved = flow.flow_px[first : first + steps]
            known = np.isfinite(moved).all(axis=-1) & flow.linked[first : first + steps, None]
            error = np.where(known[..., None], np.diff(projected, axis=0) - np.nan_to_num(moved), 0)
            both = flow.share * known * hard(error, 4 * flow.deviation_px) / flow.deviation_px**2
            weight[:-1] += both
            weight[1:] += both
            error *= both[..., None]
            pull[:-1] -= error
            pull[1:] += error
            coupling[first : first + steps] = -(rows[:-1] * np.tile(both, 2)[:, None]) @ rows[1:].transpose(0, 2, 1)
        diagonal[reach] += (rows * np.tile(weight, 2)[:, None]) @ rows.transpose(0, 2, 1)
        gradient[reach] += (rows @ flat(pull))[..., 0]
    return diagonal, gradient, coupling


def acceleration_step(
    diagonal: np.ndarray, gradient: np.ndarray, coupling: np.ndarray, rotvec: np.ndarray, translation: np.ndarray,
    linked: np.ndarray, s: PoseSettings,
) -> np.ndarray:  # fmt: skip
    """The Gauss-Newton step [T, 6], with the acceleration prior added to the data's normal equations."""
    count = len(diagonal)
    across, depth = s.translation_acceleration_cm, s.depth_acceleration_cm
    precision = 1 / np.array([s.rotation_acceleration] * 3 + [across, across, depth]) ** 2
    state = np.concatenate([rotvec, translation], axis=1)
    right = -gradient
    main, first, second = diagonal.copy(), coupling.copy(), np.zeros_like(diagonal)
    axis = np.arange(6)
    main[:, axis, axis] += 1e-6
    if count > 2:
        # [1, -2, 1] over frames t, t + 1, t + 2 wherever all three are neighbours in time.
        weight = (linked[:-2] & linked[1:-1]).astype(np.float64)[:, None] * precision
        bend = (state[:-2] - 2 * state[1:-1] + state[2:]) * weight
        for offset, factor in ((0, 1.0), (1, -2.0), (2, 1.0)):
            frames = slice(offset, offset + count - 2)
            main[frames, axis, axis] += factor**2 * weight
            right[frames] -= factor * bend
        first[: count - 2, axis, axis] -= 2 * weight
        first[1 : count - 1, axis, axis] -= 2 * weight
        second[: count - 2, axis, axis] += weight
    return solve_block_pentadiagonal(main, first, second, right)


def best_shape(
    observed: np.ndarray, shape: np.ndarray, prior: np.ndarray, rotation: np.ndarray, translation: np.ndarray,
    camera: Camera, deviation: np.ndarray, s: PoseSettings, px: float,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """One Gauss-Newton step of every shape point given the poses; also the errors [T, N, 2] before it."""
    point_count = len(shape)
    normal = np.zeros((point_count, 3, 3)) + np.eye(3) / s.shape_deviation_cm**2
    right = (prior - shape) / s.shape_deviation_cm**2
    errors = []
    for first in range(0, len(observed), _CHUNK):
        part = slice(first, first + _CHUNK)
        point = shape @ rotation[part].transpose(0, 2, 1) + translation[part, None]
        error = camera.project(point) - observed[part]
        weight = s.independent_fraction * soft(error, _ROBUST_PX_AT_512 * px) / deviation**2
        # The derivative of a pixel: focal / z times (the rotation's row - the pixel's ray times the third row).
        inverse, ray = camera.focal_px / point[..., 2:], point[..., :2] / point[..., 2:]
        across, down, along = rotation[part].transpose(1, 0, 2)[:, :, None]
        for row, k in ((across, 0), (down, 1)):
            by_shape = inverse * (row - ray[..., k : k + 1] * along)
            scaled = (by_shape * weight[..., None]).transpose(1, 2, 0)
            normal += scaled @ by_shape.transpose(1, 0, 2)
            right -= (scaled @ error[..., k].T[..., None])[..., 0]
        errors.append(error)
    return shape + np.linalg.solve(normal, right[..., None])[..., 0], np.concatenate(errors)


def fix_gauge(
    shape: np.ndarray, prior: np.ndarray, rotation: np.ndarray, translation: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Moves the shape back onto the prior's origin, axes and scale; poses follow so that no pixel moves."""
    scale, turn, shift = (v[0] for v in similarity_to(shape[None], prior))
    moved = scale * shape @ turn.T + shift
    # x_camera = R X + t with X = turn^T (X' - shift) / scale, then everything is scaled about the camera.
    new_rotation = rotation @ turn.T
    new_translation = scale * translation - new_rotation @ shift
    return moved, new_rotation, new_translation
