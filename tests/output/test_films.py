"""Films: what they hold is what went in, within what each coding can keep; tags, sizes and time code are read back."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avatarfit.media import read_audio
from avatarfit.output import OutputOptions, open_sink

NTSC = Fraction(30000, 1001)
OPAQUE = [
    ("a.mp4", "h264"), ("a.mov", "h264"), ("a.mkv", "h264"), ("a.mp4", "h265"), ("a.mkv", "h265"), ("a.mp4", "av1"),
    ("a.webm", "av1"), ("a.webm", "vp9"), ("a.mov", "prores4444"), ("a.mkv", "ffv1"),
]  # fmt: skip


@pytest.fixture
def make(tmp_path: Path, size: tuple[int, int], scene: Any, person: Any) -> Callable[..., Path]:
    def made(name: str, count: int = 12, rate: Fraction = NTSC, **options: Any) -> Path:
        with open_sink(tmp_path / name, OutputOptions(**options), *size, rate, segment_seconds=5 / rate) as sink:
            for k in range(count):
                sink.write(person(k) if sink.takes_alpha else scene(k))
        return tmp_path / name

    return made


@pytest.mark.parametrize(("name", "codec"), OPAQUE)
def test_opaque_films(make: Any, scene: Any, read_stored: Any, name: str, codec: str) -> None:
    import av

    path = make(name, codec=codec)
    pictures = read_stored(path)
    assert len(pictures) == 12
    even = codec not in ("prores4444", "ffv1")
    assert pictures[0].shape == ((82, 98, 3) if even else (81, 97, 3))
    for k, picture in enumerate(pictures):
        error = np.abs(picture[:81, :97] * 255 - scene(k))
        assert error.mean() < (0.01 if codec == "ffv1" else 1.2)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == NTSC
        tick = Fraction(1, 1000) if path.suffix in (".mkv", ".webm") else 0
        for k, frame in enumerate(container.decode(stream)):
            assert abs(frame.pts * frame.time_base - k / NTSC) <= tick
            if codec != "ffv1":
                # BT.709 matrix, limited range, BT.709 primaries and transfer.
                assert (frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc) == (1, 1, 1, 1)
        assert stream.codec_context.codec_tag in {"h265": ("hvc1", "\0\0\0\0"), "prores4444": ("ap4h",)}.get(
            codec, (stream.codec_context.codec_tag,)
        )


@pytest.mark.parametrize(
    ("name", "alpha", "mean", "worst"),
    [("a.mov", "straight", 0.2, 2), ("a.mov", "premultiplied", 0.2, 4), ("a.webm", "straight", 0.6, 10),
     ("a.webm", "premultiplied", 0.6, 10), ("a.mkv", "straight", 0.04, 0.3), ("a.mkv", "premultiplied", 0.04, 0.1)],
)  # fmt: skip
def test_alpha_comes_back(
    make: Any, person: Any, read_stored: Any, name: str, alpha: str, mean: float, worst: float
) -> None:
    """In levels of 255, premultiplied: what a compositor sees of it."""
    pictures = read_stored(make(name, alpha=alpha), channels=4)
    assert len(pictures) == 12
    for k, picture in enumerate(pictures):
        picture = picture[:81, :97]
        if alpha == "straight":
            picture = np.concatenate([picture[..., :3] * picture[..., 3:], picture[..., 3:]], axis=-1)
        error = 255 * np.abs(picture - person(k))
        assert error.mean() < mean
        assert error.max() < worst


@pytest.mark.parametrize(("name", "mean", "worst"), [("a.mov", 0.2, 4), ("a.mkv", 0.6, 1.01), ("a.mp4", 1.2, 25)])
@pytest.mark.parametrize("alpha", ["none", "straight"])
def test_key_and_fill_make_the_frame(
    make: Any, person: Any, composited: Any, read_stored: Any, name: str, mean: float, worst: float, alpha: str
) -> None:
    codec = {".mov": "prores4444", ".mkv": "ffv1", ".mp4": "h264"}[Path(name).suffix]
    path = make(name, codec=codec, key_fill=True, alpha=alpha)
    assert not path.exists()
    fills, keys = (read_stored(path.with_name(f"a.{part}{path.suffix}")) for part in ("fill", "key"))
    assert len(fills) == len(keys) == 12
    for k, (fill, key) in enumerate(zip(fills, keys, strict=True)):
        fill, key = fill[:81, :97], key[:81, :97]
        shown = (fill if alpha == "none" else fill * key) + (1 - key) * 0.4
        error = 255 * np.abs(shown - composited(person(k)))
        assert error.mean() < mean
        assert error.max() < worst


@pytest.mark.parametrize(
    ("name", "rate", "code"),
    [
        ("a.mp4", NTSC, "10:00:00;00"), ("a.mov", Fraction(60000, 1001), "00:59:59;58"),
        ("a.mov", Fraction(25), "01:02:03:04"), ("a.mkv", Fraction(24000, 1001), "01:00:00:00"),
        ("a.webm", Fraction(50), "09:59:59:49"),
    ],
)  # fmt: skip
def test_time_code_is_read_back(make: Any, name: str, rate: Fraction, code: str) -> None:
    import av

    with av.open(str(make(name, timecode=code, rate=rate))) as container:
        kinds = [stream.type for stream in container.streams]
        stated = container.streams.video[0].metadata | {k.lower(): v for k, v in container.metadata.items()}
        assert stated["timecode"] == code
        assert ("data" in kinds) == (Path(name).suffix in (".mp4", ".mov"))


@pytest.mark.parametrize("codec", ["prores4444", "h265", "av1"])
def test_time_code_tracks_of_other_codings(make: Any, codec: str) -> None:
    import av

    path = make("a.mov" if codec == "prores4444" else "a.mp4", codec=codec, timecode="10:00:00;00")
    with av.open(str(path)) as container:
        assert [s.metadata["timecode"] for s in container.streams if s.type == "data"] == ["10:00:00;00"]


def test_no_odd_size_is_needed_twice(tmp_path: Path, read_stored: Any) -> None:
    """The last column and row are repeated, and cutting them off gives the picture."""
    picture = np.random.default_rng(0).integers(60, 200, (33, 35, 1), dtype=np.uint8).repeat(3, axis=2)
    with open_sink(tmp_path / "a.mp4", OutputOptions(), 35, 33, 25) as sink:
        sink.write(picture)
    film = read_stored(tmp_path / "a.mp4")[0] * 255
    assert film.shape == (34, 36, 3)
    assert np.abs(film[:33, :35] - picture).mean() < 4
    assert np.abs(film[33] - film[32]).mean() < 8


@pytest.mark.parametrize(
    ("name", "options", "coding", "samples_off"),
    [("a.mp4", {}, "aac", 0.03), ("a.mp4", {"audio": "pcm"}, "pcm_s24le", 1e-4),
     ("a.mov", {"audio": "pcm"}, "pcm_s24le", 1e-4), ("a.mov", {"codec": "prores4444"}, "pcm_s24le", 1e-4),
     ("a.mkv", {"audio": "aac"}, "aac", 0.03), ("a.webm", {}, "opus", 0.1)],
)  # fmt: skip
def test_sound_is_coded_as_asked(
    tmp_path: Path,
    size: tuple[int, int],
    scene: Any,
    name: str,
    options: dict[str, Any],
    coding: str,
    samples_off: float,
) -> None:
    import av

    from avatarfit.contracts import AudioClip

    tone = AudioClip((0.4 * np.sin(2 * np.pi * 440 * np.arange(48000) / 48000)).astype(np.float32), 48000)
    with open_sink(tmp_path / name, OutputOptions(**options), *size, 25, tone) as sink:
        for k in range(25):
            sink.write(scene(k))
    with av.open(str(tmp_path / name)) as container:
        assert container.streams.audio[0].codec_context.name == coding
    back = read_audio(tmp_path / name)
    assert back.sample_rate_hz == 48000
    first = round(-back.start_seconds * 48000)
    # Matroska and WebM tell times in milliseconds.
    slack = 48 if name.endswith(("mkv", "webm")) else 0
    errors = [
        np.abs(back.samples[first + shift + 4800 : first + shift + 43200] - tone.samples[4800:43200]).max()
        for shift in range(-slack, slack + 1)
    ]
    assert min(errors) < samples_off
