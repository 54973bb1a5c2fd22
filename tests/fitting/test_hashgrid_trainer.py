from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from avatarfit import ops
from avatarfit.contracts import Camera, FaceMotion, FileFormatError, HeadPose, InputError, Motion, TorsoMotion
from avatarfit.contracts.events import Event, Note, Progress
from avatarfit.fitting.frame_store import FrameStore
from avatarfit.fitting.hashgrid_settings import HashgridSettings
from avatarfit.fitting.hashgrid_trainer import HashgridTrainer
from avatarfit.model.hashgrid_head import HashgridHead, pixel_grid, pixels_of_box, rays_through
from avatarfit.model.torso_modes import TorsoModes
from avatarfit.ops.march import morton_code

FRAMES, SIZE = 8, 40
CAMERA = Camera(SIZE, SIZE, 100.0, SIZE / 2, SIZE / 2)
SETTINGS = HashgridSettings(
    motion_cells=8, basis_count=4, hash_levels=4, hash_coarsest=4, hash_finest=32, hash_rows_log2=10,
    plane_levels=3, plane_coarsest=8, plane_finest=32, plane_rows_log2=10, density_hidden=16, colour_hidden=16,
    geometry_features=7, code_count=2, occupancy_side=16, step_cm=0.6, steps=60, patch_px=24, patches=1,
    occupancy_from=20, occupancy_every=10, gaussians=100, gaussian_bases=3, picture_seconds=1e9, last_rate=0.3,
)  # fmt: skip


@pytest.fixture(scope="module")
def scene() -> tuple[Motion, np.ndarray, FrameStore, np.ndarray]:
    """A clip in which a disc (a head) over a block (a torso) slides from one side to the other."""
    generator = np.random.default_rng(0)
    shift_cm = np.linspace(-1, 1, FRAMES)
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
    rgb, labels = np.full((FRAMES, SIZE, SIZE, 3), 128, np.uint8), np.zeros((FRAMES, SIZE, SIZE), np.uint8)
    for frame, shift in enumerate(shift_cm):
        x = columns - shift * 100 / 60
        head, torso = (x - 20) ** 2 + (rows - 14) ** 2 < 121, (rows > 23) & (np.abs(x - 20) < 14)
        labels[frame][torso], labels[frame][torso & (rows < 27)], labels[frame][head] = 3, 2, 1
        rgb[frame][torso], rgb[frame][head] = (20, 40, 200), (220, 150, 120)
        rgb[frame][head & (rows > 17) & (rows < 20)] = (150, 40, 40)
    person = (labels > 0).astype(np.uint8) * 255
    store = FrameStore(CAMERA, rgb, person, labels, np.where(person > 0, 64, 3).astype(np.uint8), np.arange(FRAMES))
    head_pose = HeadPose(
        np.tile([1.0, 0, 0, 0], (FRAMES, 1)), np.stack([shift_cm, shift_cm * 0 - 3.6, shift_cm * 0 + 60], 1)
    )
    affine = np.tile(np.eye(2, 3), (FRAMES, 1, 1))
    affine[:, 0, 2] = shift_cm / 60
    face = FaceMotion(*(generator.normal(size=(FRAMES, n)) for n in (4, 3, 6)))
    motion = Motion(np.arange(FRAMES) / 25, face, head_pose, TorsoMotion(affine))
    shape = generator.uniform((-5, -5, -1), (5, 5, 0), (478, 3)).astype(np.float32)
    return motion, np.repeat(shape[None], FRAMES, 0), store, np.full((SIZE, SIZE, 3), 128, np.uint8)


def trainer(scene: tuple, settings: HashgridSettings = SETTINGS, **options: object) -> HashgridTrainer:
    motion, landmarks, store, plate = scene
    return HashgridTrainer(motion, landmarks, np.zeros(FRAMES), store, plate, TorsoModes.none(), settings, **options)


def same(one: HashgridHead, other: HashgridHead) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_fitting_lowers_the_loss_to_a_likeness(scene: tuple) -> None:
    losses: list[float] = []

    def listen(event: Event) -> None:
        if isinstance(event, Progress):
            losses.append(event.values["loss"])

    run = trainer(scene, replace(SETTINGS, steps=200), on_event=listen)
    before = run.preview().astype(float)
    run.run()
    after = run.preview().astype(float)
    error_before, error_after = (np.abs(p[:, :SIZE] - p[:, SIZE:]).mean() for p in (before, after))
    assert losses[-1] < 0.5 * losses[0]
    assert error_after < 0.3 * error_before
    assert error_after < 6


def test_the_same_seed_gives_the_same_head_and_another_does_not(scene: tuple) -> None:
    (first, head), (second, again) = (trainer(scene).run() for _ in range(2))
    _, other = trainer(scene, replace(SETTINGS, seed=1)).run()
    assert torch.equal(first.base, second.base)
    assert same(head, again)
    assert not same(head, other)


def test_resuming_equals_never_having_stopped(scene: tuple, tmp_path: Path) -> None:
    whole, head = trainer(scene).run()
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
    again, other = resumed.run()
    assert torch.equal(again.base, whole.base)
    assert same(head, other)


def test_a_checkpoint_of_other_settings_is_refused(scene: tuple, tmp_path: Path) -> None:
    path = tmp_path / "c.checkpoint"
    trainer(scene, replace(SETTINGS, steps=2), checkpoint=path).run()
    with pytest.raises(FileFormatError, match="of a fit with other settings"):
        trainer(scene, replace(SETTINGS, hash_rows_log2=9), checkpoint=path, resume=True)


def test_clips_without_a_head_and_grids_beyond_memory_are_refused_in_a_sentence(scene: tuple) -> None:
    motion, landmarks, store, plate = scene
    headless = replace(store, labels=np.where(store.labels == 1, 3, store.labels))
    with pytest.raises(InputError, match="the clip's frames show no head; wanted frames whose labels"):
        trainer((motion, landmarks, headless, plate))
    with pytest.raises(InputError, match=r"the field's grids take \d{11,} bytes to fit, the machine has \d+; wanted"):
        trainer(scene, replace(SETTINGS, hash_levels=16, hash_finest=4096, hash_rows_log2=24, hash_features=16))


def test_no_sample_that_is_skipped_at_the_end_carries_more_than_the_threshold(scene: tuple) -> None:
    run = trainer(scene)
    _, head = run.run()
    field, side = run.head, SETTINGS.occupancy_side
    kept = torch.zeros(side**3, dtype=torch.bool)
    codes = torch.arange(side**3)
    kept[codes] = (head.occupancy[codes // 8] >> (codes % 8) & 1).bool()
    low = torch.tensor(field.low_cm)
    heavy = 0
    for frame in range(FRAMES):
        left, top, right, bottom = pixels_of_box(field.box, CAMERA, run.poses[frame])
        rays = rays_through(pixel_grid(left, top, right, bottom), CAMERA, run.poses[frame])
        samples = field.march(*rays)
        with torch.no_grad():
            sigma, colour = field.shade(samples.positions, field.frame_state(run.condition[frame]))
        weights = ops.composite_rays(sigma, colour, samples.t, samples.lengths, samples.offsets).weights
        carries = weights > SETTINGS.occupancy_threshold
        cells = ((samples.positions[carries] - low) / field.side_cm * side).long().clamp(0, side - 1)
        assert kept[morton_code(cells)].all()
        heavy += int(carries.sum())
    assert heavy > 1000
    assert 0 < kept.float().mean() < run.cells.allowed.float().mean()


def test_a_saved_head_draws_the_same(scene: tuple) -> None:
    run = trainer(scene, replace(SETTINGS, steps=30))
    _, head = run.run()
    other = HashgridHead.from_tensors(head.to_tensors(), head.config())
    assert same(head, other)
    state = [h.frame_state(h.conditions(scene[0])[2]) for h in (head, other)]
    pictures = [h.draw(CAMERA, run.poses[2], s) for h, s in zip((head, other), state, strict=True)]
    assert torch.equal(*pictures)
    assert pictures[0][14, 18, 3] > 0.9
    assert pictures[0][:, :2, 3].max() == 0
