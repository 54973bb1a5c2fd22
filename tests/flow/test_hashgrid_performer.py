"""One synthetic performer, drawn by Gaussians and by a field over Gaussians, each after a short fit: they agree."""

from __future__ import annotations

import numpy as np
import pytest

from avatarfit.compositing import composite
from avatarfit.contracts import Motion
from avatarfit.evaluation.metrics import psnr_db
from avatarfit.fitting.frame_store import FrameStore
from avatarfit.fitting.gaussian_settings import GaussianSettings
from avatarfit.fitting.gaussian_trainer import GaussianTrainer
from avatarfit.fitting.hashgrid_settings import HashgridSettings
from avatarfit.fitting.hashgrid_trainer import HashgridTrainer
from avatarfit.model.rig import Rig, lip_aperture_cm
from avatarfit.model.torso_modes import TorsoModes
from avatarfit.performer.performer import Performer
from avatarfit.rendering.gaussian_renderer import GaussianRenderer
from avatarfit.rendering.hashgrid_renderer import HashgridRenderer

SIZE, FRAMES = 64, 12


@pytest.fixture(scope="module")
def clip() -> tuple[Motion, np.ndarray, FrameStore, np.ndarray]:
    """Every third frame of the performer's exact truth."""
    performer = Performer(0, SIZE)
    truth = performer.performance(3 * FRAMES / 25)
    chosen = np.arange(FRAMES) * 3
    pictures = [performer.render(truth, int(index)) for index in chosen]
    rgb, labels = np.stack([p.rgb for p in pictures]), np.stack([p.labels for p in pictures])
    person = np.stack([(p.alpha * 255).round().astype(np.uint8) for p in pictures])
    weight = np.where(person > 0, 64, 3).astype(np.uint8)
    store = FrameStore(performer.camera, rgb, person, labels, weight, np.arange(FRAMES))
    points = truth.landmarks_cm[chosen].astype(np.float32)
    motion = Motion(truth.pts_seconds[chosen], Rig.fit(points).encode(points), truth.head[chosen], truth.torso[chosen])
    return motion, points, store, performer.plate


def test_the_field_and_the_gaussians_draw_the_same_performer(clip: tuple) -> None:
    motion, points, store, plate = clip
    given = motion, points, lip_aperture_cm(points), store, plate, TorsoModes.none()
    gaussians = GaussianTrainer(*given, GaussianSettings(count=1500, basis_count=4, steps=250)).run()
    below, head = HashgridTrainer(
        *given,
        HashgridSettings(
            basis_count=4, plane_levels=3, hash_levels=4, hash_finest=64, plane_finest=64, occupancy_side=32,
            step_cm=0.6, steps=250, patches=1, patch_px=40, gaussians=600, gaussian_bases=4,
            occupancy_from=60, occupancy_every=30, last_rate=0.2,
        ),
    ).run()  # fmt: skip
    one, other = GaussianRenderer(gaussians, store.camera), HashgridRenderer(head, below, store.camera)
    for frame in (1, 7):
        first, second = (composite(r.render(motion, frame), plate).clip(0, 1) for r in (one, other))
        shown = store.person[frame] > 127
        assert psnr_db(first, second, shown) > 24
        assert psnr_db(store.rgb[frame] / np.float32(255), second, shown) > 24
