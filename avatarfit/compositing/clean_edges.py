"""The old background is taken out of a person's edge.

A person who was fitted over a background has some of it in the outline: the Gaussians of the rim were painted with what
they stood before. With the background B known and the person's own colour F taken from just inside the outline, a rim
colour is C = k F + t B, where k is 1 - t times what the light does at the edge; k and t are found by least squares
(matting against a known background, after Smith & Blinn, Blue Screen Matting, 1996). The share t is handed from the
person to the transparency:

    rgb' = rgb - a t B,   a' = a (1 - t)

Over B itself this changes nothing, rgb' + (1 - a') B = rgb + (1 - a) B; over anything else the halo is gone. Where F
and B differ in brightness alone nothing is taken: shading would look the same.
"""

from __future__ import annotations

import numpy as np

from avatarfit.compositing.shot import Shot

_REDUCED_TO = 128
"""Height at which the person's own colours are spread outwards; they are smooth."""
_SURE = 0.97
_RIM_SHARE = 0.015
"""Width of the rim that may hold background, in heights of the picture."""
_NEAREST, _WIDE = 1.0, 25
"""Deviation of the Gaussian, and size of the window, that spread colours: pixels of half the reduced picture."""
_LEAST_CONTRAST = 0.08
"""Distance of B from F in RGB below which a colour says nothing about t."""
_LIGHT = 0.01
"""How strongly k is held at 1 - t."""
_SAME_HUE = 0.05
"""Squared sine of the angle between F and B below which their hues count as one; from twice that on all is taken."""
_USUAL = 0.5
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

        self._plate = [np.ascontiguousarray(c).reshape(-1) for c in np.moveaxis(plate.astype(np.float32) / 255, 2, 0)]
        self._strength = strength
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
        colours, spread = _own_colours(small, core)
        # Planes rather than pixels: long rows are what the processor adds up fast.
        half = rows // 2, columns // 2
        own = [np.ascontiguousarray(colours[half][:, c])[:, None] for c in range(3)]  # each [n, 1]
        plate = self._small_plate[rows, columns]
        there = [np.ascontiguousarray(plate[:, c])[:, None] for c in range(3)]
        # C = k F + t B with k near 1 - t, least squares; light may make k another one more easily than t.
        own_own, own_old, old_old = (_dot(x, y) + _LIGHT for x, y in ((own, own), (own, there), (there, there)))
        apart = np.maximum(old_old - own_old * own_old / own_own, _LEAST_CONTRAST**2)
        usual = np.minimum(_USUAL * spread[half][:, None] / np.sqrt(apart), 0.9)
        # Where the two differ in brightness alone, a rim's own shading looks like the background: better none is taken.
        told = np.clip((apart / np.maximum(old_old, 1e-3) - _SAME_HUE) / _SAME_HUE, 0, 1)
        weight = self._strength * told / ((1 - usual) * apart)

        flat = shot.rgba.reshape(-1, 4)
        pixels = self._pixels(rows, columns)
        front = np.take(flat, pixels, axis=0)  # [n, k, 4]
        *colour, alpha = np.ascontiguousarray(np.moveaxis(front, 2, 0))
        # rgb = a C: so a times the share of B in C
        share = _dot(colour, there) + _LIGHT * alpha
        share -= own_old / own_own * (_dot(colour, own) + _LIGHT * alpha)
        share -= alpha * (usual * apart)
        share *= weight
        np.minimum(share, alpha, out=share)
        # No more than leaves a colour between black and white, so that over B nothing changes.
        old = [np.take(c, pixels) for c in self._plate]
        for c, b in zip(colour, old, strict=True):
            np.minimum(share, c / np.maximum(b, 1e-3), out=share)
            np.minimum(share, (alpha - c) / np.maximum(1 - b, 1e-3), out=share)
        np.maximum(share, 0, out=share)
        for channel, b in enumerate(old):
            front[..., channel] -= share * b
        front[..., 3] -= share
        flat[pixels] = front

    def _pixels(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """int [n, cell^2]: the pixels of cells; at the border some come twice."""
        height, width = self._shape
        step = np.arange(self._cell)
        down = np.minimum(rows[:, None] * self._cell + step, height - 1)
        across = np.minimum(columns[:, None] * self._cell + step, width - 1)
        return (down[:, :, None] * width + across[:, None, :]).reshape(len(rows), -1)


def _dot(a: list[np.ndarray], b: list[np.ndarray]) -> np.ndarray:
    """The sum of the channels' products."""
    return np.asarray(a[0] * b[0] + a[1] * b[1] + a[2] * b[2])


def _own_colours(small: np.ndarray, core: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What colour the person has just inside the outline, spread over the picture, and how much it varies there.

    Args:
        small: float32 [h, w, 4], premultiplied. core: uint8 [h, w], 1 where there is surely only person.

    Returns:
        float32 [h / 2, w / 2, 3] and [h / 2, w / 2], rounded up.
    """
    import cv2

    height, width = core.shape
    known = core.astype(np.float32)
    colour = cv2.multiply(cv2.cvtColor(small, cv2.COLOR_RGBA2RGB), cv2.merge([known] * 3))
    stack = cv2.merge([*cv2.split(colour), np.einsum("hwc,hwc->hw", colour, colour)])
    half = -(-width // 2), -(-height // 2)
    stack = cv2.resize(stack, half, interpolation=cv2.INTER_AREA)
    spread_out, weight = (
        # Where nothing sure is near, what is farther away counts.
        cv2.GaussianBlur(part, (0, 0), _NEAREST) + 1e-3 * cv2.blur(cv2.blur(part, (_WIDE, _WIDE)), (_WIDE, _WIDE))
        for part in (stack, cv2.resize(known, half, interpolation=cv2.INTER_AREA))
    )
    spread_out /= np.maximum(weight, 1e-9)[..., None]
    own = spread_out[..., :3]
    return own, np.sqrt(np.maximum(spread_out[..., 3] - np.einsum("hwc,hwc->hw", own, own), 0))
