"""The sound's offset on the performer's exact motion and sound, and on sounds that belong to nobody's mouth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from avatarfit.capture.audio_offset import SURE, audio_offset, measured_offset
from avatarfit.contracts import AudioClip, Camera
from avatarfit.contracts.events import Event, Note
from avatarfit.media import write_wav
from avatarfit.performer.face_shape import face_shape
from avatarfit.performer.performance import Performance, perform

RATE_HZ = 25.0


def performance(seed: int, seconds: float = 12.0) -> Performance:
    return perform(face_shape(seed), Camera(256, 256, 600.0, 128, 128), np.array([0, 0, 80.0]), seconds, RATE_HZ, seed)


@pytest.fixture(scope="module")
def spoken() -> Performance:
    return performance(3)


def late(sound: AudioClip, seconds: float) -> AudioClip:
    return AudioClip(sound.samples, sound.sample_rate_hz, sound.start_seconds + seconds)


def noisy(truth: Performance) -> np.ndarray:
    """Landmarks with a network's error: 0.03 cm a landmark, some 0.2 px at 512 px."""
    return (truth.landmarks_cm + np.random.default_rng(0).normal(0, 0.03, truth.landmarks_cm.shape)).astype(np.float32)


@pytest.mark.parametrize("seconds", [-0.2, -0.12, -0.04, 0.0, 0.08, 0.2])
def test_a_shift_is_found_within_half_a_frame(spoken: Performance, seconds: float) -> None:
    found = audio_offset(spoken.pts_seconds, noisy(spoken), late(spoken.sound, seconds))
    assert found is not None
    assert abs(found.seconds - seconds) < 0.5 / RATE_HZ
    assert found.confidence > SURE


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_other_people_in_step_are_found_in_step(seed: int) -> None:
    truth = performance(seed)
    found = audio_offset(truth.pts_seconds, noisy(truth), truth.sound)
    assert found is not None
    assert abs(found.seconds) < 0.5 / RATE_HZ


def test_a_hole_in_the_kept_pictures_and_another_sample_rate_do_not_disturb(spoken: Performance) -> None:
    from avatarfit.media import resample

    kept = np.ones(len(spoken), bool)
    kept[100:140] = False
    sound = late(resample(spoken.sound, 44100), 0.1)
    found = audio_offset(spoken.pts_seconds[kept], noisy(spoken)[kept], sound)
    assert found is not None
    assert abs(found.seconds - 0.1) < 0.5 / RATE_HZ


def test_another_ones_sound_is_not_believed(spoken: Performance) -> None:
    found = audio_offset(spoken.pts_seconds, noisy(spoken), performance(7).sound)
    assert found is not None
    assert found.confidence < SURE


def test_silence_and_noise_are_not_believed(spoken: Performance) -> None:
    count = len(spoken.sound.samples)
    for samples in (np.zeros(count), np.random.default_rng(1).normal(0, 0.1, count)):
        found = audio_offset(spoken.pts_seconds, noisy(spoken), AudioClip(samples.astype(np.float32), 16000))
        assert found is None or found.confidence < SURE


def test_what_is_too_short_is_not_measured(spoken: Performance) -> None:
    assert audio_offset(spoken.pts_seconds[:50], spoken.landmarks_cm[:50], spoken.sound) is None
    sound = AudioClip(spoken.sound.samples[:16000], 16000)
    assert audio_offset(spoken.pts_seconds, spoken.landmarks_cm, sound) is None
    assert audio_offset(spoken.pts_seconds, spoken.landmarks_cm, AudioClip(np.zeros(0, np.float32), 16000)) is None


def test_it_is_told_and_used_only_when_asked(spoken: Performance, tmp_path: Path) -> None:
    rate = spoken.sound.sample_rate_hz
    path = tmp_path / "late.wav"
    write_wav(path, AudioClip(np.concatenate([np.zeros(rate // 10, np.float32), spoken.sound.samples]), rate))

    def measured(shift: float | str) -> tuple[dict[str, float], str]:
        heard: list[Event] = []
        values = measured_offset(path, spoken.pts_seconds, noisy(spoken), RATE_HZ, shift, heard.append)
        return values, " ".join(e.text for e in heard if isinstance(e, Note))

    values, told = measured(0.0)
    assert values["shift_seconds"] == 0
    assert values["offset_seconds"] == pytest.approx(0.1, abs=0.02)
    assert "ms after the mouth; --audio-offset auto mends that" in told
    values, told = measured("auto")
    assert values["shift_seconds"] == values["offset_seconds"]
    assert "it is moved by -" in told
    values, told = measured(-0.05)
    assert values["shift_seconds"] == -0.05
    assert "it is moved by +50 ms" in told
