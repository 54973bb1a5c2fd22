"""Locally linear projection onto the person's own mouth shapes.

A predicted shape is rebuilt from its K nearest shapes of the clip with weights that sum to one and rebuild it best
(locally linear embedding, Roweis & Saul 2000, eqs. 1-2; as a post-process for lips in GeneFace++, Ye et al. 2023). Two
changes keep it calm: weights are never negative, so the result stays inside its neighbours; each neighbour's ridge is
in proportion to its squared distance (a shape of the clip stays itself) and grows without bound as it nears the first
shape left out (shapes enter and leave with weight zero).
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

_TINY = 1e-12


class LocallyLinear:
    """The mouth shapes of a clip.

    Attributes:
        shapes_cm: float32 [N, M], coordinates in which distance is in cm (coefficients times their deviations).
        neighbours: K, fewer when the clip has fewer shapes.
        ridge: share of each neighbour's squared distance added to the diagonal.
    """

    def __init__(self, shapes_cm: np.ndarray, neighbours: int = 10, ridge: float = 0.1) -> None:
        if shapes_cm.ndim != 2 or not len(shapes_cm) or neighbours < 1 or not ridge > 0:
            raise ValueError(
                f"shapes {list(shapes_cm.shape)}, {neighbours} neighbours, ridge {ridge} came; "
                "wanted [N >= 1, M] and positive numbers"
            )
        self.shapes_cm = np.ascontiguousarray(shapes_cm, np.float32)
        self.neighbours, self.ridge = neighbours, ridge
        self._tree = cKDTree(self.shapes_cm)

    def weights(self, query_cm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Neighbours and their weights.

        Args:
            query_cm: float [T, M].

        Returns:
            int [T, K] indices into `shapes_cm` and float64 [T, K] weights, >= 0, each row summing to one.
        """
        count = min(self.neighbours, len(self.shapes_cm))
        distance, index = self._tree.query(query_cm, min(count + 1, len(self.shapes_cm)))
        distance, index = distance.reshape(len(query_cm), -1), index.reshape(len(query_cm), -1)
        # Without a first shape left out nothing can enter or leave, and any bound beyond the last does.
        bound = np.maximum(distance[:, -1:] if distance.shape[1] > count else 2 * distance[:, -1:], _TINY)
        distance, index = distance[:, :count], index[:, :count]
        offset = self.shapes_cm[index].astype(np.float64) - query_cm[:, None]
        gram = offset @ offset.transpose(0, 2, 1)
        taper = np.maximum(1 - (distance / bound) ** 2, 1e-6) ** 2
        gram[:, np.arange(count), np.arange(count)] += self.ridge * np.square(distance) / taper + _TINY
        raw = np.linalg.solve(gram, np.ones((len(gram), count, 1)))[..., 0]
        weight = np.maximum(raw, 0)
        return index, weight / weight.sum(1, keepdims=True)

    def __call__(self, query_cm: np.ndarray, strength: float = 1.0) -> np.ndarray:
        """Shapes [T, M] moved towards their neighbourhoods: 0 leaves them, 1 puts them inside.

        Raises:
            ValueError: strength outside [0, 1].
        """
        if not 0 <= strength <= 1:
            raise ValueError(f"strength came as {strength}; wanted 0 to 1")
        if strength == 0 or not len(query_cm):
            return np.asarray(query_cm, np.float32)
        index, weight = self.weights(query_cm)
        inside = np.einsum("tk,tkm->tm", weight, self.shapes_cm[index])
        return (query_cm + strength * (inside - query_cm)).astype(np.float32)
