"""Sound handed out in pieces of any size, whether it lies in memory or in a file."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from avatarfit.contracts import AudioClip
from avatarfit.media.resampling import StreamResampler
from avatarfit.media.sound_blocks import SoundBlocks

_BLOCK = 16_384


class SoundFeed:
    """From time 0 of the sound's clock on: silence stands before a later start, what precedes time 0 is left out.

    Args:
        sound: in memory, or of a file, which is then decoded as it is taken.
        sample_rate_hz: of what is handed out.
    """

    def __init__(self, sound: AudioClip | SoundBlocks, sample_rate_hz: int) -> None:
        self._blocks = self._resampled(sound, sample_rate_hz)
        shift = round(sound.start_seconds * sample_rate_hz)
        self._skip = max(-shift, 0)
        self._ready = np.zeros(max(shift, 0), np.float32)

    def take(self, count: int, *, rest: bool = False) -> np.ndarray:
        """The next `count` samples, float32, or none where fewer are left; with `rest` those that are left."""
        parts, held = [self._ready], len(self._ready)
        while held < count and (block := next(self._blocks, None)) is not None:
            skipped = min(self._skip, len(block))
            self._skip -= skipped
            parts.append(block[skipped:])
            held += len(block) - skipped
        ready = np.concatenate(parts)
        taken = count if held >= count else held if rest else 0
        self._ready = ready[taken:]
        return ready[:taken]

    @staticmethod
    def _resampled(sound: AudioClip | SoundBlocks, sample_rate_hz: int) -> Iterator[np.ndarray]:
        stream = StreamResampler(sound.sample_rate_hz, sample_rate_hz)
        for block in _blocks(sound.samples) if isinstance(sound, AudioClip) else sound:
            yield stream.push(block)
        yield stream.finish()


def _blocks(samples: np.ndarray) -> Iterator[np.ndarray]:
    # What is left over is copied with every piece that is taken: it must stay short.
    return (samples[start : start + _BLOCK] for start in range(0, len(samples), _BLOCK))
