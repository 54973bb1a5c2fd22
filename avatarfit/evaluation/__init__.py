"""Metrics, baselines and reports."""

from avatarfit.evaluation.evaluate import DEFINITIONS, evaluate_avatar
from avatarfit.evaluation.metrics import PSNR_CAP_DB, psnr_db, ssim, ssim_map
from avatarfit.evaluation.scores import Scores, Truth

__all__ = ["DEFINITIONS", "PSNR_CAP_DB", "Scores", "Truth", "evaluate_avatar", "psnr_db", "ssim", "ssim_map"]
