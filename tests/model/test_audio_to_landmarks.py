"""Laws of the network from features to mouth coefficients."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from avatarfit.audio import OTHER_COLUMNS
from avatarfit.model import kernel_regression
from avatarfit.model.audio_to_landmarks import (
    LOOK_AHEAD_HOPS,
    PAST_HOPS,
    AudioToLandmarks,
    AudioToLandmarksConfig,
)
from avatarfit.model.kernel_regression import KernelRegression

FEATURES, MOUTH = 12, 5


def network(stride: int = 4, past: int = 6) -> AudioToLandmarks:
    torch.manual_seed(0)
    config = AudioToLandmarksConfig(
        FEATURES, MOUTH, stride, width=16, heads=2, layers=2, past_tokens=past, members=2, kernel_centres=7
    )
    net = AudioToLandmarks(config).eval()
    for member in net.members:
        torch.nn.init.normal_(member.get_parameter("out.weight"))
    torch.nn.init.normal_(net.kernel.centres, std=0.1)
    torch.nn.init.normal_(net.kernel.votes)
    return net


def features(count: int, seed: int = 0) -> np.ndarray:
    return (0.3 * np.random.default_rng(seed).standard_normal((count, FEATURES))).astype(np.float32)


@pytest.mark.parametrize("stride", [2, 3, 4])
def test_what_comes_later_than_the_look_ahead_changes_nothing(stride: int) -> None:
    net, x = network(stride), features(200)
    token = 20
    hop = token * stride
    plain = net.predict(x)
    later = x.copy()
    later[hop + LOOK_AHEAD_HOPS + 1 :] += 1
    changed = net.predict(later)
    np.testing.assert_allclose(changed[: token + 1], plain[: token + 1], atol=1e-6)
    assert np.abs(changed[token + 1] - plain[token + 1]).max() > 1e-4
    now = x.copy()
    now[hop + LOOK_AHEAD_HOPS] += 1
    assert np.abs(net.predict(now)[token] - plain[token]).max() > 1e-4


def test_what_came_before_the_past_changes_nothing() -> None:
    net, x = network(), features(300)
    token = 50
    first = (token - net.config.past_tokens_total) * 4 - PAST_HOPS
    plain = net.predict(x)[token]
    earlier = x.copy()
    earlier[:first] += 1
    np.testing.assert_allclose(net.predict(earlier)[token], plain, atol=1e-6)
    earlier[first] += 1
    assert np.abs(net.predict(earlier)[token] - plain).max() > 1e-8


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_chunks_give_what_the_whole_gives(chunk: int) -> None:
    net, x = network(), features(330)
    np.testing.assert_allclose(net.predict(x, chunk), net.predict(x, 1000), atol=2e-6)


def test_there_is_a_token_every_stride() -> None:
    net = network()
    assert [len(net.predict(features(n))) for n in (0, 1, 4, 5, 400)] == [0, 1, 1, 2, 100]


def test_moving_the_sound_by_a_token_moves_the_motion_by_a_token() -> None:
    net, x = network(), features(300)
    np.testing.assert_allclose(net.predict(x[8:])[30:50], net.predict(x)[32:52], atol=2e-6)


def test_the_kernel_votes_for_what_it_has_heard_and_for_the_mean_far_away() -> None:
    stride, count = 4, 40
    x = torch.from_numpy(
        features(kernel_regression.PAST_HOPS + (count - 1) * stride + 1 + kernel_regression.AHEAD_HOPS)
    )
    targets = torch.randn(count, MOUTH, generator=torch.Generator().manual_seed(1))
    kernel = KernelRegression(count, FEATURES, MOUTH)
    size = kernel_regression.PAST_HOPS + kernel_regression.AHEAD_HOPS + 1
    kernel.solve(x.unfold(0, size, stride).transpose(1, 2), targets, ridge=1e-6)
    np.testing.assert_allclose(kernel(x[None], stride)[0].numpy(), targets.numpy(), atol=1e-3)
    np.testing.assert_allclose(
        kernel(x[None] + 100, stride)[0].numpy(), np.tile(targets.mean(0).numpy(), (count, 1)), atol=1e-5
    )


def test_principal_axes_keep_the_distances_of_windows_that_lie_on_them() -> None:
    size, generator = kernel_regression.PAST_HOPS + kernel_regression.AHEAD_HOPS + 1, torch.Generator().manual_seed(3)
    windows = torch.randn(60, 5, generator=generator) @ torch.randn(5, size * FEATURES, generator=generator)
    x, targets = windows.view(60, size, FEATURES), torch.randn(60, MOUTH, generator=generator)
    told = []
    for axes in (0, 6, 2):
        kernel = KernelRegression(60, FEATURES, MOUTH, axes=axes)
        kernel.solve(x, targets)
        told.append(kernel(x, 1)[:, 0])
    assert kernel.centres.shape == (60, 2)
    torch.testing.assert_close(told[1], told[0], atol=1e-4, rtol=0)
    assert (told[2] - told[0]).abs().max() > 0.01
    with pytest.raises(ValueError, match="axes"):
        KernelRegression(60, FEATURES, MOUTH, axes=10_000)


def test_what_stands_near_the_lead_weighs_most_in_the_kernels_window() -> None:
    size, generator = kernel_regression.PAST_HOPS + kernel_regression.AHEAD_HOPS + 1, torch.Generator().manual_seed(2)
    x = torch.randn(50, size, FEATURES, generator=generator)
    kernel = KernelRegression(50, FEATURES, MOUTH)
    kernel.solve(x, torch.randn(50, MOUTH, generator=generator), lead_hops=4)
    centre = kernel.windows(x, 1)[:, 0]
    assert float(centre.square().sum(1).mean()) < 1  # weights sum to one, of columns of unit spread
    moved = {}
    for tap in range(0, size, kernel_regression.STEP_HOPS):
        other = x.clone()
        other[:, tap] += 1
        moved[tap - kernel_regression.PAST_HOPS] = float(
            (kernel.windows(other, 1)[:, 0] - centre).square().sum(1).mean()
        )
    assert max(moved, key=lambda k: moved[k]) == 4
    assert moved[-10] < 0.01 * moved[4]


def test_closed_lips_are_told_as_a_probability() -> None:
    net = network()
    told = net.predict(5 * features(200))
    assert told.shape == (50, MOUTH + 1)
    assert (told[:, -1] >= 0).all()
    assert (told[:, -1] <= 1).all()


def test_pitch_can_be_left_out() -> None:
    net, x = network(), features(90)
    other = x.copy()
    other[:, -3:-1] += 1
    assert np.abs(net.predict(other) - net.predict(x)).max() > 1e-3
    deaf = AudioToLandmarks(replace(net.config, hear_pitch=False)).eval()
    deaf.load_state_dict(net.state_dict())
    np.testing.assert_array_equal(deaf.predict(other), deaf.predict(x))


def test_columns_are_turned_onto_the_axes_that_are_kept() -> None:
    config = AudioToLandmarksConfig(FEATURES, MOUTH, width=16, heads=2, members=1, kernel_group=1, kept_columns=3)
    net = AudioToLandmarks(config).eval()
    torch.nn.init.normal_(net.turn)
    torch.nn.init.normal_(net.offset)
    torch.nn.init.normal_(net.members[0].get_parameter("out.weight"))
    x = torch.from_numpy(features(90))
    seen = net.seen(x)
    assert seen.shape == (90, 3 + OTHER_COLUMNS)
    np.testing.assert_allclose(seen[:, 3:], x[:, 8:])
    across = torch.linalg.svd(net.turn.T)[2][3:]  # axes that are not kept
    other = x.clone()
    other[:, :8] += 10 * across[0]
    np.testing.assert_allclose(net.predict(other.numpy()), net.predict(x.numpy()), atol=1e-3)
    with pytest.raises(ValueError, match="9 of 8 columns cannot be kept"):
        AudioToLandmarksConfig(FEATURES, MOUTH, kept_columns=9)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"width": 30}, "width 30 must be a multiple of twice the heads"),
        ({"layers": 0}, "must be at least 1"),
        ({"heads": 0}, "must be at least 1"),
        ({"past_tokens": 10**9}, "wanted fewer"),
        ({"past_tokens": 8.0}, "past_tokens is 8.0; wanted a whole number"),
        ({"members": True}, "whole number"),
        ({"lead_hops": float("nan")}, "finite"),
        ({"beside_share": 1.5}, "wanted 0 to 1"),
    ],
)
def test_a_config_that_cannot_be_is_refused(setting: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        AudioToLandmarksConfig(FEATURES, MOUTH, **setting)
