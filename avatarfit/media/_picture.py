"""From a decoded frame to upright 8-bit RGB with square pixels: deinterlacing, matrix, tone map, crop, size."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from avatarfit.media._outline import Outline
from avatarfit.media.tone_map import sdr_table

if TYPE_CHECKING:
    import av
    from av.filter import Graph
    from av.video.stream import VideoStream

Crop = tuple[int, int, int, int]
"""x, y, width, height in the upright picture."""

# AVColorSpace: 1 BT.709, 4 FCC, 5 BT.470BG, 6 SMPTE 170M (both BT.601's matrix), 7 SMPTE 240M, 9 and 10 BT.2020.
_MATRIX = {1: "ITU709", 4: "FCC", 5: "ITU601", 6: "ITU601", 7: "SMPTE240M", 9: "BT2020", 10: "BT2020"}


def deinterlaced(frames: Iterable[av.VideoFrame], stream: VideoStream) -> Iterator[av.VideoFrame]:
    """One whole picture for each frame of two fields, by motion-adaptive interpolation (FFmpeg's bwdif, from the BBC's
    w3fdif and Niemitalo's yadif); frames that are whole already pass unchanged."""
    graph = _graph_of({"template": stream}, ("bwdif", {"mode": "send_frame", "parity": "auto", "deint": "interlaced"}))
    for frame in frames:
        graph.push(frame)
        yield from _pulled(graph)
    graph.push(None)
    yield from _pulled(graph)


def _graph_of(source: dict[str, object], *filters: tuple[str, dict[str, str]]) -> Graph:
    import av.filter

    graph = av.filter.Graph()
    graph.threads = 1
    nodes = [graph.add_buffer(**source)]  # type: ignore[arg-type]
    nodes += [graph.add(name, **options) for name, options in filters]
    graph.link_nodes(*nodes, graph.add("buffersink")).configure()
    return graph


def _pulled(graph: Graph) -> Iterator[av.VideoFrame]:
    import av

    while True:
        try:
            frame = graph.pull()
        except (av.BlockingIOError, av.EOFError):
            return
        yield frame  # type: ignore[misc]


class PictureMaker:
    """Turns the frames of one stream into pictures.

    Args:
        outline: what the stream's first pictures said.
        crop: the part of the upright picture that is wanted; None for all of it.
        size: (width, height) to bring it to, by area averages where it shrinks; None to leave it.
    """

    def __init__(self, outline: Outline, crop: Crop | None = None, size: tuple[int, int] | None = None) -> None:
        self._outline, self._size = outline, size
        self._crop = None if crop == (0, 0, *outline.size) else crop
        self._taken = self._crop_as_stored()
        # Shrinking in the pass that converts the colours costs a fifth of shrinking afterwards; it wants the very part
        # that is asked for, which a chroma sample's grid may not allow.
        self._direct: tuple[int, int] | None = None
        width, height = outline.size if self._crop is None else self._crop[2:]
        exact = self._crop is None or (self._taken is not None and not any(v % 2 for v in self._taken))
        if size is not None and exact and size[0] <= width and size[1] <= height and size != (width, height):
            self._direct = outline.orientation.size(*size)
        self._corner = (0, 0)
        if self._taken is not None and self._direct is None:
            self._taken, self._corner = self._with_room(self._taken)
        self._cropper: tuple[str, Graph] | None = None
        self._tone_map: tuple[tuple[int, int], Graph] | None = None

    def picture(self, frame: av.VideoFrame) -> np.ndarray:
        """uint8 [H, W, 3]."""
        import cv2

        turn, crop = self._outline.orientation, self._crop
        if self._taken is not None:
            frame = self._cropped(frame)
        if self._direct is not None:
            return turn.apply(self._to_rgb(frame, *self._direct))
        width = frame.width if self._outline.pixel_aspect == 1 else self._outline.square_size[0]
        picture = turn.apply(self._to_rgb(frame, width, frame.height))
        if crop is not None:
            x, y = crop[0] - self._corner[0], crop[1] - self._corner[1]
            picture = picture[y : y + crop[3], x : x + crop[2]]
        if self._size is not None and self._size != picture.shape[1::-1]:
            method = cv2.INTER_AREA if self._size[0] < picture.shape[1] else cv2.INTER_CUBIC
            picture = cv2.resize(picture, self._size, interpolation=method)
        return np.ascontiguousarray(picture)

    def _crop_as_stored(self) -> Crop | None:
        """The crop in the picture as stored; None for the whole, or where its pixels are not square."""
        outline, turn = self._outline, self._outline.orientation
        if self._crop is None or outline.pixel_aspect != 1:
            return None
        x, y, width, height = self._crop
        if turn.flip_x:
            x = outline.size[0] - x - width
        if turn.flip_y:
            y = outline.size[1] - y - height
        return (y, x, height, width) if turn.transpose else (x, y, width, height)

    def _with_room(self, stored: Crop) -> tuple[Crop, tuple[int, int]]:
        """The stored crop, grown to whole chroma samples with room for their interpolation, so that only what is needed
        is converted; and its corner in the upright picture."""
        outline, turn = self._outline, self._outline.orientation
        x, y, width, height = stored
        left, top = max(0, (x & ~3) - 8), max(0, (y & ~3) - 8)
        right = min(outline.stored_width_px, x + width + 11 & ~3)
        bottom = min(outline.stored_height_px, y + height + 11 & ~3)
        grown = (left, top, right - left, bottom - top)
        at_x, at_y, shown_width, shown_height = (top, left, grown[3], grown[2]) if turn.transpose else grown
        if turn.flip_x:
            at_x = outline.size[0] - at_x - shown_width
        if turn.flip_y:
            at_y = outline.size[1] - at_y - shown_height
        return grown, (at_x, at_y)

    def _cropped(self, frame: av.VideoFrame) -> av.VideoFrame:
        if self._cropper is None or self._cropper[0] != frame.format.name:
            assert self._taken is not None
            x, y, width, height = self._taken
            options = {"w": str(width), "h": str(height), "x": str(x), "y": str(y), "exact": "1"}
            self._cropper = frame.format.name, _graph_of(_source_of(frame), ("crop", options))
        self._cropper[1].push(frame)
        return self._cropper[1].pull()  # type: ignore[return-value]

    def _to_rgb(self, frame: av.VideoFrame, width: int, height: int) -> np.ndarray:
        """uint8 [height, width, 3] by the frame's own matrix, range and transfer, not yet turned.

        A frame that names no matrix is taken as BT.709 above 576 lines or from 1280 columns, else as BT.601, as players
        do.
        """
        from av.video.reformatter import ColorRange, Colorspace, Interpolation

        outline, name = self._outline, frame.format.name
        plain = outline.dynamic_range == "sdr" and outline.primaries == "bt709"
        method = Interpolation.BICUBIC
        if height < frame.height:  # without the flags, scaling darkens by two levels
            method = Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
        if name == "rgb24" and plain and (frame.width, frame.height) == (width, height):
            return frame.to_ndarray()
        target = "rgb24" if plain else "gbrp16le"
        if frame.format.is_rgb or name.startswith("gray"):
            converted = frame.reformat(width, height, target, interpolation=method)
        else:
            large = outline.stored_height_px > 576 or outline.stored_width_px >= 1280
            matrix = Colorspace[_MATRIX.get(int(frame.colorspace), "ITU709" if large else "ITU601")]
            full = int(frame.color_range) == 2 or name.startswith("yuvj")
            converted = frame.reformat(
                width,
                height,
                target,
                src_colorspace=matrix,
                dst_colorspace=Colorspace.ITU709,
                src_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
                dst_color_range=ColorRange.JPEG,
                interpolation=method,
            )
        return converted.to_ndarray() if plain else self._mapped(converted)

    def _mapped(self, frame: av.VideoFrame) -> np.ndarray:
        """uint8 [H, W, 3] of a 16-bit planar RGB frame, by `sdr_table` and tetrahedral interpolation."""
        size = frame.width, frame.height
        if self._tone_map is None or self._tone_map[0] != size:
            table = sdr_table(self._outline.dynamic_range, self._outline.primaries)
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "sdr.cube"
                rows = (f"{r:.5f} {g:.5f} {b:.5f}\n" for r, g, b in table.reshape(-1, 3).tolist())
                path.write_text(f"LUT_3D_SIZE {len(table)}\n" + "".join(rows))
                options = {"file": str(path), "interp": "tetrahedral"}
                self._tone_map = size, _graph_of(_source_of(frame), ("lut3d", options))
        self._tone_map[1].push(frame)
        mapped = self._tone_map[1].pull()
        return mapped.reformat(format="rgb24").to_ndarray()  # type: ignore[union-attr]


def _source_of(frame: av.VideoFrame) -> dict[str, object]:
    return {"width": frame.width, "height": frame.height, "format": frame.format, "time_base": frame.time_base}
