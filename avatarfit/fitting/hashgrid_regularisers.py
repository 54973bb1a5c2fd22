"""What keeps a radiance field solid and in its place: gradients of regularisers of rays' weights and alphas."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from avatarfit.capture.clip_folder import HEAD, NECK

SURE_INSIDE_PX, SURE_OUTSIDE_PX = 3, 4


def distortion(weights: Tensor, t: Tensor, lengths: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """The distortion of each ray's samples, summed over rays (mip-NeRF 360, Barron et al. 2022, eq. 15), and its
    gradient.

    `sum_ij w_i w_j |t_i - t_j| + sum_i w_i^2 d_i / 3`, by running sums as in DVGOv2 (Sun et al. 2022).

    Args:
        weights, t, lengths: [S], samples of a ray in a row, nearest first.
        offsets: int64 [R + 1].

    Returns:
        scalar, and [S].
    """
    counts = offsets.diff()
    ray = torch.repeat_interleave(torch.arange(len(counts), device=t.device), counts, output_size=len(t))
    first = offsets[:-1][ray]

    def before(x: Tensor) -> tuple[Tensor, Tensor]:
        """Sum over a ray's earlier samples, and over all of them; in float64 for the difference of long sums."""
        total = torch.nn.functional.pad(x.double().cumsum(0), (1, 0))
        return total[:-1] - total[first], (total[offsets[1:]] - total[offsets[:-1]])[ray]

    mass, whole = before(weights)
    moment, all_moment = before(weights * t)
    later, later_moment = whole - mass - weights, all_moment - moment - weights * t
    across = t * (mass - later) + later_moment - moment  # sum_j w_j |t_i - t_j|
    value = (weights * (across + weights * lengths / 3)).sum()
    return value.to(t.dtype), (2 * across + 2 / 3 * weights * lengths).to(t.dtype)


def head_matte(labels: np.ndarray, person: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where a head is for sure, where none is, and about where it is: bool [H, W] each.

    Args:
        labels, person: uint8 [H, W].
    """
    head = (np.isin(labels, HEAD) & (person > 127)).astype(np.uint8)

    def disc(radius: int) -> np.ndarray:
        return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)))

    inside = cv2.erode(np.where(person > 250, head, 0).astype(np.uint8), disc(SURE_INSIDE_PX)) > 0
    near = cv2.dilate(head, disc(SURE_OUTSIDE_PX)) > 0
    # The neck's upper end is the jaw's shadow: there either may draw.
    about_neck = cv2.dilate(head, disc(2 * SURE_OUTSIDE_PX)) > 0
    return inside, ~np.where(labels == NECK, about_neck, near), near
