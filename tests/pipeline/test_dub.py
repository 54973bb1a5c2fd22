"""A dub changes nothing but what it must, and shows the mouth that it was told to."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from avatarfit.capture import ClipFolder
from avatarfit.capture.source_view import SourceView
from avatarfit.contracts import AudioClip, Camera, FaceError, HeadPose, InputError, SoundError
from avatarfit.contracts.events import Event, Note
from avatarfit.media import VideoWriter, probe, read_audio, read_video, write_wav
from avatarfit.output import OutputOptions
from avatarfit.pipeline.dub import check_dub, dub_video, left_stretches, shown_at
from avatarfit.pipeline.dub_footage import ASKEW, MOMENT, NOT_SEEN, Footage, captured
from avatarfit.pipeline.dub_frames import DubbedFrame, _Background, dubbed_frames, eased
from avatarfit.pipeline.dub_torso import _aligned, _normalised
from tests.pipeline.dub_scene import COUNT, RATE, SIZE, Scene, TruthRenderer, make_scene, write_folder


@pytest.fixture(scope="module")
def scene() -> Scene:
    return make_scene()


@pytest.fixture(scope="module")
def folder(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(scene, tmp_path_factory.mktemp("dub") / "footage")


@pytest.fixture(autouse=True)
def truth(monkeypatch: pytest.MonkeyPatch) -> None:
    from avatarfit.rendering import gaussian_renderer

    monkeypatch.setattr(gaussian_renderer, "GaussianRenderer", TruthRenderer)


def footage_of(scene: Scene, folder: Path) -> Footage:
    return Footage.of(scene.avatar(), ClipFolder.open(folder))


def dubbed(scene: Scene, folder: Path, mouth: np.ndarray | None = None, **options: object) -> list[DubbedFrame]:
    footage = footage_of(scene, folder)
    said = scene.mouths[1] if mouth is None else mouth
    return list(dubbed_frames(scene.avatar(), footage, said, **options))  # type: ignore[arg-type]


def whole_mask(frame: DubbedFrame) -> np.ndarray:
    mask = np.zeros(frame.original.shape[:2], np.float32)
    assert frame.box is not None
    assert frame.mask is not None
    left, top, right, bottom = frame.box
    mask[top:bottom, left:right] = frame.mask
    return mask


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(np.square(a.astype(float) - b).mean(), 1e-9)))


def test_every_pixel_outside_the_mask_is_the_footages_own(scene: Scene, folder: Path) -> None:
    frames = dubbed(scene, folder)
    assert [f.index for f in frames] == list(range(COUNT))
    for frame, original in zip(frames, scene.films[0], strict=True):
        mask = whole_mask(frame)
        assert np.array_equal(frame.original, original)
        assert np.array_equal(frame.picture[mask == 0], original[mask == 0])
        assert 0.02 < (mask > 0).mean() < 0.5
        eyes = scene.performance.landmarks_px[frame.index, [33, 133, 362, 263, 70, 300, 159, 386, 145, 374]]
        assert (mask[tuple(np.floor(eyes[:, 1::-1]).astype(int).T)] == 0).all()


def test_within_it_the_person_speaks_as_the_camera_would_have_seen_it(scene: Scene, folder: Path) -> None:
    """Though the avatar's colours are off; the chin is lower than it was, and higher."""
    better = []
    for frame, said in zip(dubbed(scene, folder), scene.films[1], strict=True):
        assert frame.box is not None
        left, top, right, bottom = frame.box
        part = slice(top, bottom), slice(left, right)
        before, after = psnr(frame.original[part], said[part]), psnr(frame.picture[part], said[part])
        assert after > 33
        better.append(after - before)
    assert np.median(better) > 8


def test_with_the_mouth_it_had_the_footage_stays_nearly_as_it_was(scene: Scene, folder: Path) -> None:
    for frame in dubbed(scene, folder, scene.mouths[0]):
        assert psnr(frame.picture, frame.original) > 45


def test_the_colours_are_the_footages(scene: Scene, folder: Path) -> None:
    plain, matched = (dubbed(scene, folder, matched=on)[4] for on in (False, True))
    far = [np.abs(f.picture.astype(int) - scene.films[1][4])[whole_mask(f) > 0.99].mean() for f in (plain, matched)]
    assert far[0] > 4
    assert far[1] < far[0] / 5


def test_what_stands_before_the_face_stays(scene: Scene, folder: Path, tmp_path: Path) -> None:
    """A hand over the mouth leaves the picture as it is, one at the cheek only itself; all else is dubbed as ever."""
    import cv2

    films = scene.films[0].copy()
    lips = scene.performance.landmarks_px[:, 13, :2]
    hand, cheek = 10, 16
    x, y = np.round(lips[hand]).astype(int).tolist()
    cv2.ellipse(films[hand], (x, y), (22, 26), 20, 0, 360, (150, 96, 78), -1)
    x, y = np.round(scene.performance.landmarks_px[cheek, 172, :2]).astype(int).tolist()
    cv2.circle(films[cheek], (x, y), 6, (30, 34, 40), -1)
    covered = write_folder(replace(scene, films=(films, scene.films[1])), tmp_path / "covered")
    plain, kept = dubbed(scene, folder), dubbed(scene, covered)
    for index, (before, after) in enumerate(zip(plain, kept, strict=True)):
        foreign = (films[index] != scene.films[0][index]).any(axis=2)
        assert np.array_equal(after.picture[foreign], films[index][foreign])
        if index == hand:
            assert np.array_equal(after.picture, films[index])
        elif index == cheek:
            assert 0.6 < whole_mask(after).sum() / whole_mask(before).sum() < 0.98
        else:
            assert np.array_equal(after.picture, before.picture)


def test_a_part_of_the_footage_comes_out_as_in_the_whole(scene: Scene, folder: Path) -> None:
    whole, part = dubbed(scene, folder), dubbed(scene, folder, part=range(7, 12))
    assert [f.index for f in part] == [7, 8, 9, 10, 11]
    assert all(np.array_equal(f.picture, whole[f.index].picture) for f in part)


def test_behind_the_person_is_the_plate_and_beside_it_the_footage(tmp_path: Path) -> None:
    """A part of a large picture, whose plate and alpha were measured at half the size in a crop of it."""
    columns, rows = np.meshgrid(np.arange(60), np.arange(50))
    plate = np.repeat((20 + 2 * columns + rows)[:, :, None], 3, axis=2).astype(np.uint8)
    alpha = np.where(columns < 30, 255, 0).astype(np.uint8)
    with VideoWriter(tmp_path / "person.mkv", 60, 50, RATE, codec="ffv1", pixel="gray8") as writer:
        for _ in range(3):
            writer.write(alpha)
    clip = SimpleNamespace(
        view=SourceView(40, 10, 120, 100, 60, 50), plate=lambda: plate, path=tmp_path, frame_rate_hz=RATE
    )
    behind = _Background(SimpleNamespace(clip=clip, row=np.array([0, 1, 2])))  # type: ignore[arg-type]
    part = np.full((40, 70, 3), 200, np.uint8)
    found = behind.at(1, part, (60, 30, 130, 70)).astype(float)
    # Pixel (x, y) of the picture is at ((x + 0.5 - 40) / 2 - 0.5, (y + 0.5 - 10) / 2 - 0.5) of the plate.
    x, y = (np.arange(60, 130) + 0.5 - 40) / 2 - 0.5, (np.arange(30, 70) + 0.5 - 10) / 2 - 0.5
    exact = 20 + 2 * x[None, :] + y[:, None]
    assert np.abs(found[:, :38, 0] - exact[:, :38]).max() <= 1
    assert (found[:, 42:] == 200).all()


def test_pictures_without_the_person_stay_and_are_told(scene: Scene, tmp_path: Path) -> None:
    left = {0: "no face", 1: "no face", 9: "repeats the picture before", 20: "no face", 22: "no face"}
    folder = write_folder(scene, tmp_path / "gaps", rejects=left)
    footage = footage_of(scene, folder)
    assert np.flatnonzero(footage.left).tolist() == [0, 1, 20, 21, 22, 23]
    assert left_stretches(footage) == [(0.0, 0.04, NOT_SEEN), (0.8, 0.8, NOT_SEEN), (0.84, 0.84, MOMENT),
                                       (0.88, 0.88, NOT_SEEN), (0.92, 0.92, MOMENT)]  # fmt: skip
    assert footage.stretches() == [range(2, 20)]
    for frame in dubbed(scene, folder):
        assert (frame.mask is None) == bool(footage.left[frame.index])
        if frame.mask is None:
            assert frame.picture is frame.original


def test_a_head_that_turns_away_is_left_alone(scene: Scene, folder: Path) -> None:
    clip = ClipFolder.open(folder)
    motion, turned = clip.motion(), np.array([np.cos(0.4), 0, np.sin(0.4), 0], np.float32)
    rotation = motion.head.rotation_wxyz.copy()
    rotation[14:] = turned
    away = replace(motion, head=HeadPose(rotation, motion.head.translation_cm))
    clip.motion = lambda: away  # type: ignore[method-assign]
    footage = Footage.of(scene.avatar(), clip)
    assert np.flatnonzero(footage.left).tolist() == list(range(14, COUNT))
    assert set(footage.reasons[14:]) == {ASKEW}
    everywhere = replace(away, head=HeadPose(np.tile(turned, (COUNT, 1)), motion.head.translation_cm))
    clip.motion = lambda: everywhere  # type: ignore[method-assign]
    with pytest.raises(FaceError, match=r"no picture of footage\.mkv can be dubbed, for the head is turned away"):
        Footage.of(scene.avatar(), clip)


def test_the_mouth_eases_in_and_out_within_a_shot_alone(scene: Scene, tmp_path: Path) -> None:
    own, new = np.zeros((COUNT, 2), np.float32), np.ones((COUNT, 2), np.float32)
    left = dict.fromkeys(range(16, COUNT), "no face")
    footage = footage_of(scene, write_folder(scene, tmp_path / "ends", rejects=left))
    weight = eased(own, new, footage)[:, 0]
    assert (weight[:13] == 1).all()
    assert (np.diff(weight[12:16]) < 0).all()
    assert 0 < weight[15] < 0.3
    cut = footage_of(scene, write_folder(scene, tmp_path / "cut", rejects=dict.fromkeys(range(8), "no face"), cuts=[0]))
    assert (eased(own, new, cut)[8:, 0] == 1).all()


def test_other_footage_is_seen_through_a_camera_that_projects_alike(scene: Scene, folder: Path) -> None:
    """Another rig, lens, place and size: the landmarks still come to lie where they are."""
    avatar, clip = scene.avatar(), ClipFolder.open(folder)
    habits = avatar.driver.habits
    avatar.driver.habits = replace(
        habits, translation_cm=habits.translation_cm * np.float32(0.8) + np.float32([3, 1, 0])
    )
    avatar.rig = replace(avatar.rig, shape_cm=avatar.rig.shape_cm + np.float32([0, 0.3, -0.2]))
    footage = Footage.of(avatar, clip)
    pose = footage.motion.head.matrices().astype(np.float64)
    seen = np.einsum("tij,tlj->tli", pose[:, :, :3], footage.landmarks_cm) + pose[:, None, :, 3]
    apart = footage.camera.project(seen) - scene.performance.landmarks_px[:, :, :2]
    assert np.abs(apart).max() < 0.8
    assert np.sqrt(np.square(apart).mean()) < 0.25
    rest = np.median(footage.motion.head.translation_cm, axis=0)
    assert np.allclose(rest, np.median(avatar.driver.habits.translation_cm, axis=0), atol=0.2)


def test_clothes_are_matched_by_what_moves_them_onto_each_other() -> None:
    import cv2

    random = np.random.default_rng(5)
    cloth = cv2.GaussianBlur(random.uniform(0, 255, (240, 240, 3)).astype(np.float32), (0, 0), 3)
    cloth = np.clip((cloth - cloth.mean()) * 8 + 120, 0, 255)
    camera = Camera(240, 240, 500.0, 120.0, 110.0)
    settle = np.array([[1.02, 0.01, 0.012], [-0.02, 0.98, -0.016]])
    lens = np.array([[500.0, 0, 119.5], [0, 500.0, 109.5], [0, 0, 1]])
    pixels = (lens @ np.vstack([settle, [0, 0, 1]]) @ np.linalg.inv(lens))[:2]
    moved = cv2.warpAffine(cloth, pixels, (240, 240))
    where = np.zeros((240, 240), bool)
    where[80:220, 30:210] = True
    found = _aligned(moved.astype(np.uint8), cloth / 255, where)
    assert found is not None
    assert np.abs(_normalised(found, camera) - settle).max() < 2e-3
    noise = random.uniform(0, 255, (240, 240, 3))
    assert _aligned(moved.astype(np.uint8), noise / 255, where) is None


def test_somebody_else_is_refused(scene: Scene, folder: Path) -> None:
    avatar = scene.avatar()
    avatar.rig = replace(avatar.rig, shape_cm=avatar.rig.shape_cm * np.float32([1, 1.12, 1]))
    with pytest.raises(InputError, match=r"somebody else than the avatar \(identity distance 0.0\d+, from 0.0105 on"):
        Footage.of(avatar, ClipFolder.open(folder))


def test_the_video_has_the_footages_size_rate_and_length_and_the_new_sound(
    scene: Scene, folder: Path, tmp_path: Path
) -> None:
    tone = np.sin(np.arange(48000 * 3) * 0.05).astype(np.float32) / 4
    write_wav(tmp_path / "new.wav", AudioClip(tone, 48000))
    out, notes = tmp_path / "out.mkv", list[Event]()
    report = dub_video(
        scene.avatar(), folder, tmp_path / "new.wav", out, motion=scene.new_motion(), on_event=notes.append,
        report=tmp_path / "out.json", output_options=OutputOptions(codec="ffv1"),
    )  # fmt: skip
    info = probe(out)
    assert (info.width_px, info.height_px, info.frame_rate_hz) == (SIZE, SIZE, RATE)
    pictures = [frame.rgb for frame in read_video(out)]
    assert len(pictures) == COUNT == report.dubbed == report.frames
    for picture, frame in zip(pictures, dubbed(scene, folder), strict=True):
        assert np.abs(picture.astype(int) - frame.picture).max() <= 1
    assert abs(read_audio(out).duration_seconds - COUNT / RATE) < 0.03
    told = json.loads((tmp_path / "out.json").read_text())
    assert (told["left"], told["identity_limit"]) == ([], 0.0105)
    assert told["identity"] < 0.004
    assert any("longer than the footage" in event.text for event in notes if isinstance(event, Note))


def test_uneven_pictures_are_shown_when_they_are_due() -> None:
    assert shown_at(np.arange(50) / 25, 25.0).tolist() == list(range(50))
    late = np.array([0, 0.04, 0.16, 0.2])
    assert shown_at(late, 25.0).tolist() == [0, 1, 1, 1, 2, 3]


def test_what_cannot_be_dubbed_is_said_at_once(scene: Scene, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    with pytest.raises(SoundError, match="no sound came; wanted the speech that the person shall say"):
        check_dub(folder, None, out)
    with pytest.raises(InputError, match="there is no footage"):
        check_dub(tmp_path / "none.mp4", "new.wav", out)
    video = ClipFolder.open(folder).source
    with pytest.raises(InputError, match="is the footage itself"):
        check_dub(video, "new.wav", video)
    with pytest.raises(InputError, match="alpha was asked for; wanted an opaque film"):
        check_dub(folder, "new.wav", out, options=OutputOptions(alpha="straight"))
    short = tmp_path / "short.mkv"
    with VideoWriter(short, SIZE, SIZE, RATE, codec="ffv1") as writer:
        for picture in scene.films[0][:8]:
            writer.write(picture)
    with pytest.raises(InputError, match=r"is 0.32 s long; wanted footage of half a second or more"):
        captured(scene.avatar(), short, tmp_path / "work", lambda event: None)
