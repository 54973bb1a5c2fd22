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
        self._plate = plate.reshape(-1, 3)
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
        at = np.flatnonzero(band)
        if not len(at) or not inside.any() or not outside.any():
            return out
        person, wall = _near(small, inside), _near(small - self._small_plate, outside)
        # The person's colours beside the rim differ among themselves: the third field tells by how much.
        power = _near(np.einsum("yxc,yxc->yx", small, small), inside)
        doubt = power - np.einsum("yxc,yxc->yx", person[..., :3], person[..., :3]) + _COLOR_DEVIATION**2
        known = (person[..., 3] > _LEAST_SHARE) & (wall[..., 3] > _LEAST_SHARE)
        fields = np.dstack([doubt, known.astype(np.float32)])
        rows, columns = np.divmod(at, width)
        front, back, extra = _sampled((person, wall, fields), self._column[columns], self._row[rows])
        behind = self._plate[at] + back[:, :3]
        across = front[:, :3] - behind
        length = np.einsum("pc,pc->p", across, across)
        mixture = np.einsum("pc,pc->p", rgb.reshape(-1, 3)[at] - behind, across) / (length + 1)
        trust = extra[:, 1] * length / (length + extra[:, 0])
        flat = out.reshape(-1)
        value = flat[at].astype(np.float32)
        flat[at] = (value + trust * (255 * mixture.clip(0, 1) - value) + np.float32(0.5)).astype(np.uint8)
        return out


_STRETCH = np.clip((np.arange(256) - 20) * 255 / (235 - 20), 0, 255).round().astype(np.uint8)


def _near(picture: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Mean of `picture` over the pixels of `where` close by; of a coloured one float32 [h, w, 4], with their share."""
    import cv2

    side = (2 * _REACH + 1, 2 * _REACH + 1)
    weight = where.astype(np.float32)
    share = cv2.blur(weight, side)
    least = share + np.float32(1e-6)
    if picture.ndim == 2:
        return np.asarray(cv2.blur(picture * weight, side) / least)
    return np.dstack([cv2.blur(picture * weight[..., None], side) / least[..., None], share])


def _sampled(pictures: tuple[np.ndarray, ...], x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    """Bilinear samples [P, C] of each float32 [h, w, C] at pixel indices."""
    import cv2

    width = 1 << 10  # remap's rows may hold at most 32767
    places = [np.pad(v, (0, -len(v) % width)).reshape(-1, width) for v in (x, y)]
    sampled = [cv2.remap(p, *places, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) for p in pictures]
    return [s.reshape(-1, s.shape[2])[: len(x)] for s in sampled]
