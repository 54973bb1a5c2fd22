"""Sound, or recorded motion, -> motion, and every control of it."""

from avatarfit.driving.control_values import ControlRange, Controls, Settings
from avatarfit.driving.driver import drive, drive_chunks
from avatarfit.driving.driver_stream import DriveOptions, DriverStream

__all__ = ["ControlRange", "Controls", "DriveOptions", "DriverStream", "Settings", "drive", "drive_chunks"]
