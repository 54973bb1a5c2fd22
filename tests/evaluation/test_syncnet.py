"""SyncNet's layout, its sound features, its scores, and files that are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from avatarfit.contracts import AudioClip, FileFormatError, InputError
from avatarfit.evaluation.sync_score import LipFeatures, face_crop, sync_scores
from avatarfit.evaluation.syncnet import SyncNet, load_syncnet, mfcc


@pytest.fixture
def small() -> SyncNet:
    torch.manual_seed(0)
    return SyncNet((2, 3, 4, 3, 3, 6), (2, 3, 4, 3, 3, 5), 7, 8).eval()


def test_the_published_layout() -> None:
    with torch.device("meta"):
        network = SyncNet()
    shapes = {name: list(value.shape) for name, value in network.state_dict().items()}
    assert shapes["netcnnaud.0.weight"] == [64, 1, 3, 3]
    assert shapes["netcnnaud.18.weight"] == [512, 256, 5, 4]
    assert shapes["netcnnlip.0.weight"] == [96, 3, 5, 7, 7]
    assert shapes["netcnnlip.18.weight"] == [512, 256, 1, 6, 6]
    assert shapes["netfcaud.3.weight"] == shapes["netfclip.3.weight"] == [1024, 512]
    assert {name.split(".")[0] for name in shapes} == {"netcnnaud", "netfcaud", "netcnnlip", "netfclip"}
    # The public file's modules: convolution, normalisation, ReLU, and pooling in between.
    assert isinstance(network.netcnnaud[1], nn.BatchNorm2d)
    assert isinstance(network.netcnnlip[17], nn.MaxPool3d)
    assert sum(value.numel() for value in network.parameters()) == pytest.approx(13.6e6, rel=0.02)


def test_a_small_random_checkpoint_comes_back(small: SyncNet, tmp_path: Path) -> None:
    path = tmp_path / "small.model"
    torch.save(small.state_dict() | {"other.weight": torch.zeros(3)}, path)
    loaded = load_syncnet(path)
    lips, sound = torch.rand(1, 3, 5, 224, 224) * 255, torch.randn(2, 1, 13, 20)
    with torch.inference_mode():
        assert loaded.lips(lips).shape == (1, 8)
        torch.testing.assert_close(loaded.lips(lips), small.lips(lips))
        torch.testing.assert_close(loaded.sound(sound), small.sound(sound))


def test_files_that_are_no_syncnet(small: SyncNet, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="where no file is"):
        load_syncnet(tmp_path / "no.model")

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "touched",))  # type: ignore[return-value]

    state = small.state_dict()
    without = {name: value for name, value in state.items() if name != "netfclip.3.weight"}
    nan = state | {"netfcaud.0.weight": torch.full_like(state["netfcaud.0.weight"], float("nan"))}
    cut = state | {"netcnnlip.4.weight": state["netcnnlip.4.weight"][:, :1]}
    cases = {"evil": {"netcnnaud": Evil()}, "list": [1, 2], "empty": {}, "without": without, "nan": nan, "cut": cut}
    for name, value in cases.items():
        torch.save(value, tmp_path / name)
    (tmp_path / "text").write_text("not a network\n" * 20)
    (tmp_path / "nothing").touch()
    for name in [*cases, "text", "nothing"]:
        with pytest.raises(FileFormatError, match="holds no SyncNet") as refused:
            load_syncnet(tmp_path / name)
        assert "\n" not in str(refused.value)
    assert not (tmp_path / "touched").exists()


def test_mfcc_of_known_sounds() -> None:
    rng = np.random.default_rng(0)
    samples = 0.1 * rng.normal(size=16000).astype(np.float32)
    quiet, loud = mfcc(samples), mfcc(2 * samples)
    assert quiet.shape == (99, 13)
    np.testing.assert_allclose(loud[:, 0] - quiet[:, 0], np.log(4), atol=1e-4)  # the first is the log energy
    np.testing.assert_allclose(loud[:, 1:], quiet[:, 1:], atol=1e-3)  # the others are the spectrum's shape
    assert len(mfcc(samples[:100])) == 1
    # One frame's power by Parseval: pre-emphasis, 400 samples, 512 points, over 512.
    frame = np.concatenate([samples[:1], samples[1:] - 0.97 * samples[:-1]])[:400].astype(np.float64) * 32768
    power = np.abs(np.fft.rfft(frame, 512)) ** 2 / 512
    assert quiet[0, 0] == pytest.approx(np.log(power.sum()), abs=1e-4)


def test_the_crop_is_a_square_below_the_faces_middle() -> None:
    rgb = np.zeros((200, 200, 3), np.uint8)
    rgb[..., 0], rgb[..., 1] = np.arange(200), np.arange(200)[:, None]
    points = np.array([[60.0, 50.0], [120.0, 130.0]])  # 60 x 80 px: reach 56, centre (90, 106)
    crop = face_crop(rgb, points)
    assert crop.shape == (224, 224, 3)
    inside = crop[4:-4, 4:-4].astype(float)
    centres = (np.arange(224) + 0.5)[4:-4] / 224 * 112
    np.testing.assert_allclose(inside[100, :, 2], 34 + centres - 0.5, atol=1.01)  # red comes last
    np.testing.assert_allclose(inside[:, 100, 1], 50 + centres - 0.5, atol=1.01)


class Echo:
    """Lips and sound are the same number: the sound's loudness, written into the pictures."""

    def lips(self, faces: torch.Tensor) -> torch.Tensor:
        return faces[:, 0, 0, 100, 100][:, None]

    def sound(self, coefficients: torch.Tensor) -> torch.Tensor:
        return coefficients[:, 0, 0, :1] * 10


@pytest.mark.parametrize("shift", [-5, 0, 7])
def test_a_shifted_sound_is_found_and_scores_as_defined(shift: int) -> None:
    rng = np.random.default_rng(3)
    level = np.repeat(rng.uniform(0.01, 0.3, 125), 640)
    sound = AudioClip((level * rng.normal(size=len(level))).astype(np.float32), 16000, 0.0)
    loud = mfcc(sound.samples)[:, 0]
    lips = LipFeatures(Echo(), 25.0)  # type: ignore[arg-type]
    for index in range(40, 90):
        value = np.uint8(np.clip(round(10 * float(loud[4 * (index + shift)])), 0, 255))
        lips.add(index, index / 25, np.full((64, 64, 3), value), np.array([[10.0, 10], [50, 50]]))
    assert len(lips.seconds) == 46
    assert lips.seconds[0] == pytest.approx(40 / 25)
    found = sync_scores(Echo(), lips, sound)  # type: ignore[arg-type]
    assert found is not None
    assert found["offset_frames"] == shift
    assert found["sync_d"] < 1
    assert found["sync_c"] > 3


def test_windows_do_not_reach_over_a_hole_and_other_rates_come_down_to_25() -> None:
    face = np.array([[10.0, 10], [50, 50]])
    picture = np.zeros((64, 64, 3), np.uint8)
    holed = LipFeatures(Echo(), 25.0)  # type: ignore[arg-type]
    for index in [*range(8), *range(20, 24), *range(30, 37)]:
        holed.add(index, index / 25, picture, face)
    np.testing.assert_allclose(holed.seconds, [0, 0.04, 0.08, 0.12, 1.2, 1.24, 1.28])
    fast = LipFeatures(Echo(), 50.0)  # type: ignore[arg-type]
    for index in range(100):
        fast.add(index, index / 50, picture, face)
    assert len(fast.seconds) == 50 - 4


def test_too_little_sound_gives_no_score() -> None:
    lips = LipFeatures(Echo(), 25.0)  # type: ignore[arg-type]
    for index in range(6):
        lips.add(index, index / 25, np.zeros((64, 64, 3), np.uint8), np.array([[10.0, 10], [50, 50]]))
    sound = AudioClip(np.zeros(8000, np.float32), 16000, 0.0)
    assert sync_scores(Echo(), lips, sound) is None  # type: ignore[arg-type]
