"""Sound -> motion."""

from avatarfit.driving.driver import DriveOptions, drive, drive_chunks

__all__ = ["DriveOptions", "drive", "drive_chunks"]
