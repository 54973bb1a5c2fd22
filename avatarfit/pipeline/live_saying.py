"""A text that a session speaks: its voice makes sound on a thread, as fast as there is room for it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from avatarfit.contracts import AvatarfitError
from avatarfit.contracts.events import Note

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
        text, voice: see `LiveSession.say`.
        before: what is said first.

    Attributes:
        error: what went wrong, a sentence for a person; None as long as nothing did.
    """

    def __init__(self, session: LiveSession, text: str, voice: Voice, before: Saying | None) -> None:
        self._session, self._text, self._voice, self._before = session, text, voice, before
        self._stopped, self._done = threading.Event(), threading.Event()
        self.error: AvatarfitError | None = None
        threading.Thread(target=self._run, name="live saying", daemon=True).start()

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
            self._done.set()

    @property
    def _over(self) -> bool:
        return self._stopped.is_set() or self._session.closed

    def _speak(self) -> None:
        sound = self._voice.speak(self._text, self._stopped)
        try:
            for clip in sound:
                size = max(round(_PIECE_SECONDS * clip.sample_rate_hz), 1)
                for at in range(0, len(clip.samples), size):
                    piece = clip.samples[at : at + size]
                    while not self._over and not self._session.takes(len(piece) / clip.sample_rate_hz, _AHEAD_SECONDS):
                        self._stopped.wait(_WAIT_SECONDS)
                    if self._over:
                        return
                    self._session.push(piece, clip.sample_rate_hz, unless=self._stopped)
            if not self._over:
                self._session.end()
        finally:
            sound.close()
