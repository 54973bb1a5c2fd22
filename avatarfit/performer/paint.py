"""Colours of the performer: everything is painted into the atlas once, fixed to the surfaces."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from avatarfit.performer import face_shape as fs
from avatarfit.performer.atlas import EYE_TEXTURE_SCALE, Atlas, head_texture_cm, noise
from avatarfit.performer.body import hairline_cm
from avatarfit.performer.surface import smooth_step

Color = tuple[float, float, float]


@dataclass(frozen=True)
class Palette:
    """Colours (sRGB, 0..255) that tell one performer from another."""

    skin: Color
    lip: Color
    hair: Color
    iris: Color
    shirt: Color
    wall: Color

    @staticmethod
    def of(seed: int) -> Palette:
        """A palette drawn from `seed`; 0 is the demo's."""
        rng = np.random.default_rng([seed, 2])
        skins = [(224, 174, 146), (198, 144, 112), (158, 106, 78), (234, 190, 166)]
        lips = [(182, 96, 92), (166, 88, 82), (128, 66, 60), (204, 118, 116)]
        hairs = [(70, 46, 34), (34, 26, 24), (28, 22, 20), (128, 88, 52)]
        irises = [(86, 122, 126), (104, 72, 44), (70, 48, 34), (94, 116, 84)]
        shirts = [(52, 92, 112), (128, 62, 66), (66, 96, 74), (92, 82, 122)]
        walls = [(186, 190, 184), (178, 184, 194), (198, 188, 174), (184, 180, 188)]
        person = 0 if seed == 0 else int(rng.integers(4))
        shirt, wall = (0, 0) if seed == 0 else (int(rng.integers(4)), int(rng.integers(4)))
        return Palette(skins[person], lips[person], hairs[person], irises[person], shirts[shirt], walls[wall])


def paint(atlas: Atlas, shape: fs.FaceShape, palette: Palette, seed: int) -> None:
    """Fill the atlas."""
    rng = np.random.default_rng([seed, 3])
    _paint_skin(atlas, shape, palette, rng)
    _paint_scalp(atlas, palette)
    _paint_lips(atlas, shape, palette, rng)
    _paint_lids(atlas, shape, palette)
    _paint_brows(atlas, shape, palette, rng)
    _paint_hair(atlas, palette, rng)
    _paint_eye(atlas, palette, rng)
    _paint_mouth(atlas)
    _paint_cloth(atlas, palette, rng)


def _paint_skin(atlas: Atlas, shape: fs.FaceShape, palette: Palette, rng: np.random.Generator) -> None:
    area = atlas.region("head")
    area[..., :3] = palette.skin
    area[..., 3] = 90
    texel = atlas.texels_per_cm
    mottle = 2.2 * noise(area.shape[:2], 0.45 * texel, rng) + 2.0 * noise(area.shape[:2], 0.10 * texel, rng)
    area[..., :3] += mottle[..., None] * [1.0, 1.05, 1.0]
    redness = 2.0 * noise(area.shape[:2], 1.2 * texel, rng)
    area[..., 1:3] -= np.abs(redness)[..., None] * [1.0, 0.8]

    flush = (palette.skin[0] * 0.98, palette.skin[1] * 0.80, palette.skin[2] * 0.78)
    rest = head_texture_cm(shape.rest_cm)
    x, y = atlas.coordinates("head")

    def glow(center: np.ndarray, sigma: tuple[float, float], color: Color, strength: float) -> None:
        bell = np.exp(-0.5 * (((x - center[0]) / sigma[0]) ** 2 + ((y - center[1]) / sigma[1]) ** 2))
        atlas.tint("head", bell, color, strength)

    for cheek in (50, 280):
        glow(rest[cheek] + [0, 0.7], (1.9, 1.3), flush, 0.42)
    glow(rest[1] + [0, -0.2], (1.2, 0.9), flush, 0.45)
    glow(rest[152] + [0, -1.0], (1.5, 0.8), flush, 0.20)
    shadow: Color = (palette.skin[0] * 0.80, palette.skin[1] * 0.70, palette.skin[2] * 0.68)
    for side in range(2):
        socket = rest[list(fs.UPPER_LIDS[side] + fs.LOWER_LIDS[side])].mean(axis=0)
        glow(socket + [0, -0.1], (1.9, 0.9), shadow, 0.42)
        glow(rest[(133, 362)[side]] + [0, 0.0], (0.7, 0.8), shadow, 0.40)
    glow(rest[17] + [0, 0.5], (1.5, 0.28), shadow, 0.40)
    glow((rest[2] + rest[0]) / 2, (0.30, 0.5), shadow, 0.22)

    dark: Color = (palette.skin[0] * 0.36, palette.skin[1] * 0.24, palette.skin[2] * 0.22)
    for nostril, wing in (((79, 20, 60, 99), (129, 64, 98)), ((309, 250, 290, 328), (358, 294, 327))):
        center = rest[list(nostril)].mean(axis=0)
        bell = np.exp(-((((x - center[0]) / 0.52) ** 2 + ((y - center[1]) / 0.20) ** 2) ** 2))
        atlas.tint("head", bell, dark, 0.85, gloss=20)
        crease = atlas.stroke(atlas.mask("head"), rest[list(wing)], 0.16, 0.10)
        atlas.tint("head", crease, shadow, 0.65)

    freckles = np.zeros(area.shape[:2], np.float32)
    for _ in range(90):
        center = (rest[6] + rng.normal(size=2) * [3.2, 1.1] + [0, 2.2]) * texel
        column, row = (int(np.clip(c, 0, n - 1)) for c, n in zip(center, (area.shape[1], area.shape[0]), strict=True))
        freckles[row, column] += rng.uniform(0.25, 0.6)
    sigma = 0.07 * texel
    freckles = cv2.GaussianBlur(freckles, (0, 0), sigma) * (2 * np.pi * sigma**2)
    spot: Color = (palette.skin[0] * 0.72, palette.skin[1] * 0.58, palette.skin[2] * 0.50)
    atlas.tint("head", np.clip(freckles, 0, 0.4), spot)


def _paint_scalp(atlas: Atlas, palette: Palette) -> None:
    """The roots: the scalp takes the hair's colour over the hairline, and softly a little below it."""
    x, y = atlas.coordinates("head")
    angle = (x - 26.0) / 8.0
    above = hairline_cm(angle) - (y - 14.0)
    dark = tuple(0.75 * c for c in palette.hair)
    atlas.tint("head", smooth_step(above, -0.45, 0.35), (dark[0], dark[1], dark[2]), 0.95, gloss=30)


def _paint_lips(atlas: Atlas, shape: fs.FaceShape, palette: Palette, rng: np.random.Generator) -> None:
    from avatarfit.capture.canonical_face import LOWER_INNER_LIP, UPPER_INNER_LIP

    rest = head_texture_cm(shape.rest_cm)
    upper = np.concatenate([rest[list(fs.UPPER_OUTER_LIP)], rest[list(UPPER_INNER_LIP[::-1])]])
    lower = np.concatenate([rest[list(fs.LOWER_OUTER_LIP)], rest[list(LOWER_INNER_LIP[::-1])]])
    red = palette.lip
    both = atlas.fill(atlas.fill(atlas.mask("head"), upper), lower, 0.07)
    atlas.tint("head", both, red, 0.8, gloss=150)
    upper_only = atlas.fill(atlas.mask("head"), upper, 0.12)
    atlas.tint("head", upper_only, (red[0] * 0.80, red[1] * 0.74, red[2] * 0.76), 0.55)
    area = atlas.region("head")
    grooves = noise(area.shape[:2], 0.05 * atlas.texels_per_cm, rng, stretch=5.0)
    area[..., :3] += (both.astype(np.float32) / 255 * grooves)[..., None] * [4.0, 3.0, 3.0]
    middle = rest[list(UPPER_INNER_LIP)]
    seam = atlas.stroke(atlas.mask("head"), middle, 0.10, 0.06)
    atlas.tint("head", seam, (red[0] * 0.42, red[1] * 0.28, red[2] * 0.30), 0.9, gloss=40)


def _paint_lids(atlas: Atlas, shape: fs.FaceShape, palette: Palette) -> None:
    rest = head_texture_cm(shape.rest_cm)
    line: Color = (palette.skin[0] * 0.30, palette.skin[1] * 0.22, palette.skin[2] * 0.20)
    soft: Color = (palette.skin[0] * 0.62, palette.skin[1] * 0.48, palette.skin[2] * 0.46)
    folds = ((247, 30, 29, 27, 28, 56, 190), (467, 260, 259, 257, 258, 286, 414))
    for side in range(2):
        upper, lower = rest[list(fs.UPPER_LIDS[side])], rest[list(fs.LOWER_LIDS[side])]
        fold = 0.45 * rest[list(folds[side])] + 0.55 * upper[1:-1]
        atlas.tint("head", atlas.stroke(atlas.mask("head"), fold, 0.10, 0.09), soft, 0.75)
        atlas.tint("head", atlas.stroke(atlas.mask("head"), upper, 0.13, 0.05), line, 0.95, gloss=20)
        atlas.tint("head", atlas.stroke(atlas.mask("head"), lower, 0.09, 0.06), soft, 0.85)
        bag = lower[1:-1] + [0, 0.55]
        atlas.tint("head", atlas.stroke(atlas.mask("head"), bag, 0.16, 0.22), soft, 0.28)


def _paint_brows(atlas: Atlas, shape: fs.FaceShape, palette: Palette, rng: np.random.Generator) -> None:
    rest = head_texture_cm(shape.rest_cm)
    color = tuple(0.8 * c for c in palette.hair)
    for side, brow in enumerate(fs.BROWS):
        top, bottom = rest[list(brow[:5])], rest[list(brow[9:4:-1])]
        under = np.concatenate([top, bottom[::-1]])
        base = atlas.fill(atlas.mask("head"), under, 0.13)
        atlas.tint("head", base, (color[0], color[1], color[2]), 0.50, gloss=20)
        strands = atlas.mask("head")
        for _ in range(150):
            t, h = rng.uniform(0, 4), rng.uniform(0.0, 1.0)
            k = min(int(t), 3)
            up = top[k] + (t - k) * (top[k + 1] - top[k])
            low = bottom[k] + (t - k) * (bottom[k + 1] - bottom[k])
            root = low + h * (up - low)
            outer = -1.0 if side == 0 else 1.0
            lift = np.interp(t, [0, 2, 4], [0.05, -0.12, -0.34])
            tip = root + np.array([outer * rng.uniform(0.22, 0.42), lift]) * rng.uniform(0.7, 1.1)
            atlas.stroke(strands, np.stack([root, tip]), 0.035)
        atlas.tint("head", strands, (color[0] * 0.7, color[1] * 0.7, color[2] * 0.7), 0.62)


def _paint_hair(atlas: Atlas, palette: Palette, rng: np.random.Generator) -> None:
    area = atlas.region("hair")
    texel = atlas.texels_per_cm
    fine = noise(area.shape[:2], 0.035 * texel, rng, stretch=60)
    medium = noise(area.shape[:2], 0.12 * texel, rng, stretch=25)
    broad = noise(area.shape[:2], 0.5 * texel, rng, stretch=8)
    value = 1 + 0.15 * fine + 0.14 * medium + 0.08 * broad
    area[..., :3] = np.array(palette.hair) * np.clip(value, 0.45, 1.8)[..., None]
    warm = np.clip(medium, 0, 3)[..., None] * [7.0, 4.0, 1.5]
    area[..., :3] += warm
    area[..., 3] = np.clip(120 + 60 * fine + 40 * medium, 0, 255)


def _paint_eye(atlas: Atlas, palette: Palette, rng: np.random.Generator) -> None:
    area = atlas.region("eye")
    x, y = atlas.coordinates("eye")
    dx, dy = (x - 6.0) / (EYE_TEXTURE_SCALE * 0.86), (y - 6.0) / (EYE_TEXTURE_SCALE * 0.86)
    r = np.hypot(dx, dy)
    turn = np.arctan2(dy, dx)
    white = np.array([238, 232, 228], np.float32)
    area[..., :3] = white - smooth_step(r, 0.7, 1.9)[..., None] * [26, 46, 48]
    veins = noise(area.shape[:2], 0.10 * atlas.texels_per_cm, rng)
    area[..., 1:3] -= np.clip(veins - 0.9, 0, 1)[..., None] * smooth_step(r, 0.7, 1.3)[..., None] * 26
    edge = float(np.arcsin(fs.IRIS_RADIUS_CM / fs.EYEBALL_RADIUS_CM) * fs.EYEBALL_RADIUS_CM)
    rays = sum(np.sin(turn * k + rng.uniform(0, 6)) / k**0.5 for k in (9, 17, 29, 41)) * 0.10
    tone = 0.78 + 0.55 * smooth_step(r, 0.55 * edge, 0.30 * edge) + rays
    tone *= 1 - 0.62 * smooth_step(r, 0.74 * edge, edge)
    iris = np.clip(np.array(palette.iris) * tone[..., None], 0, 255)
    collarette = np.exp(-(((r - 0.48 * edge) / (0.13 * edge)) ** 2))[..., None]
    iris += collarette * [26, 14, -4]
    inside = smooth_step(r, edge * 1.04, edge * 0.95)[..., None]
    area[..., :3] += inside * (iris - area[..., :3])
    pupil = smooth_step(r, edge * 0.43, edge * 0.37)[..., None]
    area[..., :3] += pupil * (np.array([10, 9, 10]) - area[..., :3])
    area[..., 3] = 255


def _paint_mouth(atlas: Atlas) -> None:
    for region, color, gloss in (
        ("cavity", (92, 34, 34), 30), ("tongue", (186, 98, 94), 120), ("lash", (30, 22, 20), 10),
        ("teeth", (238, 230, 214), 200),
    ):  # fmt: skip
        area = atlas.region(region)
        area[..., :3] = color
        area[..., 3] = gloss
    gaps = atlas.mask("teeth")
    for row, pitch in ((0.0, 0.86), (1.5, 0.68)):
        for k in range(-7, 8):
            x = 7 + k * pitch * (1 - 0.012 * abs(k)) * 1.9
            atlas.stroke(gaps, np.array([[x, row], [x, row + 1.45]]), 0.05)
    atlas.tint("teeth", cv2.GaussianBlur(gaps, (0, 0), 1.0), (150, 120, 104), 0.8)
    _, y = atlas.coordinates("teeth")
    atlas.tint("teeth", smooth_step(y, 0.35, 0.0) + smooth_step(y, 2.4, 2.9), (206, 130, 124), 0.7)


def _paint_cloth(atlas: Atlas, palette: Palette, rng: np.random.Generator) -> None:
    for region in ("torso", "collar"):
        area = atlas.region(region)
        x, y = atlas.coordinates(region)
        base = np.array(palette.shirt, np.float32)
        area[..., :3] = base
        grain = noise(area.shape[:2], 0.06 * atlas.texels_per_cm, rng)
        folds = noise(area.shape[:2], 1.8 * atlas.texels_per_cm, rng, stretch=1.6)
        if region == "torso":
            knit = 0.045 * np.sin(2 * np.pi * x / 0.55)
            band = smooth_step(np.cos(2 * np.pi * (y - 0.4) / 2.6), 0.72, 0.86)[..., None]
            area[..., :3] += band * (np.array([222, 220, 208]) - area[..., :3]) * 0.55
        else:
            knit = 0.14 * np.sin(2 * np.pi * x / 0.62)
        area[..., :3] *= (1 + knit + 0.035 * grain + 0.05 * folds)[..., None]
        area[..., 3] = 10


def paint_wall(width_px: int, height_px: int, color: Color, seed: int) -> np.ndarray:
    """The background, float32 [h, w, 3] in 0..255: a wall out of focus with a window's light and some furniture."""
    rng = np.random.default_rng([seed, 4])
    x, y = np.meshgrid(np.linspace(0, 1, width_px), np.linspace(0, 1, height_px))
    light = 1.08 - 0.30 * x - 0.20 * y**2 + 0.10 * np.exp(-(((x - 0.12) / 0.25) ** 2 + ((y - 0.25) / 0.4) ** 2))
    wall = (np.array(color, np.float32) * light[..., None]).astype(np.float32)

    def box(left: float, top: float, right: float, bottom: float, fill: Color) -> None:
        cv2.rectangle(wall, (round(left * width_px), round(top * height_px)),
                      (round(right * width_px), round(bottom * height_px)), fill, -1)  # fmt: skip

    dark: Color = (color[0] * 0.70, color[1] * 0.66, color[2] * 0.60)
    box(0.80, 0.30, 1.0, 0.325, dark)
    for k in range(5):
        tone = rng.uniform(0.45, 0.95)
        tint = np.array([[170, 96, 80], [84, 112, 130], [196, 170, 120], [110, 126, 96]])[rng.integers(4)] * tone
        height = rng.uniform(0.11, 0.17)
        box(
            0.83 + 0.034 * k,
            0.30 - height,
            0.83 + 0.034 * (k + 1),
            0.30,
            (float(tint[0]), float(tint[1]), float(tint[2])),
        )
    box(0.80, 0.62, 1.0, 0.645, dark)
    for _ in range(26):
        lean = rng.normal() * 0.9
        start = np.array([0.08 * width_px, 0.98 * height_px])
        stop = start + np.array([np.sin(lean), -np.cos(lean)]) * rng.uniform(0.12, 0.42) * height_px
        green = np.array([92, 122, 84]) * rng.uniform(0.7, 1.15)
        center = tuple(float(v) for v in (start + stop) / 2)
        axes = (float(np.linalg.norm(stop - start)), 0.045 * width_px)
        cv2.ellipse(wall, (center, axes, float(np.rad2deg(np.arctan2(*(stop - start)[::-1])))),
                    tuple(float(v) for v in green), -1)  # fmt: skip
    wall = cv2.GaussianBlur(wall, (0, 0), 0.017 * width_px)
    return np.clip(wall + 0.8 * noise((height_px, width_px), 0.7, rng)[..., None], 0, 255).astype(np.float32)
