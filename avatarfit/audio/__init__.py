"""What is heard in speech: log-mel bands, pitch, loudness, and whether anyone speaks."""

from avatarfit.audio.features import FEATURE_COUNT, FEATURE_NAME, SpeechFeatures, require_audible, speech_features
from avatarfit.audio.log_mel import BAND_COUNT, HOP_SECONDS, SAMPLE_RATE_HZ, log_mel, mel_filters
from avatarfit.audio.pitch import pitch_track
from avatarfit.audio.voice_activity import level_db, voice_activity

__all__ = [
    "BAND_COUNT",
    "FEATURE_COUNT",
    "FEATURE_NAME",
    "HOP_SECONDS",
    "SAMPLE_RATE_HZ",
    "SpeechFeatures",
    "level_db",
    "log_mel",
    "mel_filters",
    "pitch_track",
    "require_audible",
    "speech_features",
    "voice_activity",
]
