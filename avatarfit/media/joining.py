"""Putting videos one after the other without coding them again."""

from __future__ import annotations

import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path


def join_videos(paths: Sequence[Path], joined: Path, frame_rate_hz: float | Fraction) -> None:
    """Writes the pictures of Matroska files that `VideoWriter` made alike, in order, as one file; whole or not at all.

    Args:
        paths: at least one file, of one size and coding, each picture coded by itself (ffv1); sound is left out.
        joined: the file to write; may be one of `paths`.
        frame_rate_hz: constant rate of the joined film.

    Raises:
        OSError: such as a full disk; what was at `joined` stays.
    """
    import av

    tick = 1 / Fraction(frame_rate_hz).limit_denominator(1001)
    part = joined.with_name(joined.name + ".part")
    try:
        with av.open(str(part), "w", format="matroska") as out:
            stream = None
            count = 0
            for path in paths:
                with av.open(str(path)) as container:
                    source = container.streams.video[0]
                    if stream is None:
                        stream = out.add_stream_from_template(source)
                        stream.time_base = tick
                    for packet in container.demux(source):
                        if packet.size:
                            packet.stream, packet.time_base = stream, tick
                            packet.pts = packet.dts = count
                            packet.duration = 1
                            out.mux(packet)
                            count += 1
        os.replace(part, joined)
    finally:
        part.unlink(missing_ok=True)
