"""What is written comes back: colours, times, sound; and it appears whole or not at all."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from avatarfit.contracts import AudioClip, InputError, SoundError
from avatarfit.media import VideoWriter, probe, read_audio, read_gray_video, read_video, resample, write_wav

COLOURS = np.array(
    [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255],
     [0, 0, 0], [128, 128, 128], [200, 120, 90], [30, 200, 180]],
    np.uint8,
)  # fmt: skip


def patches(width: int = 128, height: int = 64) -> np.ndarray:
    cells = COLOURS.reshape(2, 4, 3)
    return np.repeat(np.repeat(cells, height // 2, axis=0), width // 4, axis=1)


def patch_means(picture: np.ndarray) -> np.ndarray:
    rows, columns = np.arange(2) * 32 + 16, np.arange(4) * 32 + 16
    return np.array([picture[r - 4 : r + 4, c - 4 : c + 4].reshape(-1, 3).mean(0) for r in rows for c in columns])


def write(path: Path, count: int = 5, rate: float | Fraction = 25, sound: AudioClip | None = None, **options) -> None:
    picture = patches()
    with VideoWriter(path, 128, 64, rate, sound=sound, **options) as writer:
        for _ in range(count):
            writer.write(picture)


def click(seconds: float, at: float, rate: int) -> AudioClip:
    samples = np.zeros(round(seconds * rate), np.float32)
    start = round(at * rate)
    samples[start : start + rate // 50] = 0.8 * np.sin(2 * np.pi * 1000 * np.arange(rate // 50) / rate)
    return AudioClip(samples, rate)


def onset_seconds(clip: AudioClip) -> float:
    return clip.start_seconds + float(np.argmax(np.abs(clip.samples) > 0.3)) / clip.sample_rate_hz


def test_h264_keeps_colours_within_three_levels(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4")
    frames = list(read_video(tmp_path / "a.mp4"))
    assert np.abs(patch_means(frames[2].rgb) - COLOURS).max() <= 3


def test_h264_is_tagged_bt709_limited(tmp_path: Path) -> None:
    import av

    write(tmp_path / "a.mp4")
    with av.open(str(tmp_path / "a.mp4")) as container:
        context = container.streams.video[0].codec_context
        tags = context.colorspace, context.color_primaries, context.color_trc, context.color_range, context.pix_fmt
    assert tags == (1, 1, 1, 1, "yuv420p")


def test_h264_index_lies_before_the_pictures(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4")
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize(("matrix", "name"), [(1, "ITU709"), (5, "ITU601")])
@pytest.mark.parametrize("full_range", [False, True])
def test_reader_follows_the_frames_own_matrix_and_range(
    tmp_path: Path, matrix: int, name: str, full_range: bool
) -> None:
    import av
    from av.video.reformatter import ColorRange, Colorspace

    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv444p"
        stream.options = {"crf": "1"}
        stream.codec_context.colorspace = matrix
        stream.codec_context.color_range = 2 if full_range else 1
        coded = av.VideoFrame.from_ndarray(patches(), format="rgb24").reformat(
            format="yuv444p", src_colorspace=Colorspace[name], dst_colorspace=Colorspace[name],
            src_color_range=ColorRange.JPEG, dst_color_range=ColorRange.JPEG if full_range else ColorRange.MPEG,
        )  # fmt: skip
        coded.colorspace, coded.color_range = matrix, 2 if full_range else 1
        container.mux(stream.encode(coded))
        container.mux(stream.encode(None))
    frame = next(read_video(path))
    assert np.abs(patch_means(frame.rgb) - COLOURS).max() <= 3


@pytest.mark.parametrize("rate", [Fraction(25), Fraction(30000, 1001), Fraction(24000, 1001), Fraction(50)])
def test_rate_is_exact_and_times_follow_it(tmp_path: Path, rate: Fraction) -> None:
    import av

    write(tmp_path / "a.mp4", count=40, rate=float(rate))
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].average_rate == rate
    times = [f.pts_seconds for f in read_video(tmp_path / "a.mp4")]
    np.testing.assert_allclose(times, np.arange(40) / float(rate), atol=1e-4)
    assert probe(tmp_path / "a.mp4").frame_rate_hz == pytest.approx(float(rate))


@pytest.mark.parametrize(("width", "height"), [(33, 31), (64, 33), (33, 64), (2, 2)])
def test_odd_sizes_are_padded_by_their_edge(tmp_path: Path, width: int, height: int) -> None:
    picture = np.full((height, width, 3), 90, np.uint8)
    picture[:, -1] = (200, 120, 90)
    with VideoWriter(tmp_path / "a.mp4", width, height, 25, crf=1) as writer:
        for _ in range(3):
            writer.write(picture)
    info = probe(tmp_path / "a.mp4")
    assert (info.width_px, info.height_px) == (width + width % 2, height + height % 2)


def test_ffv1_gray_and_rgb_are_exact_at_odd_sizes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    gray = rng.integers(0, 256, (7, 37, 41), dtype=np.uint8)
    with VideoWriter(tmp_path / "g.mkv", 41, 37, 25, codec="ffv1", pixel="gray8") as writer:
        for picture in gray:
            writer.write(picture)
    np.testing.assert_array_equal(np.stack(list(read_gray_video(tmp_path / "g.mkv"))), gray)
    colour = rng.integers(0, 256, (3, 37, 41, 3), dtype=np.uint8)
    with VideoWriter(tmp_path / "c.mkv", 41, 37, 25, codec="ffv1") as writer:
        for picture in colour:
            writer.write(picture)
    np.testing.assert_array_equal(np.stack([f.rgb for f in read_video(tmp_path / "c.mkv")]), colour)


@pytest.mark.parametrize("codec", ["h264", "ffv1"])
def test_reading_may_start_anywhere(tmp_path: Path, codec: str) -> None:
    path = tmp_path / ("a.mp4" if codec == "h264" else "a.mkv")
    with VideoWriter(path, 32, 32, Fraction(30000, 1001), codec=codec) as writer:
        for level in range(60):
            writer.write(np.full((32, 32, 3), level * 4, np.uint8))
    whole = list(read_video(path))
    for start in (1, 30, 59):
        part = list(read_video(path, whole[start].pts_seconds))
        assert len(part) == 60 - start
        assert part[0].pts_seconds == whole[start].pts_seconds
        np.testing.assert_array_equal(part[0].rgb, whole[start].rgb)


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
def test_sound_stays_in_step_and_its_length_is_right_within_a_frame(tmp_path: Path, rate: int) -> None:
    sound = click(2.0, 1.2, rate)
    write(tmp_path / "a.mp4", count=50, sound=sound)
    back = read_audio(tmp_path / "a.mp4")
    assert back.sample_rate_hz == rate
    assert onset_seconds(back) == pytest.approx(1.2, abs=0.003)
    assert abs(back.duration_seconds + back.start_seconds - 2.0) <= 1 / 25
    assert abs(probe(tmp_path / "a.mp4").duration_seconds - 2.0) <= 1 / 25


def test_an_odd_sound_rate_is_resampled_for_aac(tmp_path: Path) -> None:
    sound = click(1.0, 0.5, 12345)
    write(tmp_path / "a.mp4", count=25, sound=sound)
    back = read_audio(tmp_path / "a.mp4")
    assert back.sample_rate_hz == 48000
    assert onset_seconds(back) == pytest.approx(0.5, abs=0.003)


@pytest.mark.parametrize("start", [0.3, -0.3])
def test_a_late_or_early_sound_keeps_its_place(tmp_path: Path, start: float) -> None:
    sound = click(1.0, 0.5, 16000)
    write(tmp_path / "a.mp4", count=40, sound=AudioClip(sound.samples, 16000, start))
    assert onset_seconds(read_audio(tmp_path / "a.mp4")) == pytest.approx(0.5 + start, abs=0.003)


@pytest.mark.parametrize("late", [0.0, 0.5])
def test_the_tracks_offset_is_kept(tmp_path: Path, late: float) -> None:
    import av

    sound = click(1.0, 0.4, 16000)
    path = tmp_path / "late.mkv"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 128, 64, "yuv420p"
        audio = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        for index in range(25):
            frame = av.VideoFrame.from_ndarray(patches(), format="rgb24")
            frame.pts = index
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        coded = av.AudioFrame.from_ndarray((sound.samples[None] * 32767).astype(np.int16), format="s16", layout="mono")
        coded.sample_rate, coded.time_base, coded.pts = 16000, Fraction(1, 16000), round(late * 16000)
        container.mux(audio.encode(coded))
        container.mux(audio.encode(None))
    back = read_audio(path)
    assert back.start_seconds == pytest.approx(late, abs=0.002)
    assert onset_seconds(back) == pytest.approx(late + 0.4, abs=0.003)


def turn_file(path: Path, matrix: tuple[int, int, int, int]) -> None:
    """Put a, b, c, d into the track header's matrix (ISO/IEC 14496-12, 8.3.2)."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + 4 + 20 + 8 + 8
    a, b, c, d = (v << 16 for v in matrix)
    data[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("matrix", "degrees", "shown"),
    [
        ((0, 1, -1, 0), 90, lambda p: np.rot90(p, -1)),
        ((-1, 0, 0, -1), 180, lambda p: np.rot90(p, 2)),
        ((0, -1, 1, 0), 270, lambda p: np.rot90(p, 1)),
        ((-1, 0, 0, 1), 0, lambda p: p[:, ::-1]),
    ],
)
def test_pictures_are_turned_upright(tmp_path: Path, matrix, degrees: int, shown) -> None:
    write(tmp_path / "a.mp4")
    stored = next(read_video(tmp_path / "a.mp4")).rgb
    turn_file(tmp_path / "a.mp4", matrix)
    info = probe(tmp_path / "a.mp4")
    assert info.rotation_degrees == degrees
    picture = next(read_video(tmp_path / "a.mp4")).rgb
    assert (info.height_px, info.width_px) == picture.shape[:2]
    np.testing.assert_array_equal(picture, shown(stored))


def test_an_error_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail() -> None:
        with VideoWriter(tmp_path / "a.mp4", 128, 64, 25) as writer:
            writer.write(patches())
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_an_error_keeps_the_former_file(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4")
    before = (tmp_path / "a.mp4").read_bytes()
    with pytest.raises(ValueError, match="picture came as"), VideoWriter(tmp_path / "a.mp4", 128, 64, 25) as writer:
        writer.write(np.zeros((3, 3, 3), np.uint8))
    assert (tmp_path / "a.mp4").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_the_file_appears_only_when_whole(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", 128, 64, 25) as writer:
        writer.write(patches())
        assert not (tmp_path / "a.mp4").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_wav_round_trip_within_half_a_step(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).uniform(-0.99, 0.99, 1000).astype(np.float32)
    write_wav(tmp_path / "a.wav", AudioClip(samples, 11025))
    back = read_audio(tmp_path / "a.wav")
    assert (back.sample_rate_hz, back.start_seconds) == (11025, 0.0)
    np.testing.assert_allclose(back.samples, samples, rtol=0, atol=0.501 / 32768)


def test_channels_are_averaged(tmp_path: Path) -> None:
    import wave

    left, right = np.full(800, 8000, "<i2"), np.full(800, -2000, "<i2")
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(np.stack([left, right], axis=1).tobytes())
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav").samples, 3000 / 32768, atol=1e-4)


@pytest.mark.parametrize(("before", "after"), [(48000, 16000), (44100, 16000), (8000, 16000), (16000, 22050)])
def test_resampling_keeps_a_tone_in_place(before: int, after: int) -> None:
    seconds = np.arange(before) / before
    clip = AudioClip(np.sin(2 * np.pi * 440 * seconds).astype(np.float32), before, 0.25)
    back = resample(clip, after)
    assert (back.sample_rate_hz, back.start_seconds) == (after, 0.25)
    assert len(back.samples) == after
    exact = np.sin(2 * np.pi * 440 * np.arange(after) / after)
    np.testing.assert_allclose(back.samples[200:-200], exact[200:-200], atol=0.01)


def test_resampling_removes_what_the_new_rate_cannot_hold() -> None:
    tone = np.sin(2 * np.pi * 12000 * np.arange(48000) / 48000).astype(np.float32)
    assert np.abs(resample(AudioClip(tone, 48000), 16000).samples[200:-200]).max() < 0.01


# What can be wrong with a file, and the words that say so.


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file"):
        probe(tmp_path / "no.mp4")
    with pytest.raises(SoundError, match="there is no file"):
        read_audio(tmp_path / "no.wav")


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"):
        probe(tmp_path)


def test_a_text_file_by_another_name(tmp_path: Path) -> None:
    for name in ("a.mp4", "a.wav"):
        (tmp_path / name).write_text("this is no video at all\n" * 50)
    with pytest.raises(InputError, match="is not a video or sound file"):
        probe(tmp_path / "a.mp4")
    with pytest.raises(SoundError, match="is not a video or sound file"):
        read_audio(tmp_path / "a.wav")


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    with pytest.raises(InputError, match="empty file"):
        probe(tmp_path / "a.mp4")


@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov", "a.avi"])
def test_a_file_that_was_cut_short(tmp_path: Path, name: str, share: float) -> None:
    import av

    rng = np.random.default_rng(0)
    path = tmp_path / name
    if name == "a.avi":
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
            for _ in range(20):
                noise = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
            container.mux(stream.encode(None))
    else:
        with VideoWriter(path, 64, 64, 25) as writer:
            for _ in range(20):
                writer.write(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    assert probe(path).width_px == 64
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InputError, match="cut short"):
        probe(path)


def test_sound_without_pictures_and_pictures_without_sound(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", click(1, 0.5, 16000))
    with pytest.raises(InputError, match="has no video in it"):
        probe(tmp_path / "a.wav")
    write(tmp_path / "a.mp4")
    assert not probe(tmp_path / "a.mp4").has_audio
    with pytest.raises(SoundError, match="has no sound in it"):
        read_audio(tmp_path / "a.mp4")


def test_a_still_picture(tmp_path: Path) -> None:
    import cv2

    cv2.imwrite(str(tmp_path / "a.png"), patches())
    with pytest.raises(InputError, match="still picture"):
        probe(tmp_path / "a.png")


def test_output_folder_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        write(tmp_path / "no" / "a.mp4")


@pytest.mark.parametrize("name", ["anchor_71s.mp4", "newsroom_20s.mp4", "hdtf_8s.mp4"])
def test_real_clips_have_sound_as_long_as_their_pictures(shared: Path, name: str) -> None:
    info = probe(shared / "clips" / name)
    sound = read_audio(shared / "clips" / name)
    assert (info.width_px, info.height_px, info.frame_rate_hz) == (512, 512, 25.0)
    assert abs(sound.start_seconds + sound.duration_seconds - info.duration_seconds) < 1 / 25


def test_a_video_of_no_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no picture was written"), VideoWriter(tmp_path / "a.mp4", 64, 64, 25):
        pass
    assert list(tmp_path.iterdir()) == []
