"""What landmarks of true and rendered frames say of lips, lids and likeness: plain functions of arrays.

Points are pixels [T, 478, 2 or more] with NaN where no face was found; a frame counts where both have a face.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from avatarfit.capture.blendshapes import blink_threshold, eye_closure, geometry_blendshapes
from avatarfit.capture.exchange.adnerf_format import LANDMARKS_68
from avatarfit.capture.face_points import RIGID
from avatarfit.evaluation.split import runs
from avatarfit.model.rig import OUTER_EYE_CORNERS, OUTER_EYE_DISTANCE_CM

MOUTH_20 = LANDMARKS_68[48:]
"""Mesh indices of the 68-point scheme's mouth (Sagonas et al. 2013): outer lips, then inner lips."""

_LIPS = (13, 14)
FEWEST = 3
"""So many frames a correlation needs."""


def found(points: np.ndarray) -> np.ndarray:
    """bool [T]: frames with a face."""
    return np.isfinite(points).all(axis=(1, 2))


def lmd_px(truth: np.ndarray, render: np.ndarray) -> np.ndarray:
    """Landmark distance of the mouth, float [T], pixels; lower is better; NaN where a face is missing.

    The mean distance of the 20 mouth points after each picture's own mean is taken off (Chen et al., Lip Movements
    Generation at a Glance, ECCV 2018), so that place in the picture does not count, but size and shape do.
    """
    a, b = (p[:, MOUTH_20, :2] - p[:, MOUTH_20, :2].mean(axis=1, keepdims=True) for p in (truth, render))
    return np.asarray(np.linalg.norm(a - b, axis=2).mean(axis=1))


def aperture_px(points: np.ndarray) -> np.ndarray:
    """Gap of the inner lips, float [T], pixels."""
    return np.asarray(np.linalg.norm(points[:, _LIPS[1], :2] - points[:, _LIPS[0], :2], axis=1))


def correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    """Pearson's r of two series; higher is better; None where fewer than three frames count or one does not move."""
    both = np.isfinite(a) & np.isfinite(b)
    if both.sum() < FEWEST:
        return None
    x, y = a[both] - a[both].mean(), b[both] - b[both].mean()
    scale = np.sqrt((x * x).sum() * (y * y).sum())
    return float((x * y).sum() / scale) if scale > 1e-12 else None


def in_head_cm(points: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Points turned back by the head's pose and brought to its size, float64 [T, 478, 3], roughly centimetres.

    Perspective within the face is left in; for lids and brows, measured by ratios, it does not matter.

    Args:
        points: [T, 478, 3], z on the scale of x.
        rotation: [T, 3, 3] of the head.
    """
    left, right = OUTER_EYE_CORNERS
    centred = points.astype(np.float64) - points[:, RIGID].mean(axis=1, keepdims=True)
    turned = np.einsum("tji,tlj->tli", rotation, centred)
    return np.asarray(turned * (OUTER_EYE_DISTANCE_CM / np.nanmedian(_distance(turned, left, right))))


def _distance(points: np.ndarray, a: int, b: int) -> np.ndarray:
    return np.asarray(np.linalg.norm(points[:, a] - points[:, b], axis=-1))


def closures(truth_cm: np.ndarray, render_cm: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """How closed the eyes are (0 open to 1 shut) in truth and render, float [T] each, and from where it is a blink.

    Rest, range and threshold are the truth's for both (`capture.blendshapes`): eyes that close half way are no blink.
    """
    known = found(truth_cm)
    both = np.concatenate([truth_cm[known], np.nan_to_num(truth_cm), np.nan_to_num(render_cm)])
    shapes = geometry_blendshapes(both.astype(np.float32), int(known.sum()))
    closure = eye_closure(shapes.names, shapes.values).astype(np.float64)
    first, count = int(known.sum()), len(truth_cm)
    a, b = closure[first : first + count], closure[first + count :]
    a[~known], b[~found(render_cm)] = np.nan, np.nan
    return a, b, blink_threshold(closure[:first])


def blink_events(closed: np.ndarray, breaks: np.ndarray) -> list[range]:
    """Runs of closed frames, bool [T]; `breaks` bool [T] says which frames do not follow on the one before."""
    stretch = np.cumsum(breaks)
    return [
        part for run in runs(np.flatnonzero(closed).tolist()) for part in _cut(run, stretch)
    ]  # fmt: skip


def _cut(run: range, stretch: np.ndarray) -> list[range]:
    edges = [run.start, *(k for k in run[1:] if stretch[k] != stretch[k - 1]), run.stop]
    return [range(a, b) for a, b in pairwise(edges)]


def blink_f1(truth: list[range], render: list[range]) -> float | None:
    """F1 of blinks, 0..1, higher is better: 2 hits / (true + rendered); None where neither blinks.

    A blink is hit where one of the other overlaps or touches it, each of them once.
    """
    if not truth and not render:
        return None
    free, hits = list(render), 0
    for blink in truth:
        partner = next((r for r in free if r.start <= blink.stop and blink.start <= r.stop), None)
        if partner is not None:
            free.remove(partner)
            hits += 1
    return 2 * hits / (len(truth) + len(render))


def expression_error(truth: np.ndarray, render: np.ndarray) -> np.ndarray:
    """Mean absolute difference of blendshape scores [T, P], 0..1, a frame: float [T]; lower is better."""
    return np.asarray(np.abs(truth.astype(np.float64) - render).mean(axis=1))


def similarity_onto(points: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The similarity (no mirror) that brings points [N, 2] nearest to `target` [N, 2]: float64 [2, 3].

    Umeyama, Least-squares estimation of transformation parameters between two point patterns, 1991, in the plane.
    """
    a, b = points.mean(axis=0), target.mean(axis=0)
    x, y = points - a, target - b
    real, imaginary = (x * y).sum(), (x[:, 0] * y[:, 1] - x[:, 1] * y[:, 0]).sum()
    turn = np.array([[real, -imaginary], [imaginary, real]]) / max(float((x * x).sum()), 1e-12)
    return np.concatenate([turn, (b - turn @ a)[:, None]], axis=1)


def moved(transform: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points [N, 2] through a transform [2, 3]."""
    return np.asarray(points @ transform[:, :2].T + transform[:, 2])


def steadied(points: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Points with the head's motion taken off: each frame's rigid landmarks brought onto `reference` [478, 2].

    Returns:
        float64 [T, 478, 2] in eye distances of the reference; NaN where no face was found.
    """
    eyes = np.linalg.norm(np.subtract(*reference[list(OUTER_EYE_CORNERS)]))
    out = np.full((len(points), points.shape[1], 2), np.nan)
    for k in np.flatnonzero(found(points)):
        out[k] = moved(similarity_onto(points[k, RIGID, :2], reference[RIGID]), points[k, :, :2]) / eyes
    return out


def identity_distance(truth: np.ndarray, render: np.ndarray) -> float | None:
    """How far the mean layout of the render's 68 landmarks is from the truth's, over the eye distance; lower is better.

    Each frame of both is aligned to the truth's first frame by the similarity of all 68 points, the means over the
    frames are aligned to each other (Procrustes; Gower 1975), and the root mean square distance is taken.
    """
    both = found(truth) & found(render)
    if not both.any():
        return None
    reference = truth[both][0, LANDMARKS_68, :2].astype(np.float64)
    a, b = (_mean_layout(p[both][:, LANDMARKS_68, :2].astype(np.float64), reference) for p in (truth, render))
    apart = moved(similarity_onto(b, a), b) - a
    eyes = np.linalg.norm(a[36] - a[45])  # the outer corners in the 68-point scheme
    return float(np.sqrt(np.square(apart).sum(axis=1).mean()) / eyes)


def _mean_layout(points: np.ndarray, reference: np.ndarray) -> np.ndarray:
    return np.asarray(np.mean([moved(similarity_onto(p, reference), p) for p in points], axis=0))
