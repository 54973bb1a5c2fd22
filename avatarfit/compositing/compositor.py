"""Layers, one after the other, make a broadcast picture of a rendered person."""

from __future__ import annotations

import numpy as np

from avatarfit.compositing.backdrop import Backdrop, Picture
from avatarfit.compositing.shot import Layer, Shot


class Compositor:
    """Puts rendered pictures through layers.

    Each layer sees what those before it made. A `Backdrop` comes first, for others look at it; without one the picture
    stays transparent. Every layer works on the person alone, so the same layers make an opaque picture and one with
    alpha:

        compositor = Compositor(
            Backdrop(Still(studio)),      # uint8 [H, W, 3]; VideoLoop("street.mp4", width, height) moves
            CleanEdges(avatar_plate),     # the background that the person was filmed before leaves the hair
            ColourMatch(0.3),             # towards the background's brightness and tint
            LightWrap(0.4),               # its light falls over the person's edge
            Grain(1.5),                   # its noise
        )
        picture = compositor.compose(renderer.render(motion, index), index, index / 25)

    Args:
        layers: objects with `apply(shot)`; see `Shot`.
    """

    def __init__(self, *layers: Layer) -> None:
        self.layers = layers

    @property
    def only_backdrop(self) -> Picture | None:
        """What stands behind, where nothing else is asked for: then a renderer's `render_over` does it all at once."""
        if len(self.layers) == 1 and isinstance(self.layers[0], Backdrop):
            return self.layers[0].picture
        return None

    def compose(self, rgba: np.ndarray, index: int, seconds: float) -> np.ndarray:
        """One picture through all layers.

        Args:
            rgba: float32 [H, W, 4], premultiplied, contiguous; it is changed.
            index, seconds: of the frame.

        Returns:
            uint8 [H, W, 3] over what stands behind; without a backdrop the premultiplied float32 [H, W, 4].
        """
        import cv2

        shot = Shot(rgba, index, seconds)
        for layer in self.layers:
            layer.apply(shot)
        if shot.behind is None:
            if self.layers:
                # No colour is brighter than its alpha, whatever a layer made of it.
                cv2.min(shot.rgba, cv2.merge([cv2.extractChannel(shot.rgba, 3)] * 4), shot.rgba)
            return shot.rgba
        if shot.behind.shape[:2] != rgba.shape[:2]:
            raise ValueError(
                f"the background came as {list(shot.behind.shape)} behind a picture of {list(rgba.shape)}; "
                f"wanted one size"
            )
        return self._merged(shot.rgba, shot.behind)

    @staticmethod
    def _merged(rgba: np.ndarray, behind: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3]: over, in the rectangle that holds the person."""
        import cv2

        picture = behind.copy()
        # In bytes: at a soft edge two roundings add up to one level at most, elsewhere there is none.
        front = cv2.convertScaleAbs(rgba, alpha=255.0)
        part = occupied(cv2.extractChannel(front, 3))
        if part is None:
            return picture
        front = front[part]
        clear = cv2.cvtColor(255 - cv2.extractChannel(front, 3), cv2.COLOR_GRAY2RGB)
        shining = cv2.multiply(clear, behind[part], scale=1 / 255)
        picture[part] = cv2.add(shining, cv2.cvtColor(front, cv2.COLOR_RGBA2RGB))
        return picture


def occupied(alpha: np.ndarray) -> tuple[slice, slice] | None:
    """Rows and columns of the smallest rectangle outside which uint8 [H, W] is zero; None where it is all zero."""
    down = np.flatnonzero(alpha.max(axis=1))
    if not len(down):
        return None
    across = np.flatnonzero(alpha.max(axis=0))
    return slice(int(down[0]), int(down[-1]) + 1), slice(int(across[0]), int(across[-1]) + 1)
