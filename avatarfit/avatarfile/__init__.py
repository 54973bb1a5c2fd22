"""The .avatar file: safetensors with a JSON header."""

from avatarfit.avatarfile.file import FORMAT, HEADS, OLDEST, VERSION, check_head, read_avatar, write_avatar

__all__ = ["FORMAT", "HEADS", "OLDEST", "VERSION", "check_head", "read_avatar", "write_avatar"]
