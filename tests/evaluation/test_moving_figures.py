"""The whole judgement on a performer whose every measure is exact: a perfect avatar, a noisy one, the two compared."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from avatarfit.contracts import AudioClip, FaceMotion, InputError, Motion, SoundError, TorsoMotion, VideoFrame
from avatarfit.evaluation import compare_avatars, evaluate_avatar
from avatarfit.evaluation.compare import compared, which
from avatarfit.model.rig import Rig
from avatarfit.performer import Performer

COUNT = 75
BLOCKS = [[10, 35], [40, 52]]
NOISE = 0.05
NETWORK = "mediapipe-0.10.21 face_mesh"


class PerformedClip:
    """What evaluation asks of a clip folder, from the performer's exact truth."""

    def __init__(self) -> None:
        performer = Performer(seed=2, width_px=256)
        self.performance = performer.performance(COUNT / 25)
        made = [performer.render(self.performance, k) for k in range(COUNT)]
        self.pictures = [picture.rgb for picture in made]
        self._masks = [((picture.alpha * 255 + 0.5).astype(np.uint8), picture.labels) for picture in made]
        self.plate = performer.plate
        self.camera = self.performance.camera
        self.manifest = {"landmarks": NETWORK}
        self.landmarks_cm, self.landmarks_px = self.performance.landmarks_cm, self.performance.landmarks_px
        self.pts_seconds = self.performance.pts_seconds
        self.frame_rate_hz, self.train_count = 25.0, COUNT - COUNT // 11
        self.source, self.content_hash = Path("performer <1>.mp4"), "hash"

    def __len__(self) -> int:
        return COUNT

    def rig(self) -> Rig:
        return Rig.fit(self.landmarks_cm)

    def motion(self) -> Motion:
        face = self.rig().encode(self.landmarks_cm)
        return Motion(self.pts_seconds, face, self.performance.head, TorsoMotion.still(COUNT))

    def torso_modes(self) -> SimpleNamespace:
        return SimpleNamespace(to_tensors=dict)

    def audio(self) -> AudioClip:
        return self.performance.sound

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[VideoFrame]:
        for index in range(start, COUNT if stop is None else stop):
            yield VideoFrame(index / 25, self.pictures[index])

    def masks(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        yield from self._masks[start:stop]


class Copier:
    """A renderer that shows the truth, with as much noise as its avatar's Gaussians say."""

    def __init__(self, clip: PerformedClip) -> None:
        self.clip, self.sigma = clip, 0.0

    def __call__(self, gaussians: Any, *_: object, **__: object) -> Copier:
        other = Copier(self.clip)
        other.sigma = gaussians.sigma
        return other

    def render(self, _motion: Motion, index: int) -> np.ndarray:
        exact = self.clip.pictures[index] / 255.0
        noisy = exact + np.random.default_rng(index).normal(0, self.sigma, exact.shape)
        return np.concatenate([noisy, np.ones_like(exact[..., :1])], axis=2).astype(np.float32)


@pytest.fixture(scope="module")
def clip() -> PerformedClip:
    return PerformedClip()


def avatar(clip: PerformedClip, sigma: float = 0.0, **made: object) -> Any:
    return SimpleNamespace(
        camera=clip.camera, gaussians=SimpleNamespace(base=np.zeros((7, 14)), sigma=sigma), field=None, rig=clip.rig(),
        torso_modes=clip.torso_modes(), plate=clip.plate, driver=None, frame_rate_hz=25.0,
        made={"landmarks": NETWORK, "split": {"name": "blocks", "held_out": BLOCKS}} | made,
    )  # fmt: skip


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch, clip: PerformedClip) -> PerformedClip:
    """The clip, with its copier for a renderer and its own mouth for a driver."""
    from avatarfit.driving import driver
    from avatarfit.rendering import gaussian_renderer

    motion = clip.motion()

    def drive(_model: object, _rig: Rig, sound: AudioClip, rate: float, **_: object) -> Motion:
        pts = sound.start_seconds + np.arange(max(round(sound.duration_seconds * rate), 1)) / rate
        at = np.clip(np.rint(pts * 25).astype(int), 0, COUNT - 1)
        # Muted sound is heard 80 ms ahead: it shuts the mouth.
        heard = np.interp(pts + 0.08, sound.start_seconds + np.arange(len(sound.samples)) / sound.sample_rate_hz,
                          sound.samples != 0)  # fmt: skip
        face = FaceMotion(motion.face.mouth[at] * (heard > 0)[:, None], motion.face.upper[at], motion.face.eyes[at])
        head = type(motion.head)(motion.head.rotation_wxyz[at], motion.head.translation_cm[at])
        return Motion(pts, face, head, TorsoMotion.still(len(at)))

    monkeypatch.setattr(gaussian_renderer, "GaussianRenderer", Copier(clip))
    monkeypatch.setattr(driver, "drive", drive)
    return clip


def test_a_perfect_avatar_and_its_report(house: PerformedClip, tmp_path: Path) -> None:
    result = evaluate_avatar(avatar(house), house, report_dir=tmp_path / "report", frames_limit=30)  # type: ignore[arg-type]
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["split"] == {"name": "blocks", "held_out": BLOCKS}
    assert result["per_frame"]["motion"]["index"] == [*range(10, 35), *range(40, 45)]
    assert result["frames"]["consecutive"] == result["frames"]["held_out_judged"] == 30
    for composite in result["composites"].values():
        assert {region["psnr_db"] for region in composite.values()} == {100.0}
        assert composite["whole_frame"]["ms_ssim"] == pytest.approx(1, abs=1e-4)
    found = result["found_landmarks"]
    assert found["frames_without_face"] == 0
    assert found["lmd_px"] == pytest.approx(0, abs=1e-4)
    assert found["aperture_r"] == pytest.approx(1, abs=1e-3)
    assert found["identity"] == pytest.approx(0, abs=1e-4)
    assert found["expression_error"] is None
    assert result["neck_seam"] == {"median": 1.0, "p95": 1.0}
    assert result["pose_jitter"]["added"] == result["temporal_flicker"]["added"] == 0
    assert result["pose_jitter"]["truth"] < 0.3
    assert result["lip_sound_offset"]["truth"] == result["lip_sound_offset"]["render"]
    assert result["driven"]["driver"] == result["driven"]["true_motion"]
    assert result["driven"]["driver"]["aperture_r"] > 0.98
    assert result["latency"]["look_ahead_ms"] == pytest.approx(80, abs=41)
    assert result["latency"]["total_ms"] >= result["latency"]["look_ahead_ms"]
    assert any("LPIPS" in note for note in result["notes"])
    for name, definition in result["definitions"].items():
        assert set(definition) == {"text", "unit", "better", "source"}, name

    assert sorted(p.name for p in (tmp_path / "report").iterdir()) == [
        "evaluation.html", "evaluation.json", "evaluation.mp4",
    ]  # fmt: skip
    assert json.loads((tmp_path / "report" / "evaluation.json").read_text()) == result
    page = (tmp_path / "report" / "evaluation.html").read_text()
    assert "performer &lt;1&gt;.mp4" in page
    assert page.count("data:image/jpeg") == 10
    assert page.count("data:video/mp4") == 1
    assert 'src="http' not in page
    assert "full synthesis" in page
    assert "blocks spread over the clip" in page
    from avatarfit.media import probe

    film = probe(tmp_path / "report" / "evaluation.mp4")
    assert (film.width_px, film.height_px) == (512, 256)


def test_a_noisy_avatar_is_worse_and_it_is_said_which(house: PerformedClip) -> None:
    result = compare_avatars(avatar(house), avatar(house, NOISE), house, frames_limit=25)  # type: ignore[arg-type]
    figures = result["figures"]
    person = figures["composites.full.person.psnr_db"]
    assert person["b"] == pytest.approx(-20 * np.log10(NOISE), abs=0.3)
    assert (person["a"], person["better"], person["direction"]) == (100, "a", "higher")
    assert person["interval"][0] <= person["difference"] <= person["interval"][1] < 0
    assert figures["composites.paste_back.whole_frame.psnr_db"]["b"] > person["b"] + 3
    assert figures["neck_seam.median"]["better"] == "a"
    assert figures["neck_seam.median"]["b"] > 1.2
    assert figures["temporal_flicker.added"]["b"] > 5
    assert figures["found_landmarks.lmd_px"]["better"] == "a"
    assert figures["driven.driver.lmd_px"]["better"] == "equal"
    assert figures["temporal_flicker.truth"]["better"] == ""
    assert result["a"]["frames"] == result["b"]["frames"]
    same = compared(result["b"], result["b"])
    assert {row["better"] for row in same.values()} <= {"equal", ""}


def test_avatars_that_cannot_be_compared(house: PerformedClip) -> None:
    small = avatar(house)
    small.camera = house.camera.resized(128, 128)
    with pytest.raises(InputError, match="two of one size"):
        compare_avatars(avatar(house), small, house)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="different frames held out"):
        compare_avatars(avatar(house), avatar(house, split=None), house)  # type: ignore[arg-type]


def test_without_sound_and_without_mediapipe_the_rest_is_measured(
    house: PerformedClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    def no_sound() -> AudioClip:
        raise SoundError("none", "sound", "record it")

    monkeypatch.setattr(house, "audio", no_sound)
    result = evaluate_avatar(avatar(house), house, frames_limit=4)  # type: ignore[arg-type]
    assert "found_landmarks" in result
    assert any("the clip has no sound" in note for note in result["notes"])
    assert not {"driven", "silence_leakage", "lip_sound_offset", "latency"} & set(result)
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    result = evaluate_avatar(avatar(house), house, frames_limit=4)  # type: ignore[arg-type]
    assert any("mediapipe is not installed" in note for note in result["notes"])
    assert "found_landmarks" not in result
    assert result["neck_seam"]["median"] == 1


def test_a_network_that_is_not_here_is_told(house: PerformedClip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(house.manifest, "landmarks", "face_landmarker.task sha256:0")
    stranger = avatar(house, landmarks="face_landmarker.task sha256:0")
    result = evaluate_avatar(stranger, house, frames_limit=3)  # type: ignore[arg-type]
    assert any("network (face_landmarker.task sha256:0) is not on this machine" in note for note in result["notes"])


def test_syncnet_scores_the_true_clip_beside_the_render(house: PerformedClip, tmp_path: Path) -> None:
    import torch

    from avatarfit.evaluation.syncnet import SyncNet

    torch.manual_seed(0)
    torch.save(SyncNet((2, 3, 4, 3, 3, 6), (2, 3, 4, 3, 3, 5), 7, 8).state_dict(), tmp_path / "small.model")
    late = {"split": {"name": "blocks", "held_out": [[32, 40]]}}  # 15 frames of sound to both sides
    result = evaluate_avatar(avatar(house, **late), house, syncnet=tmp_path / "small.model")  # type: ignore[arg-type]
    assert set(result["sync"]["truth"]) == {"sync_c", "sync_d", "offset_frames"}
    assert result["sync"]["truth"] == result["sync"]["render"]


def test_which_is_better() -> None:
    assert which("higher", 1, 2) == which("lower", 2, 1) == which("near 1", 0.8, 1.1) == which("near 0", -3, 1) == "b"
    assert which("higher", 1, 1) == "equal"
    assert which("", 1, 2) == ""


def test_a_difference_that_changes_sign_from_block_to_block_is_unclear() -> None:
    def result(values: list[float]) -> dict[str, Any]:
        frames = {"pictures": {"full.person.psnr_db": values}, "motion": {}}
        return {"composites": {"full": {"person": {"psnr_db": float(np.mean(values))}}}, "per_frame": frames}

    flat = [30.0] * 60
    waving = [30.0 + (3.0 if (k // 10) % 2 else -2.8) for k in range(60)]
    better = [30.5 + 0.1 * (k % 2) for k in range(60)]
    assert compared(result(flat), result(waving))["composites.full.person.psnr_db"]["better"] == "unclear"
    assert compared(result(flat), result(better))["composites.full.person.psnr_db"]["better"] == "b"


def test_expression_error_where_the_bundle_is(
    house: PerformedClip, monkeypatch: pytest.MonkeyPatch, shared: Path
) -> None:
    from avatarfit.capture.landmark_source import ENVIRONMENT, choose_source

    bundle = shared / "models" / "face_landmarker.task"
    network = choose_source(bundle).name
    monkeypatch.setenv(ENVIRONMENT, str(bundle))
    monkeypatch.setitem(house.manifest, "landmarks", network)
    exact, noisy = (
        evaluate_avatar(avatar(house, sigma, landmarks=network), house, frames_limit=8)["found_landmarks"]  # type: ignore[arg-type]
        for sigma in (0.0, 0.1)
    )
    assert exact["expression_error"] == pytest.approx(0, abs=1e-4)
    assert 0.002 < noisy["expression_error"] < 0.3
    assert noisy["lmd_px"] > exact["lmd_px"]
