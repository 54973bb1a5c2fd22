"""The synthetic performer: a known head before a known camera, rendered with its masks."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from avatarfit.contracts import Camera
from avatarfit.performer import body, clothes
from avatarfit.performer import face_shape as fs
from avatarfit.performer.atlas import Atlas
from avatarfit.performer.paint import Palette, paint, paint_wall
from avatarfit.performer.performance import Performance, perform
from avatarfit.performer.rasteriser import rasterise
from avatarfit.performer.surface import Normals, Surface, smooth_step

_SUPERSAMPLING = 2
_DISTANCE_CM = 80.0
_FOCAL_PER_WIDTH = 2.34

# For each material: ambient, diffuse, wrap, specular strength, specular power.
_MATERIALS = np.array(
    [
        [0.50, 0.62, 0.35, 0.20, 14], [0.42, 0.66, 0.20, 0.42, 16], [0.62, 0.42, 0.50, 0.50, 60],
        [0.55, 0.45, 0.40, 0.35, 40], [0.55, 0.45, 0.40, 0.15, 20], [0.48, 0.64, 0.15, 0.03, 8],
        [0.80, 0.20, 0.30, 0.00, 8],
    ],
    np.float32,
)  # fmt: skip
_KEY_LIGHT = np.array([-0.48, -0.52, -0.71], np.float32)
_FILL_LIGHT = np.array([0.80, -0.10, -0.59], np.float32)
_CATCHLIGHT = np.array([-0.19, -0.14, -0.97], np.float32)
"""Where the window mirrors itself in a wet eye: below the lid's edge, or it would hardly ever be seen."""
_RIM_LIGHT = np.array([0.75, -0.45, 0.49], np.float32)


@dataclass(frozen=True)
class Rendering:
    """One picture of the performer.

    Attributes:
        rgb: uint8 [h, w, 3], over the background.
        alpha: float32 [h, w], share of the person in each pixel, 0..1.
        labels: uint8 [h, w]: 0 background, 1 face with ears, 2 neck, 3 torso, 4 mouth interior, 5 hair.
    """

    rgb: np.ndarray
    alpha: np.ndarray
    labels: np.ndarray


class Performer:
    """A person authored from a seed, before a fixed camera.

    Args:
        seed: the person's looks: colours, a little of the shape.
        width_px: picture width; the picture is square.
        focal_px: focal length; 2.34 times the width if None.

    Attributes:
        camera, shape, plate: the camera, the face at rest, the background uint8 [h, w, 3].
    """

    def __init__(self, seed: int = 0, width_px: int = 256, focal_px: float | None = None) -> None:
        if width_px < 64 or width_px % 2:
            raise ValueError(f"width_px came as {width_px}; wanted an even number, 64 or more")
        focal = _FOCAL_PER_WIDTH * width_px if focal_px is None else float(focal_px)
        self.seed = seed
        self.camera = Camera(width_px, width_px, focal, width_px / 2, width_px / 2)
        self.shape = fs.face_shape(seed)
        self.rest_translation_cm = np.array([0.0, -0.9, _DISTANCE_CM * focal / (_FOCAL_PER_WIDTH * width_px)])
        texels_per_cm = 1.25 * _SUPERSAMPLING * focal / self.rest_translation_cm[2]
        atlas = Atlas(texels_per_cm)
        palette = Palette.of(seed)
        paint(atlas, self.shape, palette, seed)
        self._texture = np.clip(atlas.picture, 0, 255)
        self._wall = paint_wall(width_px, width_px, palette.wall, seed)
        self.plate = self._wall.astype(np.uint8)
        self._build(atlas)

    def performance(self, duration_seconds: float, frame_rate_hz: float = 25.0, seed: int = 0) -> Performance:
        """Exact truth of `duration_seconds` of talking: what to render, and the sound of it.

        Raises:
            ValueError: the duration is shorter than a frame, or the rate is not positive.
        """
        return perform(self.shape, self.camera, self.rest_translation_cm, duration_seconds, frame_rate_hz, seed)

    def render(self, performance: Performance, index: int) -> Rendering:
        """The picture of frame `index`."""
        vertices = self._vertices(performance, index)
        size = self.camera.width_px * _SUPERSAMPLING
        points = self.camera.project(vertices) * _SUPERSAMPLING
        found = rasterise(points, vertices[:, 2], self._triangles, self._bias, size, size)
        corners = self._triangles[found.triangle]
        normals = self._normals(vertices).astype(np.float32)
        attributes = np.concatenate([normals, self._static], axis=1)
        # Less light falls into a mouth that is hardly open, or pursed.
        lit = 0.4 + 0.6 * float(smooth_step(performance.mouth_open_cm[index], 0.05, 0.7))
        pursed = float(performance.coefficients[index, fs.SHAPES.index("round")])
        attributes[self._in_mouth, 5] *= lit * (1 - 0.7 * pursed)
        mixed = np.einsum("pk,pkc->pc", found.weights, attributes[corners])
        color = self._shade(mixed, self._triangle_material[found.triangle])

        layer = np.zeros((size * size, 4), np.float32)
        layer[found.pixel, :3] = color
        layer[found.pixel, 3] = 1
        labels = np.zeros(size * size, np.uint8)
        labels[found.pixel] = self._triangle_label[found.triangle]
        width = self.camera.width_px
        small = cv2.resize(layer.reshape(size, size, 4), (width, width), interpolation=cv2.INTER_AREA)
        alpha = small[..., 3]
        rgb = small[..., :3] + (1 - alpha)[..., None] * self._wall
        return Rendering(np.clip(rgb + 0.5, 0, 255).astype(np.uint8), alpha, _vote(labels.reshape(size, size), alpha))

    def _build(self, atlas: Atlas) -> None:
        rng = np.random.default_rng([self.seed, 5])
        self._head, head = body.head_surface(self.shape, atlas)
        neck, self._neck_share = clothes.neck(atlas)
        self._surfaces: list[Surface] = [
            head, body.hair(atlas, rng), *body.ears(atlas), *body.eyeballs(self.shape, atlas),
            *body.sockets(self.shape, atlas), *body.lashes(self.shape, atlas),
            *body.mouth_interior(self.shape, atlas), neck, *clothes.torso(atlas),
        ]  # fmt: skip
        counts = [len(s.vertices_cm) for s in self._surfaces]
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        self._triangles = np.concatenate([s.triangles + k for s, k in zip(self._surfaces, starts, strict=True)])
        sizes = [len(s.triangles) for s in self._surfaces]
        self._triangle_material = np.repeat([s.material for s in self._surfaces], sizes)
        self._triangle_label = np.repeat([s.label for s in self._surfaces], sizes).astype(np.uint8)
        self._in_mouth = np.repeat([s.label == body.MOUTH for s in self._surfaces], counts)
        self._bias = np.repeat([s.bias_cm for s in self._surfaces], sizes)
        texture = np.concatenate([s.texture for s in self._surfaces])
        shade = np.concatenate([s.shade for s in self._surfaces])
        self._static = np.concatenate([texture, shade[:, None]], axis=1).astype(np.float32)
        self._normals = Normals(sum(counts), self._triangles)

    def _vertices(self, performance: Performance, index: int) -> np.ndarray:
        """Camera-frame vertices [n, 3] of all surfaces, in order."""
        landmarks = performance.landmarks_cm[index]
        jaw = fs.jaw_rotation(float(performance.coefficients[index, fs.SHAPES.index("jaw")]))
        look = fs.gaze_rotation(performance.gaze[index : index + 1])[0]
        pose = performance.head.matrices()[index].astype(np.float64)
        torso = performance.torso.matrices()[index].astype(np.float64)
        seen = {"eye": 0, "socket": 0, "lash": 0, "teeth": 0}
        out = []
        for surface in self._surfaces:
            side = seen.get(surface.name, 0)
            if surface.name in seen:
                seen[surface.name] += 1
            points = surface.vertices_cm
            if surface.name == "head":
                points = self._head.positions(landmarks, self.shape.rest_cm)
            elif surface.name == "eye":
                center = self.shape.eye_centers_cm[side]
                points = center + (points - center) @ look.T
            elif surface.name == "socket":
                loop = landmarks[list(fs.UPPER_LIDS[side] + fs.LOWER_LIDS[side][-2:0:-1])]
                points = np.concatenate([loop.mean(axis=0)[None], loop])
            elif surface.name == "lash":
                points = body.lash_positions(landmarks, side)
            elif surface.name == "cavity":
                points = body.cavity_positions(landmarks)
            elif surface.name == "tongue" or (surface.name == "teeth" and side == 1):
                points = (points - fs.JAW_HINGE_CM) @ jaw.T + fs.JAW_HINGE_CM
            with_head = points @ pose[:, :3].T + pose[:, 3]
            if surface.label in (body.NECK, body.TORSO):
                at_rest = points + self.rest_translation_cm
                with_torso = at_rest @ torso[:, :3].T + torso[:, 3]
                share = self._neck_share[:, None] if surface.label == body.NECK else 0.0
                with_head = share * with_head + (1 - share) * with_torso
            out.append(with_head)
        return np.concatenate(out)

    def _shade(self, mixed: np.ndarray, material: np.ndarray) -> np.ndarray:
        """Colours float32 [p, 3] from interpolated normals, texture places and shade."""
        nx, ny, nz, place_x, place_y, shade = np.ascontiguousarray(mixed.T)
        length = 1 / np.sqrt(np.maximum(nx * nx + ny * ny + nz * nz, 1e-12))
        nx, ny, nz = nx * length, ny * length, nz * length
        sampled = _sample(self._texture, place_x, place_y)
        ambient, diffuse, wrap, specular, power = _MATERIALS.T[:, material]

        def facing(light: np.ndarray) -> np.ndarray:
            return nx * light[0] + ny * light[1] + nz * light[2]

        key = np.clip((facing(_KEY_LIGHT) + wrap) / (1 + wrap), 0, 1)
        fill = np.clip((facing(_FILL_LIGHT) + 0.4) / 1.4, 0, 1)
        soft = ambient * (0.86 - 0.14 * ny) + 0.16 * fill
        rim = np.clip(facing(_RIM_LIGHT), 0, 1) * np.square(np.clip(1 + nz, 0, 1)) * 0.35
        half = _KEY_LIGHT + np.array([0, 0, -1], np.float32)
        half /= np.linalg.norm(half)
        shine = specular * sampled[:, 3] * np.exp(power * (facing(half) - 1)) * np.minimum(shade, 1)
        wet = np.flatnonzero(material == body.EYE)
        shine[wet] += 320 * np.exp(190 * np.minimum(facing(_CATCHLIGHT)[wet] - 1, 0))
        # Red light bleeds furthest round the terminator.
        bleed = (key * (1.16 - 0.16 * key), key, key * (0.9 + 0.1 * key))
        out = np.empty((len(mixed), 3), np.float32)
        for channel, (sky, sun) in enumerate(((0.97, 1.05), (1.0, 1.0), (1.04, 0.94))):
            light = sky * soft + sun * diffuse * bleed[channel] + rim
            out[:, channel] = sampled[:, channel] * light * shade + shine
        return out


def _sample(texture: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Bilinear samples float32 [p, 4]."""
    width = 1 << 12  # remap wants a picture of places; its rows may hold at most 32767
    padded = -len(x) % width
    places = [np.pad(v.astype(np.float32) - 0.5, (0, padded)).reshape(-1, width) for v in (x, y)]
    sampled = cv2.remap(texture, places[0], places[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return sampled.reshape(-1, 4)[: len(x)]


def _vote(labels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The commonest label among each pixel's samples; background where the person has less than half."""
    height, width = alpha.shape
    counts = [
        cv2.resize((labels == k).astype(np.float32), (width, height), interpolation=cv2.INTER_AREA) for k in range(1, 6)
    ]
    winner = (np.argmax(counts, axis=0) + 1).astype(np.uint8)
    winner[alpha < 0.5] = 0
    return winner
