"""Sound that is shifted by a known time, lips that rest in silence or do not, and what the driver is given."""

from __future__ import annotations

import numpy as np
import pytest

from avatarfit.contracts import AudioClip
from avatarfit.evaluation import lip_sound
from avatarfit.evaluation.driven import heard
from avatarfit.evaluation.face_figures import MOUTH_20

LOWER_LIP = MOUTH_20[[7, 8, 9, 10, 11, 17, 18, 19]]
RATE, SECONDS = 16000, 12.0
PTS = np.arange(round(SECONDS * 25)) / 25


def bursts(seed: int = 0) -> np.ndarray:
    """Loudness [n] of syllables in groups, with pauses of a second."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(SECONDS * 100)) / 100
    loud = np.zeros(len(time))
    at = 0.6
    while at < SECONDS - 0.5:
        for _ in range(8):
            loud += rng.uniform(0.5, 1) * np.exp(-((time - at) ** 2) / (2 * 0.05**2))
            at += rng.uniform(0.18, 0.3)
        at += 1.2
    return loud


def sound(shift_seconds: float = 0.0) -> AudioClip:
    rng = np.random.default_rng(1)
    loud = np.interp(np.arange(round(SECONDS * RATE)) / RATE, np.arange(round(SECONDS * 100)) / 100, bursts())
    samples = (loud * 0.2 + 1e-4) * rng.normal(size=len(loud))
    return AudioClip(samples.astype(np.float32), RATE, shift_seconds)


def aperture() -> np.ndarray:
    return np.interp(PTS, np.arange(round(SECONDS * 100)) / 100, bursts())


@pytest.mark.parametrize("shift", [-0.2, -0.04, 0.0, 0.12, 0.4])
def test_a_shifted_sound_is_found(shift: float) -> None:
    found = lip_sound.energy_offset(PTS, aperture(), lip_sound.Sound(sound(shift)))
    assert found is not None
    assert found["offset_s"] == pytest.approx(shift, abs=0.02)
    assert found["r"] > 0.6


def test_what_cannot_be_compared_has_no_offset() -> None:
    heard_sound = lip_sound.Sound(sound())
    assert lip_sound.energy_offset(PTS, np.ones(len(PTS)), heard_sound) is None
    assert lip_sound.energy_offset(PTS[:40], aperture()[:40], heard_sound) is None
    assert lip_sound.energy_offset(PTS, np.full(len(PTS), np.nan), heard_sound) is None


def steady_lips(gap: np.ndarray) -> np.ndarray:
    """Steadied points [T, 478, 2] whose lower lip goes down by `gap`."""
    points = np.random.default_rng(0).normal(size=(1, 478, 2)) * np.ones((len(gap), 1, 1))
    points[:, [13, 14]] = 0
    points[:, LOWER_LIP, 1] += gap[:, None]
    return points


def test_speed_is_way_over_time_and_unknown_over_a_hole() -> None:
    speed = lip_sound.lip_speed(steady_lips(0.1 * np.arange(6.0)), np.array([0, 0.04, 0.08, 0.12, 0.5, 0.54]))
    np.testing.assert_allclose(speed[[1, 2, 3, 5]], 0.1 * 8 / 20 / 0.04)
    assert np.isnan(speed[[0, 4]]).all()


def test_lips_that_rest_leak_nothing_and_others_by_their_share() -> None:
    speech = np.repeat([1.0, 0.0], 50)
    speed = np.repeat([2.0, 0.0], 50)
    assert lip_sound.silence_leakage(speed, speech, 1 - speech) == 0
    assert lip_sound.silence_leakage(speed + 0.5, speech, 1 - speech) == pytest.approx(0.5 / 2.5)
    assert lip_sound.silence_leakage(speed, np.ones(100), np.zeros(100)) is None
    assert lip_sound.silence_leakage(np.zeros(100), speech, 1 - speech) is None


def test_leakage_by_the_sounds_own_voice_activity() -> None:
    heard_sound = lip_sound.Sound(sound())
    speech, pause = (heard_sound.at(values, PTS) for values in (heard_sound.speech, heard_sound.pause))
    assert not (pause[1:] * speech[:-1] > 0.5).any()  # a frame after speech is no pause yet
    wave = np.random.default_rng(2).normal(size=len(PTS))

    def leak(where: np.ndarray) -> float:
        value = lip_sound.silence_leakage(lip_sound.lip_speed(steady_lips(where * wave), PTS), speech, pause)
        assert value is not None
        return value

    resting, restless = leak(speech > 0.5), leak(np.ones(len(PTS)))
    assert resting < 0.05 < 0.7 < restless < 1.4


def test_offsets_of_lips_by_level_and_by_spectrum() -> None:
    shifted = lip_sound.Sound(sound(0.2))
    found = lip_sound.offsets(PTS, steady_lips(0.02 * aperture()), shifted)
    assert found["energy"]["offset_s"] == pytest.approx(0.2, abs=0.03)
    assert found["spectrum"]["offset_s"] == pytest.approx(0.2, abs=0.06)
    assert lip_sound.offsets(PTS[:75], steady_lips(0.02 * aperture()[:75]), shifted)["spectrum"] is None


def test_the_driver_hears_a_lead_that_falls_on_frames() -> None:
    clip = AudioClip(np.arange(20 * RATE, dtype=np.float32), RATE, 0.0)
    cut = heard(clip, np.arange(300, 350) / 25, 25.0)
    assert cut.start_seconds == pytest.approx(7.0)
    assert cut.duration_seconds == pytest.approx(5 + 2)
    assert cut.samples[0] == 7 * RATE
    early = heard(clip, np.arange(50, 100) / 25 + 0.01, 25.0)
    assert ((50 / 25 + 0.01 - early.start_seconds) * 25) == pytest.approx(50)
    assert heard(clip, np.arange(300, 350) / 25, 25.0, lead_seconds=0).start_seconds == pytest.approx(12)
