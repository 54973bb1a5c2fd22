"""The baselines and the whole judgement on a toy clip whose every figure is known beforehand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from avatarfit.contracts import Camera, FaceMotion, HeadPose, InputError, Motion, TorsoMotion, VideoFrame
from avatarfit.evaluation import evaluate_avatar
from avatarfit.evaluation.baselines import MeanPicture, motion_features, nearest_frames
from avatarfit.model.rig import LIPS_OUTER

SIZE, COUNT = 32, 44
TRAIN = COUNT - COUNT // 11
ANSWERS = [5, 17, 30, 8]
"""Training frames whose motion and picture the held-out frames repeat."""


def toy_motion(seed: int = 0) -> Motion:
    rng = np.random.default_rng(seed)
    mouth = rng.normal(size=(COUNT, 3))
    rotation = np.concatenate([np.ones((COUNT, 1)), rng.normal(size=(COUNT, 3)) * 0.02], axis=1)
    rotation /= np.linalg.norm(rotation, axis=1, keepdims=True)
    translation = rng.normal(size=(COUNT, 3)) + [0, 0, 60]
    for held_out, answer in enumerate(ANSWERS, TRAIN):
        mouth[held_out], rotation[held_out], translation[held_out] = (
            mouth[answer],
            rotation[answer],
            translation[answer],
        )
    face = FaceMotion(mouth, np.zeros((COUNT, 2)), np.zeros((COUNT, 6)))
    head = HeadPose(rotation.astype(np.float32), translation.astype(np.float32))
    return Motion(np.arange(COUNT) / 25, face, head, TorsoMotion.still(COUNT))


class ToyClip:
    """Pictures of one grey level each, at twice the avatar's size; the person is the left half."""

    def __init__(self) -> None:
        self.levels = np.random.default_rng(3).integers(60, 190, COUNT)
        self.levels[TRAIN:] = self.levels[ANSWERS]
        self.manifest = {"landmarks": "network A"}
        self.camera = Camera(2 * SIZE, 2 * SIZE, 150.0, SIZE, SIZE)
        points = np.zeros((COUNT, 478, 3), np.float32)
        points[:, list(LIPS_OUTER)] = [20, 40, 0]
        points[:, 1, 0] = np.random.default_rng(4).normal(size=COUNT) * 50
        points[TRAIN:] = points[ANSWERS]
        self.landmarks_px = points
        self.landmarks_cm = points
        self.train_count = TRAIN
        self.pts_seconds = np.arange(COUNT) / 25

    def __len__(self) -> int:
        return COUNT

    def motion(self) -> Motion:
        return toy_motion()

    def rig(self) -> SimpleNamespace:
        return SimpleNamespace(to_tensors=lambda: {"a": np.zeros(1)})

    def torso_modes(self) -> SimpleNamespace:
        return SimpleNamespace(to_tensors=dict)

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[VideoFrame]:
        for index in range(start, COUNT if stop is None else stop):
            yield VideoFrame(index / 25, np.full((2 * SIZE, 2 * SIZE, 3), self.levels[index], np.uint8))

    def masks(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        mask = np.zeros((2 * SIZE, 2 * SIZE), np.uint8)
        mask[:, :SIZE] = 255
        for _ in range(start, COUNT if stop is None else stop):
            yield mask, mask


class OffRenderer:
    """Right but for 0.1 on the person's half and 0.2 beside it."""

    def __init__(self, clip: ToyClip) -> None:
        self.clip = clip

    def __call__(self, *_: object, **__: object) -> OffRenderer:
        return self

    def render(self, _motion: Motion, index: int) -> np.ndarray:
        rgba = np.ones((SIZE, SIZE, 4), np.float32)
        rgba[..., :3] = self.clip.levels[index] / 255
        rgba[:, : SIZE // 2, :3] += 0.1
        rgba[:, SIZE // 2 :, :3] += 0.2
        return rgba


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[ToyClip, dict, Path]:
    from avatarfit.rendering import gaussian_renderer

    clip = ToyClip()
    monkeypatch.setattr(gaussian_renderer, "GaussianRenderer", OffRenderer(clip))
    result = evaluate_avatar(toy_avatar(), clip, pictures_dir=tmp_path / "pictures", pictures_only=True)  # type: ignore[arg-type]
    return clip, result, tmp_path / "pictures"


def toy_avatar(width: int = SIZE, height: int = SIZE) -> SimpleNamespace:
    return SimpleNamespace(
        camera=Camera(width, height, 75.0, width / 2, height / 2),
        gaussians=SimpleNamespace(base=np.zeros((7, 14))),
        field=None,
        rig=SimpleNamespace(to_tensors=lambda: {"a": np.zeros(1)}),
        torso_modes=SimpleNamespace(to_tensors=dict),
        plate=np.zeros((height, width, 3), np.uint8),
        made={"landmarks": "network A"},
    )


def test_landmarks_of_another_network_are_refused() -> None:
    clip = ToyClip()
    clip.manifest["landmarks"] = "network B"
    with pytest.raises(InputError, match="fitted with landmarks of network A, and the clip folder's are of network B"):
        evaluate_avatar(toy_avatar(), clip)  # type: ignore[arg-type]


def test_the_avatars_figures(judged: tuple[ToyClip, dict, Path]) -> None:
    _, result, _ = judged
    assert result["person"]["psnr_db"] == pytest.approx(20, abs=1e-3)
    assert result["train"]["person"]["psnr_db"] == pytest.approx(20, abs=1e-3)
    assert result["mouth"]["psnr_db"] > result["whole_frame"]["psnr_db"]
    whole = -10 * np.log10((0.01 + 0.04) / 2)
    assert result["whole_frame"]["psnr_db"] == pytest.approx(whole, abs=1e-3)
    assert 0 < result["whole_frame"]["ssim"] < 1


def test_the_baselines_figures(judged: tuple[ToyClip, dict, Path]) -> None:
    clip, result, _ = judged
    assert result["baseline_nearest"]["person"]["psnr_db"] == 100
    mean = clip.levels[:TRAIN].mean()
    expected = np.mean([-20 * np.log10(abs(level - mean) / 255) for level in clip.levels[TRAIN:]])
    assert result["baseline_mean"]["whole_frame"]["psnr_db"] == pytest.approx(expected, abs=1e-3)


def test_what_is_told_beside_the_figures(judged: tuple[ToyClip, dict, Path]) -> None:
    _, result, pictures = judged
    assert result["frames"] == {
        "clip": COUNT, "training": TRAIN, "held_out": 4, "held_out_judged": 4, "training_judged": TRAIN,
        "consecutive": 0,
    }  # fmt: skip
    assert result["size"] == {"width_px": SIZE, "height_px": SIZE}
    assert result["gaussians"] == 7
    assert {frame["index"] for frame in result["worst_frames"]} == set(range(TRAIN, COUNT))
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    names = sorted(p.name for p in pictures.iterdir())
    assert [n for n in names if n.startswith("frame_")] == [f"frame_{i:06d}.png" for i in range(TRAIN, COUNT)]
    assert len([n for n in names if n.startswith("worst_00_")]) == 1


def test_fewer_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    from avatarfit.rendering import gaussian_renderer

    clip = ToyClip()
    monkeypatch.setattr(gaussian_renderer, "GaussianRenderer", OffRenderer(clip))
    result = evaluate_avatar(toy_avatar(), clip, frames_limit=2, pictures_only=True)  # type: ignore[arg-type]
    assert (result["frames"]["held_out_judged"], result["frames"]["training_judged"]) == (2, 2)


def test_a_clip_of_another_shape() -> None:
    with pytest.raises(InputError, match="aspect ratio"):
        evaluate_avatar(toy_avatar(SIZE, 2 * SIZE), ToyClip())  # type: ignore[arg-type]


def test_nearest_finds_the_repeated_frame() -> None:
    clip = ToyClip()
    features = motion_features(clip.landmarks_px, toy_motion().torso, clip.camera)
    assert nearest_frames(features[TRAIN:], features[:TRAIN]).tolist() == ANSWERS
    assert nearest_frames(features[:TRAIN], features[:TRAIN]).tolist() == list(range(TRAIN))


def test_nearest_agrees_with_every_distance_measured() -> None:
    rng = np.random.default_rng(7)
    queries, training = rng.normal(size=(300, 5)) + 100, rng.normal(size=(40, 5)) + 100
    distance = np.linalg.norm(queries[:, None] - training[None], axis=2)
    assert nearest_frames(queries, training).tolist() == distance.argmin(axis=1).tolist()


def test_features_measure_pixels() -> None:
    camera = Camera(100, 100, 200.0, 50.0, 50.0)
    points = np.zeros((2, 478, 3))
    points[1] = [3, 4, 99]
    still, shifted = np.eye(2, 3), np.array([[1, 0, 6 / 200], [0, 1, 8 / 200]])
    features = motion_features(points, TorsoMotion(np.stack([still, shifted])), camera)
    assert np.square(features[1] - features[0]).sum() == pytest.approx(25 + 100, rel=1e-4)


def test_mean_picture() -> None:
    mean = MeanPicture()
    with pytest.raises(ValueError, match="no picture"):
        mean.picture()
    for level in (0, 255, 51):
        mean.add(np.full((2, 2, 3), level, np.uint8))
    np.testing.assert_allclose(mean.picture(), 0.4)
