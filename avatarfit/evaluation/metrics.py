"""PSNR and SSIM on sRGB-coded floats in [0, 1], before any encoding."""

from __future__ import annotations

import math

import numpy as np

PSNR_CAP_DB = 100.0
"""PSNR of equal pictures is infinite; it is given as this, so that means stay finite and JSON stays valid."""

SSIM_WINDOW = 11
_SIGMA, _K1, _K2 = 1.5, 0.01, 0.03


def psnr_db(truth: np.ndarray, picture: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Peak signal-to-noise ratio, `-10 log10(MSE)`, at most `PSNR_CAP_DB`.

    Args:
        truth, picture: float [H, W, 3] in [0, 1].
        mask: float or bool [H, W], weights of the pixels in the mean square error; None weighs all alike.

    Raises:
        ValueError: the shapes differ, or the mask is empty.
    """
    if truth.shape != picture.shape:
        raise ValueError(f"pictures came with shapes {truth.shape} and {picture.shape}; wanted one shape")
    squared = np.square(truth.astype(np.float64) - picture).mean(axis=-1)
    mse = float(squared.mean() if mask is None else _weighted_mean(squared, mask))
    return PSNR_CAP_DB if mse <= 10 ** (-PSNR_CAP_DB / 10) else -10 * math.log10(mse)


def _weighted_mean(values: np.ndarray, mask: np.ndarray) -> float:
    weights = mask.astype(np.float64)
    total = weights.sum()
    if total <= 0:
        raise ValueError("the mask is empty; wanted at least one pixel")
    return float((values * weights).sum() / total)


def ssim_map(truth: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """Structural similarity of every 11 x 11 window that lies in the picture.

    Wang, Bovik, Sheikh, Simoncelli: Image Quality Assessment, 2004, equation 13, with a Gaussian window of sigma 1.5,
    K1 = 0.01, K2 = 0.03 and range 1, on each colour channel; the map is the mean over the channels.

    Args:
        truth, picture: float [H, W, C] in [0, 1], H and W at least 11.

    Returns:
        float64 [H - 10, W - 10].

    Raises:
        ValueError: the shapes differ, or the picture is smaller than a window.
    """
    import cv2

    if truth.shape != picture.shape or min(truth.shape[:2]) < SSIM_WINDOW:
        raise ValueError(
            f"pictures came with shapes {truth.shape} and {picture.shape}; wanted one shape, {SSIM_WINDOW} px or more"
        )
    x, y = truth.astype(np.float64), picture.astype(np.float64)
    kernel = cv2.getGaussianKernel(SSIM_WINDOW, _SIGMA, cv2.CV_64F)
    edge = SSIM_WINDOW // 2

    def mean(values: np.ndarray) -> np.ndarray:
        blurred = cv2.sepFilter2D(values, -1, kernel, kernel)
        return blurred[edge:-edge, edge:-edge]

    mean_x, mean_y = mean(x), mean(y)
    variance_x = mean(x * x) - mean_x * mean_x
    variance_y = mean(y * y) - mean_y * mean_y
    covariance = mean(x * y) - mean_x * mean_y
    c1, c2 = _K1**2, _K2**2
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similarity /= (mean_x * mean_x + mean_y * mean_y + c1) * (variance_x + variance_y + c2)
    return similarity.mean(axis=-1) if similarity.ndim == 3 else similarity


def ssim(truth: np.ndarray, picture: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Mean of `ssim_map`, weighed by `mask` [H, W] at the windows' centres where one is given."""
    return masked_ssim(ssim_map(truth, picture), mask)


def masked_ssim(similarity: np.ndarray, mask: np.ndarray | None) -> float:
    """Mean of a map [H - 10, W - 10], weighed by `mask` [H, W] at the windows' centres."""
    edge = SSIM_WINDOW // 2
    return float(similarity.mean() if mask is None else _weighted_mean(similarity, mask[edge:-edge, edge:-edge]))
