"""The person's rim at the picture's own size: how much of each pixel there is person, how much background.

The network's mask holds no detail below its 256 pixels a side, so its edge takes two to four pixels of background
along. Near that edge both sides are known: the background from the plate, corrected by how the wall beside the edge
differs from it in this picture, and the person from what lies just inside. The pixel's colour then tells the mixture,
as in matting against a known background (Smith and Blinn 1996); where the two sides look alike, the network keeps its
say.
"""

from __future__ import annotations

import numpy as np

_SIDE_PX = 128
_CERTAIN, _NEVER = 200, 50
_REACH = 2
_COLOR_DEVIATION = 40.0
_LEAST_SHARE = 0.02


class RimMatte:
    """Refines masks against a plate.

    Args:
        plate: uint8 [H, W, 3], the background.
    """

    def __init__(self, plate: np.ndarray) -> None:
        import cv2

        height, width = plate.shape[:2]
        scale = min(1.0, _SIDE_PX / max(height, width))
        self._size = (max(8, round(width * scale)), max(8, round(height * scale)))
        self._plate = plate.reshape(-1, 3).astype(np.float32)
        self._small_plate = cv2.resize(plate, self._size, interpolation=cv2.INTER_AREA).astype(np.float32)
        # Full-size pixel indices to small ones, both with centres at + 0.5.
        sx, sy = self._size[0] / width, self._size[1] / height
        self._column = ((np.arange(width) + 0.5) * sx - 0.5).astype(np.float32)
        self._row = ((np.arange(height) + 0.5) * sy - 0.5).astype(np.float32)

    def refine(self, rgb: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """The person's alpha, uint8 [H, W], from the picture uint8 [H, W, 3] and the network's mask uint8 [H, W]."""
        import cv2

        width = mask.shape[1]
        small = cv2.resize(rgb, self._size, interpolation=cv2.INTER_AREA).astype(np.float32)
        coarse = cv2.resize(mask, self._size, interpolation=cv2.INTER_AREA)
        near = np.ones((3, 3), np.uint8)
        inside = cv2.erode((coarse > _CERTAIN).astype(np.uint8), near)
        outside = cv2.erode((coarse < _NEVER).astype(np.uint8), near)
        band = cv2.resize(1 - inside - outside, mask.shape[::-1], interpolation=cv2.INTER_NEAREST)
        # Off the rim the network is right or wrong as a whole; between is only its doubt.
        out = np.asarray(cv2.LUT(mask, _STRETCH))
        found = cv2.findNonZero(band)
        if found is None or not inside.any() or not outside.any():
            return out
        columns, rows = found[:, 0].T
        at = rows * width + columns
        front, back = self._sides(small, inside, outside)
        front, back = _sampled((front, back), self._column[columns], self._row[rows])
        # Between a place that knows both sides and one that does not, what is known counts alone.
        known = back[:, 3].copy()
        front /= known[:, None] + np.float32(1e-6)
        back /= known[:, None] + np.float32(1e-6)
        behind = self._plate[at] + back[:, :3]
        across = front[:, :3] - behind
        length = np.einsum("pc,pc->p", across, across)
        mixture = np.einsum("pc,pc->p", rgb.reshape(-1, 3)[at] - behind, across) / (length + 1)
        trust = np.minimum(2 * known, 1) * length / (length + front[:, 3])
        flat = out.reshape(-1)
        value = flat[at].astype(np.float32)
        flat[at] = (value + trust * (255 * mixture.clip(0, 1) - value) + np.float32(0.5)).astype(np.uint8)
        return out

    def _sides(self, small: np.ndarray, inside: np.ndarray, outside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Two float32 [h, w, 4] at the small size: the person's colour close by and the doubt that its variety leaves;
        the picture's difference from the plate close by, and 1. Both are 0 where one of the sides is not close by."""
        import cv2

        side = (2 * _REACH + 1, 2 * _REACH + 1)
        person, wall = inside.astype(np.float32), outside.astype(np.float32)
        power = np.einsum("yxc,yxc->yx", small, small)
        # Sums of four channels at a time, which is what filters are quick at.
        masked = cv2.merge([*cv2.split(small), power]) * person[..., None]
        front = np.asarray(cv2.blur(masked, side), np.float32)
        beside = cv2.merge([*cv2.split(small - self._small_plate), np.ones_like(power)]) * wall[..., None]
        back = np.asarray(cv2.blur(beside, side), np.float32)
        share = cv2.blur(person, side)
        front /= share[..., None] + np.float32(1e-6)
        front[..., 3] += _COLOR_DEVIATION**2 - np.einsum("yxc,yxc->yx", front[..., :3], front[..., :3])
        both = (share > _LEAST_SHARE) & (back[..., 3] > _LEAST_SHARE)
        back /= back[..., 3:] + np.float32(1e-6)
        back[..., 3] = 1
        return front * both[..., None], back * both[..., None]


_STRETCH = np.clip((np.arange(256) - 20) * 255 / (235 - 20), 0, 255).round().astype(np.uint8)


def _sampled(pictures: tuple[np.ndarray, ...], x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    """Bilinear samples [P, C] of each float32 [h, w, C] at pixel indices."""
    import cv2

    width = 1 << 10  # remap's rows may hold at most 32767
    across, down = (np.pad(v, (0, -len(v) % width)).reshape(-1, width) for v in (x, y))
    sampled = [cv2.remap(p, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) for p in pictures]
    return [s.reshape(-1, s.shape[2])[: len(x)] for s in sampled]
