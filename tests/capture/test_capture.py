from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from avatarfit.capture import ClipFolder, capture_clip
from avatarfit.capture.clip_folder import HAIR, HEAD, NECK
from avatarfit.capture.face_points import RIGID
from avatarfit.contracts import FaceError, InputError
from avatarfit.contracts.events import Event, Finished, Note, Progress
from avatarfit.media import VideoWriter, read_video

COUNT = 40


def test_a_clip_without_a_face_is_refused_in_one_sentence(tmp_path: Path) -> None:
    clip = tmp_path / "wall.mkv"
    with VideoWriter(clip, 160, 120, 25, codec="ffv1") as out:
        for k in range(6):
            out.write(np.full((120, 160, 3), 90 + k, np.uint8))
    with pytest.raises(FaceError, match=r"no face was found in any of the 6 pictures of wall\.mkv; wanted .*; use "):
        capture_clip(clip, tmp_path / "clip")
    assert not (tmp_path / "clip" / "clip.json").exists()


def test_what_is_no_video_and_a_wrong_focal_length_are_refused(tmp_path: Path) -> None:
    text = tmp_path / "notes.mp4"
    text.write_text("not a video")
    with pytest.raises(InputError):
        capture_clip(text, tmp_path / "clip")
    clip = tmp_path / "wall.mkv"
    with VideoWriter(clip, 64, 64, 25, codec="ffv1") as out:
        out.write(np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(InputError, match="focal_px came as -3"):
        capture_clip(clip, tmp_path / "clip", focal_px=-3.0)


@pytest.fixture(scope="module")
def real_clip(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 pictures of a real clip, every sixth one twice, without sound, in an odd place."""
    path = tmp_path_factory.mktemp("real") / "person ü.mp4"
    with VideoWriter(path, 512, 512, 30) as out:
        for k, frame in enumerate(read_video(shared / "clips" / "hdtf_8s.mp4")):
            if k == COUNT:
                break
            out.write(frame.rgb)
            if k % 5 == 4:
                out.write(frame.rgb)
    return path


@pytest.fixture(scope="module")
def captured(real_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[ClipFolder, list[Event]]:
    heard: list[Event] = []
    return capture_clip(real_clip, tmp_path_factory.mktemp("clip") / "new", on_event=heard.append), heard


def test_a_real_clip_is_captured_whole(captured: tuple[ClipFolder, list[Event]]) -> None:
    clip, heard = captured
    assert clip.frame_rate_hz == 25
    rejects = {r["source_index"]: r["reason"] for r in clip.manifest["rejects"]}
    assert len(clip) + len(rejects) == COUNT + COUNT // 5
    repeats = [k for k, reason in rejects.items() if reason.startswith("repeats")]
    assert set(repeats) <= set(range(5, 48, 6))
    assert len(repeats) >= 6
    assert clip.manifest["source"]["audio"] is None
    notes = " ".join(e.text for e in heard if isinstance(e, Note))
    assert "no sound" in notes
    assert "repeat the one before" in notes
    assert any(isinstance(e, Progress) and e.stage == "masks" for e in heard)


def test_landmarks_and_motion_agree_with_the_pictures(captured: tuple[ClipFolder, list[Event]]) -> None:
    clip, _ = captured
    motion = clip.motion()
    poses = motion.head.matrices().astype(np.float64)
    points = np.einsum("tij,tnj->tni", poses[:, :, :3], clip.landmarks_cm.astype(np.float64)) + poses[:, None, :, 3]
    np.testing.assert_allclose(clip.camera.project(points), clip.landmarks_px[..., :2], atol=0.02)
    # Without their expression, the rigid landmarks stay close, too.
    still = np.einsum("tij,nj->tni", poses[:, :, :3], clip.landmarks_cm.mean(axis=0)[RIGID]) + poses[:, None, :, 3]
    error = np.linalg.norm(clip.camera.project(still) - clip.landmarks_px[:, RIGID, :2], axis=2)
    assert np.median(error) < 2.5
    mean = clip.landmarks_cm[: clip.train_count].mean(axis=0)
    np.testing.assert_allclose(mean[263] - mean[33], [8.9, 0, 0], atol=1e-3)
    assert np.abs(clip.rig().landmarks_cm(motion.face) - clip.landmarks_cm)[:, clip.rig().mouth_indices].mean() < 0.05


def test_masks_lie_on_the_person(captured: tuple[ClipFolder, list[Event]]) -> None:
    clip, _ = captured
    for index, (person, labels) in enumerate(clip.masks()):
        points = clip.landmarks_px[index, :, :2].astype(int)
        assert (person[points[RIGID, 1], points[RIGID, 0]] > 240).all()
        assert np.isin(labels[points[RIGID, 1], points[RIGID, 0]], HEAD).all()
        assert person[5:60, 5:40].max() < 30
        np.testing.assert_array_equal(labels > 0, person >= 128)
    assert (labels == NECK).sum() > 1000
    assert (labels[420:, :230] == HAIR).sum() > 1000  # it falls to the shoulders
    seen = clip.plate_seen()
    assert 0.2 < seen.mean() < 0.8
    picture = next(clip.frames()).rgb.astype(int)
    assert np.abs(picture[:120, :20] - clip.plate()[:120, :20]).mean() < 6


def test_an_unchanged_capture_is_reused_and_a_broken_one_goes_on(real_clip: Path, captured, tmp_path: Path) -> None:
    clip, _ = captured
    heard: list[Event] = []
    again = capture_clip(real_clip, clip.path, on_event=heard.append)
    assert all(e.reused for e in heard if isinstance(e, Finished))
    assert again.content_hash == clip.content_hash

    import shutil

    folder = tmp_path / "broken"
    shutil.copytree(clip.path, folder)
    (folder / "work" / "masks.json").unlink()

    def stop(event: Event) -> None:
        if isinstance(event, Progress) and event.stage == "masks":
            raise KeyboardInterrupt

    before = (folder / "person.mkv").read_bytes()
    (folder / "clip.json").unlink()
    with pytest.raises(KeyboardInterrupt):
        capture_clip(real_clip, folder, on_event=stop)
    assert not (folder / "clip.json").exists()
    assert (folder / "person.mkv").read_bytes() == before  # a half-written film never takes the whole one's name
    heard.clear()
    resumed = capture_clip(real_clip, folder, on_event=heard.append)
    assert {e.stage: e.reused for e in heard if isinstance(e, Finished)} == {
        "observe": True, "pose": True, "register": True, "sample": False, "masks": False, "tracks": True,
    }  # fmt: skip
    np.testing.assert_array_equal(resumed.motion().torso.affine, clip.motion().torso.affine)


def test_another_focal_length_keeps_the_landmarks_and_changes_the_poses(
    captured, real_clip: Path, tmp_path: Path
) -> None:
    import shutil

    clip, _ = captured
    folder = tmp_path / "other"
    shutil.copytree(clip.path, folder)
    heard: list[Event] = []
    other = capture_clip(real_clip, folder, focal_px=800.0, on_event=heard.append)
    assert next(e for e in heard if isinstance(e, Finished) and e.stage == "observe").reused
    assert other.camera.focal_px == 800
    ratio = other.motion().head.translation_cm[:, 2] / clip.motion().head.translation_cm[:, 2]
    np.testing.assert_allclose(ratio, 800 / clip.camera.focal_px, rtol=0.05)
    assert (
        json.loads((folder / "clip.json").read_text())["stages"]["pose"]["key"]
        != clip.manifest["stages"]["pose"]["key"]
    )
