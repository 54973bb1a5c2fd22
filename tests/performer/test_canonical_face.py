from __future__ import annotations

import numpy as np
import pytest

from avatarfit.capture.canonical_face import LOWER_INNER_LIP, UPPER_INNER_LIP, CanonicalFace, canonical_face


@pytest.fixture(scope="module")
def face() -> CanonicalFace:
    return canonical_face()


def test_outer_eye_corners_set_origin_and_scale(face: CanonicalFace) -> None:
    right, left = face.vertices_cm[33], face.vertices_cm[263]
    np.testing.assert_allclose(right + left, 0, atol=1e-5)
    np.testing.assert_allclose(left - right, [8.9, 0, 0], atol=1e-5)


def test_symmetric_under_the_mirror_map(face: CanonicalFace) -> None:
    assert (face.mirror[face.mirror] == np.arange(478)).all()
    np.testing.assert_allclose(face.vertices_cm[face.mirror], face.vertices_cm * [-1, 1, 1], atol=1e-5)
    for index in (10, 168, 1, 0, 13, 14, 17, 152):
        assert face.mirror[index] == index
        assert abs(face.vertices_cm[index, 0]) < 1e-5
    assert face.mirror[[33, 61, 234, 468]].tolist() == [263, 291, 454, 473]


def test_axes_point_right_down_and_away(face: CanonicalFace) -> None:
    v = face.vertices_cm
    assert v[263, 0] > 0 > v[33, 0]
    assert v[152, 1] > v[13, 1] > v[1, 1] > 0 > v[10, 1]
    assert v[1, 2] == pytest.approx(v[:468, 2].min(), abs=0.6)
    assert v[234, 2] > v[50, 2] > v[1, 2]
    assert 14 < v[152, 1] - v[10, 1] < 19
    assert 12 < v[454, 0] - v[234, 0] < 16


def test_triangles_are_a_disc_with_three_holes(face: CanonicalFace) -> None:
    assert face.triangles.shape == (852, 3)
    assert np.unique(face.triangles).tolist() == list(range(468))
    edges = np.sort(face.triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    unique, uses = np.unique(edges, axis=0, return_counts=True)
    assert uses.max() == 2
    assert 468 - len(unique) + len(face.triangles) == 1 - 3
    neighbours: dict[int, set[int]] = {}
    for a, b in unique[uses == 1].tolist():
        neighbours.setdefault(a, set()).add(b)
        neighbours.setdefault(b, set()).add(a)
    loops = 0
    while neighbours:
        front = [next(iter(neighbours))]
        while front:
            front.extend(neighbours.pop(front.pop(), ()))
        loops += 1
    assert loops == 4


def test_neighbouring_triangles_turn_the_same_way(face: CanonicalFace) -> None:
    directed = face.triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)
    assert len(np.unique(directed, axis=0)) == len(directed)


def test_the_resting_mouth_is_closed(face: CanonicalFace) -> None:
    np.testing.assert_array_equal(face.vertices_cm[list(UPPER_INNER_LIP)], face.vertices_cm[list(LOWER_INNER_LIP)])


def test_found_anew_it_is_the_same(face: CanonicalFace) -> None:
    canonical_face.cache_clear()
    again = canonical_face()
    np.testing.assert_array_equal(again.vertices_cm, face.vertices_cm)
    np.testing.assert_array_equal(again.triangles, face.triangles)
