"""The clip's own torso under a head: the true picture comes back, and the walk finds the moment that is replayed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from avatarfit.compositing import composite, to_uint8
from avatarfit.compositing.source_torso import (
    HEAD,
    NECK,
    TORSO,
    ClipFrame,
    SourceTorso,
    TorsoUnder,
    compose,
    inverse,
    pixel_map,
    spread_inwards,
)
from avatarfit.compositing.torso_walk import Lent, TorsoWalk
from avatarfit.contracts import Camera, HeadPose, TorsoMotion
from avatarfit.performer import Performer

RATE = 25.0
WIDTH = 256


@dataclass
class Filmed:
    """Some frames of the performer: what a clip folder would hold of them, and the truth."""

    performer: Performer
    frames: list[ClipFrame]
    alpha: list[np.ndarray]
    truth: list[np.ndarray]


@pytest.fixture(scope="module")
def filmed() -> Filmed:
    performer = Performer(0, WIDTH)
    performance = performer.performance(6.0, RATE, 0)
    frames, alpha, truth = [], [], []
    for index in range(0, 150, 15):
        made = performer.render(performance, index)
        frames.append(
            ClipFrame(
                made.rgb, np.rint(255 * made.alpha).astype(np.uint8), made.labels,
                performance.torso.affine[index].astype(np.float64),
            )
        )  # fmt: skip
        alpha.append(made.alpha)
        truth.append(made.rgb)
    return Filmed(performer, frames, alpha, truth)


def head_of(filmed: Filmed, index: int) -> np.ndarray:
    """The true head as a renderer would give it, float32 [H, W, 4]."""
    import cv2

    frame, alpha = filmed.frames[index], filmed.alpha[index]
    head = np.isin(frame.labels, HEAD).astype(np.float32)
    body = np.isin(frame.labels, (NECK, TORSO)).astype(np.float32)
    near = cv2.blur(np.dstack([head, body]), (5, 5))
    share = alpha * np.clip(near[..., 0] / np.maximum(near.sum(axis=2), 1e-3), 0, 1)
    plate = filmed.performer.plate / np.float32(255)
    own = np.clip((frame.rgb / np.float32(255) - (1 - alpha)[..., None] * plate), 0, alpha[..., None])
    own /= np.maximum(alpha, 1e-3)[..., None]
    return np.dstack([own * share[..., None], share]).astype(np.float32)


def test_the_true_frame_comes_back(filmed: Filmed) -> None:
    camera = filmed.performer.camera
    torso = SourceTorso(camera, filmed.performer.plate, iter(filmed.frames))
    under = TorsoUnder(torso, filmed.frames.__getitem__, camera)
    for index in (1, 5, 8):
        frame = filmed.frames[index]
        made = under.under(head_of(filmed, index), frame.affine, [Lent(index, 1.0)])
        assert np.abs(made[..., 3] - filmed.alpha[index]).mean() <= 0.02
        picture = to_uint8(composite(made, filmed.performer.plate)).astype(float)
        band = np.isin(frame.labels, (NECK, TORSO))
        error = np.square(picture - filmed.truth[index])[band].mean()
        assert 10 * np.log10(255**2 / error) >= 38


def test_nothing_of_the_head_is_left_and_the_neck_goes_on_behind_it(filmed: Filmed) -> None:
    torso = SourceTorso(filmed.performer.camera, filmed.performer.plate, iter(filmed.frames))
    for index in (2, 7):
        frame = filmed.frames[index]
        layer = torso.layer(frame)
        chin = int(np.flatnonzero(np.isin(frame.labels, HEAD).any(axis=1))[-1])
        middle = int(np.flatnonzero(np.isin(frame.labels[chin], HEAD)).mean())
        assert layer[chin - 12 : chin + 4, middle - 6 : middle + 7, 3].min() > 0.95  # no hole under the chin
        assert layer[: WIDTH // 4, :, 3].max() < 0.01  # no hair, no face
        assert np.abs(layer[..., :3] - np.minimum(layer[..., :3], layer[..., 3:])).max() < 1e-6


def test_a_torso_that_is_moved_is_where_it_should_be(filmed: Filmed) -> None:
    """Frame 2 moved to frame 6's torso looks like frame 6 where only clothes are."""
    camera = filmed.performer.camera
    torso = SourceTorso(camera, filmed.performer.plate, iter(filmed.frames))
    here, there = filmed.frames[2], filmed.frames[6]
    moved = torso.placed(torso.layer(here), here.affine, there.affine, camera)
    clothes = (here.labels == TORSO) & (there.labels == TORSO)
    clothes[: WIDTH * 7 // 8] = False
    before = np.abs(here.rgb[clothes].astype(float) - there.rgb[clothes]).mean()
    after = np.abs(moved[clothes][:, :3] * 255 - there.rgb[clothes]).mean()
    assert after < 0.6 * before
    same = torso.layer(here)
    assert torso.placed(same, here.affine, here.affine, camera) is same  # nothing is resampled that does not move


def test_maps_of_the_plane() -> None:
    a = np.array([[1.02, 0.01, 0.03], [-0.01, 0.98, -0.02]])
    np.testing.assert_allclose(compose(a, inverse(a)), np.eye(2, 3), atol=1e-12)
    small, large = Camera(100, 80, 200.0, 50.0, 40.0), Camera(300, 240, 600.0, 150.0, 120.0)
    np.testing.assert_allclose(pixel_map(small, large, np.eye(2, 3)), [[3, 0, 0], [0, 3, 0]], atol=1e-9)
    moved = pixel_map(small, small, a) @ [70, 20, 1]
    np.testing.assert_allclose(moved, 200 * (a @ [0.1, -0.1, 1]) + [50, 40])


def test_spreading_keeps_what_is_known() -> None:
    values = np.zeros((32, 48), np.float32)
    values[:, :24], values[:, 24:] = 1.0, 3.0
    known = np.zeros((32, 48), np.float32)
    known[:, :6] = known[:, -6:] = 1
    spread = spread_inwards(values, known)
    np.testing.assert_allclose(spread[known > 0], values[known > 0], atol=1e-5)
    assert 1 <= spread.min() <= spread.max() <= 3 + 1e-5
    assert (np.diff(spread[16]) > -0.2).all()


def wandering(count: int) -> tuple[HeadPose, TorsoMotion]:
    random = np.random.default_rng(4)
    from scipy.ndimage import gaussian_filter1d

    noise = gaussian_filter1d(random.standard_normal((count, 9)), 8, axis=0)
    noise /= noise.std(axis=0)
    turn = np.concatenate([np.ones((count, 1)), 0.04 * noise[:, :3]], axis=1)
    affine = np.tile(np.eye(2, 3), (count, 1, 1))
    affine[:, :, 2] += 0.01 * noise[:, 6:8]
    pose = HeadPose(turn / np.linalg.norm(turn, axis=1, keepdims=True), noise[:, 3:6] + [0, 0, 80])
    return pose, TorsoMotion(affine, noise[:, 8:])


def test_a_replayed_moment_is_found_and_followed() -> None:
    head, torso = wandering(600)
    walk = TorsoWalk(head, torso, RATE)
    for index in range(200, 300):
        assert walk.step(head[index : index + 1], torso[index : index + 1]) == [Lent(index, 1.0)]
    # A jump elsewhere is followed by a dissolve, and then each frame again is the very one.
    shares = []
    for index in range(450, 500):
        lent = walk.step(head[index : index + 1], torso[index : index + 1])
        assert sum(part.share for part in lent) == pytest.approx(1)
        shares.append(lent[-1].share)
    assert lent == [Lent(499, 1.0)]
    assert (np.diff(shares[1:]) > -1e-9).all()
    assert len({round(s, 3) for s in shares}) > 5


def test_at_twice_the_rate_frames_are_held() -> None:
    head, torso = wandering(300)
    walk = TorsoWalk(head, torso, 2 * RATE)
    seen = [
        walk.step(head[k // 2 : k // 2 + 1], torso[k // 2 : k // 2 + 1])[0].index for k in range(200, 300)
    ]  # fmt: skip
    assert seen == [k // 2 for k in range(200, 300)]
