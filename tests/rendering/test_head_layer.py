"""Head and neck alone are the whole picture's head where nothing hides them, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from avatarfit.rendering.head_layer import HeadLayer
from avatarfit.rendering.renderer import renderer_of


def test_what_is_head_stays_and_what_is_torso_goes(hashgrid_avatar: Any, someone: SimpleNamespace) -> None:
    gaussians = hashgrid_avatar.gaussians
    for share, kept in ((1.0, True), (0.0, False)):
        avatar = replace(hashgrid_avatar, field=None, gaussians=replace(gaussians, skin=torch.full((300,), share)))
        whole = renderer_of(avatar, avatar.camera).render(someone.motion, 3)
        alone = HeadLayer(avatar, avatar.camera).render(someone.motion, 3)
        np.testing.assert_allclose(alone, whole if kept else np.zeros_like(whole), atol=2e-3)


def test_what_is_half_a_heads_is_all_of_it(hashgrid_avatar: Any, someone: SimpleNamespace) -> None:
    """Skin that is made of face over neck lets nothing through; what is hardly the head's is not in the picture."""
    gaussians = replace(hashgrid_avatar.gaussians, skin=torch.full((300,), 0.5))
    avatar = replace(hashgrid_avatar, field=None, gaussians=gaussians)
    whole = renderer_of(avatar, avatar.camera).render(someone.motion, 3)
    shares = []
    for low in (0.0, 0.1, 0.2, 0.3):  # bounds about 0.5: the Gaussians are the head's by less and less
        way = (0.5 - low) / (1 - low)
        share = way * way * (3 - 2 * way)
        alone = HeadLayer(avatar, avatar.camera, neck=(low, 1.0)).render(someone.motion, 3)
        drawn = float(alone.sum() / whole.sum())
        np.testing.assert_allclose(alone, drawn * whole, atol=2e-3)
        shares.append((share, drawn))
    assert shares[0] == (0.5, pytest.approx(1, abs=0.01))
    assert shares[-1] == (pytest.approx(0.2, abs=0.01), pytest.approx(0, abs=0.01))
    assert all(more[1] > less[1] for more, less in pairwise(shares))


def test_a_field_is_part_of_the_head(hashgrid_avatar: Any, someone: SimpleNamespace) -> None:
    alone = HeadLayer(hashgrid_avatar, hashgrid_avatar.camera).render(someone.motion, 0)
    whole = renderer_of(hashgrid_avatar, hashgrid_avatar.camera).render(someone.motion, 0)
    assert alone[..., 3].max() > 0.9
    assert (alone[..., 3] <= whole[..., 3] + 1e-3).all()
