"""Sound of any rate and layout becomes one channel at its true times."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from avatarfit.contracts import AudioClip, SoundError
from avatarfit.media import VideoWriter, covering, read_audio, resample, sound_span
from avatarfit.media.sound_blocks import mono_shares

LAYOUTS = {"mono": 1, "stereo": 2, "5.1": 6, "7.1": 8, "quad": 4}


def sound_file(
    path: Path, planes: np.ndarray, rate: int, layout: str, codec: str = "pcm_s16le", start: float = 0.0
) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        interleaved = np.rint(planes.T * 32767).astype(np.int16).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(interleaved, format="s16", layout=layout)
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), round(start * rate)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def tone(rate: int, seconds: float = 1.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(rate * seconds)) / rate)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("rate", [8000, 11025, 44100, 48000, 96000])
def test_the_same_tone_in_every_channel_keeps_its_level_and_becomes_16_khz(
    tmp_path: Path, layout: str, rate: int
) -> None:
    path = sound_file(tmp_path / "a.mka", np.tile(tone(rate), (LAYOUTS[layout], 1)), rate, layout)
    back = read_audio(path)
    assert (back.sample_rate_hz, len(back.samples)) == (rate, rate)
    np.testing.assert_allclose(back.samples, tone(rate), atol=1e-4)
    low = resample(back, 16000)
    assert (low.sample_rate_hz, len(low.samples)) == (16000, 16000)
    np.testing.assert_allclose(low.samples[500:-500], tone(16000)[500:-500], atol=0.01)


def test_speech_in_the_middle_channel_outweighs_the_others() -> None:
    shares = dict(
        zip(["FL", "FR", "FC", "LFE", "BL", "BR"], mono_shares(["FL", "FR", "FC", "LFE", "BL", "BR"]), strict=True)
    )
    assert shares["LFE"] == 0
    assert shares["FC"] > shares["FL"] > shares["BL"] > 0
    assert sum(shares.values()) == pytest.approx(1)
    np.testing.assert_allclose(mono_shares(["FL", "FR"]), 0.5)
    np.testing.assert_allclose(mono_shares(["NONE"] * 4), 0.25)


def film(path: Path, sound: AudioClip | None, count: int = 50) -> Path:
    with VideoWriter(path, 32, 32, 25, sound=sound) as out:
        for k in range(count):
            out.write(np.full((32, 32, 3), 4 * k, np.uint8))
    return path


@pytest.mark.parametrize(("start", "seconds"), [(0.0, 2.0), (0.6, 1.0), (0.0, 0.8)])
def test_the_span_of_the_sound_is_known_without_decoding(tmp_path: Path, start: float, seconds: float) -> None:
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
        audio = container.add_stream("flac", rate=16000, layout="mono")
        for k in range(50):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 4 * k, np.uint8), format="rgb24")
            frame.pts = k
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for first in range(0, round(seconds * 16000), 1600):
            part = np.rint(tone(16000, 0.1)[None] * 32767).astype(np.int16)
            block = av.AudioFrame.from_ndarray(part, format="s16", layout="mono")
            block.sample_rate, block.time_base = 16000, Fraction(1, 16000)
            block.pts = round(start * 16000) + first
            container.mux(audio.encode(block))
        container.mux(audio.encode(None))
    span = sound_span(tmp_path / "a.mkv")
    assert span is not None
    assert span.start_seconds == pytest.approx(start, abs=0.01)
    assert span.end_seconds == pytest.approx(start + seconds, abs=0.3)
    back = read_audio(tmp_path / "a.mkv")
    assert back.start_seconds == pytest.approx(start, abs=0.01)
    assert back.duration_seconds == pytest.approx(seconds, abs=0.01)
    whole = covering(back, 0.0, 2.0)
    assert (whole.start_seconds, whole.duration_seconds) == pytest.approx((0, 2), abs=0.01)
    at = round(back.start_seconds * 16000)
    np.testing.assert_array_equal(whole.samples[at : at + len(back.samples)], back.samples)
    assert not whole.samples[:at].any()
    assert not whole.samples[at + len(back.samples) :].any()


def test_a_film_without_sound_has_no_span(tmp_path: Path) -> None:
    assert sound_span(film(tmp_path / "a.mp4", None)) is None


def test_sound_that_covers_already_is_left_alone() -> None:
    clip = AudioClip(tone(8000), 8000, -0.2)
    assert covering(clip, 0.0, 0.5) is clip


def test_sound_that_changes_its_channels_is_told(tmp_path: Path) -> None:
    parts = [
        sound_file(tmp_path / f"{n}.ac3", np.tile(tone(48000), (LAYOUTS[n], 1)), 48000, n, "ac3").read_bytes()
        for n in ("stereo", "5.1")
    ]
    (tmp_path / "both.ac3").write_bytes(b"".join(parts))
    with pytest.raises(SoundError, match="changes its rate or channels at 1"):
        read_audio(tmp_path / "both.ac3")
