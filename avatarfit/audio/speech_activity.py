"""Whether anyone speaks, told as the sound comes: the level against running levels of noise and of loud parts.

The floor follows the quiet parts of the last seconds (as noise estimation by minimum statistics does, Martin 2001), the
loud level the 95th percentile or so of the speech. A level that hardly moves for a second and a half, with no pitch in
it, is noise however loud.
"""

from __future__ import annotations

from collections import deque
from math import exp, inf

from avatarfit.audio.voice_activity import AUDIBLE_DB

_START_LOUD_DB = -40.0
_FIRST_HOPS, _MEMORY_HOPS, _RETURN_HOPS = 20, 2_000, 6_000
_FIRST_ATTACK, _ATTACK, _SLOWER = 0.2, 0.02, 1.5
_SMOOTHING = 0.5
_COARSE_HOPS, _FLOOR_COARSE, _STEADY_COARSE = 10, 60, 15
_FARTHEST_FLOOR_DB, _NEAREST_FLOOR_DB, _ABOVE_FLOOR_DB = 50.0, 25.0, 8.0
_NOISE_DB = 6.0
_SLOPE_DB, _STEADY_DB, _STEADY_SLOPE_DB = 1.5, 6.0, 0.7
_HANGOVER_HOPS = 6
_VOICE_HOPS, _VOICE_LASTS_HOPS = 5, 150


class SpeechActivity:
    """Hop by hop: first `hear` the level, then `judge` with the pitch.

    Attributes:
        loud_db: running level of the loud parts, decibels of full scale. From -40 dB at the start it reaches a voice's
            within the first syllables; later it remembers 20 s of speech.
    """

    def __init__(self) -> None:
        self.loud_db = _START_LOUD_DB
        self._smooth: float | None = None
        self._spoken = 0.0
        self._activity = 0.0
        self._block: list[float] = []
        self._blocks: deque[float] = deque(maxlen=_FLOOR_COARSE)
        self._floor_db = -inf
        self._quietest = self._loudest = 0.0
        self._above: deque[float] = deque(maxlen=_HANGOVER_HOPS + 1)
        self._voiced_run = 0
        self._since_voice = _VOICE_LASTS_HOPS

    def hear(self, level_db: float) -> None:
        """Takes the next hop's level."""
        smooth = level_db if self._smooth is None else self._smooth + _SMOOTHING * (level_db - self._smooth)
        if self._smooth is None:
            self._quietest = self._loudest = smooth
        self._smooth = smooth
        if smooth > self.loud_db:
            attack = max(_FIRST_ATTACK * _FIRST_HOPS / (_FIRST_HOPS + self._spoken), _ATTACK)
            self.loud_db += attack * (smooth - self.loud_db)
        else:
            # A pause's noise, taken for speech, must not pull the loud level down until it is loud itself.
            speech = self._activity * _sigmoid((smooth - self._floor_db - _NOISE_DB) / _SLOPE_DB)
            hops = min(_FIRST_HOPS + _SLOWER * self._spoken, _MEMORY_HOPS)
            self.loud_db -= speech * (self.loud_db - smooth) / hops
            # After a bang a quiet voice must be found again.
            self.loud_db -= (1 - self._activity) * max(self.loud_db - _START_LOUD_DB, 0) / _RETURN_HOPS
        self._block.append(smooth)
        if len(self._block) == _COARSE_HOPS:
            self._blocks.append(sum(self._block) / _COARSE_HOPS)
            self._block.clear()
            self._floor_db = sorted(self._blocks)[len(self._blocks) // 10]
            recent = list(self._blocks)[-_STEADY_COARSE:]
            self._quietest, self._loudest = min(recent), max(recent)

    def judge(self, voiced: bool) -> float:
        """How surely someone speaks at the hop just heard, 0 to 1; held for 60 ms.

        Args:
            voiced: whether it has a pitch.
        """
        assert self._smooth is not None
        self._voiced_run = self._voiced_run + 1 if voiced else 0
        self._since_voice = 0 if self._voiced_run >= _VOICE_HOPS else self._since_voice + 1
        floor = min(max(self._floor_db, self.loud_db - _FARTHEST_FLOOR_DB), self.loud_db - _NEAREST_FLOOR_DB)
        threshold = max(floor + min(_ABOVE_FLOOR_DB, (self.loud_db - floor) / 3), AUDIBLE_DB)
        self._above.append(self._smooth - threshold)
        loud_enough = _sigmoid(max(self._above) / _SLOPE_DB)
        spread = max(self._loudest, self._smooth) - min(self._quietest, self._smooth)
        steady = _sigmoid((_STEADY_DB - spread) / _STEADY_SLOPE_DB)
        without_voice = self._since_voice >= _VOICE_LASTS_HOPS
        self._activity = loud_enough * (1 - steady) if without_voice else loud_enough
        self._spoken += self._activity
        return self._activity


def _sigmoid(x: float) -> float:
    return 1 / (1 + exp(-min(max(x, -30.0), 30.0)))
