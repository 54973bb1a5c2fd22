"""What a person's linear expression basis leaves unexplained of the landmarks that were seen, in pixels."""

from __future__ import annotations

import numpy as np

from avatarfit.contracts import Camera, FaceMotion, HeadPose
from avatarfit.model.rig import BROWS, LEFT_EYE, LIPS_BETWEEN, LIPS_INNER, LIPS_OUTER, RIGHT_EYE, Rig

REGIONS = {
    "mouth": np.array([*LIPS_OUTER, *LIPS_BETWEEN, *LIPS_INNER]),
    "eyes": np.array([*RIGHT_EYE, *LEFT_EYE]),
    "brows": np.array(BROWS),
}
"""Landmarks of each region that is reported."""

_CHUNK = 1024


def unexplained_px(
    rig: Rig, face: FaceMotion, head: HeadPose, landmarks_px: np.ndarray, camera: Camera
) -> dict[str, float]:
    """How far the basis's landmarks, posed and projected, lie from those that were seen.

    Args:
        rig, face: the person's basis and the clip's coefficients in it, T frames.
        head: T poses.
        landmarks_px: float [T, 478, 3], as seen (freed of the pose's error).
        camera: the working picture's.

    Returns:
        Of each of `REGIONS`, over its landmarks and all frames: `NAME_unexplained_px` (median) and
        `NAME_unexplained_p95_px`.
    """
    matrices = head.matrices()
    errors: dict[str, list[np.ndarray]] = {name: [] for name in REGIONS}
    for first in range(0, len(face), _CHUNK):
        part = slice(first, first + _CHUNK)
        pose = matrices[part]
        posed = np.einsum("tij,tnj->tni", pose[:, :, :3], rig.landmarks_cm(face[part])) + pose[:, None, :, 3]
        length = np.linalg.norm(camera.project(posed) - landmarks_px[part, :, :2], axis=2)
        for name, indices in REGIONS.items():
            errors[name].append(length[:, indices])
    out: dict[str, float] = {}
    for name, parts in errors.items():
        middle, outer = np.quantile(np.concatenate(parts), [0.5, 0.95])
        out |= {f"{name}_unexplained_px": float(middle), f"{name}_unexplained_p95_px": float(outer)}
    return out
