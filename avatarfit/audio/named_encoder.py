"""Which speech features a word on the command line means, or an avatar's driver hears."""

from __future__ import annotations

from pathlib import Path

from avatarfit.audio.encoder import SpeechEncoder
from avatarfit.audio.features import feature_name
from avatarfit.audio.log_mel_and_phonemes import log_mel_and_phonemes
from avatarfit.audio.log_mel_encoder import LOG_MEL
from avatarfit.contracts import FileFormatError

BUILT_IN = "built-in"
"""Log-mel bands, and what our own encoder of speech makes of them; nothing has to be fetched."""
PLAIN = "log-mel"
"""The bands alone."""


def named_encoder(features: str, cache: Path | None = None) -> SpeechEncoder:
    """`BUILT_IN`, `PLAIN`, or the pretrained network of a folder or of a name on the hub.

    Args:
        cache: folder for a network's frames; None keeps none.

    Raises:
        InputError: as `avatarfit.audio.pretrained.load_pretrained`.
    """
    if features == BUILT_IN:
        return log_mel_and_phonemes()
    if features == PLAIN:
        return LOG_MEL
    from avatarfit.audio.network_features import load_encoder

    return load_encoder(features, cache=cache)


def encoder_of(driver_hears: str, features: str | None) -> SpeechEncoder:
    """What a driver hears.

    Args:
        driver_hears: the name of its features (`DriverModel.feature_name`).
        features: as of `named_encoder`; None finds it among what is built in.

    Raises:
        FileFormatError: it hears a network that has to be named.
        InputError: as `named_encoder`.
    """
    if features is not None:
        return named_encoder(features)
    for encoder in (log_mel_and_phonemes(), LOG_MEL):
        if feature_name(encoder) == driver_hears:
            return encoder
    raise FileFormatError(
        f"This avatar's driver hears {driver_hears}", "the network that made these features",
        "name its folder or its name on the hub (--features)",
    )  # fmt: skip
