"""To the AD-NeRF family's folder and back: the poses by their own convention, the tables, and what must be refused."""

from __future__ import annotations

import json
import shutil
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from avatarfit.capture import ClipFolder, capture_clip
from avatarfit.capture.clip_folder import HEAD, NECK, TORSO
from avatarfit.capture.exchange import export_adnerf, import_adnerf
from avatarfit.capture.exchange.adnerf_export import _camera, _poses, torso_rgba
from avatarfit.capture.exchange.adnerf_format import LANDMARKS_68, picture_slots
from avatarfit.capture.exchange.adnerf_tables import action_units_csv, blendshape_rows
from avatarfit.capture.stages import load_tensors, save_tensors
from avatarfit.cli.main import main
from avatarfit.contracts import FaceError, FileFormatError, InputError, SoundError
from avatarfit.contracts.events import Note, Progress
from avatarfit.performer import write_sample_clip

SECONDS, SIZE = 2.2, 128
COUNT = 55


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> ClipFolder:
    folder = tmp_path_factory.mktemp("adnerf")
    write_sample_clip(folder / "clip.mp4", SECONDS, width_px=SIZE, frame_rate_hz=25.0, seed=0)
    return capture_clip(folder / "clip.mp4", folder / "clip")


@pytest.fixture(scope="module")
def exported(clip: ClipFolder) -> Path:
    out = clip.path.parent / "neighbour"
    assert export_adnerf(clip, out) == COUNT
    return out


def listed(folder: Path, split: str) -> dict[str, Any]:
    return json.loads((folder / f"transforms_{split}.json").read_text())


def seen_by_them(transforms: dict[str, Any], frame: dict[str, Any], points_m: np.ndarray) -> np.ndarray:
    """Pixels of points of their head, from the format alone: OpenGL's camera (x right, y up, looking along -z)."""
    camera = np.linalg.inv(np.array(frame["transform_matrix"]))
    x, y, z = (camera[:3, :3] @ points_m.T + camera[:3, 3:]).astype(np.float64)
    focal, cx, cy = transforms["focal_len"], transforms["cx"], transforms["cy"]
    return np.stack([cx + focal * x / -z, cy - focal * y / -z], axis=1)


def test_their_cameras_see_our_landmarks(clip: ClipFolder, exported: Path) -> None:
    frames = [(s, f) for s in ("train", "val") for f in listed(exported, s)["frames"]]
    assert [f["img_id"] for _, f in frames] == list(range(COUNT))
    for split, frame in frames[::9]:
        assert frame["aud_id"] == frame["img_id"]
        head = clip.landmarks_cm[frame["img_id"]].astype(np.float64)
        theirs = (head - [0, 1, 5]) / 100 * [1, -1, -1]  # metres, y up, z out of the face, from the head's middle
        pixels = seen_by_them(listed(exported, split), frame, theirs)
        np.testing.assert_allclose(pixels, clip.landmarks_px[frame["img_id"], :, :2], atol=0.05)
        turn = np.array(frame["transform_matrix"])[:3, :3]
        np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-5)
        assert 0.5 < np.array(frame["transform_matrix"])[2, 3] < 1.2  # the camera is before the face, in metres


def test_a_camera_whose_axis_is_aside_is_turned_into_a_centred_one(clip: ClipFolder, tmp_path: Path) -> None:
    """As after a crop: the format's readers take the middle of the picture for the axis."""
    folder = tmp_path / "aside"
    shutil.copytree(clip.path, folder)
    manifest = json.loads((folder / "clip.json").read_text())
    manifest["camera"]["center_x_px"] += 15
    manifest["camera"]["center_y_px"] -= 8
    (folder / "clip.json").write_text(json.dumps(manifest))
    tracks = load_tensors(folder / "tracks.safetensors")
    save_tensors(
        folder / "tracks.safetensors",
        tracks | {"landmarks_px": tracks["landmarks_px"] + np.array([15, -8, 0], np.float32)},
    )
    heard: list[Any] = []
    aside = ClipFolder.open(folder)
    transforms = _camera(aside.camera)
    poses = _poses(aside, heard.append)
    assert any("off the picture's middle" in e.text for e in heard)
    assert (transforms["cx"], transforms["cy"]) == (SIZE / 2, SIZE / 2)
    for index in range(0, COUNT, 9):
        theirs = (aside.landmarks_cm[index].astype(np.float64) - [0, 1, 5]) / 100 * [1, -1, -1]
        pixels = seen_by_them(transforms, {"transform_matrix": poses[index]}, theirs)
        off = np.linalg.norm(pixels - aside.landmarks_px[index, :, :2], axis=1)
        assert np.median(off) < 0.2


def test_every_file_that_a_reader_opens(clip: ClipFolder, exported: Path) -> None:
    assert len(listed(exported, "train")["frames"]) == clip.train_count
    assert sorted(p.name for p in exported.glob("*.json")) == ["transforms_train.json", "transforms_val.json"]
    assert not list(exported.rglob("*.part"))
    plate = cv2.imread(str(exported / "bc.jpg"))
    assert plate.shape == (SIZE, SIZE, 3)
    colors = {(255, 255, 255), (0, 0, 255), (0, 255, 0), (255, 0, 0), (100, 100, 100), (0, 0, 0)}
    for number, (person, labels) in enumerate(clip.masks()):
        lms = np.loadtxt(exported / f"ori_imgs/{number}.lms")
        np.testing.assert_allclose(lms, clip.landmarks_px[number, LANDMARKS_68, :2] - 0.5, atol=1e-5)
        truth = cv2.imread(str(exported / f"gt_imgs/{number}.jpg")).astype(int)
        picture = cv2.imread(str(exported / f"ori_imgs/{number}.jpg")).astype(int)
        assert np.abs(truth - picture)[person == 255].mean() < 2
        assert np.abs(truth - plate)[person == 0].mean() < 3
        parsing = cv2.imread(str(exported / f"parsing/{number}.png"))[..., ::-1]
        assert {tuple(c) for c in np.unique(parsing.reshape(-1, 3), axis=0).tolist()} <= colors
        np.testing.assert_array_equal((parsing == (255, 255, 255)).all(axis=2), labels == 0)
        np.testing.assert_array_equal((parsing == (0, 255, 0)).all(axis=2), labels == NECK)
        torso = cv2.imread(str(exported / f"torso_imgs/{number}.png"), cv2.IMREAD_UNCHANGED)
        assert torso.shape == (SIZE, SIZE, 4)
        assert (torso[labels == 0, 3] == 0).all()
        assert (torso[np.isin(labels, (NECK, TORSO)), 3] > 100).all()
        face = cv2.imread(str(exported / f"parsing/{number}_face.png"))
        assert face[..., 1][np.isin(labels, HEAD)].mean() < 80
        teeth = np.load(exported / f"teeth_mask/{number}.npy")
        assert teeth.dtype == bool
        assert teeth.shape == (SIZE, SIZE)
        assert not teeth.any()
    with wave.open(str(exported / "aud.wav")) as sound:
        assert (sound.getframerate(), sound.getnchannels(), sound.getsampwidth()) == (16000, 1, 2)
        assert sound.getnframes() / 16000 == pytest.approx(SECONDS, abs=0.1)
    assert np.load(exported / "bs.npy").shape == (COUNT, 52)


def test_the_torso_goes_on_behind_the_head_in_its_own_colour() -> None:
    labels = np.zeros((60, 60), np.uint8)
    labels[10:40, 20:40] = 1
    labels[40:, 10:50] = TORSO
    rgb = np.zeros((60, 60, 3), np.uint8)
    rgb[labels == 1], rgb[labels == TORSO] = (200, 150, 120), (10, 60, 90)
    points = np.zeros((478, 3), np.float32)
    points[10, 1], points[152, 1] = 0, 40
    out = torso_rgba(rgb, np.where(labels > 0, 255, 0).astype(np.uint8), labels, points)
    assert out[38, 30].tolist() == [10, 60, 90, 255]
    assert out[20, 30, 3] == 0
    assert out[35, 5, 3] == 0
    np.testing.assert_array_equal(out[labels == TORSO][:, :3], rgb[labels == TORSO])


def test_blinks_and_blendshapes_get_a_row_for_every_number() -> None:
    names = ("eyeBlinkLeft", "eyeBlinkRight", "browInnerUp")
    values = np.array([[0, 0, 1], [1, 0.5, 0], [0.2, 0.2, 0.5]], np.float32)
    text, empty = action_units_csv(names, values, [(0, 0), (2, 1), (3, 2)])
    lines = text.splitlines()
    assert len(lines) == 5
    head = lines[0].split(",")  # a reader that splits at commas keeps the blanks, as theirs do
    blink, brow = head.index(" AU45_r"), head.index(" AU01_r")
    rows = np.array([[float(v) for v in line.split(",")] for line in lines[1:]])
    np.testing.assert_allclose(rows[:, blink], [0, 0.75, 1.5, 0.4])
    np.testing.assert_allclose(rows[:, brow], [3, 1.5, 0, 1.5])
    assert rows[:, head.index(" success")].tolist() == [1, 0, 1, 1]
    assert "AU25_r" in empty
    assert "AU45_r" not in empty
    table = blendshape_rows(names, values, [(0, 0), (2, 1), (3, 2)])
    np.testing.assert_allclose(table[:, [8, 9, 2]], [[0, 0, 1], [0.5, 0.25, 0.5], [1, 0.5, 0], [0.2, 0.2, 0.5]])
    assert table.sum() == pytest.approx(table[:, [8, 9, 2]].sum())


@pytest.mark.parametrize("rate", [25.0, 30.0, 24.0, 50.0, 12.5, 30000 / 1001])
def test_numbers_follow_the_clock_of_the_sound(rate: float) -> None:
    pts = np.arange(int(10 * rate)) / rate
    slots = picture_slots(pts, rate)
    assert [n for n, _ in slots][:240] == list(range(240))
    for number, index in slots:
        assert abs(pts[index] - number / 25) <= 0.6 / min(rate, 25)
    with_hole = picture_slots(np.delete(pts, np.flatnonzero((pts > 4) & (pts < 5))), rate)
    missing = sorted({n for n, _ in slots} - {n for n, _ in with_hole})
    assert 21 <= len(missing) <= 25
    assert min(missing) >= 100
    assert max(missing) <= 125
    assert picture_slots(np.array([0.0]), rate)[0] == (0, 0)


def test_back_again_the_motion_is_the_same(clip: ClipFolder, exported: Path, tmp_path: Path) -> None:
    """Tolerance: half a degree, half a percent of the distance, one pixel at 128 (JPEG lies between)."""
    heard: list[Any] = []
    back = import_adnerf(exported, tmp_path / "back", on_event=heard.append)
    assert len(back) == len(clip)
    assert back.frame_rate_hz == 25
    assert (tmp_path / "back.mkv").is_file()
    np.testing.assert_allclose(back.pts_seconds, clip.pts_seconds, atol=1e-6)
    ours, theirs = clip.motion().head, back.motion().head
    first, second = (Rotation.from_quat(h.rotation_wxyz[:, [1, 2, 3, 0]]) for h in (ours, theirs))
    between = first.inv() * second
    assert np.degrees(np.median((between.mean().inv() * between).magnitude())) < 0.5
    apart = np.linalg.norm(ours.translation_cm - theirs.translation_cm, axis=1) / ours.translation_cm[:, 2]
    assert np.median(apart) < 0.01
    off = np.linalg.norm(back.landmarks_px[..., :2] - clip.landmarks_px[..., :2], axis=2)
    assert np.median(off) < 1
    assert abs(back.audio().duration_seconds - clip.audio().duration_seconds) < 0.1
    imported = back.manifest["imported"]
    assert imported["folder"] == str(exported.resolve())
    assert imported["rotation_degrees"] < 0.5
    assert imported["translation_share"] < 0.005
    assert imported["landmarks_px"] < 1
    assert imported["head_iou"] > 0.93
    assert any(isinstance(e, Note) and "against ours" in e.text for e in heard)


def test_an_export_goes_on_and_never_overwrites(clip: ClipFolder, exported: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is there already"):
        export_adnerf(clip, exported)

    def stop(event: Any) -> None:
        if isinstance(event, Progress) and event.step >= 20:
            raise KeyboardInterrupt

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        export_adnerf(clip, out, stop)
    assert not out.exists()
    written = tmp_path / "out.part/gt_imgs/3.jpg"
    before = written.stat().st_mtime_ns
    assert export_adnerf(clip, out) == COUNT
    assert (out / "gt_imgs/3.jpg").stat().st_mtime_ns == before
    names = {p.relative_to(out) for p in out.rglob("*") if p.is_file()}
    assert names == {p.relative_to(exported) for p in exported.rglob("*") if p.is_file()}
    (tmp_path / "mine.part").mkdir()
    with pytest.raises(InputError, match="was not left by an export"):
        export_adnerf(clip, tmp_path / "mine")


def first_frame(folder: Path, **change: Any) -> None:
    path = folder / "transforms_train.json"
    content = json.loads(path.read_text())
    content["frames"][0] |= change
    path.write_text(json.dumps(content))


def resize_one(folder: Path) -> None:
    cv2.imwrite(str(folder / "ori_imgs/5.jpg"), np.zeros((64, 64, 3), np.uint8))


HARMS: dict[str, tuple[Callable[[Path], Any], type[Exception], str]] = {
    "no transforms": (lambda f: (f / "transforms_train.json").unlink(), InputError, r"holds no transforms_train\.json"),
    "no sound": (lambda f: (f / "aud.wav").unlink(), SoundError, r"holds no aud\.wav"),
    "empty sound": (lambda f: (f / "aud.wav").write_bytes(b""), SoundError, r"aud\.wav"),
    "no pictures": (lambda f: [shutil.rmtree(f / d) for d in ("ori_imgs", "gt_imgs")], InputError, "neither ori_imgs"),
    "a picture gone": (lambda f: (f / "ori_imgs/7.jpg").unlink(), InputError, r"1 of the 55 pictures.*7\.jpg"),
    "another size": (resize_one, InputError, "64x64 and the pictures before it are 128x128"),
    "no picture at all": (lambda f: (f / "ori_imgs/0.jpg").write_text("x"), FileFormatError, "is no picture"),
    "text": (lambda f: (f / "transforms_train.json").write_text("hello"), FileFormatError, "cannot be used"),
    "a list": (lambda f: (f / "transforms_train.json").write_text("[]"), FileFormatError, "no list of frames"),
    "deep": (
        lambda f: (f / "transforms_train.json").write_text("[" * 100_000), FileFormatError, "cannot be used"),
    "no frames": (
        lambda f: [(f / n).write_text('{"frames": []}') for n in ("transforms_train.json", "transforms_val.json")],
        FileFormatError, "lists no frame"),
    "a path": (lambda f: first_frame(f, img_id="../../secret"), FileFormatError, "no whole number"),
    "a negative number": (lambda f: first_frame(f, aud_id=-1), FileFormatError, "no whole number"),
    "a bool": (lambda f: first_frame(f, img_id=True), FileFormatError, "no whole number"),
    "twice": (lambda f: first_frame(f, aud_id=3), FileFormatError, "of another frame"),
    "far away": (lambda f: first_frame(f, aud_id=10**9), FileFormatError, "spread over"),
    "NaN": (lambda f: first_frame(f, transform_matrix=[[float("nan")] * 4] * 4), FileFormatError, "finite numbers"),
    "ragged": (lambda f: first_frame(f, transform_matrix=[[1, 2], [3]]), FileFormatError, "finite numbers"),
    "no turn": (lambda f: first_frame(f, transform_matrix=[[2] * 4] * 4), FileFormatError, "distort"),
}  # fmt: skip


@pytest.mark.parametrize("harm", HARMS)
def test_a_harmed_folder_is_refused_in_one_sentence(harm: str, exported: Path, tmp_path: Path) -> None:
    damage, kind, said = HARMS[harm]
    folder = tmp_path / "neighbour"
    shutil.copytree(exported, folder, copy_function=shutil.copyfile)
    damage(folder)
    with pytest.raises(kind, match=said) as told:
        import_adnerf(folder, tmp_path / "back")
    assert "\n" not in str(told.value)
    assert not (tmp_path / "back.mkv").exists()
    assert not (tmp_path / "back/clip.json").exists()


def test_numbers_without_a_picture_are_kept_in_step(exported: Path, tmp_path: Path) -> None:
    """The first picture is number 4, number 10 is missing: sound and later pictures stay where they were."""
    from avatarfit.capture.exchange.adnerf_import import _write_video
    from avatarfit.capture.exchange.adnerf_listing import read_listing
    from avatarfit.media import read_audio, read_video

    folder = tmp_path / "neighbour"
    shutil.copytree(exported, folder, copy_function=shutil.copyfile)
    path = folder / "transforms_train.json"
    content = json.loads(path.read_text())
    content["frames"] = [f for f in content["frames"] if f["img_id"] >= 4 and f["img_id"] != 10]
    path.write_text(json.dumps(content))
    listing = read_listing(folder)
    assert listing.missing == 1
    _write_video(listing, tmp_path / "video.mkv", 25.0, lambda _: None)
    pictures = [frame.rgb for frame in read_video(tmp_path / "video.mkv")]
    assert len(pictures) == COUNT - 4
    assert (pictures[6] == 128).all()
    np.testing.assert_array_equal(pictures[7], cv2.imread(str(folder / "ori_imgs/11.jpg"))[..., ::-1])
    whole, cut = read_audio(folder / "aud.wav"), read_audio(tmp_path / "video.mkv")
    np.testing.assert_allclose(cut.samples[:8000], whole.samples[4 * 640 :][:8000], atol=2e-4)


def test_pictures_without_a_face(exported: Path, tmp_path: Path) -> None:
    folder = tmp_path / "neighbour"
    shutil.copytree(exported, folder, copy_function=shutil.copyfile)
    for picture in (folder / "ori_imgs").glob("*.jpg"):
        cv2.imwrite(str(picture), np.full((SIZE, SIZE, 3), 90, np.uint8))
    with pytest.raises(FaceError):
        import_adnerf(folder, tmp_path / "back")


def test_the_commands_refuse_in_one_line(clip: ClipFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        ["export-clip", str(tmp_path / "none"), "-o", str(tmp_path / "x")],
        ["export-clip", str(clip.path), "-o", str(tmp_path / "x"), "--format", "nerf"],
        ["export-clip", str(clip.path), "-o", str(tmp_path / "no" / "x")],
        ["import-clip", str(tmp_path / "none"), "-o", str(tmp_path / "x")],
        ["import-clip", str(tmp_path), "-o", str(tmp_path / "x"), "--fps", "0"],
    ):
        assert main(words) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1, said
        assert "wanted" in said
