from __future__ import annotations

import numpy as np
import torch

from avatarfit.fitting.driver_flow import fit_flow
from avatarfit.fitting.driver_kernel import Moments
from avatarfit.model import kernel_regression
from avatarfit.model.audio_to_landmarks import AudioToLandmarksConfig
from avatarfit.model.mouth_flow import MouthFlow, SmoothNoise

COLUMNS, MOUTH, STRIDE = 8, 3, 4


def smoothed(random: np.random.Generator, count: int, reach: float) -> np.ndarray:
    return SmoothNoise(int(random.integers(1 << 30)), 1, reach).at(STRIDE * np.arange(count))[:, 0]


def moments(count: int, random: np.random.Generator, reach: float = 12.0) -> Moments:
    """One column of the sound moves the first coefficient; the second is 1 or -1 whatever is heard; the third rests."""
    windows = np.zeros((count, kernel_regression.PAST_HOPS + kernel_regression.AHEAD_HOPS + 1, COLUMNS), np.float32)
    heard = random.normal(size=count).astype(np.float32)
    windows[:, :, 0] = heard[:, None]
    targets = np.zeros((count, MOUTH + 1), np.float32)
    targets[:, 0] = heard
    targets[:, 1] = np.sign(smoothed(random, count, reach))
    return Moments(windows, targets, 0.01 * STRIDE * np.arange(count))


def flow_of(learned: Moments) -> MouthFlow:
    torch.manual_seed(0)
    sizes = AudioToLandmarksConfig(COLUMNS, MOUTH, STRIDE, width=16, heads=2, members=1, kernel_group=1)
    return fit_flow(sizes, learned, np.array([0.5, 1.0, 0.1]), 4.0, STRIDE)


def test_what_a_sound_does_not_tell_is_drawn_from_both_of_its_mouths_and_not_from_between() -> None:
    random = np.random.default_rng(0)
    flow = flow_of(moments(2400, random))
    told = np.zeros((4000, MOUTH + 1), np.float32)
    told[:, 0] = random.normal(size=4000)
    drawn = flow.sample(told, random.normal(size=(4000, len(flow.axes))).astype(np.float32))
    assert 0.4 < (drawn[:, 1] > 0).mean() < 0.6
    assert (np.abs(np.abs(drawn[:, 1]) - 1) < 0.4).mean() > 0.55  # a Gaussian of this spread: 0.39
    assert drawn[:, 0].std() < 0.3
    assert drawn[:, 2].std() < 0.01  # what the sound tells, and what never moves


def test_noise_moves_as_fast_as_what_is_left_open() -> None:
    random = np.random.default_rng(1)
    slow, fast = (float(flow_of(moments(600, random, reach)).reach_hops) for reach in (24.0, 6.0))
    assert slow > 1.5 * fast
