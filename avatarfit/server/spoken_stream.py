"""A `Voice` whose sound comes piece by piece from elsewhere: what an assistant or a speech engine sends."""

from __future__ import annotations

import threading
from collections.abc import Generator
from queue import Empty, SimpleQueue

import numpy as np

from avatarfit.contracts import AudioClip, InputError
from avatarfit.pipeline.speech_synthesis import checked_text
from avatarfit.pipeline.spoken_words import Word

_LOOK_SECONDS = 0.1
_MOST_LETTERS = 100_000


class SpokenStream:
    """One utterance, as it comes. See `Voice`.

    Args:
        patience_seconds: without a piece for so long it counts as ended, so that others are heard.

    Attributes:
        text: the words that came, with a space between each two.
    """

    def __init__(self, patience_seconds: float) -> None:
        self._patience = patience_seconds
        self._pieces: SimpleQueue[AudioClip | Word | None] = SimpleQueue()
        self.text = ""
        self._lock = threading.Lock()
        self._waiting = 0.0
        self._ended = False

    @property
    def ended(self) -> bool:
        """It takes no more."""
        return self._ended

    @property
    def waiting_seconds(self) -> float:
        """So much sound waits here."""
        return self._waiting

    def push(self, samples: np.ndarray, rate_hz: int) -> bool:
        """The next piece, float32 [n]; False where the utterance has ended and takes no more."""
        clip = AudioClip(samples, rate_hz)
        with self._lock:
            if self._ended:
                return False
            self._waiting += clip.duration_seconds
        self._pieces.put(clip)
        return True

    def push_word(self, text: str, start_seconds: float, end_seconds: float) -> bool:
        """The next word, before the piece of sound in which it begins; False as `push`.

        Args:
            text: its letters.
            start_seconds, end_seconds: from the utterance's first sample.

        Raises:
            InputError: no such word, or too many of them.
        """
        text = " ".join(checked_text(text).split())
        begin = len(self.text) + (self.text != "")
        word = Word(begin, begin + len(text), start_seconds, end_seconds)
        if word.end > _MOST_LETTERS:
            raise InputError(f"{word.end} letters came in one utterance", f"at most {_MOST_LETTERS}", "send end sooner")
        with self._lock:
            if self._ended:
                return False
            self.text += f" {text}" if begin else text
        self._pieces.put(word)
        return True

    def end(self) -> None:
        """It is whole. May be called twice."""
        with self._lock:
            self._ended = True
        self._pieces.put(None)

    def speak(self, text: str, stopped: threading.Event | None = None) -> Generator[AudioClip | Word, None, None]:
        """See `Voice`; the text does not matter."""
        waited = 0.0
        try:
            while waited < self._patience and not (stopped is not None and stopped.is_set()):
                try:
                    piece = self._pieces.get(timeout=_LOOK_SECONDS)
                except Empty:
                    waited += _LOOK_SECONDS
                    continue
                if piece is None:
                    return
                waited = 0.0
                if isinstance(piece, AudioClip):
                    with self._lock:
                        self._waiting -= piece.duration_seconds
                yield piece
        finally:
            with self._lock:
                self._ended = True
