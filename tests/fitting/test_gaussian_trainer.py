from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from avatarfit.contracts import Camera, FaceMotion, FileFormatError, HeadPose, Motion, TorsoMotion
from avatarfit.contracts.events import Event, Note, Progress
from avatarfit.fitting.frame_store import FrameStore
from avatarfit.fitting.frame_trainer import outline_loss
from avatarfit.fitting.gaussian_settings import GaussianSettings
from avatarfit.fitting.gaussian_trainer import GaussianTrainer
from avatarfit.fitting.initialise import resting_frame
from avatarfit.fitting.relocation import relocate
from avatarfit.model.torso_modes import TorsoModes
from avatarfit.rendering.gaussian_renderer import GaussianRenderer

FRAMES, SIZE = 12, 32
SETTINGS = GaussianSettings(count=120, basis_count=3, steps=60, relocate_every=20, picture_seconds=1e9)


CAMERA = Camera(SIZE, SIZE, 75.0, SIZE / 2, SIZE / 2)


def drawn(shift_cm: float) -> tuple[np.ndarray, np.ndarray]:
    """Picture and labels of a coloured disc (a head) over a block (a torso), slid sideways, before a grey wall."""
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
    x = columns - shift_cm * 75 / 60
    head = (x - 16) ** 2 + (rows - 13) ** 2 < 64
    torso = (rows > 21) & (np.abs(x - 16) < 12) & ~head
    rgb, labels = np.full((SIZE, SIZE, 3), 128, np.uint8), np.zeros((SIZE, SIZE), np.uint8)
    rgb[torso], rgb[head] = (20, 40, 200), (220, 150, 120)
    labels[torso], labels[head] = 3, 1
    labels[21:23][~head[21:23] & torso[21:23]] = 2
    return rgb, labels


def slid(shift_cm: np.ndarray, codes: list[np.ndarray]) -> Motion:
    """Head and torso slid by these, with face codes."""
    count = len(shift_cm)
    translation = np.stack([shift_cm, shift_cm * 0 - 2.4, shift_cm * 0 + 60], 1)
    affine = np.tile(np.eye(2, 3), (count, 1, 1))
    affine[:, 0, 2] = shift_cm / 60
    head = HeadPose(np.tile([1.0, 0, 0, 0], (count, 1)), translation)
    return Motion(np.arange(count) / 25, FaceMotion(*codes), head, TorsoMotion(affine))


@pytest.fixture(scope="module")
def scene() -> tuple[Motion, np.ndarray, FrameStore, np.ndarray]:
    """A clip in which both slide from one side to the other."""
    generator = np.random.default_rng(0)
    shift_cm = np.linspace(-2, 2, FRAMES)
    rgb, labels = (np.stack(parts) for parts in zip(*map(drawn, shift_cm), strict=True))
    person = (labels > 0).astype(np.uint8) * 255
    store = FrameStore(CAMERA, rgb, person, labels, np.where(person > 0, 64, 3).astype(np.uint8), np.arange(FRAMES))
    shape = generator.uniform((-6, -6, -2), (6, 6, 0), (478, 3)).astype(np.float32)
    motion = slid(shift_cm, [generator.normal(size=(FRAMES, n)) for n in (4, 3, 6)])
    return motion, np.repeat(shape[None], FRAMES, 0), store, np.full((SIZE, SIZE, 3), 128, np.uint8)


def trainer(scene: tuple, settings: GaussianSettings = SETTINGS, **options: object) -> GaussianTrainer:
    motion, landmarks, store, plate = scene
    return GaussianTrainer(motion, landmarks, np.zeros(FRAMES), store, plate, TorsoModes.none(), settings, **options)


def test_fitting_lowers_the_loss_to_a_likeness(scene: tuple) -> None:
    losses: list[float] = []

    def listen(event: Event) -> None:
        if isinstance(event, Progress):
            losses.append(event.values["loss"])

    run = trainer(scene, replace(SETTINGS, steps=400), on_event=listen)
    before = run.preview().astype(float)
    run.run()
    after = run.preview().astype(float)
    error_before, error_after = (np.abs(p[:, :SIZE] - p[:, SIZE:]).mean() for p in (before, after))
    assert losses[-1] < 0.5 * losses[0]
    assert error_after < 0.5 * error_before


def test_the_same_seed_gives_the_same_avatar_and_another_does_not(scene: tuple) -> None:
    first, second = (trainer(scene).run() for _ in range(2))
    other = trainer(scene, replace(SETTINGS, seed=1)).run()
    torch.testing.assert_close(first.base, second.base, rtol=0, atol=0)
    torch.testing.assert_close(first.deltas, second.deltas, rtol=0, atol=0)
    assert not torch.equal(first.base, other.base)


def test_fitting_may_begin_with_gaussians_that_are_given_and_leaves_them_as_they_are(scene: tuple) -> None:
    first = trainer(scene, replace(SETTINGS, steps=200)).run()
    kept = first.base.clone(), first.deltas.clone(), [p.detach().clone() for p in first.weights.parameters()]
    losses: list[float] = []
    later = trainer(
        scene, replace(SETTINGS, count=7, basis_count=1), initial=first,
        on_event=lambda e: losses.append(e.values["loss"]) if isinstance(e, Progress) else None,
    )  # fmt: skip
    fresh: list[float] = []
    trainer(scene, on_event=lambda e: fresh.append(e.values["loss"]) if isinstance(e, Progress) else None).run()
    fitted = later.run()
    assert (fitted.count, fitted.deltas.shape[1]) == (first.count, 3)
    assert losses[0] < 0.7 * fresh[0]
    assert not torch.equal(fitted.base, first.base)
    torch.testing.assert_close([first.base, first.deltas], list(kept[:2]), rtol=0, atol=0)
    torch.testing.assert_close([p.detach() for p in first.weights.parameters()], kept[2], rtol=0, atol=0)


def test_resuming_equals_never_having_stopped(scene: tuple, tmp_path: Path) -> None:
    whole = trainer(scene).run()
    path = tmp_path / "c.checkpoint"

    def stop(event: Event) -> None:
        if isinstance(event, Progress):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer(scene, replace(SETTINGS, checkpoint_seconds=0), checkpoint=path, on_event=stop).run()
    notes: list[str] = []
    resumed = trainer(
        scene, checkpoint=path, resume=True, on_event=lambda e: notes.append(e.text) if isinstance(e, Note) else None
    )
    assert any("resumed at step 49" in note for note in notes)
    again = resumed.run()
    torch.testing.assert_close(again.base, whole.base, rtol=0, atol=0)
    torch.testing.assert_close(again.deltas, whole.deltas, rtol=0, atol=0)
    for one, other in zip(again.weights.parameters(), whole.weights.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_a_checkpoint_of_other_settings_is_refused(scene: tuple, tmp_path: Path) -> None:
    path = tmp_path / "c.checkpoint"
    trainer(scene, replace(SETTINGS, steps=2), checkpoint=path).run()
    with pytest.raises(FileFormatError, match="of a fit with other settings"):
        trainer(scene, replace(SETTINGS, count=90), checkpoint=path, resume=True)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(FileFormatError, match="cannot be read"):
        trainer(scene, checkpoint=path, resume=True)


def test_gaussians_start_inside_the_person(scene: tuple) -> None:
    motion, _, store, _ = scene
    avatar = trainer(scene).gaussians.avatar
    skin = avatar.skin.numpy()[:, None, None]
    rest = resting_frame(motion, np.zeros(FRAMES))
    matrix = skin * avatar.head_matrices(motion.head)[rest] + (1 - skin) * motion.torso.matrices()[rest]
    points = np.einsum("nij,nj->ni", matrix[:, :, :3], avatar.base[:, :3].numpy()) + matrix[:, :, 3]
    columns, rows = np.floor(store.camera.project(points)).astype(int).T
    assert store.person[rest][rows.clip(0, SIZE - 1), columns.clip(0, SIZE - 1)].mean() > 0.97 * 255
    assert set(np.unique(avatar.group)) <= {0, 1, 2}


def test_relocation_takes_the_dead_to_where_the_loss_pulls(scene: tuple) -> None:
    run = trainer(scene)
    avatar, moments = run.gaussians.avatar, run.gaussians.moments
    avatar.base[3, 10] = avatar.base[4, 10] = -9.0
    seen = avatar.base[:, 10].clone()
    seen[4] = 1.0  # At rest it cannot be seen, in some other frame it can.
    pull = torch.zeros(avatar.count)
    pull[7] = 1.0
    for moment in moments:
        moment.fill_(1.0)
    place, size = avatar.base[7, :3].clone(), avatar.base[7, 7].clone()
    assert relocate(avatar, moments, pull, seen, run.state.generator) == 1
    assert avatar.base[3, 10] > 0
    assert avatar.base[4, 10] == -9
    assert (avatar.base[3, :3] - place).norm() < 6 * size.exp()
    torch.testing.assert_close(avatar.base[[3, 7], 7], (size - 0.47).expand(2))
    for moment in moments:
        assert moment[[3, 7]].abs().max() == 0
        assert moment[5].min() == 1
    torch.testing.assert_close((avatar.base[3, :3] + avatar.base[7, :3]) / 2, place)


def test_nothing_moves_when_nothing_is_dead(scene: tuple) -> None:
    run = trainer(scene)
    before = run.gaussians.avatar.base.clone()
    pull = torch.ones(run.gaussians.avatar.count)
    assert relocate(run.gaussians.avatar, run.gaussians.moments, pull, pull, run.state.generator) == 0
    torch.testing.assert_close(run.gaussians.avatar.base, before)


def test_the_outline_is_held_where_the_matte_is_sure_and_its_gradient_is_autograds() -> None:
    random = torch.Generator().manual_seed(0)
    alpha = torch.rand(9, 7, generator=random).requires_grad_()
    person = torch.randint(0, 256, (9, 7), generator=random, dtype=torch.uint8)
    person[0], person[1], person[2] = 0, 255, 128
    sure = (person < 5) | (person > 250)
    want = ((alpha - person / 255).abs() * sure).mean()
    want.backward()
    value, gradient = outline_loss(alpha.detach(), person)
    torch.testing.assert_close(value, want.detach())
    torch.testing.assert_close(gradient, alpha.grad)
    assert not gradient[2].any()
    assert gradient[:2].all()


def test_a_third_beyond_what_was_seen_nothing_tears(scene: tuple) -> None:
    fitted = trainer(scene, replace(SETTINGS, steps=400)).run()
    seen = scene[0].face
    codes = [getattr(seen, name) for name in ("mouth", "upper", "eyes")]
    renderer = GaussianRenderer(fitted, CAMERA)

    def pictures(shift_cm: float, over: float) -> np.ndarray:
        """With all codes at their least and at their most, times `over`."""
        motion = slid(np.full(2, shift_cm), [over * np.stack([c.min(axis=0), c.max(axis=0)]) for c in codes])
        return np.stack([renderer.render_over(motion, k, scene[3]) for k in range(2)]).astype(float)

    for edge in (-2.0, 2.0):
        # Beyond the codes' range the nearest shape that was seen stands; a pose has no end, and carries it along.
        np.testing.assert_array_equal(pictures(1.3 * edge, 1.3), pictures(1.3 * edge, 1.0))
        at_the_edge = np.abs(pictures(edge, 1.0) - drawn(edge)[0]).mean()
        assert np.abs(pictures(1.3 * edge, 1.3) - drawn(1.3 * edge)[0]).mean() < 1.1 * at_the_edge


def test_a_drifting_exposure_is_taken_up_by_the_frames_gains(scene: tuple) -> None:
    _, landmarks, store, plate = scene
    gain = np.linspace(0.85, 1.15, FRAMES)
    darkened = replace(store, rgb=np.clip(store.rgb * gain[:, None, None, None], 0, 255).astype(np.uint8))
    # Noise-free codes would let the motion explain the light: held still, only the gains can.
    still = slid(np.linspace(-2, 2, FRAMES), [np.zeros((FRAMES, n)) for n in (4, 3, 6)])
    settings = replace(SETTINGS, steps=400, delta_rate_fraction=0.0)
    trainer = GaussianTrainer(still, landmarks, np.ones(FRAMES), darkened, plate, TorsoModes.none(), settings)
    trainer.run()
    found = np.array([trainer.exposure.gain(i).mean() for i in range(FRAMES)])
    np.testing.assert_allclose(found, gain / np.exp(np.log(gain).mean()), atol=0.03)
    off = GaussianTrainer(
        still, landmarks, np.ones(FRAMES), darkened, plate, TorsoModes.none(), replace(settings, exposure_rate=0)
    )
    off.run()
    assert float(off.exposure.log_gain.abs().max()) == 0
