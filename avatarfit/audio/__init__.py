"""What is heard in speech: log-mel bands or another encoder's columns, pitch, loudness, and whether anyone speaks."""

from avatarfit.audio.encoder import ColumnPrior, RowStream, SpeechEncoder
from avatarfit.audio.features import (
    FEATURE_COUNT,
    FEATURE_NAME,
    OTHER_COLUMNS,
    FeatureStream,
    SpeechFeatures,
    feature_name,
    look_ahead_seconds,
    require_audible,
    speech_features,
)
from avatarfit.audio.log_mel import BAND_COUNT, HOP_SECONDS, SAMPLE_RATE_HZ, hop_count, log_mel, mel_filters
from avatarfit.audio.log_mel_encoder import LOG_MEL, LogMelEncoder
from avatarfit.audio.voice_activity import level_db, voice_activity

__all__ = [
    "BAND_COUNT",
    "FEATURE_COUNT",
    "FEATURE_NAME",
    "HOP_SECONDS",
    "LOG_MEL",
    "OTHER_COLUMNS",
    "SAMPLE_RATE_HZ",
    "ColumnPrior",
    "FeatureStream",
    "LogMelEncoder",
    "RowStream",
    "SpeechEncoder",
    "SpeechFeatures",
    "feature_name",
    "hop_count",
    "level_db",
    "log_mel",
    "look_ahead_seconds",
    "mel_filters",
    "require_audible",
    "speech_features",
    "voice_activity",
]
