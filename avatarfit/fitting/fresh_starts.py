"""Features as they are in a session's first seconds, when running normalisation has heard little of the speaker yet."""

from __future__ import annotations

import numpy as np

from avatarfit.audio import LOG_MEL, SAMPLE_RATE_HZ, SpeechEncoder, SpeechFeatures, speech_features
from avatarfit.contracts import AudioClip

SHORTEST_SECONDS, LONGEST_SECONDS = 4.0, 12.0


def fresh_starts(
    sound: AudioClip, random: np.random.Generator, encoder: SpeechEncoder = LOG_MEL
) -> list[SpeechFeatures]:
    """The sound cut at random into stretches of 4 to 12 s, each heard by a stream that has heard nothing before.

    Args:
        sound: at 16 kHz. All of it is used; one that is shorter than 8 s stays whole.

    Returns:
        Features of the stretches, in order, each at its place on the sound's clock.
    """
    parts: list[SpeechFeatures] = []
    start, end = 0, len(sound.samples)
    while start < end:
        stop = start + round(random.uniform(SHORTEST_SECONDS, LONGEST_SECONDS) * SAMPLE_RATE_HZ)
        stop = end if stop > end - SHORTEST_SECONDS * SAMPLE_RATE_HZ else stop
        piece = AudioClip(sound.samples[start:stop], SAMPLE_RATE_HZ, sound.start_seconds + start / SAMPLE_RATE_HZ)
        parts.append(speech_features(piece, encoder))
        start = stop
    return parts
