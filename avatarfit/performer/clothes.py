"""Neck, shirt and collar."""

from __future__ import annotations

import numpy as np

from avatarfit.performer.atlas import Atlas, head_texture_cm
from avatarfit.performer.body import CLOTH, NECK, SKIN, TORSO
from avatarfit.performer.surface import Surface, grid_triangles, outward, smooth_step

_AXIS_Z_CM = 7.6
_RISE_CM = 2.3
"""How much the shirt is lifted against the heights written below: the neck's length."""


def neck(atlas: Atlas) -> tuple[Surface, np.ndarray]:
    """The neck, and how much each of its vertices belongs to the head, float64 [n] in 0..1."""
    rows, columns = 14, 56
    level = np.linspace(4.5, 16.0, rows)
    turn = np.linspace(0, 2 * np.pi, columns, endpoint=False)
    y, a = np.meshgrid(level, turn, indexing="ij")
    flare = 1 + 0.32 * smooth_step(y, 10.5, 15.5) - 0.03 * np.exp(-(((y - 10.5) / 2.0) ** 2))
    width, depth = 5.3 * flare, 5.2 * (1 + 0.25 * (flare - 1))
    # The two cords that run from behind the ears to the pit of the neck.
    cord = 0.16 * np.exp(-(((np.abs(a - np.pi * 1.5) - np.interp(y, [8, 15], [1.0, 0.22])) / 0.16) ** 2))
    lean = np.interp(y, [6, 16], [-0.3, 0.6])
    vertices = np.stack([(width + cord) * np.cos(a), y, _AXIS_Z_CM + lean + (depth + cord) * np.sin(a)], axis=-1)
    vertices = vertices.reshape(-1, 3)
    triangles = outward(vertices, grid_triangles(rows, columns, closed=True), np.array([0, 11, _AXIS_Z_CM]))
    texture = atlas.place("head", np.clip(head_texture_cm(vertices), [0.5, 0.5], [51.5, 29.5]))
    shade = 1 - 0.42 * (1 - smooth_step(y, 8.8, 13.0)) - 0.18 * smooth_step(np.abs(np.cos(a)), 0.55, 1.0)
    head_share = 1 - smooth_step(vertices[:, 1], 8.0, 14.5)
    return Surface("neck", vertices, triangles, texture, shade.reshape(-1), SKIN, NECK), head_share


def torso(atlas: Atlas) -> list[Surface]:
    """The shirt: a body with sloping shoulders, and a rolled, ribbed collar."""
    profile = np.array(
        [  # y, half width, half depth, exponent of the section
            [14.6, 6.0, 5.6, 2.0], [15.4, 7.4, 6.2, 2.0], [16.2, 10.2, 6.9, 2.1], [17.0, 13.2, 7.4, 2.2],
            [17.9, 15.8, 7.9, 2.3], [19.0, 17.9, 8.4, 2.4], [20.4, 19.4, 8.9, 2.4], [22.0, 20.3, 9.4, 2.4],
            [24.0, 20.8, 9.8, 2.4], [27.0, 21.0, 10.2, 2.4], [31.0, 21.0, 10.5, 2.4], [38.0, 21.0, 10.5, 2.4],
        ]
    )  # fmt: skip
    along = np.linspace(0, 1, 30)
    knots = np.linspace(0, 1, len(profile))
    level, width, depth, power = (np.interp(along, knots, profile[:, k])[:, None] for k in range(4))
    columns = 90
    turn = np.linspace(0, 2 * np.pi, columns, endpoint=False)[None]
    cos, sin = np.cos(turn), np.sin(turn)
    x = width * np.sign(cos) * np.abs(cos) ** (2 / power)
    z = _AXIS_Z_CM + 1.2 + depth * np.sign(sin) * np.abs(sin) ** (2 / power)
    # The front of the neckline hangs lower than the nape.
    y = level - _RISE_CM + 1.9 * np.clip(-sin, 0, 1) ** 2 * (1 - smooth_step(level, 15, 21)) + 0 * turn
    vertices = np.stack([x, y, z], axis=-1).reshape(-1, 3)
    triangles = outward(vertices, grid_triangles(len(along), columns, closed=True), np.array([0, 26, _AXIS_Z_CM]))
    run = np.concatenate([[0], np.cumsum(np.hypot(np.diff(level[:, 0]), np.diff(width[:, 0]) * 0.8))])
    texture = atlas.place(
        "torso", np.stack([26 + x, np.clip(run[:, None] + 0 * turn, 0.3, 29.5)], axis=-1).reshape(-1, 2)
    )
    shade = 1 - 0.35 * (1 - smooth_step(np.hypot(x - 6.5 * cos, y - 13.5 - 1.6 * sin), 0.5, 3.5))
    body = Surface("torso", vertices, triangles, texture, shade.reshape(-1), CLOTH, TORSO)
    return [body, _collar(atlas)]


def _collar(atlas: Atlas) -> Surface:
    columns, rows = 90, 12
    turn = np.linspace(0, 2 * np.pi, columns, endpoint=False)[None]
    tube = np.linspace(0, 2 * np.pi, rows)[:, None]
    front = np.clip(-np.sin(turn), -1, 1)
    radius_x, radius_z = 6.6 + 0.6 * np.cos(tube), 6.3 + 0.6 * np.cos(tube)
    x = radius_x * np.cos(turn)
    z = _AXIS_Z_CM + 0.9 + radius_z * np.sin(turn)
    y = 14.9 - _RISE_CM + 1.6 * front + 0.95 * np.sin(tube) + 0.35 * np.cos(tube)
    vertices = np.stack([x, y, z], axis=-1).reshape(-1, 3)
    core = np.stack(
        [6.6 * np.cos(turn), 14.9 - _RISE_CM + 1.6 * front, _AXIS_Z_CM + 0.9 + 6.3 * np.sin(turn)], axis=-1
    ).repeat(rows, axis=0)
    triangles = grid_triangles(rows, columns, closed=True)
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    normal = np.cross(c - a, b - a)
    if ((normal * (a - core.reshape(-1, 3)[triangles[:, 0]])).sum(axis=1) > 0).mean() < 0.5:
        triangles = triangles[:, [0, 2, 1]]
    texture = atlas.place(
        "collar", np.stack(np.broadcast_arrays(26 + (turn - np.pi) * 7.5, 3 + tube * 0.4), axis=-1).reshape(-1, 2)
    )
    shade = np.broadcast_to(0.9 + 0.1 * np.sin(tube - 2.2), (rows, columns)).reshape(-1)
    return Surface("collar", vertices, triangles, texture, shade, CLOTH, TORSO)
