"""The stages of a live session, without threads and without a clock of their own: what is due at a time is done.

There is one line of time. Step after step, as the clock goes, sound is taken onto it, silence where there is none; what
is fed to the driver lies its look-ahead before what leaves. A frame leaves with the samples of its time, so that sound
and picture cannot drift apart. Sound never waits: a frame whose picture is late leaves with the picture before.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from avatarfit.contracts import FaceMotion, Motion
from avatarfit.pipeline.live_frame import SOUND_HZ, LiveFrame, LiveState, LiveStatistics, Moment, running
from avatarfit.pipeline.live_sound import SoundLine, SpeechQueue, as_mono
from avatarfit.pipeline.spoken_words import Cue, Cues, SpokenWord

if TYPE_CHECKING:
    from avatarfit.driving import Settings
    from avatarfit.pipeline.live_driver import Driver

STEP_SECONDS = 0.01
MARGIN_SECONDS = 0.006
"""So long after a moment is known its frame is due. To drive and draw takes longer where cores are slow or shared: then
frames leave as soon as their pictures are there."""
FADE_SECONDS = 0.02
"""So fast sound fades where it is interrupted."""
SLIP_SECONDS = 1.0
"""Whoever stood still so long goes on where the clock is, rather than catching up."""
_KEPT_SECONDS = 3.0
_SILENT_STEPS = 20
_CLOSE_SECONDS = 0.1
_OPEN_SECONDS = 0.12
_RELEASE_SECONDS = 0.45
"""After so much silence the driver's mouth rests by itself: its hold, its closing, and its look-ahead."""
_EARLY_SECONDS = 0.04
_MOST_MOMENTS, _MOST_PICTURES = 12, 12
_GRACE = 0.65
"""So long, in frames, a frame waits for its picture."""


@dataclass
class _Muted:
    """The mouth after an interruption: at rest `until_seconds` of the line; `head_seconds` was the line's end then."""

    head_seconds: float
    until_seconds: float


class LiveStages:
    """Takes sound, tells moments to draw, gives frames. All methods may be called from any thread; `step` from one at
    a time.

    Args:
        driver: fresh.
        frame_rate_hz: of the frames.
        start: the clock's time at which the line begins.
        picture: what leaves until the first is drawn.
        most_seconds: of sound that may wait.
        jitter_seconds: see `SpeechQueue`.
    """

    def __init__(
        self,
        driver: Driver,
        frame_rate_hz: float,
        start: float,
        picture: np.ndarray,
        *,
        most_seconds: float = 60.0,
        jitter_seconds: float = 0.005,
    ) -> None:
        self.driver, self.rate = driver, frame_rate_hz
        self.queue = SpeechQueue(driver.sample_rate_hz, most_seconds, jitter_seconds)
        self.statistics = LiveStatistics()
        self.state = LiveState.IDLE
        self._origin = start
        self._delay = max(driver.look_ahead_seconds, 1 / frame_rate_hz) + MARGIN_SECONDS
        self._lock = threading.RLock()
        self._line, self._cues = SoundLine(_KEPT_SECONDS + SLIP_SECONDS), Cues()
        self._block = round(STEP_SECONDS * driver.sample_rate_hz)
        self._steps = self._told = 0
        self._to_drive: deque[np.ndarray] = deque()
        self._heard: deque[tuple[np.ndarray, int, float]] = deque(maxlen=100)
        self._turned: Settings | None = None
        self._moments: deque[Moment] = deque()
        self._drawn: deque[tuple[int, np.ndarray]] = deque(maxlen=_MOST_PICTURES)
        self._picture = (0, picture)
        self._states: deque[tuple[int, LiveState]] = deque(maxlen=_MOST_PICTURES + _MOST_MOMENTS + 100)
        self._next_frame = 0
        self._muted: _Muted | None = None
        self._share, self._share_at = 1.0, 0
        self._sound_end = 0

    # What comes in.

    def push(
        self,
        samples: np.ndarray,
        rate_hz: int,
        now: float,
        live: bool = False,
        unless: threading.Event | None = None,
        cues: Sequence[tuple[float, Cue]] = (),
    ) -> None:
        """See `LiveSession.push`; nothing is pushed once `unless` is set, as an interruption sets it."""
        with self._lock:
            if unless is not None and unless.is_set():
                return
            self.queue.push(samples, rate_hz, now, live, cues)

    def end(self) -> None:
        """See `LiveSession.end`."""
        with self._lock:
            self.queue.end()

    def hear(self, samples: np.ndarray, rate_hz: int) -> None:
        """See `LiveSession.hear`."""
        sound = as_mono(samples, rate_hz)
        with self._lock:
            self._heard.append((sound, rate_hz, self.head_seconds - self.driver.look_ahead_seconds))

    def turn(self, settings: Settings) -> None:
        """Other controls, from the next moment on."""
        with self._lock:
            self._turned = settings

    def interrupt(self) -> None:
        """See `LiveSession.interrupt`."""
        with self._lock:
            self.queue.clear()
            self._cues.clear()
            self._line.silence_from(self._sample(self._next_frame), FADE_SECONDS)
            self._sound_end = min(self._sound_end, self._sample(self._next_frame + 1))
            self._muted = _Muted(self.head_seconds, self.head_seconds + _RELEASE_SECONDS)
            self.statistics.interrupts += 1

    # The stages.

    def begin(self, now: float) -> None:
        """The line begins now; before the first step."""
        with self._lock:
            self._origin = now
            self.queue.arrived_by(now)

    @property
    def origin(self) -> float:
        """The clock's time at which the line began."""
        return self._origin

    @property
    def delay_seconds(self) -> float:
        """From a sample's turn on the line to its frame's leaving."""
        return self._delay

    @property
    def room_seconds(self) -> float:
        """So much more sound may be pushed."""
        with self._lock:
            return self.queue.room_seconds

    @property
    def waiting_seconds(self) -> float:
        """So much sound waits."""
        with self._lock:
            return self.queue.waiting_seconds

    @property
    def head_seconds(self) -> float:
        """So much sound, or silence, lies on the line."""
        return self._steps * STEP_SECONDS

    @property
    def finished(self) -> bool:
        """All that was pushed has left."""
        with self._lock:
            return self.queue.empty and not self.queue.flowing and self._sample(self._next_frame) >= self._sound_end

    @property
    def line_seconds(self) -> float:
        """So much sound lies here that has not left."""
        with self._lock:
            return len(self._line) / SOUND_HZ

    def held(self) -> tuple[int, ...]:
        """How many blocks, voices, moments, pictures, states and cues lie here; each has its bound."""
        with self._lock:
            queues = self._to_drive, self._heard, self._moments, self._drawn, self._states, self._cues
            return tuple(len(queue) for queue in queues)

    def due(self, index: int) -> float:
        """The clock's time at which a frame should leave."""
        return self._origin + index / self.rate + self._delay

    def next_step(self) -> float:
        """The clock's time at which there is something to take, or to drive."""
        with self._lock:
            return self._origin + self._steps * STEP_SECONDS

    def next_leave(self) -> float:
        """The clock's time at which a frame may leave."""
        with self._lock:
            return self.due(self._next_frame)

    def grace_end(self) -> float:
        """The clock's time at which the next frame leaves whether or not its picture is there."""
        with self._lock:
            return self.due(self._next_frame) + _GRACE / self.rate

    def advance(self, now: float) -> None:
        """Takes sound onto the line as far as the clock is; cheap, so that no stage has to wait for another's work."""
        with self._lock:
            behind = now - self._origin - self.head_seconds
            if behind > SLIP_SECONDS:
                self._origin += behind
                self.statistics.slips += 1
                self.statistics.slip_seconds += behind
            count = int((now - self._origin) / STEP_SECONDS + 1e-6) + 1 - self._steps
            while count > 0:
                # Silence needs no looking at: all of it is taken at once.
                steps = 1 if self.queue.expects else min(count, _SILENT_STEPS)
                self._take(steps)
                count -= steps
            self.statistics.underruns = self.queue.underruns
            self.statistics.trimmed_seconds = self.queue.trimmed_seconds
            self.statistics.spoken_seconds = self.queue.spoken_seconds

    def _take(self, steps: int) -> None:
        begins = not self.queue.flowing
        heard, leaving, sound = self.queue.take(steps * self._block, self._origin + self.head_seconds)
        for offset, cue in self.queue.cues:
            self._cues.add(self._line.head + offset, cue)
        self._line.append(leaving, sound * (SOUND_HZ // self.driver.sample_rate_hz), self.queue.resumed)
        # Where nobody fetches frames, what they would have told is not kept.
        self._told_before(self._line.head - round((_KEPT_SECONDS + SLIP_SECONDS) * SOUND_HZ))
        if sound:
            self._sound_end = self._line.head
            if begins and self._muted is not None:
                early = max(self.head_seconds, self._muted.head_seconds) - _EARLY_SECONDS
                self._muted.until_seconds = min(self._muted.until_seconds, early)
        self._to_drive.append(heard)
        self._steps += steps

    def step(self, now: float) -> bool:
        """Drives as far as the clock is, moment by moment; whether there are moments to draw."""
        with self._lock:
            self.advance(now)
            if self.head_seconds < self._told / self.rate + self.driver.look_ahead_seconds - 1e-6:
                # All of a moment's sound at once is half the work that it is step by step.
                return bool(self._moments)
            blocks, self._to_drive = self._to_drive, deque()
            heard, self._heard = self._heard, deque(maxlen=self._heard.maxlen)
            turned, self._turned = self._turned, None
        if turned is not None:
            self.driver.turn(turned)
        for sound, rate_hz, seconds in heard:
            self.driver.hear(sound, rate_hz, seconds)
        moments = self.driver.push(np.concatenate(blocks)) if blocks else []
        with self._lock:
            self._told += len(moments)
            for moment in moments:
                self._moments.append(moment)
                self._states.append((moment.index, moment.state))
            while len(self._moments) > _MOST_MOMENTS:
                self._moments.popleft()
            self.statistics.nods = self.driver.nods
            return bool(self._moments)

    def next_moment(self, now: float) -> Moment | None:
        """What to draw now; moments whose frame was due more than a frame ago are left out.

        Where driving itself is so late that all are, the newest is drawn: late is better than a picture that stands.
        """
        with self._lock:
            while self._moments:
                moment = self._moments.popleft()
                timely = now <= self.due(moment.index) + 1 / self.rate and moment.index >= self._next_frame - 1
                newest = not self._moments and now <= self.due(moment.index) + SLIP_SECONDS
                if timely or newest:
                    return self._quieted(moment)
            return None

    def drawn(self, moment: Moment, picture: np.ndarray) -> None:
        """A picture is there."""
        with self._lock:
            self._drawn.append((moment.index, picture))
            self.statistics.pictures += 1

    def leave(self, now: float) -> LiveFrame | None:
        """The next frame, if it is due and its picture is there or has had its time."""
        with self._lock:
            self._skip_lost(now)
            index = self._next_frame
            due = self.due(index)
            if now < due - 1e-9:
                return None
            ready = bool(self._drawn) and self._drawn[-1][0] >= index
            if not ready and now < due + _GRACE / self.rate - 1e-9:
                return None
            self.advance(now)
            fresh = False
            while self._drawn and self._drawn[0][0] <= index:
                self._picture, fresh = self._drawn.popleft(), True
            begin, end = self._sample(index), self._sample(index + 1)
            while self._states and self._states[0][0] < index:
                self._states.popleft()
            if self._states and self._states[0][0] == index:
                self.state = self._states[0][1]
            if self._silenced(index) and self.state == LiveState.SPEAKING:
                self.state = LiveState.IDLE
            shown, picture = self._picture
            self._next_frame += 1
            told = self.statistics
            told.frames += 1
            told.dropped_pictures += not fresh
            told.delay_ms = running(told.delay_ms, 1e3 * (now - due))
            return LiveFrame(
                index, index / self.rate, picture, shown / self.rate, self._line.cut(begin, end), self.state, fresh,
                self._told_before(end),
            )  # fmt: skip

    def _skip_lost(self, now: float) -> None:
        """Frames that nobody fetched are gone, and their sound."""
        late = now - self.due(self._next_frame)
        if late > SLIP_SECONDS:
            self.advance(now)
            lost = int((now - self.due(self._next_frame)) * self.rate)
            if lost > 0:
                self.statistics.lost_frames += lost
                self._next_frame += lost
                self._line.cut(self._sample(self._next_frame) - 1, self._sample(self._next_frame))
                self._told_before(self._sample(self._next_frame))

    def _told_before(self, end: int) -> tuple[SpokenWord, ...]:
        """Calls what waits before a sample of the line."""
        told = (cue(at / SOUND_HZ) for at, cue in self._cues.until(end))
        return tuple(word for word in told if word is not None)

    def _sample(self, index: int) -> int:
        return round(index * SOUND_HZ / self.rate)

    # The mouth after an interruption.

    def _silenced(self, index: int) -> bool:
        return self._muted is not None and index / self.rate < self._muted.until_seconds

    def _quieted(self, moment: Moment) -> Moment:
        """The moment with its mouth at rest while the driver still tells what was interrupted; eased both ways."""
        frames = max(moment.index - self._share_at, 1)
        self._share_at = moment.index
        if self._silenced(moment.index):
            # At the latest 0.1 s after the call the closed mouth has left, the frame being drawn before it counted in.
            close = max(int((_CLOSE_SECONDS - 2 * MARGIN_SECONDS) * self.rate), 2)
            self._share = max(self._share - frames / close, 0.0)
        elif self._share < 1:
            self._share = min(self._share + frames / (_OPEN_SECONDS * self.rate), 1.0)
        elif self._muted is not None and moment.index / self.rate >= self._muted.until_seconds:
            self._muted = None
        if self._share >= 1:
            return moment
        face, rest = moment.motion.face, self.driver.mouth_rest
        mouth = rest + np.float32(self._share) * (face.mouth - rest)
        motion = moment.motion
        return replace(
            moment,
            motion=Motion(motion.pts_seconds, FaceMotion(mouth, face.upper, face.eyes), motion.head, motion.torso),
        )
