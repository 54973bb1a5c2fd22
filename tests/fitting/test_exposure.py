from __future__ import annotations

import numpy as np
import torch

from avatarfit.fitting.exposure import Exposure


def test_known_gains_are_found_and_their_mean_is_neutral() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(24, 30, 4, generator=generator)
    image[:, :, :3] *= image[:, :, 3:]
    plate = torch.rand(24, 30, 3, generator=generator)
    shown = image[:, :, :3] + (1 - image[:, :, 3:]) * plate
    gains = torch.tensor([[1.1, 1.0, 0.9], [1 / 1.1, 1.0, 1 / 0.9]])
    person = np.zeros((24, 30), np.uint8)
    person[3:20, 5:25] = 255
    exposure = Exposure(2, rate=0.5)
    for _ in range(30):
        for frame, gain in enumerate(gains):
            # What lies beside the person has a light of its own and says nothing.
            recorded = torch.where(torch.from_numpy(person > 127)[:, :, None], shown * gain, shown * 3)
            exposure.observe(frame, image, recorded, plate, person)
    for frame, gain in enumerate(gains):
        torch.testing.assert_close(exposure.gain(frame), gain, atol=1e-4, rtol=0)


def test_a_constant_tint_is_the_persons_own_and_no_one_in_sight_changes_nothing() -> None:
    image, plate = torch.ones(9, 9, 4), torch.zeros(9, 9, 3)
    exposure = Exposure(3, rate=1.0)
    for frame in range(3):
        exposure.observe(frame, image, image[:, :, :3] * 0.8, plate, np.full((9, 9), 255, np.uint8))
    torch.testing.assert_close(exposure.gain(1), torch.ones(3))
    exposure.observe(1, image, image[:, :, :3] * 0.5, plate, np.zeros((9, 9), np.uint8))
    torch.testing.assert_close(exposure.gain(1), torch.ones(3))
