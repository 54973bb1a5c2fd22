"""A clip of a person becomes a clip folder."""

from avatarfit.capture.capture import capture_clip
from avatarfit.capture.clip_folder import ClipFolder

__all__ = ["ClipFolder", "capture_clip"]
