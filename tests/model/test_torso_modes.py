from __future__ import annotations

import numpy as np
import pytest

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


def test_the_course_of_other_modes_is_recoded() -> None:
    random = np.random.default_rng(3)
    fields = random.normal(size=(3, 6, 7, 2)).astype(np.float32)
    mine = TorsoModes(fields, BOX)
    mix = np.array([[0.0, 2, 0], [1, 0, 1], [0, 0, -1]])
    other = TorsoModes(np.einsum("st,tijc->sijc", mix, fields).astype(np.float32), BOX)
    course = random.normal(size=(5, 3))
    np.testing.assert_allclose(mine.recoded(course, other), course @ mix, atol=1e-4)
    assert mine.recoded(np.zeros((5, 0)), TorsoModes.none()).shape == (5, 3)
    assert TorsoModes.none().recoded(course, other).shape == (5, 0)


def test_files_with_other_shapes_are_refused() -> None:
    kept = TorsoModes(np.ones((2, 3, 4, 2), np.float32), BOX).to_tensors()
    assert TorsoModes.from_tensors(kept).count == 2
    for harm in ({"fields": np.ones((2, 3, 4))}, {"fields": np.ones((2, 0, 4, 2))}, {"box": np.ones(3)}):
        with pytest.raises(ValueError, match="torso modes are"):
            TorsoModes.from_tensors(kept | harm)
