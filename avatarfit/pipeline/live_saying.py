"""A text that a session speaks: its voice makes sound on a thread, as fast as there is room for it."""

from __future__ import annotations

import threading
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from avatarfit.contracts import AudioClip, AvatarfitError, SoundError
from avatarfit.contracts.events import Note
from avatarfit.pipeline.spoken_words import Cue, SpokenWord, Word

if TYPE_CHECKING:
    from avatarfit.pipeline.live import LiveSession
    from avatarfit.pipeline.speech_synthesis import Voice

_STAGE = "live"
_PIECE_SECONDS = 0.5
_WAIT_SECONDS = 0.02
_AHEAD_SECONDS = 10.0


class Saying:
    """One text, on its way.

    Args:
        session: that speaks it.
        number: of the text in the session: 1, 2, ...
        text, voice: see `LiveSession.say`.
        before: what is said first.

    Attributes:
        error: what went wrong, a sentence for a person; None as long as nothing did.
    """

    def __init__(self, session: LiveSession, number: int, text: str, voice: Voice, before: Saying | None) -> None:
        self._session, self.number, self._text, self._voice, self._before = session, number, text, voice, before
        self._stopped, self._done = threading.Event(), threading.Event()
        self._rate_hz: int | None = None
        self._pushed_seconds = 0.0
        self._words: deque[Word] = deque()
        self._last_word: Word | None = None
        self._heard_word: Word | None = None
        self._left = False
        self.error: AvatarfitError | None = None
        threading.Thread(target=self._run, name="live saying", daemon=True).start()

    @property
    def text(self) -> str:
        """What is said; of a stream, the words that were told so far."""
        return self._text or getattr(self._voice, "text", "")

    @property
    def heard(self) -> str | None:
        """The text up to the last word whose sound has begun to leave; None where the voice tells no words."""
        if self._left and self.error is None:
            return self.text
        if self._heard_word is not None:
            return self.text[: self._heard_word.end]
        return "" if self._rate_hz is None or self._last_word is not None else None

    @property
    def left(self) -> bool:
        """All of its sound has left, or there is none."""
        return self._left

    @property
    def done(self) -> bool:
        """All of it was pushed, or it was stopped, or failed."""
        return self._done.is_set()

    def stop(self) -> None:
        """Push no more of it."""
        self._stopped.set()

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Until it is `done`; whether it is."""
        return self._done.wait(timeout_seconds)

    def _run(self) -> None:
        try:
            while self._before is not None and not self._before.wait(_WAIT_SECONDS):
                if self._over:
                    return
            self._before = None
            self._speak()
        except AvatarfitError as error:
            self.error = error
            self._session.on_event(Note(_STAGE, str(error)))
        finally:
            if self._rate_hz is None and not self._over:
                self._left = True
            self._done.set()

    @property
    def _over(self) -> bool:
        return self._stopped.is_set() or self._session.closed

    def _speak(self) -> None:
        sound = self._voice.speak(self._text, self._stopped)
        try:
            for piece in sound:
                if isinstance(piece, Word):
                    self._words.append(self._checked(piece))
                elif not self._pushed(piece):
                    return
        except AvatarfitError:
            # What it has not spoken does not begin.
            self._words.clear()
            raise
        finally:
            sound.close()
            if self._rate_hz is not None and not self._over:
                # A word that is told to begin after the sound begins with its last sample.
                cues: list[tuple[float, Cue]] = [*self._cues(np.inf), (0.0, self._ends)]
                self._session.push(np.zeros(0, np.float32), self._rate_hz, unless=self._stopped, cues=cues)
                self._session.end()

    def _pushed(self, clip: AudioClip) -> bool:
        """Pushes sound as there is room for it; False where no more is wanted."""
        size = max(round(_PIECE_SECONDS * clip.sample_rate_hz), 1)
        for at in range(0, len(clip.samples), size):
            piece = clip.samples[at : at + size]
            seconds = len(piece) / clip.sample_rate_hz
            while not self._over and not self._session.takes(seconds, _AHEAD_SECONDS):
                self._stopped.wait(_WAIT_SECONDS)
            if self._over:
                return False
            self._rate_hz = clip.sample_rate_hz
            self._session.push(piece, self._rate_hz, unless=self._stopped, cues=self._cues(seconds))
            self._pushed_seconds += seconds
        return True

    def _checked(self, word: Word) -> Word:
        """The word.

        Raises:
            SoundError: it is not in the text, or not after the word before.
        """
        begin = 0 if self._last_word is None else self._last_word.end
        if not begin <= word.begin < word.end <= len(self.text):
            raise SoundError(
                f"the voice told a word with letters {word.begin} to {word.end}",
                f"words in the order of the text, the next one within letters {begin} to {len(self.text)}",
                "look at how it counts letters",
            )  # fmt: skip
        self._last_word = word
        return word

    def _cues(self, seconds: float) -> list[tuple[float, Cue]]:
        """Those of words that begin within the next so many seconds, or were told too late."""
        out: list[tuple[float, Cue]] = []
        while self._words and self._words[0].start_seconds < self._pushed_seconds + seconds:
            word = self._words.popleft()
            out.append((max(word.start_seconds - self._pushed_seconds, 0.0), partial(self._begins, word)))
        return out

    # Told by the session, when sound leaves.

    def _begins(self, word: Word, pts_seconds: float) -> SpokenWord:
        self._heard_word = word
        return SpokenWord(
            self, self.text[word.begin : word.end], word.begin, word.end, pts_seconds,
            word.end_seconds - word.start_seconds,
        )  # fmt: skip

    def _ends(self, _pts_seconds: float) -> None:
        self._left = True
