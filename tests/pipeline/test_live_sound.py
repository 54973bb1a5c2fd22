"""Laws of the sound that waits and of the sound that leaves."""

from __future__ import annotations

import numpy as np
import pytest

from avatarfit.contracts import InputError
from avatarfit.media import StreamResampler
from avatarfit.pipeline.live_sound import SoundLine, SpeechQueue, as_mono

STEP = 0.01
COUNT = 160


def queue(most_seconds: float = 60.0, jitter_seconds: float = 0.0) -> SpeechQueue:
    return SpeechQueue(16_000, most_seconds, jitter_seconds)


def noise(seconds: float, rate: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * rate)).astype(np.float32)


def taken(sound: SpeechQueue, steps: int, start: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    blocks = [sound.take(COUNT, start + k * STEP)[:2] for k in range(steps)]
    return np.concatenate([b[0] for b in blocks]), np.concatenate([b[1] for b in blocks])


def resampled(samples: np.ndarray, rate: int, to: int) -> np.ndarray:
    stream = StreamResampler(rate, to)
    return np.concatenate([stream.push(samples), stream.finish()])


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 24_000, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("piece", [433, 4_000])
def test_what_is_pushed_comes_once_at_both_rates_and_then_silence(rate: int, piece: int) -> None:
    samples, sound = noise(0.5, rate), queue()
    for at in range(0, len(samples), piece):
        sound.push(samples[at : at + piece], rate, 0.0, live=False)
    sound.end()
    heard, leaving = taken(sound, 70)
    for got, to in ((heard, 16_000), (leaving, 48_000)):
        whole = resampled(samples, rate, to)
        np.testing.assert_allclose(got[: len(whole)], whole, atol=1e-6)
        assert not got[len(whole) :].any()
    assert sound.empty


def test_two_sounds_follow_each_other_whatever_their_rates() -> None:
    sound = queue()
    a, b = noise(0.2, 16_000), noise(0.2, 48_000, 1)
    sound.push(a, 16_000, 0.0, live=False)
    sound.push(b, 48_000, 0.0, live=False)
    sound.end()
    _, leaving = taken(sound, 60)
    np.testing.assert_allclose(leaving[9_600 : 2 * 9_600], b, atol=1e-6)


def test_live_sound_waits_for_its_jitter_and_files_do_not() -> None:
    slow, fast = queue(jitter_seconds=0.05), queue(jitter_seconds=0.05)
    slow.push(noise(0.02, 16_000), 16_000, 1.0, live=True)
    fast.push(noise(0.2, 16_000), 16_000, 1.0, live=False)
    begun = [[(one.take(COUNT, 0.99 + k * STEP)[2] > 0) for k in range(9)].index(True) for one in (slow, fast)]
    assert begun == [6, 1]


def test_sound_that_comes_faster_than_the_clock_never_piles_up_and_pauses_go_first() -> None:
    sound = queue()
    rng = np.random.default_rng(0)
    deepest, loud = 0.0, 0
    for k in range(2_000):
        # One part in a hundred too fast; every other second is a pause.
        piece = rng.uniform(-0.3, 0.3, 162).astype(np.float32) if k // 100 % 2 else np.zeros(162, np.float32)
        sound.push(piece, 16_000, k * STEP, live=True)
        loud += 162 * (k // 100 % 2)
        sound.take(COUNT, k * STEP)
        deepest = max(deepest, sound.waiting_seconds)
    assert deepest < 0.25
    assert 0.05 < sound.trimmed_seconds < 0.3
    assert not sound.underruns


def test_what_a_stall_has_piled_up_goes_in_the_next_pauses() -> None:
    sound = queue()
    late = []
    for k in range(1_200):
        if k == 300:  # nobody took anything for 0.2 s
            sound.push(np.full(3_200, 0.2, np.float32), 16_000, k * STEP, live=True)
        speaks = k // 50 % 2
        sound.push(np.full(160, 0.2 * speaks, np.float32), 16_000, k * STEP, live=True)
        sound.take(COUNT, k * STEP)
        late.append(sound.waiting_seconds)
    assert late[310] > 0.19
    assert late[-1] < 0.05
    assert sound.trimmed_seconds == pytest.approx(0.2, abs=0.04)


def test_live_sound_that_comes_unevenly_soon_waits_long_enough() -> None:
    sound, random = queue(jitter_seconds=0.005), np.random.default_rng(0)
    arrivals = np.arange(1_500) * 0.02 + random.uniform(0, 0.03, 1_500)
    arrivals = np.maximum.accumulate(arrivals)
    came, late = 0, []
    for k in range(3_000):
        while came < len(arrivals) and arrivals[came] <= k * STEP:
            sound.push(np.full(320, 0.1, np.float32), 16_000, arrivals[came], live=True)
            came += 1
        sound.take(COUNT, k * STEP)
        late.append(sound.underruns)
    assert late[-1] < 15
    assert late[-1] == late[1_500]
    assert sound.waiting_seconds < 0.15


@pytest.mark.parametrize("phase", [0.0, 0.002, 0.004, 0.006, 0.008])
@pytest.mark.parametrize("rate", [16_000, 24_000, 48_000])
def test_live_sound_that_comes_evenly_never_runs_dry_and_waits_no_longer_than_it_must(rate: int, phase: float) -> None:
    sound, taken, waited = queue(jitter_seconds=0.005), 0, []
    for k in range(500):
        if k % 2 == 0:
            # A piece of 20 ms, up to a step before it can be taken.
            sound.push(np.full(rate // 50, 0.1, np.float32), rate, k * STEP - phase, live=True)
        begins = sound.flowing
        taken += sound.take(COUNT, k * STEP)[2]
        if begins:
            waited.append(sound.waiting_seconds)
    assert sound.underruns == 0
    assert max(waited) < 0.021
    assert sound.spoken_seconds == pytest.approx(taken / 16_000)


def test_after_hiccups_live_sound_comes_back_to_waiting_as_little_as_before() -> None:
    sound, waited = queue(jitter_seconds=0.005), []
    # Speech and pauses in turn; three times within two seconds a piece comes 0.03 s late, with what follows it.
    arrivals = [0.002 + 0.02 * k + 0.03 * (k in (200, 250, 300)) for k in range(3_000)]
    came = 0
    for k in range(6_000):
        while came < len(arrivals) and max(arrivals[: came + 1][-2:]) <= k * STEP:
            speaks = came // 25 % 2
            sound.push(np.full(480, 0.1 * speaks, np.float32), 24_000, arrivals[came], live=True)
            came += 1
        sound.take(COUNT, k * STEP)
        waited.append(sound.waiting_seconds)
    before, after, end = (float(np.mean(waited[at - 100 : at])) for at in (390, 700, 6_000))
    assert sound.underruns >= 1
    assert after > before + 0.01
    assert end < before + 0.011
    assert sound.underruns <= 3


def test_there_is_an_end_to_what_may_wait() -> None:
    sound = queue(most_seconds=1.0)
    sound.push(noise(0.8, 16_000), 16_000, 0.0, live=False)
    assert sound.room_seconds == pytest.approx(0.2)
    with pytest.raises(InputError, match=r"0\.3 s of sound came while 0\.8 s wait; wanted at most 1 s"):
        sound.push(noise(0.3, 16_000), 16_000, 0.0, live=False)


@pytest.mark.parametrize(
    ("samples", "rate"),
    [
        (np.zeros(10, np.float32), 0), (np.zeros(10, np.float32), 10**9), (np.zeros((10, 2), np.float32), 16_000),
        (np.zeros(10, np.int32), 16_000), (np.array([np.nan]), 16_000), (np.zeros(10, np.float32), 16_000.5),
    ],
)  # fmt: skip
def test_other_sound_is_refused_in_a_sentence(samples: np.ndarray, rate: int) -> None:
    with pytest.raises(InputError, match="came"):
        as_mono(samples, rate)


def test_bytes_go_through_as_they_are() -> None:
    samples = np.arange(-32768, 32768, 6).astype(np.int16)[:9_600]
    sound, line = queue(), SoundLine(4.0)
    sound.push(samples, 48_000, 0.0, live=False)
    sound.end()
    for k in range(20):
        _, leaving, count = sound.take(COUNT, k * STEP)
        line.append(leaving, 3 * count, sound.resumed)
    edge = 192
    np.testing.assert_array_equal(line.cut(0, 9_600)[:-edge], samples[:-edge])


def test_a_sound_that_breaks_off_or_comes_back_does_not_pop() -> None:
    line, sound = SoundLine(4.0), queue()
    for push_at, take in ((0.0, 10), (0.1, 10)):
        sound.push(np.full(800, 0.9, np.float32), 16_000, push_at, live=True)
        for k in range(take):
            _, leaving, count = sound.take(COUNT, push_at + k * STEP)
            line.append(leaving, 3 * count, sound.resumed)
    assert sound.underruns == 1
    out = line.cut(0, 9_600).astype(np.float64) / 32768
    begins = 60  # the first sound begins as it was given
    assert np.abs(np.diff(out[begins:])).max() < 0.03
    assert out.max() > 0.85


def test_silence_from_a_place_fades_within_what_was_said() -> None:
    line = SoundLine(4.0)
    line.append(np.full(9_600, 0.8, np.float32), 9_600, False)
    line.silence_from(4_800, 0.02)
    out = line.cut(0, 9_600) / 32768
    assert (out[:4_800] > 0.79).all()
    assert not out[4_800 + 960 :].any()
    assert np.abs(np.diff(out)).max() < 0.01


def test_a_line_keeps_no_more_than_it_is_told() -> None:
    line = SoundLine(1.0)
    for _ in range(300):
        line.append(np.ones(480, np.float32), 480, False)
    assert line.head == 300 * 480
    out = line.cut(0, line.head)
    assert (out != 0).sum() == 48_000
