"""Laws of a live session under a simulated clock: nothing sleeps here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from avatarfit.pipeline.live_frame import SOUND_HZ, LiveState
from avatarfit.pipeline.live_stages import MARGIN_SECONDS

RATES = [24_000 / 1001, 25.0, 29.97, 30.0, 50.0, 60.0]


def tone(seconds: float, rate: int = 48_000, level: float = 0.5) -> np.ndarray:
    t = np.arange(round(seconds * rate)) / rate
    return (level * np.sin(2 * np.pi * 400 * t)).astype(np.float32)


def mouths(left: list[tuple[float, Any]]) -> np.ndarray:
    return np.array([frame.picture[0, 0, 0] / 200 for _, frame in left])


def sound_of(left: list[tuple[float, Any]]) -> np.ndarray:
    return np.concatenate([frame.sound for _, frame in left]) / 32768


@pytest.mark.parametrize("rate", RATES)
def test_frames_leave_at_a_steady_rate_with_all_their_samples(world: Callable[..., Any], rate: float) -> None:
    live = world(rate)
    left = live.run(4.0)
    due = live.stages.delay_seconds
    assert [frame.index for _, frame in left] == list(range(len(left)))
    np.testing.assert_allclose([at for at, _ in left], [due + k / rate for k in range(len(left))], atol=1e-6)
    assert len(sound_of(left)) == round(len(left) * SOUND_HZ / rate)
    assert all(frame.fresh and frame.picture_pts_seconds == frame.pts_seconds for _, frame in left)


@pytest.mark.parametrize("rate", RATES)
def test_sound_leaves_as_it_came_so_long_after_it_came(world: Callable[..., Any], rate: float) -> None:
    live = world(rate)
    live.run(1.0)
    live.stages.push(tone(0.7), 48_000, live.now)
    live.stages.end()
    pushed = live.now
    left = live.run(3.0)
    out = np.concatenate([frame.sound for _, frame in left])
    first = int(np.flatnonzero(out)[0])
    np.testing.assert_array_equal(out[first - 1 : first + 30_000], np.rint(32768 * tone(0.7)[:30_001]).astype(np.int16))
    begins = left[0][1].pts_seconds + (first - 1) / SOUND_HZ
    # A sample is played its frame's leaving and its place in it after it came: the delay, and a step at most.
    assert 0 <= begins - pushed <= 0.0101
    assert live.stages.delay_seconds == pytest.approx(0.11 + MARGIN_SECONDS)


def test_a_picture_shows_the_sound_that_leaves_with_it(world: Callable[..., Any]) -> None:
    live = world(25.0)
    for k in range(40):
        live.run(0.2 * k + 0.013 * (k % 7))
        live.stages.push(tone(0.1, level=0.6), 48_000, live.now)
        live.stages.end()
    live.run(9.0)
    left = live.leaving
    loud = np.array([np.abs(frame.sound[:150]).max() / 32768 > 0.1 for _, frame in left])
    np.testing.assert_array_equal(mouths(left) > 0.01, loud)
    assert 40 < loud.sum() < 150


def test_an_hour_leaves_sound_and_picture_in_step_and_nothing_grows(
    world: Callable[..., Any], marking_driver: Callable[..., Any]
) -> None:
    rate = 10_000 / 1001  # frames begin anywhere between samples
    live = world(rate, driver=marking_driver(rate, bare=True))
    stages, driver = live.stages, live.stages.driver
    frames = samples = seen = wrong = 0
    said = 0.0
    burst = np.full(4_800, 0.5, np.float32)
    while (due := stages.next_leave()) < 3600:
        if due > said:
            stages.push(burst, 48_000, due - 0.03)
            stages.end()
            said += 3.217
        stages.step(due - 0.005)
        while (moment := stages.next_moment(due - 0.005)) is not None:
            stages.drawn(moment, live.draw(moment))
        frame = stages.leave(due)
        assert frame.index == frames
        assert frame.picture_pts_seconds == frame.pts_seconds
        begins = frame.sound[:96] / 32768
        if begins.min() > 0.45 or not begins.any():
            seen += begins[0] > 0
            wrong += (frame.picture[0, 0, 0] > 90) != bool(begins[0])
        frames, samples = frames + 1, samples + len(frame.sound)
    assert samples == round(frames * SOUND_HZ / rate)
    assert abs(frames / rate - 3600) < 0.3
    assert seen > 1_000
    assert not wrong
    assert driver.most_kept < 16_000
    assert sum(stages.held()) < 200
    assert stages.line_seconds < 1


@pytest.mark.parametrize("cost", [1.3, 1.5, 2.2, 3.0, 5.5])
def test_when_drawing_is_too_slow_pictures_are_left_out_evenly_and_sound_is_not(
    world: Callable[..., Any], cost: float
) -> None:
    live = world(25.0, drawing_seconds=cost / 25)
    live.stages.push(tone(9.0), 48_000, 0.0)
    left = live.run(10.0)
    steps = np.diff([at for at, _ in left])
    assert steps.max() < 1.6 / 25
    out = sound_of(left)[: 8 * SOUND_HZ]
    np.testing.assert_allclose(out, tone(8.0), atol=1e-4)
    fresh = np.flatnonzero([frame.fresh for _, frame in left])[3:]
    gaps = np.diff(fresh)
    assert gaps.max() - gaps.min() <= 1
    assert len(fresh) + 3 == pytest.approx(len(left) / cost, rel=0.06)
    # Nothing queues up: a picture is late by its own drawing and a frame, no more.
    late = [frame.pts_seconds - frame.picture_pts_seconds for _, frame in left[5:]]
    assert max(late) <= (2 * np.ceil(cost) + 1) / 25
    told = live.stages.statistics
    assert told.dropped_pictures == sum(not frame.fresh for _, frame in left)


def test_when_driving_is_late_the_picture_is_late_but_does_not_stand(
    world: Callable[..., Any], marking_driver: Callable[..., Any]
) -> None:
    driver = marking_driver(25.0, look_ahead_seconds=0.31)
    live = world(25.0, driver=driver)
    live.stages = type(live.stages)(_Hurried(driver), 25.0, 0.0, np.zeros((1, 1, 3), np.uint8))
    live.stages.push(tone(4.0), 48_000, 0.0)
    left = live.run(4.0)[12:]
    assert sum(frame.fresh for _, frame in left) > 0.95 * len(left)
    assert all(0.15 < frame.pts_seconds - frame.picture_pts_seconds < 0.25 for _, frame in left)
    np.testing.assert_allclose(sound_of(left), tone(4.0)[12 * 1920 : 12 * 1920 + len(sound_of(left))], atol=1e-4)


class _Hurried:
    """A driver that promises its moments 0.2 s before it tells them."""

    look_ahead_seconds = 0.11

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    def __getattr__(self, name: str) -> Any:
        return getattr(self._driver, name)


def test_one_slow_picture_is_forgotten_at_once(world: Callable[..., Any]) -> None:
    live = world(25.0, drawing_seconds=lambda index: 0.3 if index == 50 else 0.005)
    left = live.run(5.0)
    late = [frame.index for _, frame in left if not frame.fresh]
    assert late
    assert min(late) >= 50
    assert max(late) <= 58
    assert all(frame.picture_pts_seconds == frame.pts_seconds for _, frame in left[60:])


@pytest.mark.parametrize("rate", [25.0, 30.0, 50.0])
@pytest.mark.parametrize("when", np.arange(1.0, 1.08, 0.007).round(3).tolist())
def test_an_interruption_stops_the_mouth_within_a_tenth_of_a_second(
    world: Callable[..., Any], rate: float, when: float
) -> None:
    live = world(rate)
    live.stages.push(np.full(5 * 48_000, 0.9, np.float32), 48_000, 0.0)
    before = live.run(when)
    live.now = when
    live.stages.interrupt()
    after = live.run(when + 2)
    assert mouths(before)[-5:].min() > 0.85
    closed = np.array([at - when > 0.1 for at, _ in after])
    assert not mouths(after)[closed].any()
    assert all(frame.state == LiveState.IDLE for (_, frame), late in zip(after, closed, strict=True) if late)
    # Nothing pops: the mouth comes to rest over frames, the sound within 20 ms of the next frame.
    way = np.abs(np.diff(mouths(before[-1:] + after)))
    assert way.max() <= 0.9 / max(int(0.08 * rate), 2) + 0.01
    out = sound_of(before[-1:] + after)
    assert np.abs(np.diff(out[round(SOUND_HZ / rate) - 10 :])).max() < 0.01
    assert not out[round(SOUND_HZ / rate) + 960 :].any()


def test_what_is_said_after_an_interruption_is_seen_from_its_start(world: Callable[..., Any]) -> None:
    live = world(25.0)
    live.stages.push(np.full(5 * 48_000, 0.9, np.float32), 48_000, 0.0)
    live.run(1.0)
    live.stages.interrupt()
    live.stages.push(np.full(48_000, 0.5, np.float32), 48_000, live.now)
    live.stages.end()
    left = live.run(3.0)
    loud = [(frame.index, mouth) for (_, frame), mouth in zip(left, mouths(left), strict=True) if mouth > 0.45]
    heard = [frame.index for _, frame in left if np.abs(frame.sound[:100]).min() > 0.4 * 32768]
    new = [index for index in heard if index / 25 > 1.0]
    opened = [index for index, mouth in loud if index / 25 > 1.05 and abs(mouth - 0.5) < 0.01]
    assert opened
    assert opened[0] - new[0] <= 3
    assert np.abs(np.diff(mouths(left)[:15])).max() <= 0.46


def test_interrupting_again_and_again_is_still_smooth(world: Callable[..., Any]) -> None:
    live = world(25.0)
    for k in range(30):
        live.stages.push(np.full(48_000, 0.9, np.float32), 48_000, live.now)
        live.run(live.now + 0.07 * (1 + k % 5))
        live.stages.interrupt()
    assert np.abs(np.diff(mouths(live.leaving))).max() <= 0.46
    assert live.stages.statistics.interrupts == 30


def test_who_stood_still_goes_on_where_the_clock_is(world: Callable[..., Any]) -> None:
    live = world(25.0)
    live.run(2.0)
    live.now += 3600.0
    left = live.run(live.now + 2)
    assert live.stages.statistics.slips == 1
    assert live.stages.statistics.slip_seconds == pytest.approx(3600, abs=0.2)
    assert [frame.index for _, frame in left] == list(range(left[0][1].index, left[0][1].index + len(left)))
    assert 48 <= len(left) <= 54


def test_frames_that_nobody_fetches_are_lost_and_counted_not_kept(world: Callable[..., Any]) -> None:
    live = world(25.0)
    stages = live.stages
    for step in range(2_000):
        stages.step(step * 0.01)
        while (moment := stages.next_moment(step * 0.01)) is not None:
            stages.drawn(moment, live.draw(moment))
    assert sum(stages.held()) < 200
    assert stages.line_seconds < 5
    frame = stages.leave(20.0)
    assert frame.index == stages.statistics.lost_frames > 490
    assert 20.0 - stages.due(frame.index) < 0.05


def test_the_end_is_known(world: Callable[..., Any]) -> None:
    live = world(25.0)
    assert live.stages.finished
    live.stages.push(tone(0.5), 48_000, 0.0)
    live.stages.end()
    live.run(0.4)
    assert not live.stages.finished
    live.run(0.9)
    assert live.stages.finished
    assert np.abs(sound_of(live.leaving)[20_000:24_000]).max() > 0.4
