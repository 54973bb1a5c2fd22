"""Where each piece's texture lies in one common picture, and the brushes that paint it."""

from __future__ import annotations

import cv2
import numpy as np

# Regions in centimetres of surface: left, top, width, height of each in the atlas.
_REGIONS = {
    "head": (0.0, 0.0, 52.0, 30.0),
    "torso": (0.0, 30.0, 52.0, 30.0),
    "hair": (0.0, 60.0, 34.0, 26.0),
    "eye": (36.0, 61.0, 12.0, 12.0),
    "teeth": (36.0, 74.0, 14.0, 3.0),
    "tongue": (36.0, 78.0, 4.0, 4.0),
    "cavity": (41.0, 78.0, 4.0, 4.0),
    "lash": (46.0, 78.0, 4.0, 4.0),
    "collar": (0.0, 87.0, 52.0, 6.0),
}
_HEAD_RADIUS_CM = 8.0
_HEAD_AXIS_Z_CM = 6.0
_HEAD_TOP_CM = -14.0
EYE_TEXTURE_SCALE = 3.0


class Atlas:
    """One float32 picture [h, w, 4] in 0..255: sRGB-coded colour, then gloss.

    Args:
        texels_per_cm: resolution; about that of the supersampled picture.
    """

    def __init__(self, texels_per_cm: float) -> None:
        self.texels_per_cm = texels_per_cm
        width = max(x + w for x, _, w, _ in _REGIONS.values())
        height = max(y + h for _, y, _, h in _REGIONS.values())
        shape = int(np.ceil(height * texels_per_cm)), int(np.ceil(width * texels_per_cm)), 4
        self.picture = np.zeros(shape, np.float32)

    def place(self, region: str, points_cm: np.ndarray) -> np.ndarray:
        """Atlas pixels [..., 2] of `points_cm` [..., 2] measured from the region's top left corner."""
        left, top, _, _ = _REGIONS[region]
        return (points_cm + [left, top]) * self.texels_per_cm

    def region(self, region: str) -> np.ndarray:
        """The region's part of the picture, for painting in place."""
        left, top, width, height = (round(v * self.texels_per_cm) for v in _REGIONS[region])
        return self.picture[top : top + height, left : left + width]

    def coordinates(self, region: str) -> tuple[np.ndarray, np.ndarray]:
        """x and y in centimetres of each texel of the region, from its top left corner."""
        height, width = self.region(region).shape[:2]
        x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        return x / self.texels_per_cm, y / self.texels_per_cm

    def mask(self, region: str) -> np.ndarray:
        """An empty uint8 stencil of the region's size."""
        return np.zeros(self.region(region).shape[:2], np.uint8)

    def fill(self, mask: np.ndarray, path_cm: np.ndarray, blur_cm: float = 0.0) -> np.ndarray:
        """The stencil with a closed path [n, 2] filled, its edge softened."""
        cv2.fillPoly(mask, [self._fixed(path_cm)], (255,), cv2.LINE_AA, 4)
        return self._soft(mask, blur_cm)

    def stroke(self, mask: np.ndarray, path_cm: np.ndarray, width_cm: float, blur_cm: float = 0.0) -> np.ndarray:
        """The stencil with an open path [n, 2] drawn, its edge softened."""
        thickness = max(1, round(width_cm * self.texels_per_cm))
        cv2.polylines(mask, [self._fixed(path_cm)], False, (255,), thickness, cv2.LINE_AA, 4)
        return self._soft(mask, blur_cm)

    def tint(
        self, region: str, mask: np.ndarray, color: tuple[float, float, float], strength: float = 1.0,
        gloss: float | None = None,
    ) -> None:  # fmt: skip
        """Colour laid over the region where the stencil (uint8, or float 0..1) says."""
        left, top, width, height = cv2.boundingRect(mask if mask.dtype == np.uint8 else (mask > 0.003).astype(np.uint8))
        part = slice(top, top + height), slice(left, left + width)
        area = self.region(region)[part]
        amount = mask[part].astype(np.float32) * np.float32(strength / 255 if mask.dtype == np.uint8 else strength)
        for channel, value in enumerate((*color, gloss)):
            if value is not None:
                area[..., channel] += amount * (np.float32(value) - area[..., channel])

    def _fixed(self, path_cm: np.ndarray) -> np.ndarray:
        return np.round(np.asarray(path_cm) * self.texels_per_cm * 16).astype(np.int32)

    def _soft(self, mask: np.ndarray, blur_cm: float) -> np.ndarray:
        sigma = blur_cm * self.texels_per_cm
        return cv2.GaussianBlur(mask, (0, 0), sigma) if sigma > 0.3 else mask


def head_texture_cm(points_cm: np.ndarray) -> np.ndarray:
    """Cylindrical coordinates [..., 2] in the head region of points [..., 3] of the head frame."""
    angle = np.arctan2(points_cm[..., 0], _HEAD_AXIS_Z_CM - points_cm[..., 2])
    _, _, width, _ = _REGIONS["head"]
    return np.stack([width / 2 + angle * _HEAD_RADIUS_CM, points_cm[..., 1] - _HEAD_TOP_CM], axis=-1)


def noise(shape: tuple[int, ...], sigma_px: float, rng: np.random.Generator, stretch: float = 1.0) -> np.ndarray:
    """Smooth noise float32 of unit deviation; `stretch` > 1 draws it out downwards."""
    # Wide kernels are slow: broad noise is made small and blown up.
    shrink = [max(1, int(s / 4)) for s in (sigma_px * stretch, sigma_px)]
    small = [int(np.ceil(n / k)) + 2 for n, k in zip(shape, shrink, strict=True)]
    raw = rng.standard_normal(small).astype(np.float32)
    sigma_y, sigma_x = (max(s / k, 0.3) for s, k in zip((sigma_px * stretch, sigma_px), shrink, strict=True))
    smooth = cv2.GaussianBlur(raw, (0, 0), sigmaX=sigma_x, sigmaY=sigma_y)
    full = (small[1] * shrink[1], small[0] * shrink[0])
    smooth = cv2.resize(smooth, full, interpolation=cv2.INTER_CUBIC)[: shape[0], : shape[1]]
    return np.asarray(smooth / max(float(smooth.std()), 1e-6))
