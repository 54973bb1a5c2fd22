"""Motion from files and into files, through `drive_avatar`."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from avatarfit.audio import LOG_MEL, feature_name
from avatarfit.avatarfile.live_link import read_live_link
from avatarfit.avatarfile.motion_file import read_landmark_motion
from avatarfit.contracts import AudioClip, Camera, InputError, Motion
from avatarfit.driving import Controls, Settings
from avatarfit.media import probe, write_wav
from avatarfit.pipeline.drive import drive_avatar
from avatarfit.pipeline.motion_files import Recorder, check_motion_file, recorded_motion, stance_source


class Renderer:
    """A grey picture."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def render_over(self, _motion: Motion, _index: int, background: np.ndarray) -> np.ndarray:
        return background


@pytest.fixture
def avatar(someone: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    from avatarfit.rendering import gaussian_renderer

    monkeypatch.setattr(gaussian_renderer, "GaussianRenderer", Renderer)
    return SimpleNamespace(
        gaussians=None, field=None, rig=someone.rig, frame_rate_hz=25.0, made={}, file_sha256=None, consent=None,
        driver=SimpleNamespace(**vars(someone.driver), feature_name=feature_name(LOG_MEL)),
        camera=Camera(32, 32, 80, 16, 16),
        plate=np.full((32, 32, 3), 200, np.uint8),
    )  # fmt: skip


def exported(avatar: SimpleNamespace, motion: Motion, path: Path) -> Path:
    recorder = Recorder(motion[k : k + 70] for k in range(0, len(motion), 70))
    assert sum(len(piece) for piece in recorder) == len(motion)
    recorder.write(path, avatar)
    return path


@pytest.mark.parametrize("kind", ["csv", "safetensors"])
def test_what_was_exported_drives_again(
    kind: str, avatar: SimpleNamespace, someone: SimpleNamespace, tmp_path: Path
) -> None:
    first = exported(avatar, someone.motion[:300], tmp_path / f"a.{kind}")
    again = tmp_path / f"b.{kind}"
    report = drive_avatar(avatar, None, None, motion_file=first, export_motion=again)
    assert report.frames == 300
    assert report.path == again
    one, two = recorded_motion(first, avatar), recorded_motion(again, avatar)
    np.testing.assert_allclose(two.head.rotation_wxyz, one.head.rotation_wxyz, atol=2e-3)
    size = one.face.mouth.std()
    assert np.abs(two.face.mouth - one.face.mouth).mean() < (0.25 if kind == "csv" else 0.01) * size


def test_a_video_of_recorded_motion_with_and_without_sound(
    avatar: SimpleNamespace, someone: SimpleNamespace, tmp_path: Path
) -> None:
    path = exported(avatar, someone.motion[:50], tmp_path / "a.csv")
    write_wav(tmp_path / "s.wav", AudioClip(np.zeros(32000, np.float32), 16000))
    for sound in (None, tmp_path / "s.wav"):
        report = drive_avatar(avatar, sound, tmp_path / "o.mp4", motion_file=path, controls=Controls(Settings()))
        info = probe(tmp_path / "o.mp4")
        assert report.frames == info.frame_count_estimate == 50
        assert info.has_audio == (sound is not None)


def test_controls_turn_recorded_motion_too(avatar: SimpleNamespace, someone: SimpleNamespace, tmp_path: Path) -> None:
    path = exported(avatar, someone.motion[:100], tmp_path / "a.safetensors")
    still = Controls(Settings(head_motion=0.0))
    drive_avatar(avatar, None, None, motion_file=path, export_motion=tmp_path / "b.safetensors", controls=still)
    assert np.ptp(read_landmark_motion(tmp_path / "b.safetensors").head_translation_cm, axis=0).max() < 1e-4
    drive_avatar(avatar, None, None, motion_file=path, export_motion=tmp_path / "b.csv", controls=still)
    assert np.abs(read_live_link(tmp_path / "b.csv").angles[:, :3]).max() < 1e-4


def test_pose_and_expression_come_from_where_they_are_asked_for(
    avatar: SimpleNamespace, someone: SimpleNamespace, another: SimpleNamespace, tmp_path: Path
) -> None:
    path = exported(avatar, someone.motion[:200], tmp_path / "a.safetensors")
    recorded = recorded_motion(path, avatar)

    def often(seconds: np.ndarray) -> np.ndarray:
        return np.ones(len(seconds))

    both = stance_source(avatar, "still", path, 0, often).next(100)
    assert np.ptp(both.translation_cm, axis=0).max() == 0
    np.testing.assert_allclose(both.eyes, recorded.face.eyes[:100], atol=1e-4)
    clip = stance_source(avatar, "clip", "clip", 0, often).next(100)
    np.testing.assert_allclose(clip.eyes, someone.motion.face.eyes[:100], atol=1e-4)
    own = stance_source(avatar, "habits", "habits", 3, often).next(100)
    assert np.isfinite(own.eyes).all()


def test_a_video_stands_for_the_clip_folder_beside_it(
    avatar: SimpleNamespace, someone: SimpleNamespace, tmp_path: Path
) -> None:
    (tmp_path / "talk.mp4").write_bytes(b"x")
    (tmp_path / "talk.clip").mkdir()
    exported(avatar, someone.motion[:60], tmp_path / "tracks.safetensors").rename(
        tmp_path / "talk.clip/tracks.safetensors"
    )
    assert len(recorded_motion(tmp_path / "talk.mp4", avatar)) == 60


def test_what_does_not_go_together_is_one_sentence(avatar: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_bytes(b"x")
    (tmp_path / "m.txt").write_bytes(b"x")
    for path, said in (("v.mp4", "is a video"), ("m.txt", "does not end in"), ("no.csv", "there is no file"),
                       (".", "is a folder without tracks.safetensors")):  # fmt: skip
        with pytest.raises(InputError, match=said):
            check_motion_file(tmp_path / path)
    (tmp_path / "m.csv").write_text("Timecode,JawOpen\n00:00:00:00.0,0.5\n")
    with pytest.raises(InputError, match="no sound came"):
        drive_avatar(avatar, None, tmp_path / "o.mp4")
    with pytest.raises(InputError, match="no output came"):
        drive_avatar(avatar, None, None, motion_file=tmp_path / "m.csv")
    with pytest.raises(InputError, match="together with another source"):
        drive_avatar(avatar, None, tmp_path / "o.mp4", motion_file=tmp_path / "m.csv", pose_from="still")
    with pytest.raises(InputError, match=r"does not end in \.csv"):
        drive_avatar(avatar, None, None, motion_file=tmp_path / "m.csv", export_motion=tmp_path / "m.txt")
