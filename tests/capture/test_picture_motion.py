from __future__ import annotations

import cv2
import numpy as np
import pytest

from avatarfit.capture.picture_motion import Motion, MotionFinder

SIZE = (256, 192)
HEAD, BODY = np.array([[1.0, 0, 6], [0, 1, 4]]), np.array([[1.0, 0, -8], [0, 1, 0]])


def cloth(seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 1, SIZE[::-1]).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 5)
    return np.clip(128 + 500 * smooth, 0, 255).astype(np.uint8)


def shifted(picture: np.ndarray, x: float, y: float) -> np.ndarray:
    affine = np.array([[1.0, 0, x], [0, 1, y]])
    return cv2.warpAffine(picture, affine, picture.shape[1::-1], borderMode=cv2.BORDER_REFLECT)


def test_by_maps_alone_the_head_moves_above_the_seam_and_the_body_below() -> None:
    picture = cloth()
    moved = Motion.of_maps(HEAD, BODY, 100, SIZE).moved(picture)
    np.testing.assert_allclose(moved[10:95, 10:], picture[6:91, 4:-6], atol=1)
    np.testing.assert_allclose(moved[105:, :-10], picture[105:, 8:-2], atol=1)


def test_origins_are_where_moved_looks() -> None:
    motion = Motion.of_maps(HEAD, BODY, 100, SIZE)
    rows, columns = (v.ravel() for v in np.mgrid[5:190:7, 5:250:7])
    x, y = motion.origins(rows, columns, SIZE)
    above, below = rows < 96, rows > 104
    np.testing.assert_allclose(x[above], columns[above] - 6, atol=1e-3)
    np.testing.assert_allclose(y[above], rows[above] - 4, atol=1e-3)
    np.testing.assert_allclose(x[below], columns[below] + 8, atol=1e-3)


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_a_motion_holds_at_every_size(scale: float) -> None:
    size = int(SIZE[0] * scale), int(SIZE[1] * scale)
    picture = cv2.resize(cloth(), size, interpolation=cv2.INTER_CUBIC)
    moved = Motion.of_maps(HEAD, HEAD, 100, SIZE).moved(picture)
    expected = shifted(picture, 6 * scale, 4 * scale)
    inside = np.s_[20:-20, 20:-20]
    assert np.abs(moved[inside].astype(int) - expected[inside]).max() <= 2


def test_the_first_picture_has_no_motion() -> None:
    assert MotionFinder().next(cloth(), np.eye(2, 3), np.eye(2, 3), 100) is None


def test_where_the_maps_hold_they_are_taken_as_they_are() -> None:
    finder = MotionFinder()
    finder.next(cloth(), np.eye(2, 3), np.eye(2, 3), 100)
    rng = np.random.default_rng(1)
    noisy = np.clip(shifted(cloth(), 6, 4) + rng.normal(0, 3, SIZE[::-1]), 0, 255).astype(np.uint8)
    motion = finder.next(noisy, HEAD, HEAD, 100)
    assert motion is not None
    rows, columns = (v.ravel() for v in np.mgrid[20:170:5, 20:230:5])
    x, y = motion.origins(rows, columns, SIZE)
    assert np.sqrt(np.mean((x - columns + 6) ** 2 + (y - rows + 4) ** 2)) < 0.1


def test_what_moves_otherwise_than_the_maps_is_seen() -> None:
    finder = MotionFinder()
    finder.next(cloth(), np.eye(2, 3), np.eye(2, 3), 100)
    motion = finder.next(shifted(cloth(), 9, 0), np.eye(2, 3), np.eye(2, 3), 100)
    assert motion is not None
    rows, columns = (v.ravel() for v in np.mgrid[30:160:5, 40:220:5])
    x, y = motion.origins(rows, columns, SIZE)
    assert np.abs(np.median(x - columns) + 9) < 0.5
    assert np.abs(np.median(y - rows)) < 0.3


def test_after_a_cut_there_is_no_former_picture() -> None:
    finder = MotionFinder()
    finder.next(cloth(), np.eye(2, 3), np.eye(2, 3), 100)
    assert finder.next(cloth(1), np.eye(2, 3), np.eye(2, 3), 100) is None
    assert finder.next(shifted(cloth(1), 3, 1), np.eye(2, 3), np.eye(2, 3), 100) is not None
