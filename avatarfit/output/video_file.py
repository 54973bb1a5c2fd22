"""A video file that is encoded on its own thread, so that the next picture is rendered meanwhile."""

from __future__ import annotations

import queue
import threading
from types import TracebackType

import numpy as np

from avatarfit.media import VideoWriter


class VideoFile:
    """A context manager around a `VideoWriter`: `write` hands the picture over and returns.

    At most `queued` pictures wait; then `write` blocks, so memory stays bounded. An error of the encoder rises from the
    next `write` or on leaving, and the unfinished file is removed.

    Args:
        writer: not yet entered.
        queued: how many pictures may wait.
    """

    def __init__(self, writer: VideoWriter, queued: int = 8) -> None:
        self._writer = writer
        self._queue: queue.Queue[np.ndarray | None] = queue.Queue(queued)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._encode, name="video encoder", daemon=True)

    def __enter__(self) -> VideoFile:
        self._writer.__enter__()
        self._thread.start()
        return self

    def _encode(self) -> None:
        # After an error the queue is still emptied: a writer blocked on a full queue would never learn of the error.
        while (picture := self._queue.get()) is not None:
            if self._error is None:
                try:
                    self._writer.write(picture)
                except Exception as error:  # noqa: BLE001 (raised again by the thread that writes)
                    self._error = error

    def write(self, picture: np.ndarray) -> None:
        """Append one picture; it must not be changed afterwards.

        Raises:
            ValueError: of another shape or dtype than the writer takes (may rise one picture late).
        """
        if self._error is not None:
            raise self._error
        self._queue.put(picture)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._queue.put(None)
        self._thread.join()
        if kind is None and self._error is not None:
            self._writer.__exit__(type(self._error), self._error, None)
            raise self._error
        self._writer.__exit__(kind, error, trace)
