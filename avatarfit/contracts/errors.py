"""Errors a person may cause and can mend. Each says what came, what was wanted and what to do."""

from __future__ import annotations


class AvatarfitError(Exception):
    """Base of every error meant for the person at the keyboard; the command line prints it and exits non-zero.

    Args:
        came: what arrived, with the offending name or value.
        wanted: what would have been right.
        do: the next step that mends it.
    """

    exit_code = 2

    def __init__(self, came: str, wanted: str, do: str) -> None:
        super().__init__(came, wanted, do)
        self.came, self.wanted, self.do = came, wanted, do

    def __str__(self) -> str:
        return f"{self.came}; wanted {self.wanted}; {self.do}."


class InputError(AvatarfitError):
    """A file, folder or option cannot be used."""


class FaceError(InputError):
    """The picture does not hold the one face that is needed."""


class SoundError(InputError):
    """The sound is missing or cannot be used."""


class FileFormatError(AvatarfitError):
    """A file of our own formats is damaged, hostile, or of another version."""


class BackendError(AvatarfitError):
    """A compute backend that was asked for is not there or failed."""
