"""The table of made-up movements: where each acts, how far, and how softly."""

from __future__ import annotations

import numpy as np

from avatarfit.model.blendshapes import ARKIT_NAMES
from avatarfit.model.face_actions import ACTION_NAMES, action_displacements_cm
from avatarfit.model.rig import MOUTH_REGION, UPPER_REGION
from avatarfit.performer.face_shape import face_shape

REST = face_shape(0).rest_cm
MOVED = action_displacements_cm(REST)
SIZE = np.linalg.norm(MOVED, axis=2)


def test_names_are_arkits_and_each_moves_something_a_little() -> None:
    assert set(ACTION_NAMES) <= set(ARKIT_NAMES)
    assert MOVED.shape == (len(ACTION_NAMES), 478, 3)
    assert (SIZE.max(axis=1) > 0.1).all()
    assert SIZE.max() < 2


def test_only_what_the_rig_moves_is_moved() -> None:
    rest = np.setdiff1d(np.arange(478), np.concatenate([MOUTH_REGION, UPPER_REGION]))
    assert SIZE[:, rest].max() == 0


def test_left_is_the_persons_left() -> None:
    left_side = REST[:, 0] > 0
    for k, name in enumerate(ACTION_NAMES):
        if name.endswith("Left") and not name.startswith(("jaw",)) and name != "mouthLeft":
            assert SIZE[k, left_side].sum() > 2 * SIZE[k, ~left_side].sum(), name
            other = ACTION_NAMES.index(name.removesuffix("Left") + "Right")
            assert SIZE[other, ~left_side].sum() > 2 * SIZE[other, left_side].sum(), name


def test_movements_keep_their_size_on_a_moved_face() -> None:
    np.testing.assert_allclose(action_displacements_cm(REST + [3, -2, 1]), MOVED, atol=1e-9)
