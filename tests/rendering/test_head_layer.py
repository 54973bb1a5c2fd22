"""Head and neck alone are the whole picture's head where nothing hides them, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
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


def test_half_a_head_is_half_of_the_picture(hashgrid_avatar: Any, someone: SimpleNamespace) -> None:
    """What hides what is the whole picture's: half a head is half of every pixel."""
    avatar = replace(hashgrid_avatar, field=None)
    whole = renderer_of(avatar, avatar.camera).render(someone.motion, 3)
    half = HeadLayer(avatar, avatar.camera, neck=(-1.0, 1.0))  # shares from a half on, by the skinning weight
    low, high = 0.5, float(0.75**2 * (3 - 2 * 0.75))  # weights of 0 and of a half
    alone = half.render(someone.motion, 3)
    assert (alone[..., 3] >= low * whole[..., 3] - 2e-3).all()
    assert (alone[..., 3] <= high * whole[..., 3] + 2e-3).all()


def test_a_field_is_part_of_the_head(hashgrid_avatar: Any, someone: SimpleNamespace) -> None:
    alone = HeadLayer(hashgrid_avatar, hashgrid_avatar.camera).render(someone.motion, 0)
    whole = renderer_of(hashgrid_avatar, hashgrid_avatar.camera).render(someone.motion, 0)
    assert alone[..., 3].max() > 0.9
    assert (alone[..., 3] <= whole[..., 3] + 1e-3).all()
