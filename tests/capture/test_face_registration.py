from __future__ import annotations

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from avatarfit.capture.face_registration import (
    FacePicture,
    Keyframes,
    face_picture,
    match_spots,
    matching_scale,
    pose_distance_state,
    register_faces,
    spread_pictures,
)


def skin(seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).uniform(0, 255, (256, 256)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2)
    return np.clip((smooth - smooth.mean()) * 4 + 128, 0, 255).astype(np.uint8)


def warped(picture: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The picture moved by an affine map [2, 3] of places at pixel centres + 0.5."""
    corner = matrix.copy()
    corner[:, 2] += matrix[:, :2] @ [0.5, 0.5] - 0.5
    return cv2.warpAffine(picture, corner, (256, 256), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)


def spots(count: int = 60) -> np.ndarray:
    return np.random.default_rng(1).uniform(60, 196, (count, 2))


def test_a_foreshortened_face_is_matched_and_another_one_is_not() -> None:
    picture, places = skin(), spots()
    turn = np.array([[0.86, 0.05, 20.3], [-0.03, 1.04, -6.7]])
    true = places @ turn[:, :2].T + turn[:, 2]
    expected = true + [1.6, -1.2]  # the poses so far are a little wrong
    key = face_picture(picture, places, 1.0)
    other = face_picture(warped(picture, turn), expected, 1.0)
    stranger = face_picture(skin(9), expected, 1.0)
    assert key is not None
    assert other is not None
    assert stranger is not None
    found = match_spots(key, places, other, expected)
    known = np.isfinite(found[:, 0])
    assert known.mean() > 0.9
    assert np.median(np.linalg.norm(found - true, axis=1)[known]) < 0.1
    assert np.isnan(match_spots(key, places, stranger, expected)).mean() > 0.6


def test_light_that_changes_slowly_over_the_face_does_not_pull_the_matches() -> None:
    picture, places = skin(3), spots()
    shift = np.array([[1.0, 0, 3.4], [0, 1, -2.2]])
    x = np.linspace(-1, 1, 256)
    lamp = 25 * np.cos(3 * x)[None, :] * np.ones((256, 1))
    lit = np.clip(warped(picture, shift) * 0.7 + lamp, 0, 255).astype(np.uint8)
    key, other = face_picture(picture, places, 1.0), face_picture(lit, places + shift[:, 2], 1.0)
    assert key is not None
    assert other is not None
    found = match_spots(key, places, other, places + shift[:, 2] + [0.8, 0.8])
    assert np.nanmedian(np.linalg.norm(found - places - shift[:, 2], axis=1)) < 0.1


def test_small_faces_are_blown_up_and_places_come_back_in_picture_pixels() -> None:
    landmarks = np.zeros((3, 478, 3))
    landmarks[:, 263, 0] = 67.0
    assert matching_scale(landmarks) == 2.0
    landmarks[:, 263, 0] = 130.0
    assert matching_scale(landmarks) == 1.0
    places = spots()
    picture = face_picture(skin(), places, 2.0)
    assert picture is not None
    np.testing.assert_allclose(picture.outside(picture.inside(places)), places)
    moved = face_picture(warped(skin(), np.array([[1.0, 0, 2.5], [0, 1, 1.5]])), places, 2.0)
    assert moved is not None
    found = match_spots(picture, places, moved, places + [2.0, 2.0])
    assert np.nanmedian(np.linalg.norm(found - places - [2.5, 1.5], axis=1)) < 0.1


def test_a_face_outside_the_picture_is_not_shown() -> None:
    assert face_picture(skin(), spots() + 400, 1.0) is None


def test_spread_pictures_cover_the_poses_and_pass_over_the_outermost() -> None:
    angles = np.concatenate([np.zeros(50), np.linspace(-0.5, 0.5, 149), [1.5]])
    state = pose_distance_state(Rotation.from_euler("y", angles[:, None]).as_matrix(), np.tile([0.0, 0, 80], (200, 1)))
    chosen = spread_pictures(state, 10, 12, 0.01)
    assert chosen[0] == 10
    assert len(set(chosen)) == len(chosen) == 12
    assert 199 not in chosen
    assert np.linalg.norm(state[:199, None] - state[chosen], axis=2).min(axis=1).max() < 1.5
    assert spread_pictures(np.zeros((30, 6)), 3, 12) == [3]


def test_the_next_keyframe_is_asked_only_where_the_best_one_does_not_show_enough() -> None:
    places = spots()
    pictures = []
    for seed in (2, 8):
        picture = face_picture(skin(seed), places, 1.0)
        assert picture is not None
        pictures.append(picture)
    keys = Keyframes(pictures, np.zeros((2, 6)), np.stack([places, places]), np.zeros((2, len(places), 3)))
    grays = [warped(skin(2), np.array([[1.0, 0, k], [0, 1, 0]])) for k in range(3)] + [skin(8)]
    chosen = np.array([[-1, -1], [0, 1], [0, 1], [0, 1]])

    def expected(index: int, key: int) -> np.ndarray:
        return places + [index % 3, 0]

    found = register_faces(grays, keys, chosen, expected, 1.0)
    assert np.isnan(found[0]).all()
    for k in (1, 2):
        np.testing.assert_allclose(np.nanmedian(found[k, 0] - places, axis=0), [k, 0], atol=0.05)
        assert np.isnan(found[k, 1]).all()
    assert np.isfinite(found[3, 1, :, 0]).mean() > 0.9


def test_a_texture_has_no_slow_shading() -> None:
    ramp = np.tile(np.linspace(40, 200, 256), (256, 1)).astype(np.uint8)
    picture = face_picture(ramp, spots(), 1.0)
    assert isinstance(picture, FacePicture)
    assert np.abs(picture.texture[20:-20, 20:-20].astype(int) - 128).max() <= 4
