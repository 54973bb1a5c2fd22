"""The old background is taken out of a person's edge.

A person who was fitted over a background has some of it in the outline: the Gaussians of the rim were painted with what
they stood before. With the background B known and the person's own colour F taken from just inside the outline, a rim
colour C is C = (1 - t) F + t B (known-background matting, Smith & Blinn 1996, with the foreground told by its
neighbourhood, as in closed-form and KNN matting). The share t is handed from the person to the transparency:

    rgb' = rgb - a t B,   a' = a (1 - t)

Over B itself this changes nothing, rgb' + (1 - a') B = rgb + (1 - a) B; over anything else the halo is gone.
"""

from __future__ import annotations

import numpy as np

from avatarfit.compositing.shot import Shot

_REDUCED_TO = 128
"""Height at which the person's own colours are spread outwards; they are smooth."""
_SURE = 0.97
_RIM_SHARE = 0.022
"""Width of the rim that may hold background, in heights of the picture."""
_NEAREST, _WIDEST = 2.0, 24.0
"""Deviations of the Gaussians that spread colours, pixels of the reduced picture."""
_LEAST_CONTRAST = 0.08
"""Distance of B from F in RGB below which a colour says nothing about t."""
_USUAL = 1.0
"""So many deviations of the person's own colours nearby are not taken for background."""
_FAINTEST = 1 / 512


class CleanEdges:
    """A layer that takes `plate`, the background a person was fitted over, out of the edge.

    Example: `Compositor(Backdrop(green), CleanEdges(avatar.plate))`.

    Args:
        plate: uint8 [H, W, 3], of the pictures' size.
        strength: 0 leaves the pictures as they are, 1 takes all of it.
    """

    def __init__(self, plate: np.ndarray, strength: float = 1.0) -> None:
        import cv2

        self._plate, self._strength = plate.reshape(-1, 3), strength
        height, width = plate.shape[:2]
        self._cell = max(round(height / _REDUCED_TO), 1)
        self._size = -(-width // self._cell), -(-height // self._cell)
        self._small_plate = cv2.resize(plate, self._size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        reach = max(round(_RIM_SHARE * self._size[1]), 1)
        self._disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
        self._shape = height, width

    def apply(self, shot: Shot) -> None:
        """Change `shot.rgba` in place; it is contiguous."""
        import cv2

        if not self._strength:
            return
        small = cv2.resize(shot.rgba, self._size, interpolation=cv2.INTER_AREA)
        alpha = cv2.extractChannel(small, 3)
        core = cv2.erode((alpha > _SURE).astype(np.uint8), self._disc, borderValue=(1,))
        rows, columns = np.nonzero((core == 0) & (alpha > _FAINTEST))
        if not len(rows) or not core.any():
            return
        own, spread = _own_colours(small, core)
        own, spread = own[rows, columns][:, None], spread[rows, columns][:, None]  # [n, 1, 3], [n, 1]
        away = self._small_plate[rows, columns][:, None] - own
        contrast = np.maximum(np.einsum("nkc,nkc->nk", away, away), _LEAST_CONTRAST**2)
        usual = np.minimum(_USUAL * spread / np.sqrt(contrast), 0.9)

        flat = shot.rgba.reshape(-1, 4)
        pixels = self._pixels(rows, columns)
        front, old = flat[pixels], self._plate[pixels] * np.float32(1 / 255)  # [n, k, 4], [n, k, 3]
        alpha = front[..., 3]
        # rgb = a C: so a times what would be the share of B in C
        along = np.einsum("nkc,nkc->nk", front[..., :3] - alpha[..., None] * own, np.broadcast_to(away, old.shape))
        share = (along / contrast - alpha * usual) * (self._strength / (1 - usual))
        share = np.clip(share, 0, self._strength * alpha)
        clean = front
        clean[..., :3] -= share[..., None] * old
        clean[..., 3] -= share
        np.clip(clean[..., :3], 0, clean[..., 3:], out=clean[..., :3])
        flat[pixels] = clean

    def _pixels(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """int [n, cell^2]: the pixels of cells; at the border some come twice."""
        height, width = self._shape
        step = np.arange(self._cell)
        down = np.minimum(rows[:, None] * self._cell + step, height - 1)
        across = np.minimum(columns[:, None] * self._cell + step, width - 1)
        return (down[:, :, None] * width + across[:, None, :]).reshape(len(rows), -1)


def _own_colours(small: np.ndarray, core: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What colour the person has just inside the outline, spread over the picture, and how much it varies there.

    Args:
        small: float32 [h, w, 4], premultiplied. core: uint8 [h, w], 1 where there is surely only person.

    Returns:
        float32 [h, w, 3] and [h, w].
    """
    import cv2

    known = core.astype(np.float32)
    colour = small[..., :3] * known[..., None]
    stack = np.dstack([colour, np.square(colour).sum(axis=2), known])
    near = cv2.GaussianBlur(stack, (0, 0), _NEAREST)
    # Where nothing sure is near, what is farther away counts.
    wide = cv2.blur(cv2.blur(stack, (49, 49)), (49, 49))
    mixed = near + 1e-3 * wide
    mixed /= np.maximum(mixed[..., 4:], 1e-9)
    own = mixed[..., :3]
    spread = np.sqrt(np.maximum(mixed[..., 3] - np.square(own).sum(axis=2), 0))
    return own, spread
