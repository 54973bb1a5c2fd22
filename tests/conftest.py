from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

# Tests take the same landmarks everywhere, whatever bundle lies in this user's cache.
os.environ["AVATARFIT_FACE_LANDMARKER"] = "none"

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


@pytest.fixture(scope="session", autouse=True)
def _own_config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests sign, they sign with a certificate of their own, not the developer's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real clips, sound and models; tests that need it are skipped, loudly, where it is absent."""
    if not (SHARED / "clips").is_dir():
        pytest.skip(f"NO REAL CLIPS at {SHARED}: this test was not run")
    return SHARED


RATE = 25.0
COUNT = 1500


def wander(random: np.random.Generator, columns: int, frames: float = 6.0) -> np.ndarray:
    """Smooth noise of unit size, float64 [COUNT, columns]."""
    noise = gaussian_filter1d(random.standard_normal((COUNT, columns)), frames, axis=0, mode="wrap")
    return np.asarray(noise / noise.std(axis=0))


def landmarks_cm(seed: int = 0) -> np.ndarray:
    """A performer who speaks, blinks every few seconds and looks about: float32 [COUNT, 478, 3]."""
    from avatarfit.performer.face_shape import SHAPES, face_shape

    random = np.random.default_rng(seed)
    amounts = np.clip(0.35 * wander(random, len(SHAPES)), -1, 1)
    jaw = SHAPES.index("jaw")
    amounts[:, jaw] = np.clip(0.35 + 0.4 * wander(random, 1)[:, 0], 0, 1)
    closure = np.zeros((COUNT, 2))
    at = 40
    while at < COUNT - 20:
        closure[at : at + 7] = np.sin(np.linspace(0.3, np.pi - 0.3, 7))[:, None]
        at += int(random.integers(60, 120))
    gaze = 0.05 * wander(random, 2)
    noise = random.normal(0, 0.005, (COUNT, 478, 3))
    return np.asarray(face_shape(seed).landmarks_cm(amounts, closure, gaze) + noise, np.float32)


def person(seed: int = 0) -> SimpleNamespace:
    """A made-up person: rig, driver (shapes, habits and rest, no networks), motion and landmarks_cm of one clip."""
    from avatarfit.contracts import HeadPose, Motion, TorsoMotion
    from avatarfit.model.habits import Habits, Stance
    from avatarfit.model.locally_linear import LocallyLinear
    from avatarfit.model.rig import Rig, lip_aperture_cm

    points = landmarks_cm(seed)
    rig = Rig.fit(points)
    face = rig.encode(points)
    random = np.random.default_rng(seed + 100)
    rotation = np.concatenate([np.ones((COUNT, 1)), 0.03 * wander(random, 3, 12)], axis=1)
    rotation /= np.linalg.norm(rotation, axis=1, keepdims=True)
    torso = np.tile(np.eye(2, 3), (COUNT, 1, 1))
    torso[:, :, 2] += 0.01 * wander(random, 2, 12)
    pts = np.arange(COUNT) / RATE
    motion = Motion(
        pts, face, HeadPose(rotation, 0.5 * wander(random, 3, 12) + [0, 0, 60]),
        TorsoMotion(torso, wander(random, 2, 12)),
    )  # fmt: skip
    stance = Stance(
        face.upper, face.eyes, motion.head.rotation_wxyz, motion.head.translation_cm, motion.torso.affine,
        motion.torso.shape,
    )  # fmt: skip
    gap = lip_aperture_cm(points)
    driver: Any = SimpleNamespace(
        shapes=LocallyLinear(face.mouth * rig.mouth_deviation_cm),
        habits=Habits.of(stance, pts, RATE),
        mouth_rest=np.median(face.mouth[gap <= np.percentile(gap, 15)], axis=0).astype(np.float32),
        mouth_deviation_cm=rig.mouth_deviation_cm,
    )
    return SimpleNamespace(rig=rig, driver=driver, motion=motion, landmarks_cm=points)


@pytest.fixture(scope="session")
def someone() -> SimpleNamespace:
    return person()


@pytest.fixture(scope="session")
def another() -> SimpleNamespace:
    return person(1)


@pytest.fixture(scope="session")
def hashgrid_avatar(someone: SimpleNamespace) -> Any:
    """A made-up person with a hash-grid head, an ellipsoid about the face, over Gaussians of neck and torso."""
    import torch

    from avatarfit.contracts import Camera
    from avatarfit.model.audio_to_landmarks import AudioToLandmarks, AudioToLandmarksConfig
    from avatarfit.model.avatar import Avatar
    from avatarfit.model.driver_model import DriverModel
    from avatarfit.model.gaussian_avatar import GaussianAvatar, MotionWeights, condition, group_mask
    from avatarfit.model.hashgrid_head import FieldShape, HashgridHead
    from avatarfit.model.torso_modes import TorsoModes
    from avatarfit.ops.field import DENSITY, DISPLACEMENT
    from avatarfit.ops.fused_mlp import mlp_layers
    from avatarfit.ops.march import morton_cell, pack_bits

    motion, rig = someone.motion, someone.rig
    rest_head = motion.head.matrices()[0]
    inputs = condition(motion, rest_head)
    counts = motion.face.mouth.shape[1], motion.face.upper.shape[1], motion.torso.shape.shape[1]
    random = torch.Generator().manual_seed(0)

    with torch.random.fork_rng():
        torch.manual_seed(0)
        shape = FieldShape(
            motion_cells=8, basis_count=4, hash_levels=3, hash_coarsest=4, hash_finest=16,
            hash_rows_log2=11, plane_levels=2, plane_coarsest=4, plane_finest=16, plane_rows_log2=9, density_hidden=8,
            geometry_features=4, colour_hidden=8, code_count=2, occupancy_side=16, step_cm=0.4, max_samples=40,
        )  # fmt: skip
        low, side = (-12.0, -12.0, -6.0), 24.0
        rows = shape.motion_grid.row_count
        field = HashgridHead(shape, low, side, rest_head, inputs.amin(0), inputs.amax(0), counts, torch.arange(rows))
        weights = MotionWeights(group_mask(*counts), 6)
    middle = torch.tensor([0.0, 1.0, 6.0])

    def within(at: torch.Tensor) -> torch.Tensor:
        """Distance from the middle of places in 0..1, in radii of the ellipsoid."""
        return ((torch.tensor(low) + side * at - middle) / torch.tensor([7.0, 9.0, 8.0])).norm(dim=1)

    vertex = torch.arange(rows)
    place = torch.stack([vertex % 9, vertex // 9 % 9, vertex // 81], 1) / 8
    cells = morton_cell(torch.arange(16**3))
    with torch.no_grad():
        field.table.normal_(0, 0.5, generator=random)
        field.planes.normal_(0, 0.5, generator=random)
        field.motion.rest[:, DENSITY] = (12 * (1 - within(place))).clamp(-9, 3)
        mlp_layers(field.colour.parameters_flat, field.colour.widths)[0][0][:, -5:] *= 0.1  # the light, a frame's code
        # The jaw goes down with the first of the mouth's codes: places below the eyes come from above.
        field.motion.bases[:, 0, DISPLACEMENT.start + 1] = -0.5 * (place[:, 1] > 0.5)
        field.motion.zone.copy_(torch.where(place[:, 1] > 0.45, 0, 1))
        field.occupancy.copy_(pack_bits(within((cells + 0.5) / 16) < 1.25))
    field.eval().requires_grad_(False)

    count = 300
    base = torch.zeros(count, 14)
    base[:, :3] = torch.rand(count, 3, generator=random) * torch.tensor([36.0, 16, 4]) + torch.tensor([-18.0, 9, 62])
    base[:, 3], base[:, 7:10], base[:, 10] = 1, 0.1, 2
    base[:, 11:] = torch.rand(count, 3, generator=random)
    gaussians = GaussianAvatar(
        base, 0.05 * torch.randn(count, 6, 14, generator=random), torch.full((count,), 2, dtype=torch.int32),
        (torch.arange(count) % 5 == 0).float() * 0.5, rest_head, inputs.amin(0), inputs.amax(0),
        weights.eval().requires_grad_(False), counts,
    )  # fmt: skip
    parts = someone.driver
    network = AudioToLandmarks(AudioToLandmarksConfig(84, counts[0], width=8, heads=1, members=1)).eval()
    driver = DriverModel("log-mel", network, parts.shapes, parts.habits, parts.mouth_rest, parts.mouth_deviation_cm)
    modes = TorsoModes(np.zeros((counts[2], 2, 2, 2), np.float32), np.float32([-1, -1, 1, 1]))
    plate = np.full((64, 48, 3), 90, np.uint8)
    return Avatar(rig, Camera(48, 64, 90.0, 24.0, 26.0), gaussians, driver, plate, RATE, {"seed": 0}, modes, field)


@pytest.fixture(scope="session")
def speaker(hashgrid_avatar: Any) -> Any:
    """A made-up person of Gaussians alone whose driver has random weights, and moves."""
    from dataclasses import replace

    import torch

    from avatarfit.audio import FEATURE_COUNT, FEATURE_NAME
    from avatarfit.model.audio_to_landmarks import AudioToLandmarks, AudioToLandmarksConfig

    driver = hashgrid_avatar.driver
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = AudioToLandmarks(
            AudioToLandmarksConfig(FEATURE_COUNT, len(driver.mouth_rest), width=16, heads=2, layers=2, members=1)
        )
        torch.nn.init.normal_(network.members[0].get_parameter("out.weight"), std=0.3)
    random = np.random.default_rng(0)
    habits = replace(driver.habits, sound=random.normal(size=(len(driver.habits), 3)).astype(np.float32))
    return replace(
        hashgrid_avatar, field=None, driver=replace(driver, feature_name=FEATURE_NAME, network=network, habits=habits)
    )


HEARD_HZ = 16_000


class MarkingDriver:
    """A stand-in for a driver: a moment's mouth is the level of the sound at that moment."""

    sample_rate_hz = HEARD_HZ
    mouth_rest = np.zeros(1, np.float32)
    nods = 0

    def __init__(self, rate: float, look_ahead_seconds: float = 0.11, bare: bool = False) -> None:
        self._bare = bare  # moments without the checks of their parts, for hours of them
        self.look_ahead_seconds, self._rate = look_ahead_seconds, rate
        self._sound, self._first = np.zeros(0, np.float32), 0
        self._frame = 0
        self.settings: list[Any] = []
        self.most_kept = 0

    def push(self, samples: np.ndarray) -> list[Any]:
        from avatarfit.contracts import FaceMotion, HeadPose, Motion, TorsoMotion
        from avatarfit.pipeline.live_frame import LiveState, Moment

        self._sound = np.concatenate([self._sound, samples])
        self.most_kept = max(self.most_kept, len(self._sound))
        out = []
        while True:
            at = round(self._frame / self._rate * HEARD_HZ)
            if at + self.look_ahead_seconds * HEARD_HZ > self._first + len(self._sound):
                break
            level = float(np.abs(self._sound[max(at - self._first, 0) : at - self._first + 16]).max())
            motion: Any = SimpleNamespace(face=SimpleNamespace(mouth=np.full((1, 1), level)))
            motion = motion if self._bare else Motion(
                np.array([self._frame / self._rate]),
                FaceMotion(np.full((1, 1), level), np.zeros((1, 1)), np.zeros((1, 6))),
                HeadPose(np.array([[1.0, 0, 0, 0]]), np.zeros((1, 3))), TorsoMotion.still(1),
            )  # fmt: skip
            out.append(Moment(self._frame, motion, LiveState.SPEAKING if level > 0.01 else LiveState.IDLE))
            self._frame += 1
            gone = round(self._frame / self._rate * HEARD_HZ) - self._first
            self._sound, self._first = self._sound[gone:], self._first + gone
        return out

    def hear(self, samples: np.ndarray, rate_hz: int, now_seconds: float) -> None:
        pass

    def turn(self, settings: Any) -> None:
        self.settings.append(settings)


@pytest.fixture
def marking_driver() -> type[MarkingDriver]:
    return MarkingDriver


@pytest.fixture(scope="session")
def speech() -> SimpleNamespace:
    """Eight seconds of a made-up voice at 16 kHz: samples float32 [n], rate."""
    from avatarfit.performer.speech import synthesise, write_phrases

    random = np.random.default_rng(0)
    clip = synthesise(write_phrases(8.0, random), random)
    return SimpleNamespace(samples=clip.samples, rate=clip.sample_rate_hz)
