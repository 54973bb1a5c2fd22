"""A soft mask of the person, from `mp.solutions.selfie_segmentation`, and its steadying over time."""

from __future__ import annotations

import numpy as np

from avatarfit.capture.picture_maps import resized_map

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

        first, last = (
            int(np.clip(np.floor(row * NETWORK_SIDE_PX / self._size[1]), 0, NETWORK_SIDE_PX)) for row in seam_px
        )
        last = max(last, first + 1)
        upper = median_of_five([self._moved(m, a, 0, last) for m, a in zip(masks, head_maps, strict=True)])
        if first >= NETWORK_SIDE_PX:
            whole = upper
        else:
            lower = median_of_five(
                [self._moved(m, a, first, NETWORK_SIDE_PX) for m, a in zip(masks, torso_maps, strict=True)]
            )
            last = min(last, NETWORK_SIDE_PX)
            body = ((np.arange(first, last) - first) / (last - first)).astype(np.float32)[:, None]
            seam = upper[first:last] * (1 - body) + lower[: last - first] * body
            whole = np.concatenate([upper[:first], (seam + 0.5).astype(np.uint8), lower[last - first :]])
        return np.asarray(cv2.resize(whole, self._size, interpolation=cv2.INTER_CUBIC))

    def _moved(self, mask: np.ndarray, affine: np.ndarray, first: int, last: int) -> np.ndarray:
        """Rows `first` to before `last` of a mask that was moved."""
        import cv2

        small = resized_map(affine, self._size, (NETWORK_SIDE_PX, NETWORK_SIDE_PX))
        last = min(last, NETWORK_SIDE_PX)
        if np.abs(small - np.eye(2, 3)).max() < 1e-6:
            return mask[first:last]
        small[1, 2] -= first
        return cv2.warpAffine(mask, small, (NETWORK_SIDE_PX, last - first), borderMode=cv2.BORDER_REPLICATE)
