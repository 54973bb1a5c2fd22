"""Sound that waits to be spoken, and the line of sound that leaves, which never breaks and never pops."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from avatarfit.contracts import InputError
from avatarfit.media import StreamResampler
from avatarfit.pipeline.live_frame import SOUND_HZ
from avatarfit.pipeline.spoken_words import Cue, Cues

RATES_HZ = (4_000, 384_000)
EDGE_SECONDS = 0.004
"""Sound that begins or ends away from zero is eased so long."""
_AUDIBLE_EDGE = 1e-3
_AT_ONCE_SECONDS = 0.06
_UNDERRUN_SECONDS = 0.3
_LOUD_EXCESS_SECONDS = 0.25
_WATCH_SECONDS = 1.0
_CALM_WATCHES = 10
_JITTER_STEP, _LONGEST_JITTER = 0.005, 0.06
_CUT_EVERY_SECONDS = 0.05
_QUIET = 10 ** (-50 / 20)


def as_mono(samples: np.ndarray, rate_hz: int) -> np.ndarray:
    """Sound as float32 [n].

    Args:
        samples: float [n] in -1..1, or int16 [n].
        rate_hz: 4 to 384 kHz.

    Raises:
        InputError: another kind of sound, or samples that are no numbers.
    """
    low, high = RATES_HZ
    if isinstance(rate_hz, bool) or not isinstance(rate_hz, int | np.integer) or not low <= rate_hz <= high:
        raise InputError(f"sound at {rate_hz} Hz came", f"a whole rate of {low} to {high} Hz", "resample it")
    samples = np.asarray(samples)
    if samples.ndim != 1 or not (samples.dtype == np.int16 or samples.dtype.kind == "f"):
        raise InputError(
            f"sound came as {samples.dtype} {list(samples.shape)}", "one channel, int16 or float in -1 to 1",
            "mix it down and convert it",
        )  # fmt: skip
    if samples.dtype == np.int16:
        return samples.astype(np.float32) / 32768
    if not np.isfinite(samples).all():
        raise InputError("sound came with samples that are no numbers", "finite samples", "look at where it comes from")
    return np.clip(samples, -1, 1).astype(np.float32)


class _Fifo:
    """Samples in, samples out, in order."""

    def __init__(self) -> None:
        self._parts: deque[np.ndarray] = deque()
        self.count = 0
        self.popped = 0

    def push(self, samples: np.ndarray) -> None:
        if len(samples):
            self._parts.append(samples)
            self.count += len(samples)

    def pop(self, count: int) -> np.ndarray:
        """float32 [count], with silence after the last sample."""
        out = np.zeros(count, np.float32)
        at = 0
        while at < count and self._parts:
            part = self._parts.popleft()
            used = min(len(part), count - at)
            out[at : at + used] = part[:used]
            at += used
            if used < len(part):
                self._parts.appendleft(part[used:])
        self.count -= at
        self.popped += at
        return out

    def put_back(self, samples: np.ndarray) -> None:
        """Samples that were popped, at the front again."""
        self._parts.appendleft(samples)
        self.count += len(samples)
        self.popped -= len(samples)


class SpeechQueue:
    """Sound to speak, in any pieces at any rate; taken in blocks of one length, silence where there is none.

    It is kept twice, in step: as the driver hears it and as it leaves. Each is the source resampled once, so that what
    the driver hears is what it would hear of a file.

    Args:
        driver_hz: what the driver hears; `SOUND_HZ` is a multiple.
        most_seconds: so much may wait.
        jitter_seconds: so long live sound waits before it begins, against pieces that come unevenly; longer after each
            time that it ran dry, and less again when they have come evenly for a while.
    """

    def __init__(self, driver_hz: int, most_seconds: float, jitter_seconds: float) -> None:
        if SOUND_HZ % driver_hz:
            raise ValueError(f"driver_hz came as {driver_hz}; wanted a divisor of {SOUND_HZ}")
        self._driver_hz, self._ratio = driver_hz, SOUND_HZ // driver_hz
        # What a resampler loads at first use must not hold up the first sound.
        StreamResampler(2 * SOUND_HZ, driver_hz)
        self._most, self._jitter, self._least_jitter = most_seconds, jitter_seconds, jitter_seconds
        self._spare: deque[float] = deque(maxlen=_CALM_WATCHES)
        self._heard, self._leaving = _Fifo(), _Fifo()
        self._resamplers: tuple[int, StreamResampler, StreamResampler] | None = None
        # Where the resamplers' first output stands among all that leave, and how many samples they were given.
        self._resampled_from = self._given = 0
        self._cues = Cues()
        self._arrived: float | None = None
        self._ended, self._live = False, False
        self._dry_at: float | None = None
        self._silence = np.zeros(0, np.float32)
        self._next_cut = self._watched_until = 0.0
        self._least, self._excess = np.inf, 0.0
        self.flowing = False
        """Sound is being taken."""
        self.resumed = False
        """The block taken last went on after the sound had run dry in the middle."""
        self.cues: list[tuple[int, Cue]] = []
        """What is to be told in the block taken last, and at which of its samples as it leaves."""
        self.underruns, self.trimmed_seconds, self.spoken_seconds = 0, 0.0, 0.0

    @property
    def waiting_seconds(self) -> float:
        """So much sound has not been taken yet."""
        return self._heard.count / self._driver_hz

    @property
    def room_seconds(self) -> float:
        """So much more may come."""
        return max(self._most - self.waiting_seconds, 0.0)

    @property
    def expects(self) -> bool:
        """Sound flows, or waits to begin."""
        return self.flowing or self._arrived is not None

    @property
    def empty(self) -> bool:
        """Nothing waits, not even the end of a sound that is being resampled."""
        return not self._heard.count and self._resamplers is None

    def push(
        self, samples: np.ndarray, rate_hz: int, now: float, live: bool, cues: Sequence[tuple[float, Cue]] = ()
    ) -> None:
        """Sound that came at the clock's time `now`; see `LiveSession.push`.

        Raises:
            InputError: no such sound, or more than there is room for.
        """
        sound = as_mono(samples, rate_hz)
        if len(sound) / rate_hz > self.room_seconds:
            raise InputError(
                f"{len(sound) / rate_hz:.1f} s of sound came while {self.waiting_seconds:.1f} s wait",
                f"at most {self._most:g} s in all", "push it in pieces, as room_seconds allows",
            )  # fmt: skip
        if len(sound) and (self._resamplers is None or self._resamplers[0] != rate_hz):
            self._flush()
            self._resampled_from, self._given = self._end, 0
            self._resamplers = rate_hz, StreamResampler(rate_hz, self._driver_hz), StreamResampler(rate_hz, SOUND_HZ)
        begin = self._end
        if len(sound):
            assert self._resamplers is not None
            if self._arrived is None:
                self._arrived = now
            _, heard, leaving = self._resamplers
            self._heard.push(heard.push(sound))
            self._leaving.push(leaving.push(sound))
            self._given += len(sound)
            self._ended, self._live = False, live
        for seconds, cue in cues:
            self._cues.add(min(begin + round(seconds * SOUND_HZ), self._end - 1), cue)

    @property
    def _end(self) -> int:
        """Where the next sample will stand among all that leave."""
        if self._resamplers is None:
            return self._leaving.popped + self._leaving.count
        return self._resampled_from + round(self._given * SOUND_HZ / self._resamplers[0])

    def arrived_by(self, now: float) -> None:
        """What waits came at the clock's time `now` at the latest."""
        if self._arrived is not None:
            self._arrived = min(self._arrived, now)

    def end(self) -> None:
        """The sound is whole: what follows is another."""
        self._flush()
        self._ended = True

    def clear(self) -> None:
        """Drop all that waits."""
        self._heard, self._leaving = _Fifo(), _Fifo()
        self._resamplers, self._arrived, self._dry_at = None, None, None
        self._cues.clear()
        self.flowing, self._ended = False, True
        self._least, self._excess = np.inf, 0.0

    def take(self, count: int, at: float) -> tuple[np.ndarray, np.ndarray, int]:
        """The next block, which begins at the clock's time `at`.

        Args:
            count: samples, as the driver hears them.

        Returns:
            float32 [count] as the driver hears it, float32 [count * ratio] as it leaves, and how many of `count` are
            sound rather than silence.
        """
        self.resumed = False
        if not self.flowing and not self._begins(at):
            if len(self._silence) != count * self._ratio:
                self._silence = np.zeros(count * self._ratio, np.float32)
            # What came when its sound had gone.
            self._tell(self._leaving.popped)
            return self._silence[:count], self._silence, 0
        if not self.flowing:
            self.flowing = True
            if self._live and not self._ended:
                self._wait_for_resampler()
            if self._dry_at is not None and at - self._dry_at < _UNDERRUN_SECONDS:
                self.underruns += 1
                self.resumed = True
                if self._live:
                    self._jitter = max(self._jitter, min(self._jitter + _JITTER_STEP, _LONGEST_JITTER))
                    self._spare.clear()
        if self._ready() < count:
            self._flush()
        if self._live:
            self._watch(at, count / self._driver_hz)
        if self._live and self._excess > count / self._driver_hz and at >= self._next_cut:
            cut = self._cut(count)
            if cut is not None:
                self._next_cut = at + _CUT_EVERY_SECONDS
                self.spoken_seconds += count / self._driver_hz
                return *cut, count
        sound, begin = min(self._heard.count, count), self._leaving.popped
        heard, leaving = self._heard.pop(count), self._leaving.pop(count * self._ratio)
        self._tell(begin)
        self.spoken_seconds += sound / self._driver_hz
        if not self._heard.count and (sound < count or not self._live or self._ended):
            self.flowing = False
            self._dry_at = None if self._ended else at + sound / self._driver_hz
            self._arrived = None
        return heard, leaving, sound

    def _tell(self, begin: int) -> None:
        """The cues of what was popped; `begin` stands at the block's start."""
        self.cues = [(max(at - begin, 0), cue) for at, cue in self._cues.until(self._leaving.popped)]

    def _wait_for_resampler(self) -> None:
        """Silence first, as long as what it holds back of all that came: the block before each next piece would lack
        it."""
        held = max((self._end - self._leaving.popped) // self._ratio - self._ready(), 0)
        self._heard.put_back(np.zeros(held, np.float32))
        self._leaving.put_back(np.zeros(held * self._ratio, np.float32))

    def _begins(self, at: float) -> bool:
        if self._arrived is None or at < self._arrived - 1e-9:
            return False
        if self._live and self._dry_at is not None and at - self._dry_at < _UNDERRUN_SECONDS:
            # It has waited already, for as long as this piece was late.
            return True
        return self._ended or self.waiting_seconds >= _AT_ONCE_SECONDS or at >= self._arrived + self._jitter - 1e-9

    def _ready(self) -> int:
        return min(self._heard.count, self._leaving.count // self._ratio)

    def _flush(self) -> None:
        if self._resamplers is None:
            return
        _, heard, leaving = self._resamplers
        self._resamplers = None
        self._heard.push(heard.finish())
        self._leaving.push(leaving.finish())
        # Rounding of lengths at both rates may leave them a sample apart.
        missing = self._heard.count * self._ratio - self._leaving.count
        if missing > 0:
            self._leaving.push(np.zeros(missing, np.float32))
        elif missing < 0:
            self._heard.push(np.zeros(-missing // self._ratio, np.float32))

    def _watch(self, at: float, block: float) -> None:
        """How much more always waits than the next block and unevenness need, as the last second tells it. Where as
        little as that has been enough for long, unevenness needs less."""
        self._least = min(self._least, self.waiting_seconds - block)
        if at >= self._watched_until:
            self._spare.append(self._least)
            if len(self._spare) == self._spare.maxlen and min(self._spare) > _JITTER_STEP:
                self._jitter = max(self._jitter - _JITTER_STEP, self._least_jitter)
                self._spare.clear()
            self._excess = self._least - self._jitter if np.isfinite(self._least) else 0.0
            self._least, self._watched_until = np.inf, at + _WATCH_SECONDS

    def _cut(self, count: int) -> tuple[np.ndarray, np.ndarray] | None:
        """A block that passes by a cross-fade over what is left out, where that is quiet or too much waits."""
        whole = 2 * count
        if self._ready() < whole:
            return None
        heard, leaving = self._heard.pop(whole), self._leaving.pop(whole * self._ratio)
        if float(np.abs(heard).max()) > _QUIET and self._excess < _LOUD_EXCESS_SECONDS:
            self._heard.put_back(heard)
            self._leaving.put_back(leaving)
            return None
        # A word that begins in what is faded out or left out begins with the block.
        self._tell(self._leaving.popped - count * self._ratio)
        self._excess -= count / self._driver_hz
        self.trimmed_seconds += count / self._driver_hz
        return _crossed(heard, count), _crossed(leaving, count * self._ratio)


def _crossed(samples: np.ndarray, count: int) -> np.ndarray:
    share = np.linspace(0, 1, count, dtype=np.float32)
    return np.asarray(samples[:count] * (1 - share) + samples[-count:] * share)


class SoundLine:
    """The sound that leaves, by its place on the session's line; samples are counted from its start.

    Args:
        kept_seconds: so much lies here at most.
    """

    def __init__(self, kept_seconds: float) -> None:
        self._most = round(kept_seconds * SOUND_HZ)
        self._buffer = np.zeros(2 * self._most, np.float32)
        self._begin = self._end = 0
        self._first = 0

    def __len__(self) -> int:
        """Samples that lie here."""
        return self._end - self._begin

    @property
    def head(self) -> int:
        """Where the next block will begin."""
        return self._first + len(self)

    def append(self, block: np.ndarray, sound: int, resumed: bool) -> None:
        """The next block, shorter than what is kept, of which the first `sound` samples are not silence."""
        if self._end + len(block) > len(self._buffer):
            self._buffer[: len(self)] = self._buffer[self._begin : self._end].copy()
            self._begin, self._end = 0, len(self)
        here = self._buffer[self._end : self._end + len(block)]
        here[:] = block
        edge = round(EDGE_SECONDS * SOUND_HZ)
        if resumed:
            begins = here[int(np.argmax(here != 0)) :][:edge]
            begins *= np.linspace(0, 1, len(begins), dtype=np.float32)
        ends = self._end + sound
        self._end += len(block)
        if sound < len(block) and ends > self._begin and abs(self._buffer[ends - 1]) > _AUDIBLE_EDGE:
            self._ease_out(ends)
        self._forget(len(self) - self._most)

    def _forget(self, count: int) -> None:
        if count > 0:
            self._begin += count
            self._first += count

    def _ease_out(self, ends: int) -> None:
        edge = min(round(EDGE_SECONDS * SOUND_HZ), ends - self._begin)
        self._buffer[ends - edge : ends] *= np.linspace(1, 0, edge, dtype=np.float32)

    def silence_from(self, position: int, fade_seconds: float) -> None:
        """All from `position` on fades to silence."""
        rest = self._buffer[self._begin + max(position - self._first, 0) : self._end]
        fade = rest[: round(fade_seconds * SOUND_HZ)]
        fade *= 0.5 + 0.5 * np.cos(np.linspace(0, np.pi, len(fade), dtype=np.float32))
        rest[len(fade) :] = 0

    def cut(self, begin: int, end: int) -> np.ndarray:
        """int16 [end - begin], `end` at most `head`; silence where nothing is kept. What lies before `end` is not asked
        for again."""
        out = np.zeros(end - begin, np.float32)
        low = max(begin, self._first)
        if end > low:
            at = self._begin - self._first
            out[low - begin :] = self._buffer[low + at : end + at]
            self._forget(end - self._first)
        return np.clip(np.rint(out * 32768), -32768, 32767).astype(np.int16)
