"""Sound from strangers' bytes: what any player reads is read, nothing else is opened, and nothing is endless."""

from __future__ import annotations

import contextlib
import io
import wave
from pathlib import Path

import av
import numpy as np
import pytest

from avatarfit.contracts import SoundError
from avatarfit.media.sound_bytes import read_audio_bytes


def wav(samples: np.ndarray, rate: int) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(samples.astype("<i2").tobytes())
    return file.getvalue()


def tone(seconds: float, rate: int) -> np.ndarray:
    return np.asarray(9_000 * np.sin(np.arange(round(seconds * rate)) * 0.1), np.int16)


def coded(kind: str, codec: str) -> bytes:
    """Two seconds of a tone at 48 kHz."""
    file = io.BytesIO()
    with av.open(file, "w", format=kind) as container:
        stream = container.add_stream(codec, rate=48_000)
        frame = av.AudioFrame.from_ndarray(tone(2.0, 48_000)[None], format="s16", layout="mono")
        frame.rate = 48_000
        resampler = av.AudioResampler(stream.format, stream.layout, 48_000, stream.frame_size or 1024)
        for piece in [*resampler.resample(frame), *resampler.resample(None), None]:
            container.mux(stream.encode(piece))
    return file.getvalue()


@pytest.mark.parametrize("rate", [8_000, 22_050, 48_000])
def test_a_wav_is_read_sample_by_sample(rate: int) -> None:
    samples = tone(1.0, rate)
    clip = read_audio_bytes(wav(samples, rate), 10.0)
    assert clip.sample_rate_hz == rate
    np.testing.assert_array_equal(np.rint(clip.samples * 32_768), samples)


def test_higher_rates_come_down_to_48_khz_in_the_same_time() -> None:
    clip = read_audio_bytes(wav(tone(1.0, 96_000), 96_000), 10.0)
    assert clip.sample_rate_hz == 48_000
    assert clip.duration_seconds == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(
    ("kind", "codec"),
    [("ogg", "libopus"), ("mp3", "libmp3lame"), ("flac", "flac"), ("mp4", "aac"), ("webm", "libopus"), ("adts", "aac")],
)
def test_usual_files_are_read_and_damaged_ones_give_a_sentence(kind: str, codec: str) -> None:
    whole = coded(kind, codec)
    assert read_audio_bytes(whole, 10.0).duration_seconds == pytest.approx(2.0, abs=0.06)
    random = np.random.default_rng(0)
    for trial in range(60):
        broken = np.frombuffer(whole, np.uint8).copy()
        reach = 300 if trial % 2 else len(broken)
        broken[random.integers(reach, size=20)] = random.integers(256, size=20)
        broken = broken[: random.integers(len(broken))] if trial % 3 == 0 else broken
        with contextlib.suppress(SoundError):
            assert read_audio_bytes(broken.tobytes(), 10.0).duration_seconds <= 10.1


def test_no_file_is_opened_for_bytes_that_name_one(tmp_path: Path) -> None:
    canary = tmp_path / "canary.wav"
    canary.write_bytes(wav(tone(1.0, 16_000), 16_000))
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:1,\n{canary}\n#EXT-X-ENDLIST\n"
    for text in (playlist, playlist.replace(str(canary), f"file://{canary}"), f"ffconcat version 1.0\nfile {canary}\n"):
        with pytest.raises(SoundError, match="no sound file that can be read"):
            read_audio_bytes(text.encode(), 10.0)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no sound file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "no sound file"),
        (wav(tone(11.0, 8_000), 8_000), "over 10 s of sound"),
        (wav(tone(1.0, 1_000), 1_000), "1000 samples a second"),
        (wav(tone(0.0, 8_000), 8_000), "no sound"),
    ],
)
def test_what_cannot_be_used_is_told(data: bytes, words: str) -> None:
    with pytest.raises(SoundError, match=words):
        read_audio_bytes(data, 10.0)


def test_pictures_beside_the_sound_are_not_decoded() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        pictures = container.add_stream("ffv1", rate=25)
        pictures.width = pictures.height = 16
        pictures.pix_fmt = "yuv420p"
        sound = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        for _ in range(3):
            container.mux(pictures.encode(av.VideoFrame(16, 16, "yuv420p")))
        frame = av.AudioFrame.from_ndarray(tone(0.5, 16_000)[None], format="s16", layout="mono")
        frame.rate = 16_000
        container.mux(sound.encode(frame))
        container.mux([*pictures.encode(None), *sound.encode(None)])
    assert read_audio_bytes(file.getvalue(), 10.0).duration_seconds == pytest.approx(0.5)
