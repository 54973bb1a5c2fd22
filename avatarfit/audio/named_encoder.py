"""Which speech features a word on the command line means."""

from __future__ import annotations

from pathlib import Path

from avatarfit.audio.encoder import SpeechEncoder
from avatarfit.audio.log_mel_encoder import LOG_MEL

BUILT_IN = "log-mel"
"""The features that need no network."""


def named_encoder(features: str, cache: Path | None = None) -> SpeechEncoder:
    """`BUILT_IN`, or the pretrained network of a folder or of a name on the hub.

    Args:
        cache: folder for a network's frames; None keeps none.

    Raises:
        InputError: as `avatarfit.audio.pretrained.load_pretrained`.
    """
    if features == BUILT_IN:
        return LOG_MEL
    from avatarfit.audio.network_features import load_encoder

    return load_encoder(features, cache=cache)
