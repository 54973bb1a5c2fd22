from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

WIDTH, HEIGHT = 97, 81


def somebody(index: int) -> np.ndarray:
    """A soft-edged disc that moves, in changing colours: float32 [HEIGHT, WIDTH, 4], premultiplied."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    alpha = np.clip(1.3 - np.hypot(x - 40 - 0.3 * index, y - 40) / 25, 0, 1)
    colours = np.stack([0.5 + 0.4 * np.sin(x / 15), 0.5 + 0.4 * np.cos(y / 13), np.full_like(x, 0.3)], axis=-1)
    return np.concatenate([colours * alpha[..., None], alpha[..., None]], axis=-1)


def over_grey(rgba: np.ndarray, grey: float = 0.4) -> np.ndarray:
    return np.asarray(rgba[..., :3] + (1 - rgba[..., 3:]) * grey)


def opaque(index: int) -> np.ndarray:
    return np.rint(over_grey(somebody(index)) * 255).astype(np.uint8)


def stored(path: Path, channels: int = 3) -> list[np.ndarray]:
    """Every picture of a film as it is stored, float32 [H, W, channels] in [0, 1], by BT.709 and limited range."""
    import av
    from av.video.reformatter import ColorRange, Colorspace, Interpolation

    matrix = {
        "src_colorspace": Colorspace.ITU709, "dst_colorspace": Colorspace.ITU709, "src_color_range": ColorRange.MPEG,
        "dst_color_range": ColorRange.JPEG,
        "interpolation": Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT,
    }  # fmt: skip
    form, pictures = {3: "rgb48le", 4: "rgba64le"}[channels], []
    with av.open(str(path)) as container:
        stream: Any = container.streams.video[0]
        # FFmpeg's own VP9 decoder leaves alpha out.
        own = stream.codec_context.name != "vp9" or channels == 3
        decoder = stream if own else av.codec.CodecContext.create("libvpx-vp9", "r")
        packets = list(container.demux(stream))
        frames = [f for packet in packets if packet.size for f in decoder.decode(packet)]
        for frame in frames + list(decoder.decode(None)):
            if frame.format.name == "bgr0":
                pictures.append(frame.to_ndarray(format="rgb24").astype(np.float32) / 255)
                continue
            options = {} if frame.format.is_rgb else matrix
            pictures.append(frame.reformat(format=form, **options).to_ndarray().astype(np.float32) / 65535)
    return pictures


@pytest.fixture
def size() -> tuple[int, int]:
    return WIDTH, HEIGHT


@pytest.fixture
def person() -> Callable[[int], np.ndarray]:
    return somebody


@pytest.fixture
def scene() -> Callable[[int], np.ndarray]:
    return opaque


@pytest.fixture
def composited() -> Callable[[np.ndarray], np.ndarray]:
    return over_grey


@pytest.fixture
def read_stored() -> Callable[..., list[np.ndarray]]:
    return stored
