"""Sound as a stream of an open container, sent along with the pictures."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from avatarfit.contracts import AudioClip
from avatarfit.media.sound_blocks import SoundBlocks
from avatarfit.media.sound_feed import SoundFeed

if TYPE_CHECKING:
    from av.container import OutputContainer

_BLOCK = 1024
_ENCODERS = {
    "aac": ("aac", "fltp"), "pcm16": ("pcm_s16le", "s16"), "pcm": ("pcm_s24le", "s32"), "opus": ("libopus", "flt")
}  # fmt: skip


class SoundTrack:
    """A mono stream; sample n stands at exactly n / `sample_rate_hz` seconds, so that nothing drifts.

    Args:
        container: open for writing, before anything is written.
        sound: `start_seconds` is kept, by silence in front or by cutting what precedes time 0.
        coding: "aac", "pcm" (24 bits), "pcm16" or "opus".
        sample_rate_hz: in the file; the coding must know it.
    """

    def __init__(
        self, container: OutputContainer, sound: AudioClip | SoundBlocks, coding: str, sample_rate_hz: int
    ) -> None:
        encoder, self._format = _ENCODERS[coding]
        self._container, self._rate = container, sample_rate_hz
        self._stream = cast(Any, container.add_stream(encoder, rate=sample_rate_hz, layout="mono"))
        self._stream.time_base = Fraction(1, sample_rate_hz)
        if coding == "aac":
            self._stream.bit_rate = 128_000 if sample_rate_hz >= 32000 else 64_000
        elif coding == "opus":
            self._stream.bit_rate = 96_000
        self._feed = SoundFeed(sound, sample_rate_hz)
        self._sent = 0

    def send_until(self, seconds: Fraction) -> None:
        """Write what lies before this time, in whole blocks."""
        until = math.ceil(seconds * self._rate)
        while self._sent + _BLOCK <= until and self._send(last=False):
            pass

    def finish(self) -> None:
        """Write the rest."""
        while self._send(last=True):
            pass
        self._container.mux(self._stream.encode(None))

    def _send(self, last: bool) -> bool:
        import av

        piece = np.clip(self._feed.take(_BLOCK, rest=last), -1, 1)[None]
        if not piece.size:
            return False
        if self._format == "s16":
            piece = np.clip(np.rint(piece * 32768), -32768, 32767).astype(np.int16)
        elif self._format == "s32":
            piece = np.clip(np.rint(piece.astype(np.float64) * 2**23), -(2**23), 2**23 - 1).astype(np.int32) << 8
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(piece), format=self._format, layout="mono")
        frame.sample_rate = self._rate
        frame.time_base = Fraction(1, self._rate)
        frame.pts = self._sent
        self._container.mux(self._stream.encode(frame))
        self._sent += piece.shape[1]
        return True


def write_sound(path: Path, sound: AudioClip | SoundBlocks, sample_rate_hz: int) -> None:
    """A WAV file of 24 bits, starting at time 0; long sound is read as it is written.

    Raises:
        OSError: such as a full disk.
    """
    import av

    with av.open(str(path), "w", format="wav") as container:
        track = SoundTrack(container, sound, "pcm", sample_rate_hz)
        track.finish()
