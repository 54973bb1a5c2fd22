from __future__ import annotations

import itertools

import numpy as np
import torch

from avatarfit.fitting.hashgrid_regularisers import distortion, head_matte


def samples(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Weights, t and lengths of rays of 5, 0, 1 and 7 samples, float64."""
    generator = torch.Generator().manual_seed(seed)
    counts = torch.tensor([5, 0, 1, 7])
    offsets = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
    t = torch.cat([torch.rand(int(n), generator=generator).double().sort()[0] * 9 for n in counts])
    weights, lengths = (torch.rand(13, generator=generator).double() for _ in range(2))
    return weights, t, lengths, offsets


def plain(weights: torch.Tensor, t: torch.Tensor, lengths: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """Equation 15 as it is written, ray by ray."""
    total = torch.zeros((), dtype=weights.dtype)
    for first, last in itertools.pairwise(offsets):
        w, at, d = weights[first:last], t[first:last], lengths[first:last]
        total = total + (w[:, None] * w * (at[:, None] - at).abs()).sum() + (w * w * d).sum() / 3
    return total


def test_distortion_is_the_papers_and_so_is_its_gradient() -> None:
    weights, t, lengths, offsets = samples()
    value, gradient = distortion(weights, t, lengths, offsets)
    leaf = weights.clone().requires_grad_()
    wanted = plain(leaf, t, lengths, offsets)
    wanted.backward()
    torch.testing.assert_close(value, wanted.detach())
    torch.testing.assert_close(gradient, leaf.grad)


def test_a_single_sample_is_distorted_by_its_length_alone() -> None:
    value, _ = distortion(torch.tensor([0.5]), torch.tensor([3.0]), torch.tensor([0.6]), torch.tensor([0, 1]))
    torch.testing.assert_close(value, torch.tensor(0.25 * 0.6 / 3))


def test_the_matte_is_sure_of_a_heads_inside_and_of_what_is_far_from_it() -> None:
    labels, person = np.zeros((64, 64), np.uint8), np.zeros((64, 64), np.uint8)
    labels[10:40, 20:44], labels[40:50, 26:38], labels[50:, 10:54] = 1, 2, 3
    person[labels > 0] = 255
    inside, outside, near = head_matte(labels, person)
    assert inside[25, 32]
    assert not inside[11, 32]
    assert not (inside & (labels != 1)).any()
    assert outside[2, 2]
    assert outside[60, 32]
    assert not outside[25, 32]
    assert not outside[43, 32]  # the neck just below the jaw is either's
    assert near[8, 32]
    assert not near[2, 32]
    assert not (inside & outside).any()
