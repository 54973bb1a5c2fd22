"""Sound and pictures of the driven video belong together; a failure leaves no file."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from avatarfit.audio import LOG_MEL, SpeechEncoder, feature_name
from avatarfit.compositing.shot import Shot
from avatarfit.contracts import AudioClip, Camera, FaceMotion, HeadPose, InputError, Motion, TorsoMotion
from avatarfit.contracts.events import Event, Finished, Picture, Progress, Started
from avatarfit.driving import Controls, DriveOptions, Settings
from avatarfit.media import probe, read_audio, read_video, write_wav
from avatarfit.output import OutputOptions
from avatarfit.pipeline.drive import DriveReport, drive_avatar

WIDTH, HEIGHT = 32, 48


class LevelRenderer:
    """Frame i is grey of level 3 i on the left half, clear on the right."""

    fails_at: int | None = None

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def render_over(self, motion: Motion, index: int, background: np.ndarray) -> np.ndarray:
        index = round(motion.pts_seconds[index] * 30000 / 1001)
        if index == self.fails_at:
            raise RuntimeError("the renderer broke")
        picture = background.copy()
        picture[:, : WIDTH // 2] = 3 * index
        return picture

    def render(self, motion: Motion, index: int) -> np.ndarray:
        rgba = np.zeros((HEIGHT, WIDTH, 4), np.float32)
        rgba[:, : WIDTH // 2, 3] = 1
        rgba[..., :3] = self.render_over(motion, index, np.zeros((HEIGHT, WIDTH, 3), np.uint8)) / 255
        return rgba


class StillStream:
    """Frames that do not move, one push late."""

    options: DriveOptions
    encoder: SpeechEncoder
    controls: Controls
    stances: object

    def __init__(
        self, _driver: object, _rig: object, rate: int, frame_rate_hz: float, options: DriveOptions, *,
        encoder: SpeechEncoder, controls: Controls, stances: object,
    ) -> None:  # fmt: skip
        self.rate, self.frame_rate, self.samples, self.sent = rate, frame_rate_hz, 0, 0
        StillStream.options, StillStream.controls, StillStream.stances = options, controls, stances
        StillStream.encoder = encoder

    def push(self, samples: np.ndarray) -> Motion:
        known = self._frames()
        self.samples += len(samples)
        return self._until(known)

    def finish(self) -> Motion:
        return self._until(self._frames())

    def _frames(self) -> int:
        return round(self.samples / self.rate * self.frame_rate)

    def _until(self, stop: int) -> Motion:
        index = np.arange(self.sent, stop)
        self.sent = stop
        pose = np.zeros((len(index), 4))
        pose[:, 0] = 1
        face = FaceMotion(np.zeros((len(index), 2)), np.zeros((len(index), 1)), np.zeros((len(index), 6)))
        still = TorsoMotion.still(len(index))
        return Motion(index / self.frame_rate, face, HeadPose(pose, np.ones((len(index), 3))), still)


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimpleNamespace:
    from avatarfit import driving
    from avatarfit.rendering import gaussian_renderer

    monkeypatch.setattr(driving, "DriverStream", StillStream)
    monkeypatch.setattr(gaussian_renderer, "GaussianRenderer", LevelRenderer)
    samples = np.zeros(round(1.37 * 22050), np.float32)
    samples[22050:22500] = 0.7
    write_wav(tmp_path / "speech.wav", AudioClip(samples, 22050))
    return SimpleNamespace(
        gaussians=None, field=None, driver=SimpleNamespace(feature_name=feature_name(LOG_MEL)), rig=None, made={},
        file_sha256="ab" * 32, consent=None,
        frame_rate_hz=30000 / 1001,
        camera=Camera(WIDTH, HEIGHT, 80.0, 16.0, 24.0), plate=np.full((HEIGHT, WIDTH, 3), 200, np.uint8),
    )  # fmt: skip


def run(scene: SimpleNamespace, folder: Path, **options) -> tuple[DriveReport, list[Event]]:
    events: list[Event] = []
    report = drive_avatar(scene, folder / "speech.wav", folder / "out.mp4", on_event=events.append, **options)
    return report, events


def test_features_are_those_that_were_asked_for(scene: SimpleNamespace, tmp_path: Path) -> None:
    run(scene, tmp_path)
    assert StillStream.encoder is LOG_MEL
    with pytest.raises(InputError, match="There is no folder /nowhere"):
        run(scene, tmp_path, features="/nowhere")


def test_length_rate_and_sound(scene: SimpleNamespace, tmp_path: Path) -> None:
    report, _ = run(scene, tmp_path)
    info = probe(tmp_path / "out.mp4")
    assert report.frames == info.frame_count_estimate == 41
    assert (info.width_px, info.height_px) == (WIDTH, HEIGHT)
    assert info.frame_rate_hz == pytest.approx(scene.frame_rate_hz)
    assert abs(info.duration_seconds - 1.37) <= 1001 / 30000
    sound = read_audio(tmp_path / "out.mp4")
    assert abs(sound.start_seconds + sound.duration_seconds - 1.37) <= 1001 / 30000
    onset = sound.start_seconds + np.argmax(np.abs(sound.samples) > 0.3) / sound.sample_rate_hz
    assert onset == pytest.approx(1.0, abs=0.01)


def test_pictures_come_in_order_over_the_background(scene: SimpleNamespace, tmp_path: Path) -> None:
    run(scene, tmp_path, background="#204060")
    for index, frame in enumerate(read_video(tmp_path / "out.mp4")):
        assert np.abs(frame.rgb[:, 2:12].astype(int).mean() - 3 * index) < 3
        assert np.abs(frame.rgb[:, 20:30].reshape(-1, 3).mean(axis=0) - [32, 64, 96]).max() < 4


def test_the_clips_own_background_stays(scene: SimpleNamespace, tmp_path: Path) -> None:
    run(scene, tmp_path)
    assert abs(next(read_video(tmp_path / "out.mp4")).rgb[:, 20:30].mean() - 200) < 3


def test_events_and_options(scene: SimpleNamespace, tmp_path: Path) -> None:
    turned = Controls(Settings(head_motion=0.5))
    _, events = run(scene, tmp_path, seed=5, lip_strength=1.5, lle_strength=0.25, variation=0.5, controls=turned)
    assert events[0] == Started("drive", 41)
    assert [e.step for e in events if isinstance(e, Progress)] == list(range(1, 42))
    assert sum(isinstance(e, Picture) for e in events) == 1
    assert isinstance(events[-1], Finished)
    assert StillStream.options == DriveOptions(seed=5, lip_strength=1.5, lle_strength=0.25, variation=0.5)
    assert StillStream.controls == turned
    assert StillStream.stances is None


def test_a_failure_leaves_no_file(scene: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LevelRenderer, "fails_at", 20)
    with pytest.raises(RuntimeError, match="the renderer broke"):
        run(scene, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["speech.wav"]


def test_a_stopped_run_goes_on_where_it_was(
    scene: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speech, options = tmp_path / "speech.wav", OutputOptions("png", resume=True)
    drive_avatar(scene, speech, tmp_path / "once", output_options=options)
    monkeypatch.setattr(LevelRenderer, "fails_at", 20)
    with pytest.raises(RuntimeError, match="the renderer broke"):
        drive_avatar(scene, speech, tmp_path / "twice", output_options=options)
    assert not (tmp_path / "twice").exists()
    monkeypatch.undo()
    monkeypatch.setattr("avatarfit.driving.DriverStream", StillStream)
    monkeypatch.setattr("avatarfit.rendering.gaussian_renderer.GaussianRenderer", LevelRenderer)
    drawn: list[int] = []
    plain = LevelRenderer.render_over

    def watched(self: LevelRenderer, motion: Motion, index: int, background: np.ndarray) -> np.ndarray:
        drawn.append(index)
        return plain(self, motion, index, background)

    monkeypatch.setattr(LevelRenderer, "render_over", watched)
    with pytest.raises(InputError, match=r"was another: .*seed 0 not 1"):
        drive_avatar(scene, speech, tmp_path / "twice", output_options=options, seed=1)
    drive_avatar(scene, speech, tmp_path / "twice", output_options=options)
    # The first is drawn once more, since looks are measured on it.
    assert len(drawn) == 1 + 21
    names = sorted(path.name for path in (tmp_path / "once").glob("*.png"))
    assert len(names) == 41
    for name in names:
        assert (tmp_path / "twice" / name).read_bytes() == (tmp_path / "once" / name).read_bytes()


def test_what_cannot_be_written_is_refused_first(scene: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        drive_avatar(scene, tmp_path / "speech.wav", tmp_path / "no" / "out.mp4")
    with pytest.raises(InputError, match="no colour"):
        run(scene, tmp_path, background="nothing")


def test_alpha_comes_through_and_wants_an_output_that_keeps_it(scene: SimpleNamespace, tmp_path: Path) -> None:
    import cv2

    options = OutputOptions(codec="png", alpha="straight")
    drive_avatar(scene, tmp_path / "speech.wav", tmp_path / "frames", background="none", output_options=options)
    picture = cv2.imread(str(sorted((tmp_path / "frames").glob("*.png"))[7]), cv2.IMREAD_UNCHANGED)
    assert (picture[:, : WIDTH // 2, 3] == 255).all()
    assert not picture[:, WIDTH // 2 :, 3].any()
    assert np.abs(picture[:, : WIDTH // 2, :3].astype(int) - 21).max() <= 1
    with pytest.raises(InputError, match="--background none came for an output without alpha"):
        run(scene, tmp_path, background="none")


def test_a_layer_more_is_laid_over_the_pictures(scene: SimpleNamespace, tmp_path: Path) -> None:
    class White:
        def apply(self, shot: Shot) -> None:
            shot.rgba[:4] = 1

    run(scene, tmp_path, layers=[White()])
    picture = next(read_video(tmp_path / "out.mp4")).rgb
    assert picture[:2].mean() > 240
    assert abs(picture[20:, 20:30].mean() - 200) < 3
