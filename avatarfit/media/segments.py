"""Pictures coded as segments of a few seconds, each whole in itself, and their joining into one file.

A run that stops loses at most the segment it was in. Every segment is coded by a fresh encoder, so that a film
which was made in two runs holds the same pictures, bit for bit, as one made in a single run.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from avatarfit.contracts import AudioClip
from avatarfit.media.sound_blocks import SoundBlocks
from avatarfit.media.sound_track import SoundTrack
from avatarfit.media.video_coding import FORMATS, VideoCoding, add_pictures, coded_frame

if TYPE_CHECKING:
    from av.container import OutputContainer

_NAME = re.compile(r"(\d{8})-(\d{8})\.segment")
SOUND_RATE_HZ = 48_000


class SegmentWriter:
    """Writes pictures as segments into a folder and joins them; not thread-safe.

    Args:
        folder: of the segments; made. What another run left there is taken up.
        coding: how.
        width_px, height_px: of the pictures.
        rate: frames a second.
        alpha: whether pictures have four channels.
        length: pictures in a segment.
    """

    def __init__(
        self, folder: Path, coding: VideoCoding, width_px: int, height_px: int, rate: Fraction, alpha: bool, length: int
    ) -> None:
        self.folder, self.coding, self.rate, self.length = folder, coding, rate, length
        self._shape = (height_px, width_px, 4 if alpha else 3)
        self._dtype = np.uint8 if coding.depths[alpha] == 8 else np.uint16
        self._open: tuple[OutputContainer, Any, Path, int] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        for stray in folder.glob("*.part"):
            stray.unlink()
        self._whole = _whole_segments(folder)
        self.count = self._whole[-1][1] + 1 if self._whole else 0

    def drop_from(self, frame: int) -> None:
        """Forget pictures from `frame` on, by whole segments: afterwards `count` is at most `frame`."""
        while self._whole and self._whole[-1][1] >= frame:
            self._whole.pop()[2].unlink()
        self.count = self._whole[-1][1] + 1 if self._whole else 0

    def write(self, picture: np.ndarray) -> None:
        """Append one picture of the coding's depth: uint8 or uint16 [H, W, 3 | 4].

        Raises:
            ValueError: of another shape or dtype.
            OSError: such as a full disk.
        """
        if picture.dtype != self._dtype or picture.shape != self._shape:
            raise ValueError(
                f"picture came as {picture.dtype} {list(picture.shape)}; wanted {np.dtype(self._dtype).name} "
                f"{list(self._shape)}"
            )
        if self._open is None:
            self._begin()
        assert self._open is not None
        container, stream, _, first = self._open
        frame = coded_frame(picture, self.coding)
        frame.pts, frame.time_base = self.count - first, 1 / self.rate
        container.mux(stream.encode(frame))
        self.count += 1
        if self.count - first == self.length:
            self.end_segment()

    def _begin(self) -> None:
        import av

        part = self.folder / f"{self.count:08d}.part"
        container = av.open(str(part), "w", format=self.coding.segment)
        try:
            stream = self._stream(container)
        except BaseException:
            container.close()
            part.unlink(missing_ok=True)
            raise
        self._open = container, stream, part, self.count

    def _stream(self, container: OutputContainer) -> Any:
        height, width, channels = self._shape
        return add_pictures(container, self.coding, width, height, self.rate, channels == 4)

    def end_segment(self) -> None:
        """Make the open segment whole, if there is one."""
        if self._open is None:
            return
        container, stream, part, first = self._open
        container.mux(stream.encode(None))
        container.close()
        self._open = None
        with part.open("rb") as file:
            os.fsync(file.fileno())
        path = self.folder / f"{first:08d}-{self.count - 1:08d}.segment"
        part.rename(path)
        self._whole.append((first, self.count - 1, path))

    def abandon(self) -> None:
        """Drop the open segment; whole ones stay."""
        if self._open is None:
            return
        container, _, part, first = self._open
        self._open, self.count = None, first
        # Closing writes what is buffered; after an error, such as a full disk, that may fail once more.
        with suppress(OSError):
            container.close()
        part.unlink(missing_ok=True)

    def join(
        self,
        path: Path,
        *,
        sound: AudioClip | SoundBlocks | None = None,
        sound_coding: str = "aac",
        tags: dict[str, str] | None = None,
    ) -> None:
        """Put all pictures and the sound into one file, the pictures not coded again.

        Args:
            path: the file; its suffix names the container.
            sound: see `SoundTrack`; at 48 kHz in the file.
            sound_coding: "aac", "pcm" or "opus".
            tags: of the file; "timecode" becomes a time code track in MP4 and MOV, a tag in Matroska and WebM.

        Raises:
            OSError: such as a full disk.
        """
        import av

        self.end_segment()
        form = FORMATS[path.suffix.lower()]
        options = {"movflags": "+faststart"} if form == "mp4" else {}
        with av.open(str(path), "w", format=form, options=options) as out:
            out.metadata.update(tags or {})
            stream = self._stream(out)
            track = None if sound is None else SoundTrack(out, sound, sound_coding, SOUND_RATE_HZ)
            out.start_encoding()
            self._send(out, stream, [whole[2] for whole in self._whole], track)
            if track is not None:
                track.finish()

    def _send(self, out: OutputContainer, stream: Any, segments: Sequence[Path], track: SoundTrack | None) -> None:
        import av

        tick, begun = 1 / self.rate, 0
        orders = [self._shown(segment) for segment in segments]
        # Packets lie in the order of decoding, one for each picture: that order, less the number of pictures by which
        # it runs ahead of showing, is their decoding time.
        lead = max((order - at for shown in orders if shown for order, at in enumerate(shown)), default=0)
        for segment, shown in zip(segments, orders, strict=True):
            with av.open(str(segment), format=self.coding.segment) as container:
                packets = (packet for packet in container.demux(container.streams.video[0]) if packet.size)
                order = -1
                for order, packet in enumerate(packets):
                    packet.stream, packet.time_base = stream, tick
                    packet.pts = begun + (shown[order] if shown is not None else order)
                    packet.dts, packet.duration = begun + order - lead, 1
                    if track is not None:
                        track.send_until((begun + order) * tick)
                    out.mux(packet)
                begun += order + 1

    def _shown(self, segment: Path) -> list[int] | None:
        """Of each packet in the order of decoding, the place of its picture in showing; None where both agree."""
        import av

        if not self.coding.reorders:
            return None
        with av.open(str(segment), format=self.coding.segment) as container:
            source = container.streams.video[0]
            times = [p.pts * p.time_base * self.rate for p in container.demux(source) if p.size]  # type: ignore[operator]
        return [round(at - min(times)) for at in times]


def _whole_segments(folder: Path) -> list[tuple[int, int, Path]]:
    """(first, last, path) of the segments that follow on each other from picture 0; any others are removed."""
    found = sorted(
        (int(name[1]), int(name[2]), path) for path in folder.iterdir() if (name := _NAME.fullmatch(path.name))
    )
    whole: list[tuple[int, int, Path]] = []
    for first, last, path in found:
        if first == (whole[-1][1] + 1 if whole else 0) and last >= first:
            whole.append((first, last, path))
        else:
            path.unlink()
    return whole
