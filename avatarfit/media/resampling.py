"""Sound at another rate, all at once or as it comes, with the same result."""

from __future__ import annotations

import math

import numpy as np

from avatarfit.contracts import AudioClip

_TAPS_PER_STEP = 10
_KAISER_BETA = 5.0


class StreamResampler:
    """A zero-phase polyphase filter over a stream: output n stands at n / `out_hz` seconds after the first sample.

    The filter is that of `scipy.signal.resample_poly`: a Kaiser-windowed low-pass, ten samples of the lower rate on
    either side; so much sound after its moment an output needs (`look_ahead_seconds`). Beyond both ends is silence.
    """

    def __init__(self, in_hz: int, out_hz: int) -> None:
        from scipy.signal import firwin

        if in_hz <= 0 or out_hz <= 0:
            raise ValueError(f"rates {in_hz} and {out_hz} Hz came; wanted positive rates")
        common = math.gcd(in_hz, out_hz)
        self._up, self._down = out_hz // common, in_hz // common
        widest = max(self._up, self._down)
        self._half = _TAPS_PER_STEP * widest
        self.look_ahead_seconds = 0.0 if in_hz == out_hz else self._half / (in_hz * self._up)
        # The phase of the kept sound's first sample must be that of the first: it begins at multiples of `down`.
        self._margin = -(-self._half // (self._up * self._down)) * self._down
        self._filter: np.ndarray | None = None
        if widest > 1:
            taps = self._up * firwin(2 * self._half + 1, 1 / widest, window=("kaiser", _KAISER_BETA))
            # Zeros in front bring the filter's middle onto an output.
            self._filter = np.pad(taps, (-self._half % self._down, 0)).astype(np.float32)
        self._kept = np.zeros(self._margin, np.float32)
        self._kept_from = -self._margin
        self._received = self._sent = 0

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Outputs that have become ready: float32 [k], k >= 0. `samples`: float32 [n], any n >= 0."""
        self._received += len(samples)
        if self._filter is None:
            return samples
        self._kept = np.concatenate([self._kept, samples])
        # Output n sees samples up to (n * down + half) / up.
        ready = ((self._received - 1) * self._up - self._half) // self._down + 1
        return self._until(max(ready, self._sent))

    def finish(self) -> np.ndarray:
        """All other outputs: the length in seconds stays."""
        total = -(-self._received * self._up // self._down)
        return np.zeros(0, np.float32) if self._filter is None else self._until(max(total, self._sent))

    def _until(self, stop: int) -> np.ndarray:
        from scipy.signal import upfirdn

        if stop == self._sent:
            return np.zeros(0, np.float32)
        first = self._kept_from // self._down * self._up - -(-self._half // self._down)
        # resample_poly does the same, and takes ten times as long over the few samples of a live moment.
        out = upfirdn(self._filter, self._kept, self._up, self._down)
        if len(out) < stop - first:
            out = np.pad(out, (0, stop - first - len(out)))
        out = out[self._sent - first : stop - first]
        self._sent = stop
        begin = (stop // self._up) * self._down - self._margin
        if begin > self._kept_from:
            self._kept = self._kept[begin - self._kept_from :].copy()
            self._kept_from = begin
        return out.astype(np.float32)


def resample(clip: AudioClip, sample_rate_hz: int) -> AudioClip:
    """The same sound at another rate (`StreamResampler`); its start and length in seconds stay.

    Raises:
        ValueError: `sample_rate_hz` is not positive.
    """
    if sample_rate_hz <= 0:
        raise ValueError(f"sample_rate_hz came as {sample_rate_hz}; wanted a positive rate")
    if sample_rate_hz == clip.sample_rate_hz or not len(clip.samples):
        return AudioClip(clip.samples, sample_rate_hz, clip.start_seconds)
    stream = StreamResampler(clip.sample_rate_hz, sample_rate_hz)
    result = AudioClip(np.concatenate([stream.push(clip.samples), stream.finish()]), sample_rate_hz, clip.start_seconds)
    assert abs(result.duration_seconds - clip.duration_seconds) <= 1.0 / sample_rate_hz
    return result
