"""The .avatar file: safetensors with a JSON header."""

from avatarfit.avatarfile.consent import Consent
from avatarfit.avatarfile.file import (
    FORMAT,
    HEADS,
    OLDEST,
    VERSION,
    check_head,
    header_consent,
    read_avatar,
    write_avatar,
)

__all__ = [
    "FORMAT",
    "HEADS",
    "OLDEST",
    "VERSION",
    "Consent",
    "check_head",
    "header_consent",
    "read_avatar",
    "write_avatar",
]
