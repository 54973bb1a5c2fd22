"""Face, hair, neck, torso and mouth interior of every picture, by a person's part model, steadied over time.

Colour and place give each pixel of the working size a score for each part (`part_model`); the larger share of it is
carried over from the picture before, moved as the picture moves, so that what is undecided stays as it was. The scores
are brought to the picture's own size before the best is taken, and the person's alpha gives the outline.
"""

from __future__ import annotations

import numpy as np

from avatarfit.capture.clip_folder import BACKGROUND, MOUTH_INTERIOR
from avatarfit.capture.mouth_interior import mouth_interior
from avatarfit.capture.part_model import PARTS, PartModel, Sample
from avatarfit.capture.picture_maps import interpolated, pixel_positions, pixels_of_cells
from avatarfit.capture.picture_motion import Motion

_CARRIED = 0.8


class Labeller:
    """Labels the pictures of a clip, in time order.

    Args:
        model: the person's part model.
    """

    def __init__(self, model: PartModel) -> None:
        self._model = model
        self._former: np.ndarray | None = None

    def label(
        self, rgb: np.ndarray, landmarks_px: np.ndarray, person: np.ndarray, motion: Motion | None = None
    ) -> np.ndarray:
        """The labels of the next picture: uint8 [H, W] of BACKGROUND, FACE, NECK, TORSO, MOUTH_INTERIOR, HAIR.

        Args:
            rgb: uint8 [H, W, 3].
            landmarks_px: float [478, 2+].
            person: uint8 [H, W], alpha; the person is where it is at least one half.
            motion: where its pixels lay in the former picture; None for a picture without one.
        """
        import cv2

        size = person.shape[1], person.shape[0]
        sample = Sample.of(rgb, landmarks_px, person)
        scores = self._model.scores(sample)
        if self._former is not None and motion is not None:
            scores = cv2.addWeighted(scores, 1 - _CARRIED, motion.moved(self._former), _CARRIED, 0)
        self._former = scores
        labels = _best_at(scores, sample.person, size)
        mouth = mouth_interior(rgb, landmarks_px)
        if mouth is not None:
            rows, columns, inside = mouth
            labels[rows, columns][inside] = MOUTH_INTERIOR
        assert BACKGROUND == 0
        return np.asarray(cv2.bitwise_and(labels, cv2.threshold(person, 127, 255, cv2.THRESH_BINARY)[1]))


def _best_at(scores: np.ndarray, person: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 [H, W]: the best labels of the scores [h, w, 4] brought to size (W, H) by linear interpolation, where
    `person` [h, w] is not 0.

    Where a pixel and its eight neighbours agree, so does everything between them: only the rest is interpolated.
    """
    import cv2

    small = _best(scores)
    if small.shape[::-1] == size:
        return small
    around = np.ones((3, 3), np.uint8)
    border = cv2.compare(cv2.dilate(small, around), cv2.erode(small, around), cv2.CMP_NE)
    border = cv2.min(border, person)
    labels = np.asarray(cv2.resize(small, size, interpolation=cv2.INTER_NEAREST))
    rows, columns = pixels_of_cells(border, size)
    if len(rows):
        x, y = pixel_positions(size[0], small.shape[1]), pixel_positions(size[1], small.shape[0])
        found = interpolated(scores, x[columns], y[rows])
        labels.reshape(-1)[rows * size[0] + columns] = _best(found[None])[0]
    return labels


def _best(scores: np.ndarray) -> np.ndarray:
    """uint8 [H, W]: the label with the highest score; differences below a quarter nat decide nothing."""
    import cv2

    # The channel's number rides in the two lowest bits, so that one maximum finds score and label at once.
    channels = [np.asarray(c, np.uint8) for c in cv2.split(scores)]
    numbered = [(c & np.uint8(252)) | np.uint8(k) for k, c in enumerate(channels)]
    first, second, third, fourth = numbered
    return np.asarray(cv2.LUT(cv2.max(cv2.max(first, second), cv2.max(third, fourth)), _LABEL_OF_LOW_BITS))


_LABEL_OF_LOW_BITS = np.tile(np.array(PARTS, np.uint8), 64)
