"""Where pictures go one after the other: one interface before every kind of output."""

from __future__ import annotations

import errno
import math
import queue
import threading
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from avatarfit.contracts import AudioClip, InputError
from avatarfit.media import SoundBlocks
from avatarfit.media.frame_rate import exact_rate
from avatarfit.output.film_track import FilmTrack
from avatarfit.output.options import OutputFormat, OutputOptions, check_output
from avatarfit.output.sequence_track import SequenceTrack
from avatarfit.output.work_folder import WorkFolder

if TYPE_CHECKING:
    from avatarfit.output.provenance import Sealer

_QUEUED = 8
_QUEUED_BYTES = 2**28
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Sink:
    """A context manager that takes pictures and makes the output of them; made by `open_sink`.

    Pictures are coded on a thread of their own; at most eight wait, of large ones fewer, then `write` blocks. Until the
    end everything lies in `PATH.part/` beside the output. Leaving cleanly puts the whole output into its place; after
    an error what is whole of it stays there for a run that resumes.

    Attributes:
        takes_alpha: whether `write` takes float RGBA.
        first_frame: how many pictures a stopped run has left: the first that is still wanted. Known once entered.
        paths: the files or folders that come into being.
    """

    def __init__(
        self,
        form: OutputFormat,
        options: OutputOptions,
        width_px: int,
        height_px: int,
        rate: Fraction,
        sound: AudioClip | SoundBlocks | None,
        made_from: Mapping[str, object],
        sealer: Sealer | None,
        segment_seconds: float,
    ) -> None:
        self.takes_alpha = options.takes_alpha
        self.first_frame = 0
        self.rate = rate
        self._form, self._options, self._sound = form, options, sound
        self._size = width_px, height_px
        self._sealer = sealer
        self._segment_frames = max(math.ceil(segment_seconds * rate), 1)
        self._made_from = made_from
        self._names = ("fill", "key") if options.key_fill else ("picture",)
        self.paths = tuple(form.track_path(name) for name in self._names)
        self._tracks: list[FilmTrack | SequenceTrack] = []
        size_bytes = width_px * height_px * (16 if self.takes_alpha else 3)
        waiting = min(max(_QUEUED_BYTES // size_bytes, 2), _QUEUED)
        self._queue: queue.Queue[np.ndarray | None] = queue.Queue(waiting)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._code, name="output", daemon=True)

    def __enter__(self) -> Sink:
        check_output(self._form.path, self._options, self.rate)
        self._work = WorkFolder(self._form.path, self._plan(), self._options.resume)
        try:
            self._tracks = [self._track(name) for name in self._names]
        except BaseException:
            self._work.remove_unless_begun()
            raise
        # Segments may end at different pictures where a run was stopped between two files.
        while len({track.count for track in self._tracks}) > 1:
            least = min(track.count for track in self._tracks)
            for track in self._tracks:
                track.drop_from(least)
        self.first_frame = self._tracks[0].count
        self._thread.start()
        return self

    def _track(self, name: str) -> FilmTrack | SequenceTrack:
        sound = None if name == "key" else self._sound
        if self._form.coding is None:
            return SequenceTrack(
                name, self._form, self._work.path, self.rate, takes_alpha=self.takes_alpha, sound=sound,
                timecode=self._options.timecode,
            )  # fmt: skip
        return FilmTrack(
            name, self._form, self._work.path, *self._size, self.rate, takes_alpha=self.takes_alpha, sound=sound,
            timecode=self._options.timecode, segment_frames=self._segment_frames,
        )  # fmt: skip

    def _plan(self) -> dict[str, object]:
        """What must be the same for a stopped run to be taken up."""
        import av

        form, options = self._form, self._options
        return {
            "codec": form.picture_kind if form.coding is None else form.coding.name,
            "alpha": options.alpha, "key_and_fill": options.key_fill, "timecode": options.timecode,
            "width": self._size[0], "height": self._size[1], "rate": str(self.rate),
            "segment_frames": self._segment_frames, "encoders": f"PyAV {av.__version__}",
            **{name: str(value) for name, value in self._made_from.items()},
        }  # fmt: skip

    def _code(self) -> None:
        # After an error the queue is still emptied: a writer blocked on a full queue would never learn of the error.
        while (picture := self._queue.get()) is not None:
            if self._error is None:
                try:
                    for track in self._tracks:
                        track.write(picture)
                except Exception as error:  # noqa: BLE001 (raised again by the thread that writes)
                    self._error = error

    def write(self, picture: np.ndarray) -> None:
        """Append one picture; it must not be changed afterwards.

        Args:
            picture: uint8 [H, W, 3] sRGB, or where `takes_alpha` float32 [H, W, 4], premultiplied sRGB-coded colours
                and alpha in [0, 1].

        Raises:
            ValueError: of another shape or dtype.
            InputError: the disk is full (may rise some pictures late).
        """
        width, height = self._size
        shape, dtype = ((height, width, 4), np.float32) if self.takes_alpha else ((height, width, 3), np.uint8)
        if picture.dtype != dtype or picture.shape != shape:
            raise ValueError(
                f"picture came as {picture.dtype} {list(picture.shape)}; wanted {np.dtype(dtype).name} {list(shape)}"
            )
        if self._error is not None:
            raise self._said(self._error)
        self._queue.put(picture)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._queue.put(None)
        self._thread.join()
        try:
            if kind is None:
                if self._error is not None:
                    raise self._error
                self._finish()
        except BaseException as failure:
            self._abandon()
            said = self._said(failure)
            if said is failure:
                raise
            raise said from failure
        if kind is not None:
            self._abandon()

    def _finish(self) -> None:
        if not self._tracks[0].count:
            raise ValueError(f"no picture was written to {self._form.path}; wanted at least one")
        for track in self._tracks:
            track.finish(self._sealer)
        for track in self._tracks:
            track.release()
        self._work.remove()

    def _abandon(self) -> None:
        for track in self._tracks:
            track.abandon()
        if not any(track.count for track in self._tracks):
            self._work.remove()

    def _said(self, error: BaseException) -> BaseException:
        if isinstance(error, OSError) and error.errno in _FULL:
            return InputError(
                f"the disk is full, or a limit on files is reached, while writing {self._form.path}",
                "room for the output and once more for its parts", "make room and run the same command with --resume",
            )  # fmt: skip
        return error


def open_sink(
    path: str | Path,
    options: OutputOptions,
    width_px: int,
    height_px: int,
    rate: float | Fraction,
    sound: AudioClip | SoundBlocks | None = None,
    *,
    made_from: Mapping[str, object] | None = None,
    sealer: Sealer | None = None,
    segment_seconds: float = 5.0,
) -> Sink:
    """The sink for an output, to be entered with `with`.

    Args:
        path: a film, or a folder or numbered name (frame_%06d.png, frame_####.exr) for pictures.
        options: how they are stored.
        width_px, height_px: of the pictures.
        rate: frames a second; floats such as 29.97 stand for their exact fraction (`media.frame_rate.exact_rate`).
        sound: of the film; WAV beside numbered pictures. Its `start_seconds` is kept.
        made_from: whatever else decides the pictures (avatar, sound, seed ...): a stopped run is only resumed by one
            with the same.
        sealer: signs the whole output before it comes to its place (`output.provenance`).
        segment_seconds: how much of a film a stopped run may lose.

    Raises:
        InputError: the output cannot be written, or path and options do not go together.
    """
    exact = exact_rate(rate)
    form = check_output(path, options, exact)
    smallest = 1 if form.coding is None else form.coding.smallest_px
    if min(width_px, height_px) < smallest:
        title = "the output" if form.coding is None else form.coding.title
        raise InputError(
            f"pictures of {width_px}x{height_px} px came for {title}", f"at least {smallest} px either way",
            "choose a larger size or another codec",
        )  # fmt: skip
    return Sink(form, options, width_px, height_px, exact, sound, made_from or {}, sealer, segment_seconds)
