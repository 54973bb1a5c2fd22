"""Which pictures are taken, and which part of them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from avatarfit.capture.source_view import SourceView, read_working, read_working_at
from avatarfit.capture.view_choice import check_choice, choose_view, head_and_shoulders, needs_look
from avatarfit.contracts import InputError
from avatarfit.media import MediaInfo, VideoWriter, probe, read_video


def outline(width: int = 640, height: int = 480, rate: float = 25.0) -> MediaInfo:
    return MediaInfo(Path("clip.mp4"), width, height, rate, 4.0, 100, False, None, 0)


def taken(view: SourceView, times: np.ndarray) -> np.ndarray:
    pick = view.picker()
    return np.array([t for t in times if pick(float(t))])


def at_rate(rate: float | None) -> SourceView:
    return SourceView(0, 0, 8, 8, 8, 8, rate)


@pytest.mark.parametrize(("source", "wanted"), [(50, 25), (60, 30), (30, 15), (60, 20), (100, 25)])
@pytest.mark.parametrize("rounded", [False, True])
def test_a_whole_ratio_takes_every_nth_picture_however_times_are_rounded(
    source: int, wanted: int, rounded: bool
) -> None:
    times = np.arange(400) / source
    shown = np.round(times, 3) if rounded else times
    np.testing.assert_allclose(taken(at_rate(wanted), shown), shown[:: source // wanted])


@pytest.mark.parametrize(("source", "wanted"), [(30, 25), (29.97, 24), (60, 25), (25, 24), (59.94, 50)])
def test_other_ratios_drop_evenly_and_keep_true_times(source: float, wanted: float) -> None:
    times = np.arange(1000) / source
    kept = taken(at_rate(wanted), times)
    assert set(kept) <= set(times)
    assert len(kept) == pytest.approx(times[-1] * wanted, abs=2)
    steps = np.diff(kept) * source
    assert steps.max() - steps.min() <= 1 + 1e-6


def test_a_variable_rate_is_thinned_where_it_is_dense_and_not_filled_where_it_is_not() -> None:
    times = np.concatenate([np.arange(0, 1, 0.01), [1.5, 2.2], np.arange(3, 4, 0.01)])
    kept = taken(at_rate(10), times)
    assert {1.5, 2.2} <= set(kept)
    assert len(kept) == pytest.approx(22, abs=1)
    assert np.diff(kept).min() > 0.085


def test_no_rate_takes_all() -> None:
    times = np.arange(10) / 7
    np.testing.assert_array_equal(taken(at_rate(None), times), times)


def test_the_view_survives_json_and_gives_the_camera() -> None:
    view = SourceView(100, 50, 400, 300, 200, 150, 12.5)
    assert SourceView.from_json(view.to_json()) == view
    np.testing.assert_allclose(view.to_working(np.array([[100, 50], [300, 200]])), [[0, 0], [100, 75]])
    camera = view.camera(500.0)
    assert (camera.width_px, camera.height_px, camera.center_x_px, camera.center_y_px) == (200, 150, 100, 75)
    manifest = {"view": view.crop_json(), "camera": {"width_px": 200, "height_px": 150}}
    assert SourceView.of_manifest(manifest) == SourceView(100, 50, 400, 300, 200, 150)


def test_working_pictures_are_cropped_scaled_and_numbered(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mkv", 96, 64, 50, codec="ffv1") as out:
        for k in range(20):
            out.write(np.full((64, 96, 3), 10 * k, np.uint8))
    view = SourceView(10, 4, 40, 40, 20, 20, 25.0)
    pictures = list(read_working(tmp_path / "a.mkv", view))
    assert [f.rgb.shape for f in pictures] == [(20, 20, 3)] * 10
    assert [int(f.rgb[5, 5, 0]) for f in pictures] == list(range(0, 200, 20))
    np.testing.assert_allclose([f.pts_seconds for f in pictures], np.arange(10) / 25)


@pytest.mark.parametrize("first", [0, 1, 7])
def test_working_pictures_are_found_by_their_times(tmp_path: Path, first: int) -> None:
    with VideoWriter(tmp_path / "a.mp4", 96, 64, 30) as out:
        for k in range(40):
            out.write(np.full((64, 96, 3), 5 * k, np.uint8))
    view = SourceView.whole(96, 64)
    times = np.array([f.pts_seconds for f in read_working(tmp_path / "a.mp4", view)])
    wanted = np.array([3, 4, 9, 31, 39])[first % 5 :]
    found = list(read_working_at(tmp_path / "a.mp4", view, times[wanted]))
    assert [round(float(f.rgb.mean()) / 5) for f in found] == wanted.tolist()
    with pytest.raises(InputError, match=r"no picture at 0\.017 s any more"):
        list(read_working_at(tmp_path / "a.mp4", view, times[:5] + 0.5 / 30))


BOX = np.array([[300.0, 100, 400, 230]])


def test_the_crop_is_even_inside_and_holds_the_face_with_room() -> None:
    for boxes, size in (
        (BOX, (1920, 1080)), (BOX + [1450, 0, 1450, 0], (1920, 1080)), (BOX - [290, 90, 290, 90], (1920, 1080)),
        (BOX, (1081, 1921)), (np.concatenate([BOX, BOX + [500, 60, 500, 60]]), (1920, 1080)),
        (np.array([[100.0, 200, 900, 1200]]), (1080, 1300)),
    ):  # fmt: skip
        x, y, width, height = head_and_shoulders(boxes, *size)
        assert x >= 0
        assert y >= 0
        assert x + width <= size[0]
        assert y + height <= size[1]
        assert width % 2 == 0 or width == size[0]
        assert height % 2 == 0 or height == size[1]
        assert x % 2 == y % 2 == 0
        assert x <= boxes[:, 0].min()
        assert y <= boxes[:, 1].min()
        assert x + width >= boxes[:, 2].max()
        assert y + height >= boxes[:, 3].max()
        assert width == height or height == size[1] or width == size[0]


def test_the_crop_leaves_air_above_and_shoulders_below() -> None:
    x, y, width, height = head_and_shoulders(BOX, 1920, 1080)
    assert 90 <= BOX[0, 1] - y <= 110 or y == 0
    assert 2.5 * 130 < width < 3.3 * 130
    assert y + height - BOX[0, 3] > 130
    assert x + width / 2 == pytest.approx(350, abs=2)
    assert head_and_shoulders(BOX, 1920, 1080, at_least_px=800)[2:] == (800, 800)


def test_small_clips_are_taken_as_they_are_without_a_look(tmp_path: Path) -> None:
    assert not needs_look(outline(1024, 768), None, None)
    assert not needs_look(outline(4096, 2160), "source", None)
    assert needs_look(outline(1025, 768), None, None)
    assert needs_look(outline(640, 480), 256, None)
    assert needs_look(outline(640, 480), "source", 2)
    with VideoWriter(tmp_path / "a.mkv", 161, 97, 25, codec="ffv1") as out:
        out.write(np.zeros((97, 161, 3), np.uint8))
    choice = choose_view(tmp_path / "a.mkv", probe(tmp_path / "a.mkv"))
    assert choice.view == SourceView.whole(161, 97)
    assert choice.face is None
    assert choice.notes == ()


def test_sizes_rates_and_faces_that_cannot_be_had() -> None:
    for size, rate, face, said in (
        (64, None, None, "--size came as 64; wanted 128 to 2048"), (4096, None, None, "--size came as 4096"),
        (None, 30, None, "--fps came as 30 and clip.mp4 has 25 pictures a second; wanted that or less"),
        (None, 0.5, None, "--fps came as 0.5"), (None, float("nan"), None, "--fps came as nan"),
        (None, None, 0, "--face came as 0"), (None, None, 9, "--face came as 9"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=said):
            check_choice(outline(), size, rate, face)
    check_choice(outline(), 512, 25.01, 2)


def test_a_rate_equal_to_the_clips_own_drops_nothing() -> None:
    choice = choose_view(Path("clip.mp4"), outline(rate=30000 / 1001), frame_rate_hz=29.97)
    assert choice.view.frame_rate_hz is None
    assert choice.notes == ()
    slower = choose_view(Path("clip.mp4"), outline(), frame_rate_hz=12.5)
    assert slower.view.frame_rate_hz == 12.5
    assert "12.5 of 25 pictures a second" in slower.notes[0]


def test_a_large_picture_comes_down_to_the_working_size_by_area_averages(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with VideoWriter(tmp_path / "a.mp4", 3840, 2160, 25, crf=12, preset="ultrafast") as out:
        out.write(cv2.resize(rng.integers(0, 256, (54, 96, 3), dtype=np.uint8), (3840, 2160)))
    view = SourceView(1000, 200, 1500, 1500, 512, 512)
    whole = next(read_video(tmp_path / "a.mp4")).rgb
    assert whole.shape == (2160, 3840, 3)
    wanted = cv2.resize(whole[200:1700, 1000:2500], (512, 512), interpolation=cv2.INTER_AREA)
    error = next(read_working(tmp_path / "a.mp4", view)).rgb.astype(int) - wanted
    assert np.abs(error).mean() < 2.5
    assert np.abs(error.mean(axis=(0, 1))).max() < 2.5
