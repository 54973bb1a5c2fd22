"""The .avatar file: safetensors with a JSON header."""

from avatarfit.avatarfile.file import FORMAT, VERSION, read_avatar, write_avatar

__all__ = ["FORMAT", "VERSION", "read_avatar", "write_avatar"]
