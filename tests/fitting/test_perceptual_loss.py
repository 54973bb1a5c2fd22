from __future__ import annotations

import numpy as np
import torch

from avatarfit.fitting.perceptual_loss import PerceptualLoss


class SquareError(torch.nn.Module):
    """Stands in for LPIPS: a distance whose gradient is known."""

    def forward(self, a: torch.Tensor, b: torch.Tensor, normalize: bool) -> torch.Tensor:
        assert normalize
        return (a - b).square().sum((1, 2, 3))


def test_the_gradient_is_the_distances_own_through_the_background() -> None:
    generator = torch.Generator().manual_seed(0)
    image, target = torch.rand(150, 160, 4, generator=generator) * 0.5, torch.rand(150, 160, 3, generator=generator)
    plate = torch.rand(150, 160, 3, generator=generator) * 0.5
    person = np.zeros((150, 160), np.uint8)
    person[75, 80] = 255
    gradient = torch.zeros_like(image)
    loss = PerceptualLoss(SquareError(), 0.5, 96).add_to(gradient, image, target, plate, person, generator)
    patch = slice(75 - 48, 75 + 48), slice(80 - 48, 80 + 48)
    error = image[..., :3] + (1 - image[..., 3:]) * plate - target
    wanted = torch.zeros_like(image)
    wanted[patch] = torch.cat([error, -(error * plate).sum(-1, keepdim=True)], dim=-1)[patch]
    torch.testing.assert_close(gradient, wanted)
    torch.testing.assert_close(loss, float(0.5 * error[patch].square().sum()), rtol=1e-4, atol=0)


def test_patches_stay_in_the_picture_and_without_a_person_nothing_is_added() -> None:
    generator = torch.Generator().manual_seed(1)
    image, target, plate = torch.rand(70, 200, 4), torch.rand(70, 200, 3), torch.zeros(70, 200, 3)
    person = np.zeros((70, 200), np.uint8)
    person[[0, -1], [0, -1]] = 255
    loss = PerceptualLoss(SquareError(), 1.0)
    for _ in range(4):
        gradient = torch.zeros_like(image)
        assert loss.add_to(gradient, image, target, plate, person, generator) > 0
        columns = torch.nonzero(gradient.abs().sum((0, 2))).flatten()
        assert (int(columns.min()), int(columns.max())) in ((0, 127), (72, 199))
    gradient.zero_()
    assert loss.add_to(gradient, image, target, plate, person * 0, generator) == 0
    assert not gradient.any()
