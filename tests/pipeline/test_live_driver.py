"""Laws of a session's driver: live is what offline is, and whatever is turned, nothing jumps."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from avatarfit.audio import LOG_MEL
from avatarfit.contracts import FileFormatError, InputError, Motion
from avatarfit.driving import DriveOptions, DriverStream, Settings
from avatarfit.driving.driver_stream import joined
from avatarfit.media import StreamResampler
from avatarfit.pipeline import live_driver
from avatarfit.pipeline.listening import Ear, nod_degrees
from avatarfit.pipeline.live_driver import LiveDriver
from avatarfit.pipeline.live_frame import LiveState, Moment

RATE = 25.0


def live_driver_of(avatar: Any, settings: Settings | None = None, **options: Any) -> LiveDriver:
    return LiveDriver(avatar, RATE, DriveOptions(**options), settings or Settings())


def motion_of(moments: list[Moment]) -> Motion:
    return joined([moment.motion for moment in moments])


def parts(motion: Motion) -> dict[str, np.ndarray]:
    face, head, torso = motion.face, motion.head, motion.torso
    return {
        "mouth": face.mouth, "upper": face.upper, "eyes": face.eyes, "rotation": head.rotation_wxyz,
        "translation": head.translation_cm, "affine": torso.affine, "shape": torso.shape,
    }  # fmt: skip


def fed(driver: LiveDriver, samples: np.ndarray, piece: int = 640) -> list[Moment]:
    return [m for at in range(0, len(samples), piece) for m in driver.push(samples[at : at + piece])]


@pytest.mark.parametrize("rate", [16_000, 48_000, 22_050])
def test_live_gives_the_same_frames_as_offline(world: Any, speaker: Any, speech: SimpleNamespace, rate: int) -> None:
    up = StreamResampler(16_000, rate)
    samples = np.concatenate([up.push(speech.samples[: 3 * 16_000]), up.finish()])
    pause = np.zeros(rate, np.float32)
    offline = DriverStream(speaker.driver, speaker.rig, rate, RATE, DriveOptions(seed=3))
    wanted = joined([offline.push(np.concatenate([samples, pause])), offline.finish()])
    live = world(RATE, driver=live_driver_of(speaker, seed=3), draw=lambda _: np.zeros((1, 1, 3), np.uint8))
    # In pieces of any length, ahead of the clock.
    at = 0
    for k, size in enumerate(np.random.default_rng(0).integers(1, rate // 5, 200).tolist()):
        live.stages.push(samples[at : at + size], rate, 0.0)
        at += size
        if k % 3 == 0:
            live.run(min(0.5 * at / rate, live.now + 0.1))
    live.stages.end()
    live.run(4.0)
    got = motion_of(live.moments)
    count = round(3.5 * RATE)
    for name, value in parts(got[:count]).items():
        # The same sums in pieces of other lengths: rounding, no more.
        np.testing.assert_allclose(value, parts(wanted[:count])[name], atol=2e-4, err_msg=name)
    assert np.ptp(wanted.face.mouth, axis=0).max() > 0.1


def test_how_it_is_fed_changes_nothing(speaker: Any, speech: SimpleNamespace) -> None:
    samples = speech.samples[: 2 * 16_000]
    one, other = (motion_of(fed(live_driver_of(speaker), samples, piece)) for piece in (160, 3_200))
    for name, value in parts(one).items():
        np.testing.assert_allclose(value, parts(other)[name], atol=2e-4, err_msg=name)


def test_states_follow_the_sound(speaker: Any, speech: SimpleNamespace) -> None:
    quiet = np.zeros(2 * 16_000, np.float32)
    moments = fed(live_driver_of(speaker), np.concatenate([quiet, speech.samples[: 3 * 16_000], quiet]))
    states = [moment.state for moment in moments]
    assert set(states[:45]) == {LiveState.IDLE}
    assert states[60:120].count(LiveState.SPEAKING) > 50
    assert set(states[-25:]) == {LiveState.IDLE}


def test_controls_are_turned_while_it_runs_and_nothing_jumps(speaker: Any, speech: SimpleNamespace) -> None:
    samples = speech.samples[: 5 * 16_000]
    plain = motion_of(fed(live_driver_of(speaker), samples, 160))
    driver = live_driver_of(speaker)
    settings = Settings(lip_opening=1.8, head_motion=0.0, gaze=(12.0, -6.0), emotion="happy")
    got = []
    for at in range(0, len(samples), 160):
        if at == 2 * 16_000:
            driver.turn(settings)
        if at == 2.1 * 16_000:
            driver.turn(Settings(gaze="camera"))
        if at == round(2.2 * 16_000):
            driver.turn(settings)
        got += driver.push(samples[at : at + 160])
    turned, always = motion_of(got), motion_of(fed(live_driver_of(speaker, settings), samples, 160))
    for name in ("eyes", "mouth", "rotation", "translation"):
        own, now, whole = (parts(motion)[name].astype(np.float64) for motion in (plain, turned, always))
        np.testing.assert_array_equal(own[:45], now[:45], err_msg=name)
        np.testing.assert_allclose(now[-40:], whole[-40:], atol=1e-5, err_msg=name)
        # The way between both takes 0.3 s: an ease's steepest frame is a fifth of it, and three follow each other.
        way = np.abs(whole - own).max(axis=0)
        step = np.maximum(np.abs(np.diff(own, axis=0)), np.abs(np.diff(whole, axis=0))).max(axis=0)
        assert (np.abs(np.diff(now, axis=0)).max(axis=0) <= 0.45 * way + 1.5 * step + 1e-6).all(), name
    assert np.abs(parts(turned)["eyes"] - parts(plain)["eyes"]).max() > 0.1


def test_a_listener_looks_at_the_speaker_and_nods_where_there_is_room(speaker: Any, speech: SimpleNamespace) -> None:
    driver, alone = live_driver_of(speaker), live_driver_of(speaker)
    seconds = 8
    voice = np.zeros(seconds * 16_000, np.float32)
    voice[16_000 : 6 * 16_000] = speech.samples[: 5 * 16_000]
    got, own = [], []
    quiet = np.zeros(640, np.float32)
    for k in range(seconds * 25):
        driver.hear(voice[640 * k : 640 * (k + 1)], 16_000, k / 25 - driver.look_ahead_seconds)
        got += driver.push(quiet)
        own += alone.push(quiet)
    states = [moment.state for moment in got]
    assert set(states[:20]) == {LiveState.IDLE}
    assert states[50:140].count(LiveState.LISTENING) > 80
    assert states[-1] == LiveState.IDLE
    assert 1 <= driver.nods <= 6
    assert alone.nods == 0
    listening, plain = motion_of(got), motion_of(own)
    down = np.abs(listening.head.rotation_wxyz[:, 1] - plain.head.rotation_wxyz[:, 1])
    assert np.degrees(2 * down.max()) == pytest.approx(2.6, abs=0.4)
    # A nod is no blow: half a degree in 40 ms at most beside what the head does anyway.
    change = np.degrees(2 * np.abs(np.diff(listening.head.rotation_wxyz[:, 1] - plain.head.rotation_wxyz[:, 1])))
    assert change.max() < 0.8
    looked = np.abs(listening.face.eyes[:, :4] - plain.face.eyes[:, :4])
    assert looked[50:140].max() > 0.1
    np.testing.assert_array_equal(plain.face.mouth, listening.face.mouth)
    np.testing.assert_array_equal(plain.face.eyes[:20], listening.face.eyes[:20])


def test_nobody_nods_to_silence_nor_to_noise() -> None:
    ear = Ear()
    noise = np.random.default_rng(0).normal(0, 0.05, 6 * 16_000).astype(np.float32)
    sound = np.concatenate([np.zeros(16_000, np.float32), noise])
    nods = 0
    for k in range(700):
        ear.hear(sound[160 * k : 160 * (k + 1)], 16_000, k / 100)
        nods += ear.nods(k / 100)
    assert nods <= 1


def test_a_nod_begins_and_ends_at_rest() -> None:
    x = np.linspace(-0.1, 1.1, 601)
    degrees = np.array([nod_degrees(float(at)) for at in x])
    assert not degrees[x <= 0].any()
    assert not degrees[x >= 1].any()
    assert np.abs(np.diff(degrees)).max() < 0.05
    assert degrees.min() >= 0


def test_networks_that_hear_too_far_ahead_are_refused(speaker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = SimpleNamespace(
        name="slow-network", sample_rate_hz=16_000, column_count=4, look_ahead_seconds=1.0, prior=None,
        stream=LOG_MEL.stream,
    )  # fmt: skip
    monkeypatch.setattr(live_driver, "encoder_of", lambda *_: slow)
    with pytest.raises(InputError, match="slow-network hear 1000 ms ahead; wanted at most 120 ms for a live voice"):
        live_driver_of(speaker)


def test_a_network_that_is_not_named_is_asked_for(speaker: Any) -> None:
    stranger = replace(speaker, driver=replace(speaker.driver, feature_name="hubert/1"))
    with pytest.raises(FileFormatError, match="hears hubert/1"):
        live_driver_of(stranger)
