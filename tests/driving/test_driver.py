"""Laws of driving, on a driver with random weights: none depends on what was learnt."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from avatarfit.audio import FEATURE_COUNT, FEATURE_NAME
from avatarfit.contracts import AudioClip, FileFormatError, SoundError
from avatarfit.driving import DriveOptions, drive, drive_chunks
from avatarfit.model.audio_to_landmarks import AudioToLandmarks, AudioToLandmarksConfig
from avatarfit.model.driver_model import DriverModel
from avatarfit.model.habits import Habits, Stance
from avatarfit.model.locally_linear import LocallyLinear
from avatarfit.model.rig import Rig

MOUTH = 4


def rig() -> Rig:
    return Rig.fit(np.random.default_rng(0).normal(0, 1, (20, 478, 3)).astype(np.float32), MOUTH, 3)


def model(name: str = FEATURE_NAME, stride: int = 4) -> DriverModel:
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    network = AudioToLandmarks(
        AudioToLandmarksConfig(FEATURE_COUNT, MOUTH, stride, width=16, heads=2, layers=2, members=1, kernel_centres=5)
    )
    torch.nn.init.normal_(network.members[0].get_parameter("out.weight"))
    deviation = rig().mouth_deviation_cm
    n = 200
    rotation = np.tile(np.float32([1, 0, 0, 0]), (n, 1))
    stance = Stance(
        random.normal(size=(n, 3)).astype(np.float32),
        random.normal(size=(n, 6)).astype(np.float32),
        rotation,
        random.normal(0, 0.1, (n, 3)).astype(np.float32) + np.float32([0, 0, 60]),
        np.tile(np.eye(2, 3, dtype=np.float32), (n, 1, 1)),
        random.normal(size=(n, 2)).astype(np.float32),
    )
    return DriverModel(
        name,
        network,
        LocallyLinear(random.normal(size=(50, MOUTH)).astype(np.float32) * deviation),
        Habits.of(stance, np.arange(n) / 25, 25.0),
        np.full(MOUTH, 0.25, np.float32),
        deviation,
    )


def sound(seconds: float, rate: int = 16000, start: float = 0.0) -> AudioClip:
    t = np.arange(round(seconds * rate)) / rate
    return AudioClip(
        (0.3 * np.sin(2 * np.pi * 180 * t) * (np.sin(2 * np.pi * 3 * t) > 0)).astype(np.float32), rate, start
    )


@pytest.mark.parametrize("frame_rate_hz", [24.0, 25.0, 29.97, 60.0])
@pytest.mark.parametrize("seconds", [0.01, 1.0, 3.217])
def test_there_are_as_many_frames_as_the_sound_is_long(frame_rate_hz: float, seconds: float) -> None:
    motion = drive(model(), rig(), sound(seconds), frame_rate_hz)
    assert len(motion) == max(round(seconds * frame_rate_hz), 1)
    np.testing.assert_allclose(motion.pts_seconds, np.arange(len(motion)) / frame_rate_hz)


@pytest.mark.parametrize("frame_rate_hz", [25.0, 29.97])
@pytest.mark.parametrize("chunk", [1, 13, 40])
def test_piece_by_piece_is_the_whole(chunk: int, frame_rate_hz: float) -> None:
    m, r, s = model(), rig(), sound(4.0)
    whole = drive(m, r, s, frame_rate_hz, seed=3)
    pieces = list(drive_chunks(m, r, s, frame_rate_hz, DriveOptions(seed=3), chunk))
    assert max(len(p) for p in pieces) <= chunk
    np.testing.assert_allclose(np.concatenate([p.face.mouth for p in pieces]), whole.face.mouth, atol=2e-5)
    np.testing.assert_array_equal(np.concatenate([p.face.eyes for p in pieces]), whole.face.eyes)
    np.testing.assert_array_equal(np.concatenate([p.head.translation_cm for p in pieces]), whole.head.translation_cm)
    np.testing.assert_array_equal(np.concatenate([p.pts_seconds for p in pieces]), whole.pts_seconds)


def test_every_sample_rate_gives_nearly_the_same() -> None:
    m, r = model(), rig()
    plain = drive(m, r, sound(3.0), 25.0).face.mouth
    for rate in (22050, 44100, 48000):
        other = drive(m, r, sound(3.0, rate), 25.0).face.mouth
        assert np.corrcoef(plain.ravel(), other.ravel())[0, 1] > 0.9


def test_times_are_on_the_sounds_clock() -> None:
    late = drive(model(), rig(), sound(2.0, start=1.5), 25.0)
    plain = drive(model(), rig(), sound(2.0), 25.0)
    assert late.pts_seconds[0] == 1.5
    np.testing.assert_allclose(late.face.mouth, plain.face.mouth, atol=1e-5)


def test_silence_and_no_strength_leave_the_mouth_at_rest() -> None:
    m, r = model(), rig()
    silent = drive(m, r, AudioClip(np.zeros(16000, np.float32), 16000), 25.0, lle_strength=0.0)
    np.testing.assert_allclose(silent.face.mouth, 0.25, atol=1e-6)
    weak = drive(m, r, sound(2.0), 25.0, lip_strength=0.0, lle_strength=0.0)
    np.testing.assert_allclose(weak.face.mouth, 0.25, atol=1e-6)


def test_lip_strength_scales_about_rest() -> None:
    m, r, s = model(), rig(), sound(2.0)
    one, two = (drive(m, r, s, 25.0, lip_strength=k, lle_strength=0.0).face.mouth for k in (1.0, 2.0))
    np.testing.assert_allclose(two - 0.25, 2 * (one - 0.25), atol=1e-5)


def test_a_long_pause_brings_the_mouth_to_rest_and_a_short_one_does_not() -> None:
    speech = sound(2.0).samples
    for pause, rests in ((0.3, False), (2.0, True)):
        samples = np.concatenate([speech, np.zeros(round(pause * 16000), np.float32), speech])
        mouth = drive(model(), rig(), AudioClip(samples, 16000), 25.0, lle_strength=0.0).face.mouth
        middle = mouth[round((2.0 + pause / 2) * 25)]
        assert (np.abs(middle - 0.25).max() < 0.05) == rests


def test_seeds_change_the_habits_and_not_the_mouth() -> None:
    m, r, s = model(), rig(), sound(4.0)
    a, b = drive(m, r, s, 25.0, seed=1), drive(m, r, s, 25.0, seed=2)
    np.testing.assert_array_equal(a.face.mouth, b.face.mouth)
    assert np.abs(a.head.translation_cm - b.head.translation_cm).max() > 0.01


@pytest.mark.parametrize("stride", [2, 3, 4])
def test_frames_on_tokens_are_the_tokens(stride: int) -> None:
    m, s = model(stride=stride), sound(2.0)
    from avatarfit.audio import speech_features

    tokens = m.network.predict(speech_features(s).values)
    frames = drive(m, rig(), s, 100 / stride, lip_strength=1.0, lle_strength=0.0).face.mouth
    inside = slice(0, len(frames) - 30)
    np.testing.assert_allclose(frames[inside], tokens[: len(frames)][inside], atol=1e-3)


def test_what_cannot_be_driven_is_said() -> None:
    m, r = model(), rig()
    with pytest.raises(SoundError, match="The sound is empty"):
        drive(m, r, AudioClip(np.zeros(0, np.float32), 16000), 25.0)
    with pytest.raises(FileFormatError, match="hears hubert/1; wanted"):
        drive(model("hubert/1"), r, sound(1.0), 25.0)
    other = Rig.fit(np.random.default_rng(0).normal(0, 1, (20, 478, 3)).astype(np.float32), MOUTH + 1, 3)
    with pytest.raises(FileFormatError, match="moves 4 mouth coefficients; wanted the rig's 5"):
        drive(m, other, sound(1.0), 25.0)
    for bad in ({"lip_strength": 3.0}, {"lle_strength": -0.1}, {"head_motion": 1.1}):
        with pytest.raises(ValueError, match=f"{next(iter(bad))} came as"):
            drive(m, r, sound(1.0), 25.0, **bad)


def test_a_damaged_driver_is_refused() -> None:
    m = model()
    tensors, config = m.to_tensors(), m.config()
    DriverModel.from_tensors(tensors, config)
    broken = [
        ({k: v for k, v in tensors.items() if k != "mouth_rest"}, config),
        (tensors | {"mouth_rest": np.zeros(9, np.float32)}, config),
        (tensors | {"habits.run": np.zeros(3, np.int32)}, config),
        (tensors | {"shapes_cm": np.full_like(tensors["shapes_cm"], np.nan)}, config),
        (tensors, {k: v for k, v in config.items() if k != "network"}),
        (tensors, config | {"network": {**config["network"], "width": 32}}),
        # What would take all memory, or for ever, if it were believed.
        (tensors, config | {"network": {**config["network"], "width": 2**40}}),
        (tensors, config | {"network": {**config["network"], "kernel_centres": 2**50}}),
        (tensors, config | {"network": {**config["network"], "layers": 10**9}}),
    ]
    for bad_tensors, bad_config in broken:
        with pytest.raises(FileFormatError, match="does not fit together"):
            DriverModel.from_tensors(bad_tensors, bad_config)
