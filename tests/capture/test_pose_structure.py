from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from avatarfit.capture.face_points import RIGID
from avatarfit.capture.face_registration import FacePicture, Keyframes, pose_distance_state
from avatarfit.capture.pose_refinement import refine_poses, spread_correction, without_pose_error
from avatarfit.capture.pose_solver import RigidSolution
from avatarfit.capture.pose_structure import MATCH_DEVIATION, Sightings, point_deviations, solve_structure
from avatarfit.contracts import Camera

CAMERA = Camera(512, 512, 1200.0, 256.0, 256.0)
NO_PICTURE = FacePicture(np.zeros((2, 2), np.uint8), np.zeros(2), 1.0)


class Nod:
    """A head that nods and turns; the landmark network sees its turns too small by a fifth."""

    def __init__(self, count: int = 90) -> None:
        rng = np.random.default_rng(4)
        self.shape = rng.uniform([-7, -5, -4], [7, 4, 4], (len(RIGID), 3))
        t = np.linspace(0, 8, count)
        angles = np.stack([0.2 * np.sin(t), 0.12 * np.cos(1.4 * t)], axis=1)
        self.rotation = Rotation.from_euler("yx", angles).as_matrix()
        self.translation = np.stack([np.sin(t), 0 * t, 75 + 0 * t], axis=1)
        self.pixels = self._seen(self.rotation)
        self.misread = Rotation.from_euler("yx", 0.8 * angles).as_matrix()
        noise = rng.normal(0, 0.3, self.pixels.shape)
        self.landmarks = np.concatenate([self._seen(self.misread) + noise, np.zeros((count, len(RIGID), 1))], axis=2)

    def _seen(self, rotation: np.ndarray) -> np.ndarray:
        return CAMERA.project(np.einsum("tij,nj->tni", rotation, self.shape) + self.translation[:, None])

    def degrees(self, rotation: np.ndarray, frames: slice = slice(None)) -> float:
        """Median error after the best turn common to all."""
        gap = Rotation.from_matrix(self.rotation[frames].transpose(0, 2, 1) @ rotation)
        return float(np.median(np.degrees((gap.mean().inv() * gap).magnitude())))


def sightings(nod: Nod, frames: np.ndarray, own: np.ndarray, noise_px: float) -> Sightings:
    """Every picture of `frames` sees the spots of every keyframe; the true landmarks are the spots."""
    rng = np.random.default_rng(5)
    pixels = nod.pixels[frames]
    chosen = np.tile(np.arange(len(own)), (len(frames), 1))
    chosen[own, np.arange(len(own))] = -1
    found = np.repeat(pixels[:, None], len(own), axis=1)
    found = found + rng.normal(0, noise_px, found.shape)
    found[rng.random(found.shape[:3]) < 0.1] = np.nan
    found[::5, :, :9] += 8  # wrong matches
    return Sightings.of(own, pixels[own], chosen, found, 1.0)


def test_parallax_alone_gives_the_poses_and_the_depth() -> None:
    nod = Nod()
    frames, own = np.arange(0, 90, 6), np.array([0, 4, 9])
    seen = sightings(nod, frames, own, 0.1)
    flat = nod.shape * [1, 1, 0.85]  # the prior is too shallow: that is what makes a network's turns too small
    rotation, _, points, _ = solve_structure(
        nod.misread[frames], nod.translation[frames], np.tile(flat, (3, 1)), seen, CAMERA
    )
    gap = Rotation.from_matrix(nod.rotation[frames].transpose(0, 2, 1) @ rotation)
    error = np.degrees((gap.mean().inv() * gap).magnitude())
    assert np.median(error) < 0.15
    assert nod.degrees(nod.misread) > 1.5
    depth = points[:, 2] - points[:, 2].mean()
    true = np.tile(nod.shape[:, 2], 3)
    assert np.polyfit(true - true.mean(), depth, 1)[0] == pytest.approx(1, abs=0.05)


def test_exact_sightings_leave_nothing() -> None:
    nod = Nod()
    frames, own = np.arange(0, 90, 10), np.array([0, 5])
    chosen = np.tile([0, 1], (len(frames), 1))
    chosen[own, [0, 1]] = -1
    found = np.repeat(nod.pixels[frames][:, None], 2, axis=1)
    seen = Sightings.of(own, nod.pixels[frames][own], chosen, found, 1.0)
    start = nod.rotation[frames], nod.translation[frames], np.tile(nod.shape, (2, 1))
    rotation, _, points, error = solve_structure(*start, seen, CAMERA)
    assert np.abs(error).max() < 1e-6
    np.testing.assert_allclose(rotation, start[0], atol=1e-6)
    np.testing.assert_allclose(points, start[2], atol=1e-4)


def test_a_picture_without_matches_stays_where_it_was() -> None:
    nod = Nod()
    frames, own = np.arange(0, 90, 10), np.array([0, 5])
    found = np.repeat(nod.pixels[frames][:, None], 2, axis=1)
    found[3] = np.nan
    chosen = np.tile([0, 1], (len(frames), 1))
    chosen[own, [0, 1]] = -1
    seen = Sightings.of(own, nod.pixels[frames][own], chosen, found, 1.0)
    rotation, translation, _, _ = solve_structure(
        nod.misread[frames], nod.translation[frames], np.tile(nod.shape, (2, 1)), seen, CAMERA
    )
    np.testing.assert_allclose(rotation[3], nod.misread[frames][3], atol=1e-9)
    np.testing.assert_allclose(translation[3], nod.translation[frames][3], atol=1e-9)


def test_a_spot_that_moves_on_the_skull_counts_less() -> None:
    nod = Nod()
    frames, own = np.arange(0, 90, 10), np.array([0])
    found = nod.pixels[frames][:, None].copy()
    found[1::2, :, 7, 0] += 3
    found[2::2, :, 7, 1] -= 3
    chosen = np.zeros((len(frames), 1), int)
    chosen[0] = -1
    seen = Sightings.of(own, nod.pixels[frames][own], chosen, found, 1.0)
    error = solve_structure(nod.rotation[frames], nod.translation[frames], nod.shape, seen, CAMERA)[3]
    deviation = point_deviations(error, seen, len(RIGID), 1.0)
    assert deviation[7] > 4 * MATCH_DEVIATION
    assert np.median(deviation) == pytest.approx(MATCH_DEVIATION)


def test_other_pictures_are_corrected_as_their_neighbours_in_pose_were() -> None:
    nod = Nod()
    first = RigidSolution(nod.shape, nod.misread, nod.translation, np.zeros(90))
    state = pose_distance_state(first.rotation, first.translation_cm)
    frames = np.arange(0, 90, 4)
    moved = spread_correction(first, state, frames, nod.rotation[frames], nod.translation[frames])
    assert nod.degrees(moved.rotation) < 0.3 * nod.degrees(nod.misread)


def test_matches_with_known_skin_outweigh_what_the_network_misreads() -> None:
    nod = Nod()
    count = len(nod.rotation)
    keys = Keyframes([NO_PICTURE], np.zeros((1, 6)), nod.pixels[:1], nod.shape[None])
    rng = np.random.default_rng(6)
    found = (nod.pixels + rng.normal(0, 0.2, nod.pixels.shape))[:, None]
    found[:, :, ::4] = np.nan
    found[::9, :, 1:20] += 7  # wrong matches
    flow = np.concatenate([np.diff(nod.pixels, axis=0), np.full((1, len(RIGID), 2), np.nan)])
    first = RigidSolution(nod.shape, nod.misread, nod.translation, np.zeros(count))
    refined = refine_poses(
        first, keys, np.full((1, len(RIGID)), MATCH_DEVIATION), np.zeros((count, 1), int), found, nod.landmarks, flow,
        np.ones(count, bool), CAMERA,
    )  # fmt: skip
    assert nod.degrees(refined.rotation) < 0.1
    assert np.abs(refined.project(CAMERA) - nod.pixels).mean() < 1.5


def test_errors_of_rigid_landmarks_are_spread_to_neighbours_and_no_farther() -> None:
    rng = np.random.default_rng(7)
    true = np.repeat(rng.uniform(100, 400, (1, 478, 3)), 5, axis=0).astype(np.float32)
    true[:, 33, :2], true[:, 263, :2] = [190, 200], [324, 200]
    near, far = np.setdiff1d(np.arange(478), RIGID)[:2]
    true[:, near, :2] = true[:, RIGID[0], :2] + 2
    true[:, far, :2] = [2000, 2000]
    wrong = true.copy()
    wrong[..., 0] += 3
    mended = without_pose_error(wrong, RIGID, true[:, RIGID, :2].astype(np.float64))
    assert np.abs(mended - true)[:, RIGID].max() < 1.5
    assert np.abs(mended - true)[:, near].max() < 1.0
    np.testing.assert_array_equal(mended[:, far], wrong[:, far])
    np.testing.assert_array_equal(mended[..., 2], wrong[..., 2])
