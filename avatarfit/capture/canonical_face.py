"""A plain, symmetric, expressionless face over MediaPipe's landmark numbering, made from the landmark network itself.

The mediapipe wheel carries the landmark network but no mesh file, so the mesh is read off the network: it is shown an
authored drawing of a frontal face, then a shaded rendering of its own answer, and the last answer is made symmetric.
The triangles are the 3-cliques of MediaPipe's tessellation edges.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import cv2
import numpy as np

from avatarfit.contracts import FaceError

OUTER_EYE_CORNERS = (33, 263)
"""Landmarks of the outer eye corners: left and right in the picture of a face that looks at the camera."""

OUTER_EYE_DISTANCE_CM = 8.9
"""What the distance between them is scaled to."""

UPPER_INNER_LIP = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
LOWER_INNER_LIP = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
"""The inner edge of each lip, corner to corner, left to right in the picture; the corners are shared."""

_DRAWING_PX = 512
_SKIN, _DARK, _LIP = (206, 166, 142), (72, 48, 40), (178, 96, 92)


@dataclass(frozen=True)
class CanonicalFace:
    """A face at rest in the head frame.

    Attributes:
        vertices_cm: float32 [478, 3]; x right in the picture, y down, z away from the camera; origin midway between
            the outer eye corners, which are 8.9 cm apart. Exactly symmetric: vertex `mirror[i]` is vertex i with -x.
        triangles: int32 [852, 3] over the first 468 vertices, clockwise in the picture; eyes and mouth are holes.
        mirror: int32 [478], the landmark at the other side; an involution.
    """

    vertices_cm: np.ndarray
    triangles: np.ndarray
    mirror: np.ndarray


@lru_cache(maxsize=1)
def canonical_face() -> CanonicalFace:
    """The canonical face; found once per process and kept in memory.

    Raises:
        FaceError: the landmark network did not recognise the authored drawing.
        ImportError: mediapipe is not installed.
    """
    detect = _Detector()
    drawing = _draw_face()
    points = _upright(detect(drawing))
    mirror = mirror_map(points)
    triangles = tessellation_triangles(points)
    for _ in range(2):
        points = _scaled(_symmetric(points, mirror))
        points = _upright(detect(_shade(points, triangles)))
    vertices = _scaled(_symmetric(points, mirror))
    vertices = _close_mouth(vertices)
    for array in (vertices, triangles, mirror):
        array.setflags(write=False)
    return CanonicalFace(vertices, triangles, mirror)


def tessellation_triangles(points: np.ndarray) -> np.ndarray:
    """Triangles int32 [852, 3] of MediaPipe's tessellation, clockwise in the picture of the frontal face `points`.

    Two 3-cliques, beside the nostrils, enclose other vertices' triangles: all three of their edges already have a
    triangle at both sides. They are left out.
    """
    from mediapipe.python.solutions.face_mesh_connections import FACEMESH_TESSELATION

    neighbours: dict[int, set[int]] = defaultdict(set)
    for a, b in FACEMESH_TESSELATION:
        neighbours[a].add(b)
        neighbours[b].add(a)
    cliques = sorted({tuple(sorted((a, b, c))) for a, b in FACEMESH_TESSELATION for c in neighbours[a] & neighbours[b]})
    uses: dict[tuple[int, ...], int] = defaultdict(int)
    for clique in cliques:
        for edge in combinations(clique, 2):
            uses[edge] += 1
    kept = [c for c in cliques if any(uses[e] <= 2 for e in combinations(c, 2))]
    triangles = np.array(kept, np.int32)
    a, b, c = (points[triangles[:, k], :2] for k in range(3))
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    triangles[area < 0] = triangles[area < 0][:, [0, 2, 1]]
    return triangles


def mirror_map(points: np.ndarray) -> np.ndarray:
    """The landmark at the other side of each, int32 [478]: the assignment nearest to `points` with x negated."""
    from scipy.optimize import linear_sum_assignment

    flipped = points * [-1, 1, 1]
    cost = np.square(points[:, None] - flipped[None]).sum(axis=2)
    for part in (slice(0, 468), slice(468, 478)):
        rest = np.setdiff1d(np.arange(len(points)), np.arange(len(points))[part])
        cost[part, rest] = cost.max()
    _, mirror = linear_sum_assignment(cost + cost.T)
    return mirror.astype(np.int32)


class _Detector:
    """The bundled landmark network on single pictures."""

    def __call__(self, rgb: np.ndarray) -> np.ndarray:
        """Landmarks float64 [478, 3] in pixels; z on the scale of x.

        Raises:
            FaceError: no face was found.
        """
        from mediapipe.python.solutions.face_mesh import FaceMesh

        with FaceMesh(static_image_mode=True, refine_landmarks=True, min_detection_confidence=0.2) as mesh:
            found = mesh.process(rgb).multi_face_landmarks
        if not found:
            raise FaceError(
                "the landmark network found no face in the authored drawing",
                "mediapipe 0.10.21 with its bundled models",
                "reinstall mediapipe==0.10.21",
            )
        height, width = rgb.shape[:2]
        return np.array([[p.x * width, p.y * height, p.z * width] for p in found[0].landmark])


def _upright(points: np.ndarray) -> np.ndarray:
    """Roll and yaw taken out: the outer eye corners level and equally deep, the origin midway between them."""
    left, right = (points[i] for i in OUTER_EYE_CORNERS)
    points = points - (left + right) / 2
    across = (right - left) / np.linalg.norm(right - left)
    down = points[152] - points[10]
    down = down - across * (down @ across)
    down[2] = 0  # pitch is the network's own frontal view: the drawing looks straight at the camera
    down -= across * (down @ across)
    down /= np.linalg.norm(down)
    return points @ np.stack([across, down, np.cross(across, down)], axis=1)


def _symmetric(points: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    return (points + points[mirror] * [-1, 1, 1]) / 2


def _scaled(points: np.ndarray) -> np.ndarray:
    left, right = (points[i] for i in OUTER_EYE_CORNERS)
    points = points - (left + right) / 2
    return (points * (OUTER_EYE_DISTANCE_CM / np.linalg.norm(right - left))).astype(np.float32)


def _close_mouth(vertices: np.ndarray) -> np.ndarray:
    """The inner lip edges brought together, so that the resting mouth is closed exactly."""
    upper, lower = list(UPPER_INNER_LIP), list(LOWER_INNER_LIP)
    middle = (vertices[upper] + vertices[lower]) / 2
    out = vertices.copy()
    out[upper] = middle
    out[lower] = middle
    return out


def _draw_face() -> np.ndarray:
    """A frontal face in flat colours with soft shading, uint8 [512, 512, 3]."""
    size = _DRAWING_PX
    picture = np.full((size, size, 3), (196, 204, 210), np.uint8)

    def ellipse(center: tuple[int, int], axes: tuple[int, int], color: tuple[int, int, int], **arc: float) -> None:
        cv2.ellipse(
            picture, center, axes, arc.get("turn", 0), arc.get("start", 0), arc.get("stop", 360), color,
            int(arc.get("thickness", -1)), cv2.LINE_AA,
        )  # fmt: skip

    cv2.rectangle(picture, (206, 380), (306, 511), tuple(int(c * 0.85) for c in _SKIN), -1)
    ellipse((256, 525), (200, 80), (90, 110, 140))
    ellipse((256, 222), (134, 158), _DARK)
    ellipse((256, 262), (116, 156), _SKIN)
    for side in (-1, 1):
        ellipse((256 + side * 118, 268), (16, 32), _SKIN)
        x = 256 + side * 49
        ellipse((x, 244), (27, 12), (240, 238, 236))
        ellipse((x, 243), (11, 11), (96, 70, 50))
        ellipse((x, 243), (5, 5), (16, 12, 12))
        ellipse((x, 246), (28, 15), _DARK, start=190, stop=350, thickness=4)
        ellipse((x, 242), (28, 15), (150, 108, 92), start=20, stop=160, thickness=2)
        ellipse((x + side * 2, 228), (36, 18), _DARK, start=205, stop=335, thickness=8)
        ellipse((256 + side * 13, 314), (7, 4), (110, 66, 58))
        ellipse((256 + side * 21, 306), (9, 11), (176, 130, 110), start=-80 if side > 0 else 80,
                stop=80 if side > 0 else 260, thickness=3)  # fmt: skip
        cv2.line(picture, (256 + side * 12, 250), (256 + side * 14, 290), (192, 150, 128), 3, cv2.LINE_AA)
    ellipse((256, 356), (42, 12), _LIP)
    ellipse((256, 362), (34, 14), _LIP)
    cv2.line(picture, (216, 355), (296, 355), (112, 52, 52), 3, cv2.LINE_AA)
    ellipse((256, 392), (30, 8), (186, 146, 124), start=200, stop=340, thickness=3)
    soft = cv2.GaussianBlur(picture, (0, 0), 1.6)
    right, down = np.meshgrid(np.arange(size) - 256.0, np.arange(size) - 262.0)
    light = 1.06 - 0.32 * np.clip((right / 125) ** 2 + 0.4 * (down / 160) ** 2, 0, 1)
    return np.clip(soft * light[..., None], 0, 255).astype(np.uint8)


def _shade(vertices_cm: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """The drawing carried over to the mesh: the drawn head behind, the mesh lambert-shaded before it."""
    size = _DRAWING_PX
    scale = 196 / OUTER_EYE_DISTANCE_CM * 0.78
    xy = vertices_cm[:, :2] * scale + [256, 246]
    picture = _draw_face()
    cv2.ellipse(picture, (256, 262), (110, 150), 0, 0, 360, _SKIN, -1, cv2.LINE_AA)
    normals = _vertex_normals(vertices_cm, triangles)
    light = np.array([-0.25, -0.45, -0.86])
    shade = 0.62 + 0.42 * np.clip(normals @ light, 0, 1)
    order = np.argsort(-vertices_cm[triangles, 2].mean(axis=1))
    for triangle in triangles[order]:
        color = np.array(_SKIN) * shade[triangle].mean()
        cv2.fillConvexPoly(picture, np.round(xy[triangle] * 16).astype(np.int32), color.tolist(), cv2.LINE_AA, 4)

    def fill(indices: list[int], color: tuple[int, int, int]) -> None:
        cv2.fillPoly(picture, [np.round(xy[indices] * 16).astype(np.int32)], color, cv2.LINE_AA, 4)

    def stroke(indices: list[int], color: tuple[int, int, int], thickness: int) -> None:
        path = np.round(xy[indices] * 16).astype(np.int32)
        cv2.polylines(picture, [path], False, color, thickness, cv2.LINE_AA, 4)

    for eye, iris, brow in (
        ([33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7], 468,
         [70, 63, 105, 66, 107, 55, 65, 52, 53, 46]),
        ([263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249], 473,
         [300, 293, 334, 296, 336, 285, 295, 282, 283, 276]),
    ):  # fmt: skip
        fill(eye, (240, 238, 236))
        center = np.round(xy[iris]).astype(int).tolist()
        cv2.circle(picture, center, 11, (96, 70, 50), -1, cv2.LINE_AA)
        cv2.circle(picture, center, 5, (16, 12, 12), -1, cv2.LINE_AA)
        stroke(eye[:9], _DARK, 4)
        stroke([*eye[8:], eye[0]], (150, 108, 92), 2)
        fill(brow, _DARK)
    outer_up = [61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291]
    outer_down = [61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291]
    fill(outer_up + outer_down[::-1], _LIP)
    stroke(list(UPPER_INNER_LIP), (112, 52, 52), 3)
    fill([98, 97, 60], (120, 76, 66))
    fill([327, 326, 290], (120, 76, 66))
    return cv2.GaussianBlur(picture, (0, 0), size / 400)


def _vertex_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Unit normals [478, 3] towards the camera side; vertices of no triangle get -z."""
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    face = np.cross(c - a, b - a)
    normals = np.zeros_like(vertices)
    for k in range(3):
        np.add.at(normals, triangles[:, k], face)
    normals[:, 2] += 1e-9
    normals[np.abs(normals).sum(axis=1) < 1e-6] = [0, 0, -1]
    normals *= np.where(np.median(normals[:, 2]) > 0, -1, 1)
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)
