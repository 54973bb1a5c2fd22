"""Laws of driving, on a driver with random weights: none depends on what was learnt."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from avatarfit.audio import FEATURE_COUNT, FEATURE_NAME, speech_features
from avatarfit.contracts import AudioClip, FileFormatError, Motion, SoundError
from avatarfit.driving import DriveOptions, DriverStream, drive, drive_chunks
from avatarfit.driving.control_values import ControlRange, Controls, Settings
from avatarfit.driving.driver_stream import joined
from avatarfit.model.audio_to_landmarks import AudioToLandmarks, AudioToLandmarksConfig
from avatarfit.model.driver_model import DriverModel
from avatarfit.model.habits import Habits, Stance
from avatarfit.model.locally_linear import LocallyLinear
from avatarfit.model.mouth_flow import MouthFlow
from avatarfit.model.rig import Rig

MOUTH = 4
RATES = [23.976, 24.0, 25.0, 29.97, 30.0, 50.0, 60.0]


def rig() -> Rig:
    return Rig.fit(np.random.default_rng(0).normal(0, 1, (20, 478, 3)).astype(np.float32), MOUTH, 3)


def model(name: str = FEATURE_NAME, stride: int = 4) -> DriverModel:
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    network = AudioToLandmarks(
        AudioToLandmarksConfig(FEATURE_COUNT, MOUTH, stride, width=16, heads=2, layers=2, members=1, kernel_centres=5)
    )
    torch.nn.init.normal_(network.members[0].get_parameter("out.weight"))
    flow = MouthFlow(2, MOUTH)
    torch.nn.init.normal_(flow.axes)
    flow.reach_hops.fill_(4)
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
        flow=flow.eval().requires_grad_(False),
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
    for pause, rests in ((0.1, False), (2.0, True)):
        samples = np.concatenate([speech, np.zeros(round(pause * 16000), np.float32), speech])
        mouth = drive(model(), rig(), AudioClip(samples, 16000), 25.0, lle_strength=0.0).face.mouth
        middle = mouth[round((2.0 + pause / 2) * 25)]
        assert (np.abs(middle - 0.25).max() < 0.05) == rests


def test_seeds_change_the_habits_and_not_the_mouth() -> None:
    m, r, s = model(), rig(), sound(4.0)
    a, b = drive(m, r, s, 25.0, seed=1), drive(m, r, s, 25.0, seed=2)
    np.testing.assert_array_equal(a.face.mouth, b.face.mouth)
    assert np.abs(a.head.translation_cm - b.head.translation_cm).max() > 0.01


def test_drawn_mouths_are_the_seeds_and_rest_in_silence() -> None:
    def mouths(seed: int, variation: float, said: AudioClip) -> np.ndarray:
        return drive(model(), rig(), said, 25.0, seed=seed, variation=variation, lle_strength=0.0).face.mouth

    said, none = sound(2.0), AudioClip(np.zeros(32000, np.float32), 16000)
    np.testing.assert_array_equal(mouths(1, 1.0, said), mouths(1, 1.0, said))
    assert np.abs(mouths(1, 1.0, said) - mouths(2, 1.0, said)).max() > 0.05
    half = np.abs(mouths(1, 0.5, said) - mouths(1, 0.0, said)).mean()
    assert 0 < half < np.abs(mouths(1, 1.0, said) - mouths(1, 0.0, said)).mean()
    np.testing.assert_allclose(mouths(1, 1.0, none), 0.25, atol=1e-5)


def same(got: Motion, wanted: Motion) -> None:
    np.testing.assert_allclose(got.face.mouth, wanted.face.mouth, atol=3e-5)
    np.testing.assert_array_equal(got.pts_seconds, wanted.pts_seconds)
    for one, other in (
        (got.face.eyes, wanted.face.eyes),
        (got.head.translation_cm, wanted.head.translation_cm),
        (got.torso.shape, wanted.torso.shape),
    ):
        np.testing.assert_array_equal(one, other)


def voice(seconds: float, rate: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate)) / rate
    wave = np.sign(np.sin(2 * np.pi * (130 + 20 * np.sin(3 * t)) * t)) + 0.2 * random.standard_normal(len(t))
    return (0.1 * wave * (np.sin(2 * np.pi * 2.3 * t + seed) > -0.3) * (t % 2.5 < 1.7)).astype(np.float32)


@pytest.mark.parametrize("frame_rate_hz", RATES)
def test_hops_of_20_ms_are_the_whole(frame_rate_hz: float) -> None:
    m, r, clip = model(), rig(), AudioClip(voice(3.0, 16000, 1), 16000)
    stream = DriverStream(m, r, 16000, frame_rate_hz, DriveOptions(seed=3))
    parts = [stream.push(clip.samples[i : i + 320]) for i in range(0, len(clip.samples), 320)]
    assert max(len(p) for p in parts) <= 2
    same(joined([*parts, stream.finish()]), drive(m, r, clip, frame_rate_hz, seed=3))


@pytest.mark.parametrize("seed", range(8))
def test_any_pieces_at_any_rates_are_the_whole(seed: int) -> None:
    random = np.random.default_rng(seed)
    rate, frame_rate = int(random.choice([8000, 16000, 44100, 48000])), float(random.choice(RATES))
    m, r = model(stride=int(random.integers(1, 6))), rig()
    clip = AudioClip(voice(float(random.uniform(0.05, 2.5)), rate, seed), rate, 0.5)
    variation = 0.5 * (seed % 3)
    stream = DriverStream(m, r, rate, frame_rate, DriveOptions(seed=seed, variation=variation), start_seconds=0.5)
    cuts = np.sort(random.integers(0, len(clip.samples), int(random.integers(0, 60))))
    parts = [stream.push(piece) for piece in np.split(clip.samples, cuts)]
    same(joined([*parts, stream.finish()]), drive(m, r, clip, frame_rate, seed=seed, variation=variation))


@pytest.mark.parametrize("rate", [16000, 48000])
@pytest.mark.parametrize("frame_rate_hz", RATES)
def test_a_frame_is_out_and_final_with_at_most_120_ms_of_sound_after_it(frame_rate_hz: float, rate: int) -> None:
    m, r, samples = model(), rig(), voice(2.0, rate, 2)
    stream = DriverStream(m, r, rate, frame_rate_hz, DriveOptions())
    assert 0.1 < stream.look_ahead_seconds <= 0.12 + 1e-9
    end = 1.3
    early = stream.push(samples[: round(end * rate)])
    due = int((end - stream.look_ahead_seconds) * frame_rate_hz) + 1
    assert due <= len(early) <= due + 1
    other = np.concatenate([samples[: round(end * rate)], np.random.default_rng(0).standard_normal(9000) * 0.3])
    later = drive(m, r, AudioClip(other.astype(np.float32), rate), frame_rate_hz)
    np.testing.assert_allclose(later.face.mouth[: len(early)], early.face.mouth, atol=3e-5)
    assert np.abs(later.face.mouth[len(early) + 2] - drive(
        m, r, AudioClip(samples, rate), frame_rate_hz
    ).face.mouth[len(early) + 2]).max() > 1e-3  # fmt: skip


@pytest.mark.parametrize("stride", [2, 3, 4])
def test_frames_on_tokens_are_the_tokens(stride: int) -> None:
    m, s = model(stride=stride), sound(4.0)
    tokens = m.network.predict(speech_features(s).values)[:, :-1]
    frames = drive(m, rig(), s, 100 / stride, lip_strength=1.0, lle_strength=0.0).face.mouth
    # In the first tokens' past `predict` has no tokens at all, a stream those of a sound that always was as at first.
    inside = slice(m.network.config.past_tokens_total, len(frames) - 80 // stride)
    rest = m.mouth_rest
    ratio = (frames - rest)[inside] / np.where(np.abs(tokens - rest) > 0.05, tokens - rest, np.nan)[: len(frames)][
        inside
    ]
    spoken = np.nanmax(ratio, axis=1) > 0.999
    assert spoken.mean() > 0.5
    np.testing.assert_allclose(frames[inside][spoken], tokens[: len(frames)][inside][spoken], atol=1e-3)


def test_frames_between_hops_lie_between_those_on_hops() -> None:
    m, r, s = model(), rig(), sound(2.0)
    hops = drive(m, r, s, 100.0, lle_strength=0.0).face.mouth
    frames = drive(m, r, s, 30.0, lle_strength=0.0).face.mouth
    position = np.arange(len(frames)) / 0.3
    low = np.floor(position + 1e-9).astype(int)
    inside = low + 1 < len(hops)
    weight = (position - low)[inside, None]
    between = hops[low[inside]] * (1 - weight) + hops[low[inside] + 1] * weight
    np.testing.assert_allclose(frames[inside], between, atol=1e-4)


def test_long_sound_is_held_no_longer_than_it_is_needed() -> None:
    stream = DriverStream(model(), rig(), 48000, 25.0)
    kept = []
    for _ in range(20):
        stream.push(voice(1.0, 48000, 0))
        kept.append(len(stream._rows) + len(stream._resampler._kept))
    assert max(kept[3:]) <= kept[2] + 200


def test_controls_act_on_the_frames_of_their_times_whatever_the_pieces() -> None:
    r, samples = rig(), voice(3.0, 16000, 0)
    controls = Controls(ranges=(ControlRange(1.0, 2.0, Settings(head_motion=0.0)),))
    parts = list(drive_chunks(DriverStream(model(), r, 16000, 25.0, controls=controls), np.array_split(samples, 7)))
    whole = list(drive_chunks(DriverStream(model(), r, 16000, 25.0, controls=controls), [samples]))
    same(joined(parts), joined(whole))
    free = drive(model(), r, AudioClip(samples, 16000), 25.0)
    moved = np.abs(joined(parts).head.translation_cm - free.head.translation_cm).max(axis=1)
    assert moved[:24].max() == 0
    assert moved[35:42].max() > 0.01


def test_nothing_pushed_is_nothing_known_and_no_sound_is_said() -> None:
    stream = DriverStream(model(), rig(), 16000, 25.0)
    assert len(stream.push(np.zeros(0, np.float32))) == 0
    assert len(stream.finish()) == 0
    with pytest.raises(SoundError, match="The sound is empty"):
        list(drive_chunks(DriverStream(model(), rig(), 16000, 25.0), []))
    with pytest.raises(ValueError, match="frame_rate_hz came as 0"):
        DriverStream(model(), rig(), 16000, 0.0)


def test_what_cannot_be_driven_is_said() -> None:
    m, r = model(), rig()
    with pytest.raises(SoundError, match="The sound is empty"):
        drive(m, r, AudioClip(np.zeros(0, np.float32), 16000), 25.0)
    with pytest.raises(FileFormatError, match="hears hubert/1; wanted the network"):
        drive(model("hubert/1"), r, sound(1.0), 25.0)
    other = Rig.fit(np.random.default_rng(0).normal(0, 1, (20, 478, 3)).astype(np.float32), MOUTH + 1, 3)
    with pytest.raises(FileFormatError, match="moves 4 mouth coefficients; wanted the rig's 5"):
        drive(m, other, sound(1.0), 25.0)
    with pytest.raises(FileFormatError, match="knows only the mean mouth; wanted one that was fitted"):
        drive(replace(m, flow=None), r, sound(1.0), 25.0, variation=0.5)
    for bad in ({"lip_strength": 3.0}, {"lle_strength": -0.1}, {"variation": 1.5}):
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
        (tensors | {"flow.axes": np.zeros((99, MOUTH), np.float32)}, config),
        (tensors | {"flow.reach_hops": np.full(1, np.inf, np.float32)}, config),
        ({k: v for k, v in tensors.items() if k != "flow.network.0.bias"}, config),
        # What would take all memory, or for ever, if it were believed.
        (tensors, config | {"network": {**config["network"], "width": 2**40}}),
        (tensors, config | {"network": {**config["network"], "kernel_centres": 2**50}}),
        (tensors, config | {"network": {**config["network"], "layers": 10**9}}),
    ]
    for bad_tensors, bad_config in broken:
        with pytest.raises(FileFormatError, match="does not fit together"):
            DriverModel.from_tensors(bad_tensors, bad_config)
