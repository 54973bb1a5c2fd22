"""What a request may meet besides wrong input."""

from __future__ import annotations

from avatarfit.contracts import AvatarfitError


class UnknownError(AvatarfitError):
    """There is nothing by that name."""


class FullError(AvatarfitError):
    """The server has as many as it takes; later there may be room."""


class BusyError(AvatarfitError):
    """The session has as much to say as it takes; later there will be room."""


class MissingError(AvatarfitError):
    """The server was not given what this needs."""
