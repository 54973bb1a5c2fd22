"""A driver that hears through a pretrained network: fitted, cached, driven, and refused where it cannot be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import avatarfit
from avatarfit.audio import LOG_MEL, SAMPLE_RATE_HZ, feature_name
from avatarfit.audio.named_encoder import named_encoder
from avatarfit.audio.network_features import load_encoder
from avatarfit.contracts import AudioClip, FaceMotion, FileFormatError, HeadPose, InputError, Motion, TorsoMotion
from avatarfit.driving import drive
from avatarfit.fitting.driver_schooling import Schooling
from avatarfit.fitting.driver_trainer import DriverTrainingConfig, fit_driver
from avatarfit.fitting.speech_augmentation import Voice
from avatarfit.model.rig import Rig

transformers = pytest.importorskip("transformers")
RATE = 25.0
QUICK = DriverTrainingConfig(
    schooling=Schooling(steps=6, batch=2, window_tokens=16), members=1, voices=(Voice(speed=0.9),), lead_hops=4.0
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hubert")
    torch.manual_seed(0)
    config = transformers.HubertConfig(
        hidden_size=96, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, conv_dim=(8,) * 7,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2, vocab_size=20, feat_extract_norm="layer",
    )  # fmt: skip
    transformers.HubertModel(config).save_pretrained(folder)
    return folder


def person(seconds: float = 12.0) -> tuple[Rig, Motion, np.ndarray, AudioClip]:
    """A made-up person whose lower lip follows the loudness."""
    random = np.random.default_rng(0)
    t = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    loud = np.clip(np.sin(2 * np.pi * 1.7 * t) + np.sin(2 * np.pi * 0.6 * t), 0, None) / 2
    samples = 0.2 * loud * (np.sin(2 * np.pi * 150 * t) + np.sin(2 * np.pi * 600 * t)) + 1e-3 * random.standard_normal(
        len(t)
    )
    pts = np.arange(int(seconds * RATE)) / RATE
    face = random.uniform(-5, 5, (478, 3))
    face[33], face[263], face[13], face[14] = (-4.45, 0, 0), (4.45, 0, 0), (0, 5, 0), (0, 5, 0)
    jaw = np.zeros((478, 3))
    jaw[[14, 17, 152, 87, 317, 178, 402, 88, 318], 1] = 1.5
    landmarks = face + np.interp(pts, t, loud)[:, None, None] * jaw + 0.01 * random.standard_normal((len(pts), 478, 3))
    landmarks = landmarks.astype(np.float32)
    rig = Rig.fit(landmarks, 6, 4)
    head = HeadPose(np.tile(np.float32([1, 0, 0, 0]), (len(pts), 1)), np.tile(np.float32([0, 0, 60]), (len(pts), 1)))
    sound = AudioClip(samples.astype(np.float32), SAMPLE_RATE_HZ)
    return rig, Motion(pts, rig.encode(landmarks), head, TorsoMotion.still(len(pts))), landmarks, sound


def test_a_driver_hears_through_its_own_network_and_no_other(checkpoint: Path, tmp_path: Path) -> None:
    rig, motion, landmarks, sound = person()
    encoder = load_encoder(checkpoint, cache=tmp_path)
    model = fit_driver(rig, motion, landmarks, sound, RATE, config=QUICK, encoder=encoder)
    assert model.feature_name == feature_name(encoder)
    files = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert files
    again = fit_driver(
        rig, motion, landmarks, sound, RATE, config=QUICK, encoder=load_encoder(checkpoint, cache=tmp_path)
    )
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == files

    driven = [drive(each, rig, sound, RATE, encoder=encoder) for each in (model, again)]
    assert len(driven[0]) == len(motion)
    np.testing.assert_array_equal(driven[0].face.mouth, driven[1].face.mouth)
    opening = [_opening(rig, face) for face in (driven[0].face, motion.face)]
    assert np.corrcoef(*opening)[0, 1] > 0.7
    with pytest.raises(FileFormatError, match=r"driver hears hubert-layer1-[0-9a-f]{16}-.*; wanted the network"):
        drive(model, rig, sound, RATE)
    with pytest.raises(FileFormatError, match=r"wanted hubert-layer1-"):
        drive(fit_driver(rig, motion, landmarks, sound, RATE, config=QUICK), rig, sound, RATE, encoder=encoder)


def _opening(rig: Rig, face: FaceMotion) -> np.ndarray:
    points = rig.landmarks_cm(face)
    return np.asarray(points[:, 14, 1] - points[:, 13, 1])


def test_features_that_are_not_there_end_a_fit_before_it_begins(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"never read")
    with pytest.raises(InputError, match="There is no folder /nowhere"):
        avatarfit.fit(clip, tmp_path / "x.avatar", features="/nowhere")
    assert named_encoder("log-mel") is LOG_MEL
