"""A soft mask of the person, from `mp.solutions.selfie_segmentation`, and its steadying over time."""

from __future__ import annotations

import numpy as np

from avatarfit.capture.picture_motion import Motion

NETWORK_SIDE_PX = 256
"""The network's own picture size; its mask holds no finer detail."""

_CARRIED = 0.7


class PersonSegmenter:
    """Runs the segmentation network on single pictures."""

    def __init__(self) -> None:
        import mediapipe as mp

        self._graph = mp.solutions.selfie_segmentation.SelfieSegmentation(model_selection=0)

    def alpha(self, rgb: np.ndarray) -> np.ndarray:
        """uint8 [256, 256], 255 where the picture [H, W, 3] certainly shows the person; squeezed to a square."""
        import cv2

        small = cv2.resize(rgb, (NETWORK_SIDE_PX, NETWORK_SIDE_PX), interpolation=cv2.INTER_AREA)
        mask = self._graph.process(small).segmentation_mask
        return np.clip(mask * 255 + 0.5, 0, 255).astype(np.uint8)

    def close(self) -> None:
        """Frees the graph."""
        self._graph.close()


class AlphaSteadier:
    """Steadies masks of pictures in time order: each is mixed with the former ones, moved as the picture moves.

    Flicker of the mask's edge is independent from picture to picture; the person's outline is not, once its own motion
    is taken out.

    Args:
        width_px, height_px: size of the clip's pictures.
    """

    def __init__(self, width_px: int, height_px: int) -> None:
        self._size = (width_px, height_px)
        self._former: np.ndarray | None = None

    def steady(self, mask: np.ndarray, motion: Motion | None = None) -> np.ndarray:
        """The next mask, steadied and at the clip's size: uint8 [H, W].

        Args:
            mask: uint8 [256, 256].
            motion: where its pixels lay in the former picture; None for a picture without one.
        """
        import cv2

        if self._former is not None and motion is not None:
            mask = np.asarray(cv2.addWeighted(mask, 1 - _CARRIED, motion.moved(self._former), _CARRIED, 0))
        self._former = mask
        return np.asarray(cv2.resize(mask, self._size, interpolation=cv2.INTER_CUBIC))
