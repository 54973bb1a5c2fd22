"""Metrics, baselines and reports."""

from avatarfit.evaluation.compare import compare_avatars
from avatarfit.evaluation.definitions import DEFINITIONS
from avatarfit.evaluation.evaluate import evaluate_avatar
from avatarfit.evaluation.metrics import PSNR_CAP_DB, ms_ssim, psnr_db, ssim, ssim_map
from avatarfit.evaluation.scores import Scores, Truth

__all__ = [
    "DEFINITIONS", "PSNR_CAP_DB", "Scores", "Truth", "compare_avatars", "evaluate_avatar", "ms_ssim", "psnr_db", "ssim",
    "ssim_map",
]  # fmt: skip
