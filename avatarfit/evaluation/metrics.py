"""PSNR, SSIM and multi-scale SSIM on sRGB-coded floats in [0, 1], before any encoding."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

PSNR_CAP_DB = 100.0
"""PSNR of equal pictures is infinite; it is given as this, so that means stay finite and JSON stays valid."""

SSIM_WINDOW = 11
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_SIGMA, _K1, _K2 = 1.5, 0.01, 0.03


def psnr_db(truth: np.ndarray, picture: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Peak signal-to-noise ratio, `-10 log10(MSE)`, decibels, at most `PSNR_CAP_DB`; higher is better.

    Args:
        truth, picture: float [H, W, 3] in [0, 1].
        mask: float or bool [H, W], weights of the pixels in the mean square error; None weighs all alike.

    Raises:
        ValueError: the shapes differ, or the mask is empty.
    """
    if truth.shape != picture.shape:
        raise ValueError(f"pictures came with shapes {truth.shape} and {picture.shape}; wanted one shape")
    return psnr_of_errors(np.square(truth.astype(np.float64) - picture).mean(axis=-1), mask)


def psnr_of_errors(squared: np.ndarray, mask: np.ndarray | None) -> float:
    """`psnr_db` from square errors [H, W]."""
    mse = float(squared.mean() if mask is None else _weighted_mean(squared, mask))
    return PSNR_CAP_DB if mse <= 10 ** (-PSNR_CAP_DB / 10) else -10 * math.log10(mse)


def _weighted_mean(values: np.ndarray, mask: np.ndarray) -> float:
    weights = mask.astype(np.float64)
    total = weights.sum()
    if total <= 0:
        raise ValueError("the mask is empty; wanted at least one pixel")
    return float((values * weights).sum() / total)


@dataclass(frozen=True)
class Similarity:
    """The two factors of SSIM for every window that lies in the picture: float [H - 10, W - 10, C] each.

    Attributes:
        luminance: `(2 mx my + c1) / (mx^2 + my^2 + c1)`.
        structure: contrast and structure together, `(2 cov + c2) / (vx + vy + c2)`.
    """

    luminance: np.ndarray
    structure: np.ndarray

    def map(self) -> np.ndarray:
        """SSIM, the mean over the channels: float [H - 10, W - 10]."""
        return np.asarray((self.luminance * self.structure).mean(axis=-1))


def similarity(truth: np.ndarray, picture: np.ndarray) -> Similarity:
    """Structural similarity of every 11 x 11 window that lies in the picture.

    Wang, Bovik, Sheikh, Simoncelli: Image Quality Assessment, 2004, equation 13, with a Gaussian window of sigma 1.5,
    K1 = 0.01, K2 = 0.03 and range 1, on each colour channel.

    Args:
        truth, picture: float [H, W, C] in [0, 1], H and W at least 11. Two of float32 are compared in float32, which
            is twice as fast and good to 1e-5; others in float64.

    Raises:
        ValueError: the shapes differ, or the picture is smaller than a window.
    """
    import cv2

    if truth.shape != picture.shape or min(truth.shape[:2]) < SSIM_WINDOW:
        raise ValueError(
            f"pictures came with shapes {truth.shape} and {picture.shape}; wanted one shape, {SSIM_WINDOW} px or more"
        )
    exact: type[np.float32] | type[np.float64] = np.float64
    if truth.dtype == picture.dtype == np.float32:
        exact = np.float32
    x: Any = truth.astype(exact, copy=False)
    y: Any = picture.astype(exact, copy=False)
    kernel: Any = cv2.getGaussianKernel(SSIM_WINDOW, _SIGMA, cv2.CV_64F).astype(exact)
    edge = SSIM_WINDOW // 2

    def mean(values: Any) -> Any:
        blurred = cv2.sepFilter2D(values, -1, kernel, kernel)[edge:-edge, edge:-edge]
        return blurred if blurred.ndim == 3 else blurred[..., None]

    mean_x, mean_y = mean(x), mean(y)
    both, squares = mean_x * mean_y, mean_x * mean_x + mean_y * mean_y
    # Only the variances' sum is needed, and one filtering gives it.
    variances = mean(x * x + y * y) - squares
    covariance = mean(x * y) - both
    c1, c2 = exact(_K1**2), exact(_K2**2)
    return Similarity((2 * both + c1) / (squares + c1), (2 * covariance + c2) / (variances + c2))


def ssim_map(truth: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """float [H - 10, W - 10]: the mean over the channels of `similarity`; same arguments and errors."""
    return similarity(truth, picture).map()


def ssim(truth: np.ndarray, picture: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Mean of `ssim_map`, weighed by `mask` [H, W] at the windows' centres where one is given; higher is better."""
    return masked_ssim(ssim_map(truth, picture), mask)


def masked_ssim(similarity: np.ndarray, mask: np.ndarray | None) -> float:
    """Mean of a map [H - 10, W - 10], weighed by `mask` [H, W] at the windows' centres."""
    return float(similarity.mean() if mask is None else _weighted_mean(similarity, at_centres(mask)))


def at_centres(mask: np.ndarray) -> np.ndarray:
    """What of a mask [H, W] lies at the centres of windows: [H - 10, W - 10]."""
    edge = SSIM_WINDOW // 2
    return mask[edge:-edge, edge:-edge]


def ms_ssim_scales(height_px: int, width_px: int) -> int:
    """How many scales fit: five, or as many as leave the coarsest picture one window wide."""
    return next((n for n in range(5, 0, -1) if min(height_px, width_px) >> (n - 1) >= SSIM_WINDOW), 0)


class Pyramid:
    """Two pictures' similarity at each scale, made once and averaged over several regions.

    Wang, Simoncelli, Bovik: Multiscale Structural Similarity, 2003: between scales the pictures are averaged over
    2 x 2 pixels (a last odd row or column is left out).

    Args:
        truth, picture: float [H, W, C] in [0, 1], H and W at least 11.
        count: how many scales; None takes as many as fit, up to five.

    Attributes:
        scales: one `Similarity` each, finest first.

    Raises:
        ValueError: as `similarity`.
    """

    def __init__(self, truth: np.ndarray, picture: np.ndarray, count: int | None = None) -> None:
        self.scales = [similarity(truth, picture)]
        for _ in range(1, count or ms_ssim_scales(*truth.shape[:2])):
            truth, picture = halved(truth), halved(picture)
            self.scales.append(similarity(truth, picture))

    def ms_ssim(self, mask: np.ndarray | None = None) -> float | None:
        """Equation 7, per channel, then their mean; higher is better, 1 best.

        Weights are MS_SSIM_WEIGHTS, those of as many scales as there are scaled to sum to one where they are not five.
        Contrast and structure below zero count as zero.

        Args:
            mask: [H, W], averages are taken over its windows' centres at each scale; None weighs all alike.

        Returns:
            None where the mask is empty at some scale.
        """
        weights = np.array(MS_SSIM_WEIGHTS[: len(self.scales)])
        if len(weights) < len(MS_SSIM_WEIGHTS):  # the published five are taken as they are
            weights /= weights.sum()
        product = np.ones(self.scales[0].structure.shape[-1])
        weight = None if mask is None else mask.astype(np.float32)
        for k, (scale, exponent) in enumerate(zip(self.scales, weights, strict=True)):
            values = scale.structure if k + 1 < len(self.scales) else scale.structure * scale.luminance
            if weight is None:
                mean = values.mean(axis=(0, 1), dtype=np.float64)
            else:
                centres = at_centres(weight)
                if centres.sum() <= 0:
                    return None
                mean = np.einsum("hw,hwc->c", centres, values, dtype=np.float64) / centres.sum(dtype=np.float64)
                weight = halved(weight)
            product *= np.maximum(mean, 0) ** exponent
        return float(product.mean())


def halved(picture: np.ndarray) -> np.ndarray:
    """The mean of every 2 x 2 pixels of [H, W] or [H, W, C]."""
    import cv2

    height, width = (n // 2 for n in picture.shape[:2])
    return np.asarray(cv2.resize(picture[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA))


def ms_ssim(truth: np.ndarray, picture: np.ndarray, mask: np.ndarray | None = None) -> float | None:
    """Multi-scale SSIM of two pictures; see `Pyramid`."""
    return Pyramid(truth, picture).ms_ssim(mask)
