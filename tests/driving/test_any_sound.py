"""Whatever file comes: the right motion, or one clear sentence. The driver's weights are random, its size usual."""

from __future__ import annotations

import importlib
import struct
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from avatarfit.contracts import AudioClip, Motion, SoundError
from avatarfit.driving import DriverStream, drive_chunks
from avatarfit.driving.driver_stream import joined
from avatarfit.media import resample, sound_blocks
from avatarfit.model.driver_model import DriverModel
from avatarfit.model.rig import Rig
from avatarfit.performer.speech import synthesise, write_phrases

TOOLS = Path(__file__).resolve().parents[2] / "tools"
RATE = 25.0


@pytest.fixture(scope="module")
def person() -> tuple[DriverModel, Rig]:
    sys.path.insert(0, str(TOOLS))
    try:
        made: tuple[DriverModel, Rig] = importlib.import_module("benchmark_driver").made_up()
    finally:
        sys.path.remove(str(TOOLS))
    return made


@pytest.fixture(scope="module")
def speech() -> AudioClip:
    random = np.random.default_rng(0)
    return synthesise(write_phrases(5.0, random), random)


def wav(path: Path, channels: np.ndarray, rate: int, kind: str = "s16") -> Path:
    """float [n, C] as a WAV of s16, s24 or f32 samples."""
    if kind == "f32":
        code, width, data = 3, 4, channels.astype("<f4").tobytes()
    elif kind == "s24":
        whole = np.rint(np.clip(channels, -1, 1) * (2**23 - 1)).astype("<i4")
        code, width, data = 1, 3, whole.reshape(-1, 1).view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    else:
        code, width, data = 1, 2, np.rint(np.clip(channels, -1, 1) * 32767).astype("<i2").tobytes()
    count = channels.shape[1]
    head = struct.pack("<HHIIHH", code, count, rate, rate * count * width, count * width, 8 * width)
    path.write_bytes(
        b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt \x10\0\0\0" + head
        + b"data" + struct.pack("<I", len(data)) + data
    )  # fmt: skip
    return path


def driven(person: tuple[DriverModel, Rig], path: Path) -> Motion:
    sound = sound_blocks(path)
    motion = joined(list(drive_chunks(DriverStream(*person, sound.sample_rate_hz, RATE), sound)))
    assert len(motion) == max(round(sound.duration_seconds * RATE), 1)
    assert np.isfinite(motion.face.mouth).all()
    return motion


def alike(one: Motion, other: Motion) -> float:
    a, b = (m.face.mouth[: min(len(one), len(other))].ravel() for m in (one, other))
    return float(np.corrcoef(a, b)[0, 1])


@pytest.fixture(scope="module")
def plain(person: tuple[DriverModel, Rig], speech: AudioClip, tmp_path_factory: pytest.TempPathFactory) -> Motion:
    return driven(person, wav(tmp_path_factory.mktemp("plain") / "a.wav", speech.samples[:, None], 16000))


@pytest.mark.parametrize("rate", [44100, 48000, 96000, 192000])
def test_any_rate_gives_the_same_mouth(
    person: tuple[DriverModel, Rig], speech: AudioClip, plain: Motion, tmp_path: Path, rate: int
) -> None:
    other = resample(speech, rate)
    assert alike(driven(person, wav(tmp_path / "a.wav", other.samples[:, None], rate)), plain) > 0.99


def test_8_khz_lacks_the_upper_bands_and_still_speaks(
    person: tuple[DriverModel, Rig], speech: AudioClip, plain: Motion, tmp_path: Path
) -> None:
    low = resample(speech, 8000)
    motion = driven(person, wav(tmp_path / "a.wav", low.samples[:, None], 8000))
    assert alike(motion, plain) > 0.5
    assert motion.face.mouth.std() > 0.5 * plain.face.mouth.std()


def test_24_bits_and_floats_are_the_same_sound(
    person: tuple[DriverModel, Rig], speech: AudioClip, plain: Motion, tmp_path: Path
) -> None:
    for kind in ("s24", "f32"):
        motion = driven(person, wav(tmp_path / f"{kind}.wav", speech.samples[:, None], 16000, kind))
        np.testing.assert_allclose(motion.face.mouth, plain.face.mouth, atol=0.05)


def test_a_dead_channel_changes_next_to_nothing(
    person: tuple[DriverModel, Rig], speech: AudioClip, plain: Motion, tmp_path: Path
) -> None:
    both = np.stack([speech.samples, np.zeros_like(speech.samples)], axis=1)
    assert alike(driven(person, wav(tmp_path / "a.wav", both, 16000)), plain) > 0.97


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_that_are_no_numbers_are_said(speech: AudioClip, tmp_path: Path, bad: float) -> None:
    samples = speech.samples.copy()
    samples[-7] = bad
    with pytest.raises(SoundError, match=r"holds samples that are not numbers.*export the sound again"):
        sound_blocks(wav(tmp_path / "a.wav", samples[:, None], 16000, "f32"))


def test_silence_and_noise_leave_the_mouth_at_rest(person: tuple[DriverModel, Rig], tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    at_rest = driven(person, wav(tmp_path / "silence.wav", np.zeros((48000, 1)), 16000)).face.mouth
    assert np.ptp(at_rest, axis=0).max() < 1e-3
    for gain in (0.001, 0.03, 0.2):
        noise = driven(person, wav(tmp_path / "noise.wav", gain * random.standard_normal((48000, 1)), 16000))
        assert np.abs(noise.face.mouth - at_rest[:1]).max() < 0.1


def test_music_is_sung_along_within_what_the_mouth_can_do(person: tuple[DriverModel, Rig], tmp_path: Path) -> None:
    t = np.arange(4 * 16000) / 16000
    notes = 110 * 2 ** (np.floor(t * 3) % 8 / 12)
    phase = 2 * np.pi * np.cumsum(notes) / 16000
    chord = sum(np.sin(k * phase) / k for k in (1, 2, 3, 4, 5, 6)) * np.exp(-3 * (t * 3 % 1))
    mouth = driven(person, wav(tmp_path / "a.wav", 0.3 * chord[:, None], 16000)).face.mouth
    model, _ = person
    shown = model.shapes.shapes_cm / model.mouth_deviation_cm
    assert np.abs(mouth).max() < 3 * np.abs(shown).max()


@pytest.mark.parametrize("count", [1, 100, 800])
def test_the_shortest_sounds_have_their_frames(person: tuple[DriverModel, Rig], tmp_path: Path, count: int) -> None:
    samples = 0.3 * np.sin(2 * np.pi * 150 * np.arange(count) / 16000)
    assert len(driven(person, wav(tmp_path / "a.wav", samples[:, None], 16000))) == 1


def test_a_file_without_samples_is_said(tmp_path: Path) -> None:
    with pytest.raises(SoundError, match="holds no sound that can be decoded"):
        sound_blocks(wav(tmp_path / "a.wav", np.zeros((0, 1)), 16000))


def test_two_minutes_take_no_more_memory_than_one(person: tuple[DriverModel, Rig], tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    header = wav(path, np.zeros((1, 1)), 16000).read_bytes()[:40]
    size = 2 * 120 * 16000
    path.write_bytes(header + struct.pack("<I", size))
    with path.open("r+b") as file:  # a hole in the disk
        file.truncate(44 + size)
    sound = sound_blocks(path)
    stream, frames, held = DriverStream(*person, 16000, RATE), 0, []
    tracemalloc.start()
    try:
        for motion in drive_chunks(stream, sound):
            frames += len(motion)
            held.append((frames, tracemalloc.get_traced_memory()[0]))
    finally:
        tracemalloc.stop()
    half = [memory for at, memory in held if 500 < at <= 1500]
    rest = [memory for at, memory in held if at > 1500]
    assert frames == 3000
    assert max(rest) < max(half) + 200_000
