"""A soft mask of the person, from `mp.solutions.selfie_segmentation`, and its steadying over time."""

from __future__ import annotations

import numpy as np

NETWORK_SIDE_PX = 256
"""The network's own picture size; its mask holds no finer detail."""


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


def median_of_five(pictures: list[np.ndarray]) -> np.ndarray:
    """Per-pixel median of five uint8 pictures of one shape, by a minimal exchange network."""
    import cv2

    a, b, c, d, e = pictures
    a, b = cv2.min(a, b), cv2.max(a, b)
    d, e = cv2.min(d, e), cv2.max(d, e)
    low, high = cv2.max(a, d), cv2.min(b, e)
    # The smallest and the largest of the four are out; the median of five is the median of the middle two and c.
    low, high = cv2.min(low, high), cv2.max(low, high)
    return cv2.max(low, cv2.min(c, high))


class AlphaSteadier:
    """Median over five neighbouring masks, each first moved to the middle one's head and body.

    Flicker of the mask's edge is independent from picture to picture; the person's outline is not, once its own motion
    is taken out.

    Args:
        width_px, height_px: size of the clip's pictures, in which the motion is given.
    """

    def __init__(self, width_px: int, height_px: int) -> None:
        # Clip pixel indices to mask pixel indices, with both grids' centres at + 0.5.
        scale = np.array([NETWORK_SIDE_PX / width_px, NETWORK_SIDE_PX / height_px])
        self._to_mask = np.array([[scale[0], 0, scale[0] / 2 - 0.5], [0, scale[1], scale[1] / 2 - 0.5], [0, 0, 1]])
        self._from_mask = np.linalg.inv(self._to_mask)
        self._size = (width_px, height_px)

    def steady(
        self, masks: list[np.ndarray], head_maps: list[np.ndarray], torso_maps: list[np.ndarray],
        seam_px: tuple[float, float],
    ) -> np.ndarray:  # fmt: skip
        """The middle mask, steadied and at the clip's size: uint8 [H, W].

        Args:
            masks: five uint8 [256, 256].
            head_maps, torso_maps: for each mask [2, 3], clip pixel indices of it to those of the middle picture.
            seam_px: rows at which the body's motion begins to take over from the head's, and has taken over.
        """
        import cv2

        heads = median_of_five([self._moved(m, a) for m, a in zip(masks, head_maps, strict=True)])
        bodies = median_of_five([self._moved(m, a) for m, a in zip(masks, torso_maps, strict=True)])
        rows = np.arange(NETWORK_SIDE_PX) / self._to_mask[1, 1]
        body = np.clip((rows - seam_px[0]) / max(seam_px[1] - seam_px[0], 1.0), 0, 1).astype(np.float32)[:, None]
        blended = heads * (1 - body) + bodies * body
        return np.clip(cv2.resize(blended, self._size, interpolation=cv2.INTER_CUBIC) + 0.5, 0, 255).astype(np.uint8)

    def _moved(self, mask: np.ndarray, affine: np.ndarray) -> np.ndarray:
        import cv2

        full = self._to_mask @ np.concatenate([affine, [[0, 0, 1]]]) @ self._from_mask
        if np.abs(full - np.eye(3)).max() < 1e-6:
            return mask
        return cv2.warpAffine(mask, full[:2], mask.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
