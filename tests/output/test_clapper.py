"""A clapper: in one picture a flash, at its time a beep; both are still together in every kind of output."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest

from avatarfit.contracts import AudioClip
from avatarfit.media import read_audio, read_video
from avatarfit.output import OutputOptions, open_sink

RATES = [Fraction(24000, 1001), Fraction(24), Fraction(25), Fraction(30000, 1001), Fraction(30), Fraction(50),
         Fraction(60000, 1001), Fraction(60)]  # fmt: skip
FILMS = [("a.mp4", {}), ("a.mp4", {"codec": "h265"}), ("a.mp4", {"codec": "av1"}), ("a.mp4", {"audio": "pcm"}),
         ("a.mov", {"audio": "pcm"}), ("a.mov", {"codec": "prores4444", "timecode": "10:00:00:00"}), ("a.mkv", {}),
         ("a.mkv", {"codec": "ffv1"}), ("a.webm", {})]  # fmt: skip
SIZE = 64


def clap(rate: Fraction) -> tuple[int, int, AudioClip]:
    """How many pictures, the one with the flash, and a sound of 16 kHz whose beep begins when that picture does."""
    flash = round(rate * Fraction(1, 2))
    onset = float(flash / rate)
    seconds = np.arange(16000 * 4 // 5) / 16000
    beep = 0.8 * np.sin(2 * np.pi * 1000 * (seconds - onset)) * ((seconds >= onset) & (seconds < onset + 0.1))
    return round(rate * Fraction(4, 5)), flash, AudioClip(beep.astype(np.float32), 16000)


def write_clap(path: Path, rate: Fraction, options: dict[str, Any]) -> None:
    count, flash, sound = clap(rate)
    dark, bright = np.full((SIZE, SIZE, 3), 16, np.uint8), np.full((SIZE, SIZE, 3), 235, np.uint8)
    # Segments end in the middle: what is joined must be as exact as what is not.
    with open_sink(path, OutputOptions(**options), SIZE, SIZE, rate, sound, segment_seconds=0.4) as sink:
        for k in range(count):
            sink.write(bright if k == flash else dark)


def beep_seconds(path: Path) -> float:
    sound = read_audio(path)
    return sound.start_seconds + int(np.argmax(np.abs(sound.samples) > 0.2)) / sound.sample_rate_hz


@pytest.mark.parametrize("rate", RATES, ids=lambda rate: f"{float(rate):.6g}")
@pytest.mark.parametrize(("name", "options"), FILMS, ids=lambda value: value if isinstance(value, str) else str(value))
def test_flash_and_beep_in_films(tmp_path: Path, rate: Fraction, name: str, options: dict[str, Any]) -> None:
    write_clap(tmp_path / name, rate, options)
    frames = [(frame.pts_seconds, float(frame.rgb.mean())) for frame in read_video(tmp_path / name)]
    count, flash, _ = clap(rate)
    assert len(frames) == count
    seconds = max(frames, key=lambda frame: frame[1])[0]
    assert abs(seconds - flash / rate) < 0.001
    assert abs(beep_seconds(tmp_path / name) - seconds) < 0.25 / rate


@pytest.mark.parametrize("kind", ["png", "exr"])
def test_flash_and_beep_in_numbered_pictures(tmp_path: Path, kind: str) -> None:
    rate = RATES[3]
    write_clap(tmp_path / "take", rate, {"codec": kind})
    files = sorted((tmp_path / "take").glob(f"*.{kind}"))
    count, flash, _ = clap(rate)
    assert [path.name for path in files] == [f"{k:06d}.{kind}" for k in range(count)]
    if kind == "png":
        assert int(np.argmax([iio.imread(path).mean() for path in files])) == flash
    assert abs(beep_seconds(tmp_path / "take" / "sound.wav") - flash / rate) < 0.25 / rate


@pytest.mark.parametrize("rate", RATES, ids=lambda rate: f"{float(rate):.6g}")
@pytest.mark.parametrize("form", ["mp4", "mov", "matroska", "webm"])
def test_pictures_at_the_end_of_an_hour_stand_where_they_belong(tmp_path: Path, rate: Fraction, form: str) -> None:
    import av

    from avatarfit.media.video_coding import CODINGS, add_pictures, coded_frame

    coding = CODINGS[{"webm": "vp9", "matroska": "ffv1"}.get(form, "h264")]
    wanted = [0, 1, round(3600 * rate) - 1, round(3600 * rate)]
    with av.open(str(tmp_path / "a"), "w", format=form) as container:
        stream = add_pictures(container, coding, 32, 32, rate, alpha=False)
        for number in wanted:
            frame = coded_frame(np.full((32, 32, 3), 90, np.uint8), coding)
            frame.pts, frame.time_base = number, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(str(tmp_path / "a")) as container:
        times = [frame.pts * frame.time_base for frame in container.decode(video=0)]
    # MP4 and MOV are exact; Matroska rounds each time by itself to a millisecond.
    slack = 0 if form in ("mp4", "mov") else Fraction(1, 2000)
    assert [abs(at - number / rate) <= slack for at, number in zip(times, wanted, strict=True)] == [True] * 4


@pytest.mark.parametrize("sample_rate_hz", [8000, 16000, 22050, 44100, 48000])
def test_resampled_sound_keeps_its_time_however_long(sample_rate_hz: int) -> None:
    """What stands at the end of long sound stands there at 48 kHz: sample n at n / 48000, to a sample."""
    from avatarfit.media.sound_feed import SoundFeed

    samples = np.zeros(sample_rate_hz * 60, np.float32)
    samples[-sample_rate_hz // 10 :] = 0.5
    feed = SoundFeed(AudioClip(samples, sample_rate_hz), 48000)
    pieces = []
    while len(piece := feed.take(1024, rest=True)):
        pieces.append(piece)
    sound = np.concatenate(pieces)
    assert len(sound) == 60 * 48000
    assert abs(int(np.argmax(sound > 0.25)) - (60 * 48000 - 4800)) <= 48000 / sample_rate_hz
