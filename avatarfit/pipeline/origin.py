"""What a pipeline's output says of its origin."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from avatarfit.compositing import Background
from avatarfit.contracts import InputError
from avatarfit.contracts.events import Listener
from avatarfit.media import SoundBlocks
from avatarfit.output.provenance import Origin, Sealer, Signing, file_sha256, open_sealer

if TYPE_CHECKING:
    from avatarfit.model.avatar import Avatar


def check_consent(avatar: Avatar) -> None:
    """Raise unless the avatar records somebody's consent.

    Raises:
        InputError: it does not.
    """
    if avatar.consent is None:
        raise InputError(
            "the avatar records nobody's consent", "one that says who agreed to be made speak",
            "add it with avatarfit consent AVATAR --consent-name NAME, or do without --require-consent",
        )  # fmt: skip


def shows_real_pictures(background: Background, torso: str) -> bool:
    """Whether a driven person is mixed with something filmed: what is behind them, or the clip's own torso."""
    drawn = background.nothing or (background.rgb is not None and background.rgb.ndim == 1)
    return torso == "source" or not drawn


def sealer_for(
    avatar: Avatar,
    made_by: str,
    signing: Signing | None,
    on_event: Listener,
    *,
    composite: bool,
    sound: str | Path | SoundBlocks | None = None,
    motion: str | Path | None = None,
    footage: str | Path | None = None,
) -> Sealer | None:
    """What signs the output of `avatar`; to be made before long work, for it tries the certificate.

    Args:
        made_by: the command, such as drive.
        signing: whose certificate signs; None for the local one.
        composite: whether real pictures, such as footage or the clip's background, are mixed with synthetic ones.
        sound, motion, footage: the files that drive it.

    Returns:
        None where the c2pa package is missing, which a Note says.

    Raises:
        InputError: the certificate cannot be used, or a file cannot be read.
        BackendError: a certificate came, but the package is missing.
    """

    def digest(source: str | Path | SoundBlocks | None) -> str | None:
        if source is None:
            return None
        return file_sha256(source.path if isinstance(source, SoundBlocks) else Path(source))

    origin = Origin(
        made_by, composite, avatar.file_sha256, None if avatar.consent is None else avatar.consent.name,
        sound_sha256=digest(sound), motion_sha256=digest(motion), footage_sha256=digest(footage),
    )  # fmt: skip
    return open_sealer(signing or Signing(), origin, on_event)
