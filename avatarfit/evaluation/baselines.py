"""Two pictures that cost no fitting; an avatar that does not beat them is worth nothing."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from avatarfit.contracts import Motion


def motion_features(motion: Motion, reference: Motion) -> np.ndarray:
    """float64 [T, D]: motion as numbers whose Euclidean distance says how alike two frames should look.

    Each number is divided by its standard deviation over `reference`; each group (mouth, upper face, eyes, head's
    rotation, head's translation, torso) by the square root of its size, so that the groups weigh alike.
    """

    def groups(m: Motion) -> list[np.ndarray]:
        turn = Rotation.from_quat(m.head.rotation_wxyz[:, [1, 2, 3, 0]]).as_rotvec()
        torso = m.torso.affine.reshape(len(m), 6)
        return [m.face.mouth, m.face.upper, m.face.eyes, turn, m.head.translation_cm, torso]

    columns = []
    for values, basis in zip(groups(motion), groups(reference), strict=True):
        if values.shape[1]:
            spread = np.maximum(basis.std(axis=0, dtype=np.float64), 1e-6)
            columns.append((values - basis.mean(axis=0, dtype=np.float64)) / spread / np.sqrt(values.shape[1]))
    return np.concatenate(columns, axis=1)


def nearest_frames(queries: Motion, training: Motion) -> np.ndarray:
    """int [T]: for each frame of `queries` the frame of `training` that is nearest in `motion_features`."""
    from scipy.spatial import cKDTree

    tree = cKDTree(motion_features(training, training))
    return tree.query(motion_features(queries, training))[1].astype(int)


class MeanPicture:
    """The mean of pictures that come one at a time."""

    def __init__(self) -> None:
        self._sum: np.ndarray | None = None
        self._count = 0

    def add(self, rgb: np.ndarray) -> None:
        """Take uint8 [H, W, 3] in."""
        if self._sum is None:
            self._sum = np.zeros(rgb.shape, np.float64)
        self._sum += rgb
        self._count += 1

    def picture(self) -> np.ndarray:
        """float64 [H, W, 3] in [0, 1].

        Raises:
            ValueError: no picture came.
        """
        if self._sum is None:
            raise ValueError("MeanPicture holds no picture; wanted at least one")
        return self._sum / (255 * self._count)
