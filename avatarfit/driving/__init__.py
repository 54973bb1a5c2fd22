"""Sound -> motion."""

from avatarfit.driving.driver import drive, drive_chunks
from avatarfit.driving.driver_stream import DriveOptions, DriverStream

__all__ = ["DriveOptions", "DriverStream", "drive", "drive_chunks"]
