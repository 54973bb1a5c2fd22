"""A driver fitted on a made-up person whose jaw follows the loudness of made-up speech."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d

from avatarfit.audio import FEATURE_NAME, LOG_MEL, SAMPLE_RATE_HZ
from avatarfit.audio.log_mel_and_phonemes import log_mel_and_phonemes
from avatarfit.avatarfile import read_avatar, write_avatar
from avatarfit.contracts import AudioClip, FileFormatError, HeadPose, InputError, Motion, SoundError, TorsoMotion
from avatarfit.contracts.events import Event, Finished, Note, Progress, Started
from avatarfit.driving import drive
from avatarfit.fitting.driver_prior import DriverPrior
from avatarfit.fitting.driver_prior_trainer import Speaker, fit_prior
from avatarfit.fitting.driver_schooling import Schooling
from avatarfit.fitting.driver_trainer import DriverTrainingConfig, fit_driver
from avatarfit.fitting.speech_augmentation import Voice
from avatarfit.model.driver_model import DriverModel
from avatarfit.model.rig import Rig, lip_aperture_cm

RATE = 25.0
QUICK = DriverTrainingConfig(
    schooling=Schooling(steps=60, batch=4, window_tokens=32), members=2, voices=(Voice(speed=0.9), Voice(speed=1.1))
)


def speech(seconds: float, seed: int) -> tuple[AudioClip, np.ndarray]:
    """Syllables of one vowel or the other (two spectra) with pauses, and the vowel's opening at 100 Hz."""
    random = np.random.default_rng(seed)
    count = round(seconds * 100)
    loud, vowel = np.zeros(count), np.zeros(count)
    at = 10
    while at < count - 40:
        length = int(random.integers(12, 28))
        loud[at : at + length], vowel[at : at + length] = 1, random.integers(2)
        at += length + int(random.integers(4, 20) if random.uniform() < 0.85 else 120)
    loud, vowel = gaussian_filter1d(loud, 2), gaussian_filter1d(vowel * loud, 2)
    t = np.arange(count * 160) / SAMPLE_RATE_HZ
    low = np.sin(2 * np.pi * 150 * t) + np.sin(2 * np.pi * 450 * t)
    high = np.sin(2 * np.pi * 150 * t) + np.sin(2 * np.pi * 2400 * t)
    at_samples = np.arange(len(t)) / 160
    a, b = (np.interp(at_samples, np.arange(count), x) for x in (loud - vowel, vowel))
    samples = 0.1 * (a * low + b * high) + 0.0005 * random.standard_normal(len(t))
    return AudioClip(samples.astype(np.float32), SAMPLE_RATE_HZ), loud * (0.3 + 0.7 * vowel / np.maximum(loud, 1e-3))


def person(seconds: float = 24.0, seed: int = 0) -> tuple[Motion, np.ndarray, AudioClip, np.ndarray]:
    """Motion, landmarks and sound; the lower lip and jaw open by up to 1.5 cm with the vowel."""
    sound, opening = speech(seconds, seed)
    pts = np.arange(int(seconds * RATE)) / RATE
    aperture = np.interp(pts, np.arange(len(opening)) * 0.01, opening) * 1.5
    random = np.random.default_rng(100)
    face = random.uniform(-5, 5, (478, 3)).astype(np.float32)
    face[33], face[263] = (-4.45, 0, 0), (4.45, 0, 0)
    face[13], face[14] = (0, 5, 0), (0, 5, 0)
    jaw = np.zeros((478, 3), np.float32)
    jaw[[14, 17, 152, 87, 317, 178, 402, 88, 318], 1] = 1
    wobble = gaussian_filter1d(random.standard_normal((len(pts), 478, 3)), 3, axis=0) * 0.05
    wobble[:, [13, 14]] = 0
    landmarks = (face + aperture[:, None, None] * jaw + wobble).astype(np.float32)
    rotation = np.tile(np.float32([1, 0, 0, 0]), (len(pts), 1))
    head = HeadPose(rotation, np.tile(np.float32([0, 0, 60]), (len(pts), 1)))
    rig = Rig.fit(landmarks, 6, 4)
    return Motion(pts, rig.encode(landmarks), head, TorsoMotion.still(len(pts))), landmarks, sound, aperture


@pytest.fixture(scope="module")
def fitted() -> tuple[DriverModel, Rig, list[Event]]:
    motion, landmarks, sound, _ = person()
    rig, events = Rig.fit(landmarks, 6, 4), []
    return fit_driver(rig, motion, landmarks, sound, RATE, config=QUICK, on_event=events.append), rig, events


def heard(model: DriverModel, rig: Rig, sound: AudioClip) -> np.ndarray:
    motion = drive(model, rig, sound, RATE, lle_strength=0.0)
    return lip_aperture_cm(rig.landmarks_cm(motion.face))


def test_other_sound_moves_the_jaw_as_it_should(fitted: tuple[DriverModel, Rig, list[Event]]) -> None:
    model, rig, _ = fitted
    _, _, sound, aperture = person(12.0, seed=7)
    got = heard(model, rig, sound)
    assert np.corrcoef(got, aperture)[0, 1] > 0.85
    assert np.square(got - aperture).mean() < 0.4 * np.square(aperture.mean() - aperture).mean()


def test_the_lips_are_not_early_or_late(fitted: tuple[DriverModel, Rig, list[Event]]) -> None:
    model, rig, _ = fitted
    _, _, sound, aperture = person(12.0, seed=8)
    got = heard(model, rig, sound)
    correlation = [np.corrcoef(np.roll(got, k)[5:-5], aperture[5:-5])[0, 1] for k in range(-4, 5)]
    assert abs(int(np.argmax(correlation)) - 4) <= 1


def test_loudness_of_the_driving_sound_does_not_matter(fitted: tuple[DriverModel, Rig, list[Event]]) -> None:
    model, rig, _ = fitted
    _, _, sound, _ = person(8.0, seed=9)
    quiet = AudioClip(sound.samples * np.float32(0.2), sound.sample_rate_hz)
    # In the first seconds the running level still finds its place, and lips that nearly close may close or not; they
    # open by up to 1.5 cm.
    off = np.abs(heard(model, rig, quiet) - heard(model, rig, sound))
    assert off.mean() < 0.03
    assert off.max() < 0.3


def test_the_mouth_rests_closed_in_silence(fitted: tuple[DriverModel, Rig, list[Event]]) -> None:
    model, rig, _ = fitted
    got = heard(model, rig, AudioClip(np.zeros(48000, np.float32), 48000))
    assert np.ptp(got) < 1e-4
    assert got.max() < 0.15


def test_it_says_what_it_does(fitted: tuple[DriverModel, Rig, list[Event]]) -> None:
    events = fitted[2]
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Finished)
    losses = [e.values["loss"] for e in events if isinstance(e, Progress)]
    assert losses[-1] < losses[0]


def test_the_same_seed_fits_the_same_and_leaves_torchs_own_seed_alone() -> None:
    motion, landmarks, sound, _ = person(6.0)
    rig = Rig.fit(landmarks, 6, 4)
    before = torch.get_rng_state().clone()
    a, b, c = (
        fit_driver(rig, motion, landmarks, sound, RATE, config=QUICK, steps=4, seed=seed).to_tensors()
        for seed in (1, 1, 2)
    )
    assert torch.equal(before, torch.get_rng_state())
    assert all(np.array_equal(a[k], b[k]) for k in a)
    assert any(not np.array_equal(a[k], c[k]) for k in a)


def test_saved_and_read_again_it_drives_the_same(fitted: tuple[DriverModel, Rig, list[Event]], tmp_path: Path) -> None:
    model, rig, _ = fitted
    write_avatar(tmp_path / "a.avatar", model.config(), model.to_tensors())
    config, tensors = read_avatar(tmp_path / "a.avatar")
    again = DriverModel.from_tensors(tensors, config)
    sound = person(4.0, seed=3)[2]
    a, b = (drive(one, rig, sound, RATE, seed=5, variation=0.5) for one in (model, again))
    np.testing.assert_array_equal(a.face.mouth, b.face.mouth)
    np.testing.assert_array_equal(a.face.eyes, b.face.eyes)


def test_what_the_transformers_do_not_hear_a_second_kernel_regression_does() -> None:
    motion, landmarks, sound, _ = person()
    rig = Rig.fit(landmarks, 6, 4)
    encoder = log_mel_and_phonemes()
    config = replace(QUICK, kernel_centres=400, beside_share=1.0)
    model = fit_driver(rig, motion, landmarks, sound, RATE, encoder=encoder, seed=1, config=config)
    assert model.network.config.beside_columns == encoder.column_count - LOG_MEL.column_count
    _, _, other, aperture = person(8.0, seed=3)
    again = DriverModel.from_tensors(model.to_tensors(), model.config())
    got = lip_aperture_cm(rig.landmarks_cm(drive(again, rig, other, RATE, encoder=encoder, lle_strength=0.0).face))
    assert np.corrcoef(got, aperture)[0, 1] > 0.5  # by it alone


def test_an_end_of_time_is_said_and_what_is_there_is_kept() -> None:
    motion, landmarks, sound, _ = person(6.0)
    events: list[Event] = []
    rig = Rig.fit(landmarks, 6, 4)
    model = fit_driver(rig, motion, landmarks, sound, RATE, config=QUICK, seconds_budget=0.0, on_event=events.append)
    assert any(isinstance(e, Note) and "after 0 of 60 steps" in e.text for e in events)
    assert np.isfinite(drive(model, rig, sound, RATE).face.mouth).all()


@pytest.mark.parametrize("rate", [29.97, 50.0])
def test_other_frame_rates_are_fitted_too(rate: float) -> None:
    motion, landmarks, sound, _ = person(6.0)
    pts = np.arange(len(motion)) / rate
    moved = Motion(pts, motion.face, motion.head, motion.torso)
    rig = Rig.fit(landmarks, 6, 4)
    model = fit_driver(rig, moved, landmarks, sound, rate, config=QUICK, steps=2)
    assert len(drive(model, rig, sound, rate)) == round(sound.duration_seconds * rate)


def test_sound_that_cannot_teach_is_refused() -> None:
    motion, landmarks, sound, _ = person(4.0)
    rig = Rig.fit(landmarks, 6, 4)
    for samples, text in (
        (np.zeros(0), "The sound is empty"),
        (np.zeros(64000), "The sound is silent"),
        (np.concatenate([np.zeros(16 * 4200), np.ones(640000)]), "The sound is silent"),
    ):
        with pytest.raises(SoundError, match=text):
            fit_driver(rig, motion, landmarks, AudioClip(samples.astype(np.float32), 16000), RATE, config=QUICK)
    with pytest.raises(SoundError, match="The sound"):
        fit_driver(rig, motion, landmarks, AudioClip(sound.samples, 16000, 60.0), RATE, config=QUICK)
    with pytest.raises(ValueError, match="wanted as many, at least 2"):
        fit_driver(rig, motion, landmarks[:-1], sound, RATE, config=QUICK)


PLAIN = replace(QUICK, schooling=Schooling(steps=40, batch=4, window_tokens=32), voices=(), lead_hops=0.0)


def speaker(seconds: float, seed: int, columns: int) -> Speaker:
    motion, landmarks, sound, _ = person(seconds, seed)
    rig = Rig.fit(landmarks, columns, 4)
    return Speaker(rig, replace(motion, face=rig.encode(landmarks)), landmarks, sound, RATE)


@pytest.fixture(scope="module")
def prior() -> DriverPrior:
    return fit_prior([speaker(14.0, 1, 6), speaker(10.0, 2, 5)], config=PLAIN)


def test_it_is_read_as_it_was_written(prior: DriverPrior, tmp_path: Path) -> None:
    prior.save(tmp_path / "two.driver")
    again = DriverPrior.load(tmp_path / "two.driver")
    assert (again.people, again.feature_name, again.sizes) == (2, FEATURE_NAME, prior.sizes)
    assert again.seconds == prior.seconds > 5
    for a, b in zip(again.trunks, prior.trunks, strict=True):
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a)


def test_what_is_one_persons_own_is_not_in_it(prior: DriverPrior) -> None:
    assert not any(name.startswith("out.") for trunk in prior.trunks for name in trunk)


def test_a_fit_that_begins_with_it_knows_more_before_its_first_step(prior: DriverPrior) -> None:
    one = speaker(10.0, 3, 6)
    _, _, sound, aperture = person(8.0, 7)
    got = []
    for start in (None, prior):
        model = fit_driver(
            one.rig, one.motion, one.landmarks_cm, one.sound, RATE, prior=start, steps=0,
            config=replace(PLAIN, kernel_share=0.0),
        )  # fmt: skip
        got.append(np.square(heard(model, one.rig, sound) - aperture).mean())
    assert got[1] < 0.6 * got[0]


def test_other_features_and_other_files_are_refused(prior: DriverPrior, tmp_path: Path) -> None:
    one = speaker(6.0, 3, 6)
    with pytest.raises(FileFormatError, match="prior hears others"):
        fit_driver(
            one.rig, one.motion, one.landmarks_cm, one.sound, RATE, config=PLAIN,
            prior=replace(prior, feature_name="others"),
        )  # fmt: skip
    with pytest.raises(InputError, match="there is no file"):
        DriverPrior.load(tmp_path / "none.driver")
    (tmp_path / "bad.driver").write_bytes(b"\x08" + bytes(40))
    with pytest.raises(FileFormatError, match="is no driver's prior"):
        DriverPrior.load(tmp_path / "bad.driver")
    with pytest.raises(InputError, match="no clip came"):
        fit_prior([], config=PLAIN)
