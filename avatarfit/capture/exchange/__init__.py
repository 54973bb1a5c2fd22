"""Clip folders to and from what neighbouring projects read."""

from avatarfit.capture.exchange.adnerf_export import export_adnerf
from avatarfit.capture.exchange.adnerf_format import FRAME_RATE_HZ
from avatarfit.capture.exchange.adnerf_import import import_adnerf

__all__ = ["FRAME_RATE_HZ", "export_adnerf", "import_adnerf"]
