from __future__ import annotations

import numpy as np

from avatarfit.model.torso_modes import TorsoModes

BOX = np.array([-0.4, 0.1, 0.4, 0.3], np.float32)


def test_a_linear_field_is_given_exactly_between_the_cells_and_held_beyond() -> None:
    rows, columns = 5, 8
    x = BOX[0] + (np.arange(columns) + 0.5) / columns * (BOX[2] - BOX[0])
    y = BOX[1] + (np.arange(rows) + 0.5) / rows * (BOX[3] - BOX[1])
    field = np.stack(np.broadcast_arrays(0.1 * x[None, :] + 0.02, 0.3 * y[:, None] - 0.1 * x[None, :]), axis=-1)
    modes = TorsoModes(np.stack([field, -2 * field]).astype(np.float32), BOX)
    random = np.random.default_rng(0)
    plane = random.uniform([-0.6, 0.0], [0.6, 0.4], (200, 2))
    depth = random.uniform(50, 90, 200)
    points = np.concatenate([plane, np.ones((200, 1))], axis=1) * depth[:, None]
    held = np.clip(plane, [x[0], y[0]], [x[-1], y[-1]])
    wanted = np.stack([0.1 * held[:, 0] + 0.02, 0.3 * held[:, 1] - 0.1 * held[:, 0]], axis=1) * depth[:, None]
    moved = modes.displacements_cm(points)
    np.testing.assert_allclose(moved[:, 0, :2], wanted, atol=1e-4)
    np.testing.assert_allclose(moved[:, 1, :2], -2 * wanted, atol=2e-4)
    assert not moved[..., 2].any()


def test_no_modes_move_nothing() -> None:
    assert TorsoModes.none().displacements_cm(np.ones((4, 3))).shape == (4, 0, 3)
