"""Triangle surfaces: grids, normals, and a smooth subdivision that keeps its vertices where they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix


@dataclass(frozen=True)
class Surface:
    """One piece of the performer.

    Attributes:
        name: what it is.
        vertices_cm: float64 [n, 3], at rest in the head frame.
        triangles: int64 [f, 3], clockwise when seen from outside.
        texture: float64 [n, 2], pixels in the atlas.
        shade: float64 [n], what part of the light reaches a vertex, 0..1.
        material: index into the materials' table.
        label: 1 head, 2 neck, 3 torso, 4 mouth interior.
        bias_cm: added to depth in the depth test; lids and lips win over eyes and teeth.
    """

    name: str
    vertices_cm: np.ndarray
    triangles: np.ndarray
    texture: np.ndarray
    shade: np.ndarray
    material: int
    label: int
    bias_cm: float = 0.0


def grid_triangles(rows: int, columns: int, closed: bool = False) -> np.ndarray:
    """Triangles int64 [f, 3] of a grid of `rows x columns` vertices; `closed` joins the last column to the first."""
    spans = columns if closed else columns - 1
    row, column = np.meshgrid(np.arange(rows - 1), np.arange(spans), indexing="ij")
    following = (column + 1) % columns
    a, b = row * columns + column, row * columns + following
    c, d = a + columns, b + columns
    return np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([b, d, c], -1).reshape(-1, 3)])


def outward(vertices: np.ndarray, triangles: np.ndarray, center: np.ndarray) -> np.ndarray:
    """The triangles, all turned over if most of them faced `center`."""
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    normal = np.cross(c - a, b - a)
    facing = ((normal * ((a + b + c) / 3 - center)).sum(axis=1) > 0).mean()
    return triangles if facing > 0.5 else triangles[:, [0, 2, 1]]


def smooth_step(x: np.ndarray, start: float, stop: float) -> np.ndarray:
    """0 before `start`, 1 after `stop`, a cubic between."""
    t = np.clip((x - start) / (stop - start), 0, 1)
    return t * t * (3 - 2 * t)


class Normals:
    """Vertex normals of a fixed set of triangles, for any positions of the vertices."""

    def __init__(self, count: int, triangles: np.ndarray) -> None:
        self._triangles = triangles
        faces = np.repeat(np.arange(len(triangles)), 3)
        self._gather = csr_matrix(
            (np.ones(triangles.size, np.float32), (triangles.ravel(), faces)), shape=(count, len(triangles))
        )

    def __call__(self, vertices: np.ndarray) -> np.ndarray:
        """Unit normals [n, 3], outward; zero where no triangle touches."""
        a, b, c = (vertices[self._triangles[:, k]] for k in range(3))
        normals = self._gather @ np.cross(c - a, b - a)
        return normals / np.sqrt(np.maximum(np.einsum("ni,ni->n", normals, normals), 1e-18))[:, None]


class Subdivision:
    """Each triangle in four; new vertices on the cubic arcs that the vertex normals imply.

    The arc through a and b with tangents t_a, t_b (the edge, projected on the tangent planes) passes
    (a + b) / 2 + (t_a - t_b) / 8 half way: the curved PN triangles of Vlachos et al., 2001, at its edges' midpoints.
    """

    def __init__(self, count: int, triangles: np.ndarray) -> None:
        edges = np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
        self._edges, inverse, uses = np.unique(edges, axis=0, return_inverse=True, return_counts=True)
        # Borders stay straight: what closes on another border (lips on lips) must not gape.
        self._curved = (uses > 1).astype(np.float64)[:, None] / 8
        middle = count + inverse.reshape(-1, 3)
        a, b, c = triangles.T
        ab, bc, ca = middle.T
        self.triangles = np.concatenate(
            [np.stack(t, axis=1) for t in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))]
        )
        self.count = count + len(self._edges)
        self._normals = Normals(count, triangles)

    def positions(self, vertices: np.ndarray) -> np.ndarray:
        """Positions [n + edges, 3]; the first n are `vertices` themselves."""
        normals = self._normals(vertices)
        i, j = self._edges.T
        edge = vertices[j] - vertices[i]
        lift = (edge * normals[j]).sum(axis=1)[:, None] * normals[j]
        lift -= (edge * normals[i]).sum(axis=1)[:, None] * normals[i]
        return np.concatenate([vertices, (vertices[i] + vertices[j]) / 2 + lift * self._curved])

    def values(self, values: np.ndarray) -> np.ndarray:
        """Any per-vertex values [n, ...], averaged to the new vertices."""
        i, j = self._edges.T
        return np.concatenate([values, (values[i] + values[j]) / 2])
