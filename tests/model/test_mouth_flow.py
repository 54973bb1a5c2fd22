from __future__ import annotations

import numpy as np
import pytest
import torch

from avatarfit.model.mouth_flow import MouthFlow, SmoothNoise


def test_noise_at_a_hop_depends_on_seed_and_hop_alone() -> None:
    hops = np.array([-130, -1, 0, 63, 64, 65, 1000, 3])
    together = SmoothNoise(3, 5, 4.5).at(hops)
    one_by_one = np.concatenate([SmoothNoise(3, 5, 4.5).at(hops[k : k + 1]) for k in range(len(hops))])
    np.testing.assert_array_equal(together, one_by_one)
    assert not np.allclose(together, SmoothNoise(4, 5, 4.5).at(hops), atol=0.1)
    assert SmoothNoise(3, 5, 4.5).at(hops[:0]).shape == (0, 5)


@pytest.mark.parametrize("reach", [1.5, 4.0, 9.0])
def test_noise_has_unit_variance_and_the_correlation_of_its_window(reach: float) -> None:
    noise = SmoothNoise(0, 16, reach).at(np.arange(40_000)).astype(np.float64)
    assert abs(noise.std() - 1) < 0.03
    for lag in (1, 4, 10):
        wanted = np.exp(-(lag**2) / (4 * reach**2))
        assert abs((noise[lag:] * noise[:-lag]).mean() - wanted) < 0.03


def test_velocities_of_one_gaussian_carry_noise_onto_it_exactly() -> None:
    # Between N(0, 1) and N(m, s^2) along straight paths the velocity is linear in x: m + (x - t m) a'/a at a fixed
    # noise, with a(t)^2 = (1 - t)^2 + (t s)^2; so the noise z ends at m + s z.
    class Known(MouthFlow):
        def velocity(self, x: torch.Tensor, time: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
            t, m, s = time[:, None], torch.tensor([0.5, -1.0]), torch.tensor([0.6, 0.9])
            square = (1 - t).square() + (t * s).square()
            return m + (x - t * m) * (t * s.square() - (1 - t)) / square

    flow = Known(2, 3)
    flow.axes.copy_(torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]]))
    noise = np.random.default_rng(0).normal(size=(500, 2)).astype(np.float32)
    wanted = np.stack([0.5 + 0.6 * noise[:, 0], 2 * (-1 + 0.9 * noise[:, 1]), np.zeros(500)], axis=1)
    got = flow.sample(np.zeros((500, 4), np.float32), noise)
    assert np.abs(got - wanted).max() < 0.08  # of the midpoint rule's few steps


def test_rows_are_drawn_each_for_itself() -> None:
    torch.manual_seed(0)
    flow = MouthFlow(3, 6)
    torch.nn.init.normal_(flow.axes)
    random = np.random.default_rng(1)
    told, noise = random.normal(size=(9, 7)).astype(np.float32), random.normal(size=(9, 3)).astype(np.float32)
    np.testing.assert_allclose(flow.sample(told, noise)[4:], flow.sample(told[4:], noise[4:]), atol=1e-5)
