"""The words every other package speaks: frozen records that check themselves, and the errors."""

from avatarfit.contracts.errors import (
    AvatarfitError,
    BackendError,
    FaceError,
    FileFormatError,
    InputError,
    SoundError,
)
from avatarfit.contracts.geometry import Camera, HeadPose, TorsoMotion, rotations
from avatarfit.contracts.media import AudioClip, VideoFrame
from avatarfit.contracts.motion import FaceLandmarks, FaceMotion, Motion

__all__ = [
    "AudioClip",
    "AvatarfitError",
    "BackendError",
    "Camera",
    "FaceError",
    "FaceLandmarks",
    "FaceMotion",
    "FileFormatError",
    "HeadPose",
    "InputError",
    "Motion",
    "SoundError",
    "TorsoMotion",
    "VideoFrame",
    "rotations",
]
