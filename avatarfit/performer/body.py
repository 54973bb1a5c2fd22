"""The performer's surfaces: face and skull in one, ears, hair, eyes, teeth and tongue, neck, shirt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avatarfit.capture.canonical_face import LOWER_INNER_LIP, UPPER_INNER_LIP
from avatarfit.performer import face_shape as fs
from avatarfit.performer.atlas import EYE_TEXTURE_SCALE, Atlas, head_texture_cm
from avatarfit.performer.surface import Subdivision, Surface, grid_triangles, outward, smooth_step

SKIN, HAIR, EYE, TEETH, CAVITY, CLOTH, LASH = range(7)
FACE, NECK, TORSO, MOUTH, HAIR_LABEL = 1, 2, 3, 4, 5
SKULL_CENTER_CM = np.array([0.0, -1.6, 6.6])
SKULL_AXES_CM = np.array([7.3, 9.0, 9.6])
_RINGS = 9
_LIP_LOOP = UPPER_INNER_LIP + LOWER_INNER_LIP[-2:0:-1]


@dataclass(frozen=True)
class HeadSurface:
    """Face mesh and skull as one smooth surface that follows the landmarks."""

    subdivision: Subdivision
    rest_skull_cm: np.ndarray
    ring_share: np.ndarray
    ring_index: np.ndarray

    def positions(self, landmarks_cm: np.ndarray, rest_cm: np.ndarray) -> np.ndarray:
        """Vertices [n, 3] for landmarks [478, 3]; the skull gives way near the face's border."""
        moved = (landmarks_cm - rest_cm)[self.ring_index] * self.ring_share[:, None]
        return self.subdivision.positions(np.concatenate([landmarks_cm[:468], self.rest_skull_cm + moved]))


def head_surface(shape: fs.FaceShape, atlas: Atlas) -> tuple[HeadSurface, Surface]:
    """The face's border ring drawn back over an ellipsoid to a pole behind the head."""
    ring = np.array(fs.FACE_OVAL)
    offset = shape.rest_cm[ring] - SKULL_CENTER_CM
    radius = np.linalg.norm(offset, axis=1)
    tilt = np.arccos(-offset[:, 2] / radius)
    turn = np.arctan2(offset[:, 1], offset[:, 0])
    rows, shares = [], []
    for k in range(1, _RINGS + 1):
        s = (k / _RINGS) ** 1.25
        theta = tilt + (np.deg2rad(179) - tilt) * s
        direction = np.stack([np.sin(theta) * np.cos(turn), np.sin(theta) * np.sin(turn), -np.cos(theta)], axis=1)
        ellipsoid = 1 / np.linalg.norm(direction / SKULL_AXES_CM, axis=1)
        blend = np.clip((theta - tilt) / np.deg2rad(55), 0, 1)
        blend = blend * blend * (3 - 2 * blend)
        rows.append(SKULL_CENTER_CM + direction * (radius + blend * (ellipsoid - radius))[:, None])
        shares.append(np.full(len(ring), max(0.0, 1 - 1.6 * s) ** 2))
    skull = np.concatenate(rows)
    strips = grid_triangles(_RINGS + 1, len(ring), closed=True)
    index = np.concatenate([ring, 468 + np.arange(len(skull))])
    base = np.concatenate([shape.rest_cm[:468], skull])
    strips = outward(base, index[strips], SKULL_CENTER_CM)
    triangles = np.concatenate([shape.triangles.astype(np.int64), strips])
    subdivision = Subdivision(len(base), triangles)
    surface = HeadSurface(subdivision, skull, np.concatenate(shares), np.tile(ring, _RINGS))
    rest = surface.positions(shape.rest_cm, shape.rest_cm)
    texture = atlas.place("head", subdivision.values(head_texture_cm(base)))
    shade = np.clip(1 - 0.5 * smooth_step(rest[:, 1], 7.5, 11.5) * smooth_step(rest[:, 2], 1.5, 4.5), 0, 1)
    return surface, Surface("head", rest, subdivision.triangles, texture, shade, SKIN, FACE)


def hairline_cm(angle: np.ndarray) -> np.ndarray:
    """Height (y) of the hair's lower edge at `angle` around the vertical axis; 0 is the front, in radians."""
    degrees = np.rad2deg(np.abs(angle))
    return np.interp(
        degrees,
        [0, 20, 34, 44, 54, 64, 72, 80, 90, 100, 112, 125, 140, 180],
        [-7.0, -6.9, -6.2, -4.8, -3.2, -1.8, 0.6, 1.2, -0.6, -2.4, -1.0, 3.5, 6.5, 7.5],
    )


def hair(atlas: Atlas, rng: np.random.Generator) -> Surface:
    """A shell over the skull that dives under the skin along the hairline."""
    rows, columns = 54, 110
    polar, angle = np.meshgrid(
        np.linspace(0.02, np.deg2rad(158), rows), np.linspace(-np.pi, np.pi, columns, endpoint=False), indexing="ij"
    )
    direction = np.stack([np.sin(polar) * np.sin(angle), -np.cos(polar), -np.sin(polar) * np.cos(angle)], axis=-1)
    skull = 1 / np.linalg.norm(direction / SKULL_AXES_CM, axis=-1)
    y = SKULL_CENTER_CM[1] + direction[..., 1] * skull
    strand = hair_strand(direction)
    ragged = 0.16 * np.sin(strand[..., 0] * 3.7 + 1.0) + 0.12 * np.sin(strand[..., 0] * 8.3)
    above = hairline_cm(angle) - y + ragged * smooth_step(np.cos(angle), 0.3, 0.8)
    clump = 0.10 * np.sin(strand[..., 0] * 2.6 + 1.3 * np.sin(strand[..., 1] * 0.35)) + 0.07 * np.sin(
        strand[..., 0] * 6.1 + rng.uniform(0, 6)
    )
    top = smooth_step(-y, 1.5, 9)
    full = 0.60 + 1.15 * top + 0.75 * top * np.clip(-direction[..., 2], 0, 1)
    thickness = np.where(above > 0, full * np.sqrt(smooth_step(above, -0.1, 2.6)), 0)
    thickness += clump * smooth_step(above, -0.3, 1.5)
    thickness += np.clip(above, -2, 0) * 0.55 - 0.02
    vertices = SKULL_CENTER_CM + direction * (skull + thickness)[..., None]
    vertices = vertices.reshape(-1, 3)
    triangles = outward(vertices, grid_triangles(rows, columns, closed=True), SKULL_CENTER_CM)
    keep = (above.reshape(-1)[triangles] > -1.6).any(axis=1)
    texture = atlas.place("hair", strand.reshape(-1, 2) + [17.0, 13.0])
    shade = 0.62 + 0.38 * smooth_step(above, 0.0, 2.5) + clump * 0.8
    return Surface("hair", vertices, triangles[keep], texture, np.clip(shade.reshape(-1), 0, 1.2), HAIR, HAIR_LABEL)


def hair_strand(direction: np.ndarray) -> np.ndarray:
    """Texture coordinates [..., 2] in cm: across the strands, and along them from the forehead to the back."""
    across = np.arcsin(np.clip(direction[..., 0], -1, 1)) * 8.5
    along = np.arctan2(direction[..., 2], np.maximum(-direction[..., 1], -0.999) + 0.25) * 6.0
    lean = 0.30 * (along + 6)
    return np.stack([np.clip(across + lean, -16.5, 16.5), np.clip(along, -12.5, 12.5)], axis=-1)


def ears(atlas: Atlas) -> list[Surface]:
    """Two shells with a rim, leaning out from the head."""
    out = []
    rows, columns = 9, 28
    radius, turn = np.meshgrid(
        np.linspace(0.02, 1, rows), np.linspace(0, 2 * np.pi, columns, endpoint=False), indexing="ij"
    )
    outline = 1 + 0.10 * np.cos(turn - 0.6) - 0.14 * np.cos(2 * turn + 0.5)
    along = radius * outline * np.cos(turn) * 1.55
    up = radius * outline * np.sin(turn) * (2.9 - 0.55 * (np.sin(turn) > 0))
    relief = 0.40 * np.exp(-(((radius - 0.78) / 0.16) ** 2)) - 0.35 * np.exp(-((radius / 0.42) ** 2))
    relief += 0.22 * np.exp(-(((radius - 0.45) / 0.12) ** 2)) * np.clip(np.cos(turn - 0.8), 0, 1)
    relief -= 0.55 * smooth_step(radius, 0.88, 1.0)
    for side in (-1, 1):
        back, outer = np.array([0.42 * side, 0, 0.91]), np.array([0.91 * side, 0, -0.42])
        center = np.array([7.35 * side, 1.7, 6.7])
        vertices = center + along[..., None] * back + up[..., None] * [0.02 * side, 1, 0.12]
        vertices = (vertices + (relief + 0.18)[..., None] * outer).reshape(-1, 3)
        triangles = outward(vertices, grid_triangles(rows, columns, closed=True), center - 3 * outer)
        spot = np.stack([26 + side * (7.6 + along * 0.5), 16.5 + up * 0.5], axis=-1).reshape(-1, 2)
        shade = 0.92 - 0.34 * np.exp(-((radius / 0.5) ** 2)) - 0.22 * np.exp(-(((radius - 0.6) / 0.1) ** 2))
        shade = shade * (1 - 0.15 * smooth_step(radius, 0.9, 1.0))
        out.append(Surface("ear", vertices, triangles, atlas.place("head", spot), shade.reshape(-1), SKIN, FACE, -0.02))
    return out


def eyeballs(shape: fs.FaceShape, atlas: Atlas) -> list[Surface]:
    """The front of each eyeball; the middle of its grid is the pupil's axis."""
    out = []
    rows, columns = 15, 28
    polar, turn = np.meshgrid(
        np.linspace(0.0, np.deg2rad(84), rows), np.linspace(0, 2 * np.pi, columns, endpoint=False), indexing="ij"
    )
    flat = np.stack([np.sin(polar) * np.cos(turn), np.sin(polar) * np.sin(turn), -np.cos(polar)], axis=-1)
    spread = np.stack([polar * np.cos(turn), polar * np.sin(turn)], axis=-1) * fs.EYEBALL_RADIUS_CM
    texture = atlas.place("eye", (6.0 + spread * EYE_TEXTURE_SCALE * 0.86).reshape(-1, 2))
    # The upper lid and its lashes keep light from the eye.
    shade = 1 - 0.42 * smooth_step(-flat[..., 1] * fs.EYEBALL_RADIUS_CM, 0.05, 0.62)
    for side in range(2):
        vertices = shape.eye_centers_cm[side] + flat.reshape(-1, 3) * fs.EYEBALL_RADIUS_CM
        triangles = outward(vertices, grid_triangles(rows, columns, closed=True), shape.eye_centers_cm[side])
        out.append(Surface("eye", vertices, triangles, texture, shade.reshape(-1), EYE, FACE, 1.0))
    return out


def sockets(shape: fs.FaceShape, atlas: Atlas) -> list[Surface]:
    """What shows in the corners of the eyes: a skin-coloured fan behind each eyeball, as wide as the lids' opening."""
    out = []
    for side in range(2):
        loop = list(fs.UPPER_LIDS[side] + fs.LOWER_LIDS[side][-2:0:-1])
        vertices = np.concatenate([shape.rest_cm[loop].mean(axis=0)[None], shape.rest_cm[loop]])
        n = len(loop)
        fan = np.stack([np.zeros(n, int), 1 + np.arange(n), 1 + (np.arange(n) + 1) % n], axis=1)
        triangles = outward(vertices, fan, shape.rest_cm[loop].mean(axis=0) + [0, 0, 5])
        texture = np.tile(atlas.place("tongue", np.array([2.0, 2.0])), (n + 1, 1))
        out.append(Surface("socket", vertices, triangles, texture, np.full(n + 1, 0.8), SKIN, FACE, 1.8))
    return out


def lashes(shape: fs.FaceShape, atlas: Atlas) -> list[Surface]:
    """A dark fringe along each upper lid; its vertices are set for every frame by `lash_positions`."""
    out = []
    for side in range(2):
        vertices = lash_positions(shape.rest_cm, side)
        n = len(vertices) // 2
        triangles = outward(vertices, grid_triangles(2, n), vertices.mean(axis=0) + [0, 0, 5])
        texture = np.tile(atlas.place("lash", np.array([2.0, 2.0])), (2 * n, 1))
        out.append(Surface("lash", vertices, triangles, texture, np.ones(2 * n), LASH, FACE, -0.15))
    return out


def lash_positions(landmarks_cm: np.ndarray, side: int) -> np.ndarray:
    """Two rows of vertices [2 * n, 3]: the lid's edge and the tips of its lashes."""
    edge = landmarks_cm[list(fs.UPPER_LIDS[side])]
    t = np.linspace(0, 1, len(edge))[:, None]
    body = np.sqrt(np.clip(1 - (2 * t - 1) ** 2, 0, 1))
    outer = -1.0 if side == 0 else 1.0
    tip = edge + (0.07 + 0.10 * body * (1 - 0.5 * t)) * [0, -1, -0.4] + (0.16 * (1 - t) ** 2) * [outer, -0.5, 0]
    return np.concatenate([edge + [0, 0.03, 0], tip])


def mouth_interior(shape: fs.FaceShape, atlas: Atlas) -> list[Surface]:
    """Cavity, upper teeth, lower teeth, tongue: in this order."""
    rest = shape.rest_cm
    mouth = (rest[13] + rest[14]) / 2
    out = []
    vertices = cavity_positions(rest)
    n = len(_LIP_LOOP)
    opened = cavity_positions(rest + shape.shapes_cm[fs.SHAPES.index("jaw")])
    triangles = outward(opened, grid_triangles(3, n, closed=True), mouth + [0, 1, 8])
    shade = np.repeat([0.9, 0.5, 0.18], n)
    spot = np.tile(atlas.place("cavity", np.array([2.0, 2.0])), (3 * n, 1))
    out.append(Surface("cavity", vertices, triangles, spot, shade, CAVITY, MOUTH, 2.0))
    for upper in (True, False):
        angle = np.linspace(-1.25, 1.25, 33)
        rows = np.linspace(0, 1, 5)
        width, depth = (2.25, 2.6) if upper else (2.0, 2.3)
        front = mouth[2] + (0.95 if upper else 1.15)
        top, height = (mouth[1] - 0.75, 1.08) if upper else (mouth[1] + 0.10, 0.85)
        a, r = np.meshgrid(angle, rows)
        inset = 0.10 * (2 * r - 1) ** 2
        ragged = 0.05 * np.abs(np.sin(a * 7.0)) * r if upper else -0.04 * np.abs(np.sin(a * 8.0)) * (1 - r)
        vertices = np.stack(
            [np.sin(a) * width, top + height * r - ragged, front + inset + depth * (1 - np.cos(a))], axis=-1
        ).reshape(-1, 3)
        triangles = outward(vertices, grid_triangles(5, 33), np.array([0, top, front + 6]))
        line = 0.0 if upper else 1.5
        texture = atlas.place("teeth", np.stack([7 + a * 4.6, line + 0.1 + r * 1.2], axis=-1).reshape(-1, 2))
        shade = (0.95 - 0.55 * smooth_step(np.abs(a), 0.35, 1.2)) * (1.0 if upper else 0.86)
        out.append(
            Surface("teeth", vertices, triangles, texture, shade.reshape(-1), TEETH, MOUTH, 0.5 if upper else 0.55)
        )
    polar, turn = np.meshgrid(np.linspace(0.01, np.pi / 2, 7), np.linspace(0, 2 * np.pi, 16, False), indexing="ij")
    ball = np.stack([np.sin(polar) * np.cos(turn), np.sin(polar) * np.sin(turn), -np.cos(polar)], axis=-1)
    center = mouth + [0, 1.05, 3.4]
    vertices = center + ball.reshape(-1, 3) * [1.7, 0.75, 1.9]
    triangles = outward(vertices, grid_triangles(7, 16, closed=True), center)
    texture = np.tile(atlas.place("tongue", np.array([2.0, 2.0])), (len(vertices), 1))
    out.append(Surface("tongue", vertices, triangles, texture, np.full(len(vertices), 0.55), CAVITY, MOUTH, 0.35))
    return out


def cavity_positions(landmarks_cm: np.ndarray) -> np.ndarray:
    """Three rings from the inner lips inwards."""
    loop = landmarks_cm[list(_LIP_LOOP)]
    center = loop.mean(axis=0)
    rings = [loop, center + (loop - center) * 0.85 + [0, 0, 0.5], center + (loop - center) * 0.02 + [0, 0, 0.9]]
    return np.concatenate(rings)
