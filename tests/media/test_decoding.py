"""Pictures of every kind come out upright, whole, square and in SDR, at their own times."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from avatarfit.contracts import InputError
from avatarfit.media import VideoWriter, probe, read_pictures_at, read_video
from avatarfit.media.tone_map import bt2390_eetf, hlg_eotf, pq_eotf, pq_inverse_eotf, rgb_to_xyz, to_sdr

PQ, HLG, BT2020 = 16, 18, 9


def encode(
    path: Path, frames: Iterable[av.VideoFrame], codec: str = "libx264", *, options: dict[str, str] | None = None,
    aspect: Fraction | None = None, tags: tuple[int, int, int] | None = None, times: list[int] | None = None,
    rate: int = 25,
) -> Path:  # fmt: skip
    """The frames as a video; `tags` are matrix, primaries and transfer; `times` are milliseconds."""
    frames = list(frames)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = frames[0].width, frames[0].height, frames[0].format.name
        stream.options = options or {}
        context = stream.codec_context
        if aspect is not None:
            context.sample_aspect_ratio = aspect
        if tags is not None:
            context.colorspace, context.color_primaries, context.color_trc = tags
            context.color_range = 1
        if times is not None:
            context.time_base = Fraction(1, 1000)
        for index, frame in enumerate(frames):
            frame.time_base = Fraction(1, 1000) if times is not None else Fraction(1, rate)
            frame.pts = index if times is None else times[index]
            if tags is not None:
                frame.colorspace, frame.color_primaries, frame.color_trc = tags
                frame.color_range = 1
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def ten_bit(colours: np.ndarray) -> av.VideoFrame:
    """A 4:4:4 frame of 32-pixel columns with these R'G'B' code values [n, 3], BT.2020's matrix, limited range."""
    red, green, blue = colours.T
    y = 0.2627 * red + 0.6780 * green + 0.0593 * blue
    planes = 64 + 876 * y, 512 + 896 * (blue - y) / 1.8814, 512 + 896 * (red - y) / 1.4746
    frame = av.VideoFrame(32 * len(colours), 64, "yuv444p10le")
    for plane, values in zip(frame.planes, planes, strict=True):
        row = np.zeros(plane.line_size // 2, np.uint16)
        row[: 32 * len(colours)] = np.repeat(np.rint(values), 32)
        plane.update(np.tile(row, (64, 1)).tobytes())
    return frame


def columns(picture: np.ndarray) -> np.ndarray:
    return np.array(
        [picture[16:48, x + 8 : x + 24].reshape(-1, 3).mean(axis=0) for x in range(0, picture.shape[1], 32)]
    )


def test_the_standards_own_levels() -> None:
    gray = np.full((1, 3), 1.0)
    # BT.2408-7, table 1: grey card 38 % (26 cd/m2) and diffuse white 75 % HLG or 58 % PQ (203 cd/m2).
    assert hlg_eotf(0.38 * gray)[0, 0] == pytest.approx(26, abs=0.5)
    assert hlg_eotf(0.75 * gray)[0, 0] == pytest.approx(203, abs=0.5)
    assert hlg_eotf(gray)[0, 0] == pytest.approx(1000, abs=0.01)
    assert pq_eotf(np.array(0.38)) == pytest.approx(26, abs=0.5)
    assert pq_eotf(np.array(0.58)) == pytest.approx(203, abs=2)
    assert pq_eotf(np.array(1.0)) == pytest.approx(10000)
    light = np.array([0.01, 1, 100, 203, 1000, 4000])
    np.testing.assert_allclose(pq_eotf(pq_inverse_eotf(light)), light, rtol=1e-9)


def test_the_curve_spares_what_lies_below_its_knee_and_ends_at_the_target() -> None:
    light = np.linspace(0.1, 1000, 4000)
    mapped = bt2390_eetf(light)
    np.testing.assert_array_equal(mapped[light < 85], light[light < 85])
    assert mapped[-1] == pytest.approx(203, rel=1e-6)
    assert (np.diff(mapped) > 0).all()
    assert bt2390_eetf(np.array(5000.0)) == pytest.approx(203, rel=1e-6)


def test_primaries_keep_white_and_round_trip() -> None:
    for name in ("bt709", "bt2020", "display_p3"):
        np.testing.assert_allclose(rgb_to_xyz(name) @ np.ones(3), [0.9505, 1, 1.0891], atol=2e-4)
    # BT.2087-0, equation for BT.709 to BT.2020.
    matrix = np.linalg.solve(rgb_to_xyz("bt2020"), rgb_to_xyz("bt709"))
    np.testing.assert_allclose(matrix[0], [0.6274, 0.3293, 0.0433], atol=2e-4)
    colours = np.random.default_rng(0).uniform(0, 1, (50, 3))
    np.testing.assert_allclose(to_sdr(colours, "sdr", "bt709"), colours, atol=1e-9)
    assert np.isfinite(to_sdr(np.eye(3), "pq", "bt2020")).all()


# Greys, then skin as BT.2020 code values.
LEVELS = np.array([[0.0] * 3, [0.38] * 3, [0.58] * 3, [0.75] * 3, [0.9] * 3, [1.0] * 3, [0.52, 0.43, 0.38]])


@pytest.mark.parametrize(("transfer", "name"), [(PQ, "pq"), (HLG, "hlg")])
def test_high_dynamic_range_lands_where_the_standard_says(tmp_path: Path, transfer: int, name: str) -> None:
    path = encode(tmp_path / "a.mkv", [ten_bit(LEVELS)] * 3, "ffv1", tags=(BT2020, BT2020, transfer))
    assert probe(path).dynamic_range == name
    seen = columns(next(read_video(path)).rgb)
    np.testing.assert_allclose(seen, 255 * to_sdr(LEVELS, name, "bt2020"), atol=2.5)
    # Mid-grey is 26 of 203 cd/m2 by BT.1886; diffuse white has been compressed to 0.79 of white.
    assert seen[1] == pytest.approx([255 * (26 / 203) ** (1 / 2.4)] * 3, abs=2)
    assert seen[2 if transfer == PQ else 3] == pytest.approx([230] * 3, abs=2)
    assert seen[0].max() <= 1
    assert np.ptp(seen[:6], axis=1).max() <= 1.5
    if transfer == HLG:
        assert seen[5].min() >= 254


def test_wide_colours_in_sdr_keep_their_light(tmp_path: Path) -> None:
    colours = np.array([[0.5] * 3, [0.6, 0.5, 0.45], [0.9, 0.1, 0.1]])
    path = encode(tmp_path / "a.mkv", [ten_bit(colours)], "ffv1", tags=(BT2020, BT2020, 14))
    assert probe(path).dynamic_range == "sdr"
    seen = columns(next(read_video(path)).rgb)
    np.testing.assert_allclose(seen[:2], 255 * to_sdr(colours[:2], "sdr", "bt2020"), atol=2.5)
    assert seen[0] == pytest.approx([127.5] * 3, abs=1.5)
    assert seen[1, 0] / seen[1, 2] > 0.6 / 0.45  # the same colour is further out in the smaller gamut


def test_ten_bits_of_hevc_in_mp4_are_read_and_their_tags_followed(tmp_path: Path) -> None:
    frame = ten_bit(LEVELS).reformat(format="yuv420p10le")
    options = {"x265-params": "log-level=none:qp=4", "preset": "ultrafast"}
    path = encode(tmp_path / "a.mp4", [frame] * 4, "libx265", options=options, tags=(BT2020, BT2020, HLG))
    assert probe(path).dynamic_range == "hlg"
    np.testing.assert_allclose(columns(next(read_video(path)).rgb), 255 * to_sdr(LEVELS, "hlg", "bt2020"), atol=4)


def test_ten_bits_of_plain_colour_are_not_mapped(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mkv", [ten_bit(np.full((2, 3), 0.5))], "ffv1", tags=(1, 1, 1))
    assert probe(path).dynamic_range == "sdr"
    assert columns(next(read_video(path)).rgb) == pytest.approx(np.full((2, 3), 127.5), abs=1)


def moving_bar(field: int, size: int = 96) -> np.ndarray:
    """A grey picture with a bright bar that moves by 3 pixels from field to field."""
    picture = np.full((size, size, 3), 60, np.uint8)
    picture[:, 10 + 3 * field : 22 + 3 * field] = 200
    return picture


@pytest.fixture(scope="module")
def interlaced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 frames, bottom field first, as libx264 takes them: odd lines show field 2 k, even lines field 2 k + 1."""
    frames = []
    for k in range(12):
        woven = moving_bar(2 * k + 1)
        woven[1::2] = moving_bar(2 * k)[1::2]
        frames.append(av.VideoFrame.from_ndarray(woven, format="rgb24").reformat(format="yuv444p"))
    options = {"x264-params": "bff=1:keyint=4", "crf": "4"}
    return encode(tmp_path_factory.mktemp("fields") / "a.mkv", frames, options=options)


def comb(picture: np.ndarray) -> float:
    lines = picture[8:-8, :, 1].astype(float)
    return float(np.abs(lines[1:-1] - (lines[:-2] + lines[2:]) / 2).mean())


def test_interlaced_frames_become_whole_pictures_one_each(interlaced: Path) -> None:
    assert probe(interlaced).interlaced
    pictures = list(read_video(interlaced))
    np.testing.assert_allclose([p.pts_seconds for p in pictures], np.arange(12) / 25, atol=1e-3)
    with av.open(str(interlaced)) as container:
        woven = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    assert comb(woven[5]) > 5
    for k, picture in enumerate(pictures):
        assert comb(picture.rgb) < 0.15 * comb(woven[k])
        if 0 < k < 11:
            off = picture.rgb[8:-8].astype(int) - moving_bar(2 * k)[8:-8]  # the first field's moment
            assert np.abs(off).mean() < 2


def test_interlaced_pictures_are_the_same_from_any_start(interlaced: Path) -> None:
    whole = list(read_video(interlaced))
    for start in (1, 4, 5, 11):
        part = list(read_video(interlaced, whole[start].pts_seconds))
        assert len(part) == 12 - start
        for one, other in zip(part, whole[start:], strict=True):
            assert one.pts_seconds == other.pts_seconds
            np.testing.assert_array_equal(one.rgb, other.rgb)


def ring(width: int, height: int, wide: float) -> np.ndarray:
    """A white disc of 60 lines; `wide` times as wide as high."""
    y, x = np.mgrid[:height, :width] + 0.5
    inside = ((x - width / 2) / wide) ** 2 + (y - height / 2) ** 2 < 30**2
    return np.repeat(np.where(inside, 255, 0).astype(np.uint8)[..., None], 3, axis=2)


@pytest.mark.parametrize(("aspect", "width"), [(Fraction(4, 3), 128), (Fraction(8, 9), 85), (Fraction(1), 96)])
def test_pixels_are_made_square(tmp_path: Path, aspect: Fraction, width: int) -> None:
    stored = ring(96, 96, float(1 / aspect))
    frames = [av.VideoFrame.from_ndarray(stored, format="rgb24").reformat(format="yuv444p")] * 3
    path = encode(tmp_path / "a.mp4", frames, aspect=aspect, options={"crf": "4"})
    info = probe(path)
    assert (info.width_px, info.height_px) == (width, 96)
    picture = next(read_video(path)).rgb
    assert picture.shape == (96, width, 3)
    inside = picture[..., 0] > 127
    assert np.ptp(np.flatnonzero(inside.any(axis=0))) == pytest.approx(
        np.ptp(np.flatnonzero(inside.any(axis=1))), abs=2
    )


def test_times_of_a_variable_rate_are_kept(tmp_path: Path) -> None:
    times = [0, 40, 55, 120, 121, 300, 333, 1000]
    frames = [
        av.VideoFrame.from_ndarray(np.full((32, 32), 20 + 20 * k, np.uint8), format="gray").reformat(format="yuv420p")
        for k in range(len(times))
    ]
    path = encode(tmp_path / "a.mkv", frames, times=times, options={"bf": "0"})
    seen = list(read_video(path))
    np.testing.assert_allclose([f.pts_seconds for f in seen], np.array(times) / 1000, atol=1e-6)
    part = list(read_video(path, 0.3))
    assert [f.pts_seconds for f in part] == [f.pts_seconds for f in seen[5:]]
    np.testing.assert_array_equal(part[0].rgb, seen[5].rgb)


@pytest.fixture(scope="module")
def noise_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 pictures of smooth noise, odd sized, their number in the first column's level."""
    path = tmp_path_factory.mktemp("noise") / "a.mkv"
    rng = np.random.default_rng(0)
    with VideoWriter(path, 161, 97, 25, codec="ffv1") as out:
        for k in range(30):
            picture = cv2.GaussianBlur(rng.integers(0, 256, (97, 161, 3), dtype=np.uint8), (0, 0), 2)
            picture[:, :4] = k * 8
            out.write(picture)
    return path


@pytest.mark.parametrize("crop", [(0, 0, 161, 97), (20, 10, 64, 48), (97, 33, 64, 64), (0, 1, 3, 5)])
@pytest.mark.parametrize("size", [None, (32, 24)])
def test_a_crop_is_the_whole_pictures_part(noise_clip: Path, crop: tuple[int, ...], size: tuple[int, int]) -> None:
    x, y, width, height = crop
    whole = next(read_video(noise_clip)).rgb[y : y + height, x : x + width]
    if size is not None:
        whole = cv2.resize(whole, size, interpolation=cv2.INTER_AREA if size[0] < width else cv2.INTER_CUBIC)
    part = next(read_video(noise_clip, crop=crop, size=size)).rgb
    assert part.shape == whole.shape
    # Shrinking is FFmpeg's area average where the part lies on whole chroma samples, OpenCV's where it does not.
    assert np.abs(part.astype(int) - whole).max() <= (2 if size is not None and width > size[0] else 0)


@pytest.mark.parametrize("turn", range(4))
@pytest.mark.parametrize("size", [None, (16, 20)])
def test_a_crop_of_a_turned_picture_is_its_part(tmp_path: Path, turn: int, size: tuple[int, int] | None) -> None:
    from tests.media.test_media import turn_file

    matrices = ((1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0))
    rng = np.random.default_rng(0)
    with VideoWriter(tmp_path / "a.mp4", 96, 64, 25, crf=4) as out:
        out.write(cv2.GaussianBlur(rng.integers(0, 256, (64, 96, 3), dtype=np.uint8), (0, 0), 3))
    turn_file(tmp_path / "a.mp4", matrices[turn])
    whole = next(read_video(tmp_path / "a.mp4")).rgb
    for x, y, width, height in ((10, 6, 32, 40), (0, 0, 16, 16), (31, 23, 33, 41)):
        part = next(read_video(tmp_path / "a.mp4", crop=(x, y, width, height), size=size)).rgb
        wanted = whole[y : y + height, x : x + width]
        if size is None:
            np.testing.assert_array_equal(part, wanted)
        else:
            shrinks = size[0] < width
            wanted = cv2.resize(wanted, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
            assert np.abs(part.astype(int) - wanted).mean() < 2.5


def test_unwanted_pictures_are_left_out_in_order(noise_clip: Path) -> None:
    asked: list[float] = []

    def wanted(seconds: float) -> bool:
        asked.append(seconds)
        return len(asked) % 3 == 1

    levels = [int(f.rgb[5, 1, 0]) for f in read_video(noise_clip, wanted=wanted)]
    assert levels == [8 * k for k in range(0, 30, 3)]
    assert len(asked) == 30


@pytest.mark.parametrize("keys", [5, 100])
def test_pictures_at_given_times(tmp_path: Path, keys: int) -> None:
    frames = [
        av.VideoFrame.from_ndarray(np.full((32, 32, 3), 8 * k, np.uint8), format="rgb24").reformat(format="yuv420p")
        for k in range(30)
    ]
    path = encode(tmp_path / "a.mp4", frames, options={"x264-params": f"keyint={keys}", "crf": "4"})
    found = list(read_pictures_at(path, [0, 0.01, 0.04, 0.41, 0.42, 0.8, 5.0], (16, 16)))
    assert [round(f.pts_seconds * 25) for f in found] == [0, 1, 11, 20]
    assert [f.rgb.shape for f in found] == [(16, 16, 3)] * 4
    assert np.abs([int(f.rgb[8, 8, 1]) - 8 * k for f, k in zip(found, (0, 1, 11, 20), strict=True)]).max() <= 3


def test_a_size_that_changes_on_the_way_is_told(tmp_path: Path) -> None:
    parts = []
    for size in (64, 48):
        frames = [av.VideoFrame.from_ndarray(np.full((size, size, 3), 90, np.uint8), format="rgb24")] * 5
        parts.append(encode(tmp_path / f"{size}.h264", [f.reformat(format="yuv420p") for f in frames]).read_bytes())
    (tmp_path / "a.h264").write_bytes(b"".join(parts))
    with pytest.raises(InputError, match="picture size changes from 64x64 to 48x48"):
        list(read_video(tmp_path / "a.h264"))


def test_shrinking_keeps_colours_within_a_level_and_averages_areas(tmp_path: Path) -> None:
    from tests.media.test_media import COLOURS, patch_means, patches

    with VideoWriter(tmp_path / "a.mp4", 512, 256, 25, crf=4) as out:
        out.write(patches(512, 256))
    small = next(read_video(tmp_path / "a.mp4", size=(128, 64))).rgb
    assert np.abs(patch_means(small) - COLOURS).max() <= 2
    checks = np.indices((256, 512)).sum(axis=0) // 2 % 2 * 200
    with VideoWriter(tmp_path / "b.mp4", 512, 256, 25, crf=4) as out:
        out.write(np.repeat(checks.astype(np.uint8)[..., None], 3, axis=2))
    assert np.abs(next(read_video(tmp_path / "b.mp4", size=(128, 64))).rgb[4:-4, 4:-4].astype(int) - 100).max() <= 4
