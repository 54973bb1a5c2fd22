from __future__ import annotations

import itertools

import numpy as np
import pytest

from avatarfit.capture.clip_folder import BACKGROUND, FACE, HAIR, HEAD, MOUTH_INTERIOR, NECK, TORSO
from avatarfit.capture.face_points import (
    BARE_SKIN,
    CHIN,
    FACE_OVAL,
    FOREHEAD_TOP,
    INNER_LIPS,
    JAW_LINE,
    OUTER_EYE_CORNERS,
    OUTER_LIPS,
    RIGID,
)
from avatarfit.capture.labels import Labeller
from avatarfit.capture.part_model import PartModel, Sample
from avatarfit.capture.part_zones import Zones, bans, fill_polygon, working_scale
from avatarfit.capture.picture_motion import Motion

SKIN, SHIRT, WALL, BROWN, BLOND = (200, 150, 120), (60, 70, 160), (90, 160, 90), (40, 30, 25), (150, 115, 70)
LIP, DARK = (170, 85, 85), (30, 12, 12)
Drawing = tuple[np.ndarray, np.ndarray, np.ndarray]


def drawn_person(hair: tuple[int, int, int] | None = BROWN, long: bool = False, width: int = 256) -> Drawing:
    """A drawing with a little noise: uint8 [256, width, 3], landmarks_px [478, 3], person alpha."""
    height = 256
    landmarks = np.zeros((478, 3), np.float32)
    landmarks[:, :2] = [128, 100]
    spread = np.random.default_rng(1).uniform(-30, 30, (len(RIGID), 2))
    landmarks[RIGID, :2] = [128, 90] + spread
    angle = np.linspace(0, 2 * np.pi, len(FACE_OVAL), endpoint=False)
    landmarks[FACE_OVAL, :2] = np.stack([128 + 45 * np.sin(angle), 100 - 60 * np.cos(angle)], axis=1)
    turn = np.linspace(0, 2 * np.pi, len(INNER_LIPS), endpoint=False)
    for lips, across, down in ((INNER_LIPS, 12, 5), (OUTER_LIPS, 18, 11)):
        landmarks[lips, :2] = np.stack([128 - across * np.cos(turn), 135 + down * np.sin(turn)], axis=1)
    landmarks[list(OUTER_EYE_CORNERS), :2] = [[105, 90], [151, 90]]
    assert landmarks[CHIN, 1] == 160
    assert landmarks[FOREHEAD_TOP, 1] == 40
    for polygon, (x, y) in zip(BARE_SKIN, ((105, 115), (151, 115), (128, 60)), strict=True):
        a = np.linspace(0, 2 * np.pi, len(polygon), endpoint=False)
        landmarks[polygon, :2] = np.stack([x + 8 * np.cos(a), y + 6 * np.sin(a)], axis=1)
    y, x = np.mgrid[:height, :width] + 0.5
    picture = np.empty((height, width, 3), np.float64)
    picture[:] = WALL
    person = np.zeros((height, width), np.uint8)
    skull = ((x - 128) / 52) ** 2 + ((y - 88) / 72) ** 2 < 1
    for inside, color in (
        (skull, hair or SKIN),
        ((np.abs(x - 128) < 28) & (y > 130) & (y < 200), SKIN),
        (y > 190 + np.abs(x - 128) * 0.1, SHIRT),
        ((np.abs(np.abs(x - 128) - 48) < 12) & (y > 80) & (y < 222) & long, hair or SKIN),
        (((x - 128) / 45) ** 2 + ((y - 100) / 60) ** 2 < 1, SKIN),
        (((x - 128) / 18) ** 2 + ((y - 135) / 11) ** 2 < 1, LIP),
        (((x - 128) / 12) ** 2 + ((y - 135) / 5) ** 2 < 1, DARK),
    ):
        picture[inside] = color
        person[inside] = 255
    # Light comes from the left and from above, and cameras have noise.
    picture *= (1.08 - 0.12 * x / width - 0.06 * y / height)[..., None]
    picture += np.random.default_rng(0).normal(0, 3, picture.shape)
    return picture.clip(0, 255).astype(np.uint8), landmarks, person


def moved_drawing(drawing: Drawing, dx: int) -> Drawing:
    picture, landmarks, person = drawing
    shifted = landmarks.copy()
    shifted[:, 0] += dx
    return np.roll(picture, dx, axis=1), shifted, np.roll(person, dx, axis=1)


def labelled(*drawings: Drawing, show: Drawing | None = None) -> np.ndarray:
    model = PartModel.learn([Sample.of(*d) for d in drawings])
    return Labeller(model).label(*(show or drawings[0]))


def test_every_region_gets_its_label() -> None:
    labels = labelled(drawn_person())
    for (x, y), label in {
        (128, 100): FACE, (128, 60): FACE, (100, 120): FACE, (128, 25): HAIR, (80, 60): HAIR, (172, 66): HAIR,
        (128, 135): MOUTH_INTERIOR, (128, 175): NECK, (108, 172): NECK, (128, 230): TORSO, (30, 230): TORSO,
        (20, 60): BACKGROUND, (240, 150): BACKGROUND,
    }.items():  # fmt: skip
        assert labels[y, x] == label, (x, y, labels[y, x])
    assert set(np.unique(labels)) == {BACKGROUND, FACE, NECK, TORSO, MOUTH_INTERIOR, HAIR}
    assert set(HEAD) == {FACE, MOUTH_INTERIOR, HAIR}


def test_labels_cover_exactly_the_person() -> None:
    drawing = drawn_person()
    np.testing.assert_array_equal(labelled(drawing) > 0, drawing[2] >= 128)


@pytest.mark.parametrize("color", [BROWN, BLOND, (110, 110, 112)])
def test_long_hair_is_hair_down_to_the_shoulders(color: tuple[int, int, int]) -> None:
    labels = labelled(drawn_person(color, long=True))
    for x in (80, 176):
        assert (labels[70:212, x] == HAIR).mean() > 0.95
    assert labels[235, 80] == TORSO
    assert labels[175, 128] == NECK
    assert labels[110, 128] == FACE


def test_a_bald_head_has_no_hair() -> None:
    labels = labelled(drawn_person(hair=None))
    assert (labels == HAIR).mean() < 0.002
    assert (labels[22:40, 110:146] == FACE).all()


def test_a_beard_and_glasses_are_face() -> None:
    drawing = drawn_person()
    picture = drawing[0]
    y, x = np.mgrid[:256, :256] + 0.5
    face = ((x - 128) / 45) ** 2 + ((y - 100) / 60) ** 2 < 1
    picture[face & (y > 122) & (np.hypot(x - 128, y - 135) > 20)] = BROWN
    rim = np.abs(np.hypot(np.abs(x - 128) - 20, y - 90) - 13) < 2
    picture[rim] = 15
    labels = labelled(drawing)
    assert np.isin(labels[rim], (FACE,)).mean() > 0.97
    beard = face & (y > 122) & (y < 148) & (np.abs(x - 128) < 22)
    assert (labels[beard] == HAIR).sum() == 0


def test_bare_shoulders_are_torso() -> None:
    drawing = drawn_person(long=True)
    picture, _, person = drawing
    shirt = (np.abs(picture.astype(int) - SHIRT).sum(axis=2) < 60) & (person > 0)
    picture[shirt] = (np.array(SKIN) * 0.95).astype(np.uint8)
    labels = labelled(drawing)
    assert (labels[228:, 5:60] == TORSO).mean() > 0.9
    assert labels[172, 128] == NECK


def test_shade_does_not_end_the_neck() -> None:
    drawing = drawn_person()
    picture = drawing[0]
    picture[160:175] = (picture[160:175] * 0.55).astype(np.uint8)
    assert (labelled(drawing)[164:186, 110:146] == NECK).mean() > 0.95


def test_a_high_collar_leaves_no_neck() -> None:
    drawing = drawn_person()
    picture, landmarks, person = drawing
    below = fill_polygon(picture.shape[:2], landmarks[FACE_OVAL, :2]) == 0
    below[:140] = False
    picture[below & (person > 0) & (np.abs(np.arange(256) - 127.5) < 40)] = SHIRT
    labels = labelled(drawing)
    assert (labels == NECK).sum() < 150  # a pixel's width along the jaw
    assert labels[180, 128] == TORSO


def test_parts_are_found_in_a_picture_that_was_not_learned_from() -> None:
    drawing = drawn_person(BLOND, long=True)
    shown = moved_drawing(drawing, 20)
    labels = labelled(drawing, show=shown)
    expected = np.roll(labelled(drawing), 20, axis=1)
    assert (labels != expected)[:, 40:].mean() < 0.004


def test_what_is_undecided_stays_as_it_was() -> None:
    """Labels of pictures that differ by noise alone differ less than without what is carried over."""
    rng = np.random.default_rng(3)
    picture, landmarks, person = drawn_person(BLOND, long=True)
    noisy = [np.clip(picture + rng.normal(0, 14, picture.shape), 0, 255).astype(np.uint8) for _ in range(6)]
    model = PartModel.learn([Sample.of(n, landmarks, person) for n in noisy])
    one = Labeller(model)
    still = Motion(np.zeros((8, 8, 2), np.float32))
    carried = [one.label(n, landmarks, person, still if k else None) for k, n in enumerate(noisy)]
    fresh = [Labeller(model).label(n, landmarks, person) for n in noisy]

    def flicker(labels: list[np.ndarray]) -> float:
        return float(np.mean([(a != b).mean() for a, b in itertools.pairwise(labels[1:])]))

    assert flicker(fresh) > 0
    assert flicker(carried) < 0.6 * flicker(fresh)


def test_large_pictures_are_parsed_small_and_labelled_at_their_own_size() -> None:
    import cv2

    picture, landmarks, person = drawn_person()
    small = labelled((picture, landmarks, person))
    large = cv2.resize(picture, (1024, 1024), interpolation=cv2.INTER_CUBIC)
    outline = cv2.resize(person, (1024, 1024), interpolation=cv2.INTER_CUBIC)
    labels = labelled((large, landmarks * 4, outline))
    assert working_scale(1024, 1024) == 0.25
    agree = labels[2::4, 2::4] == small
    assert agree.mean() > 0.985


def test_a_tilted_head_tilts_the_line_below_which_there_is_no_face() -> None:
    _, landmarks, _ = drawn_person()
    tilt = np.deg2rad(20)
    turn = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])
    landmarks[:, :2] = (landmarks[:, :2] - [128, 100]) @ turn.T + [128, 100]
    above = Zones.of(landmarks, (256, 256)).above
    edge = [int(np.flatnonzero(above[:, x]).max()) for x in (10, 245)]
    assert edge[1] - edge[0] > 0.5 * 235 * np.tan(tilt)


def test_a_model_of_no_picture_is_an_error() -> None:
    with pytest.raises(ValueError, match="no picture"):
        PartModel.learn([])


def test_polygons_fill_whole_pixels_by_their_centres() -> None:
    mask = fill_polygon((10, 12), np.array([[2.5, 3.5], [6.5, 3.5], [6.5, 5.5], [2.5, 5.5]]))
    expected = np.zeros((10, 12), np.uint8)
    expected[3:6, 2:7] = 1
    np.testing.assert_array_equal(mask, expected)


def test_the_jaw_line_is_part_of_the_face_oval_once_round() -> None:
    at = [FACE_OVAL.tolist().index(i) for i in JAW_LINE]
    assert set(np.diff(at) % len(FACE_OVAL)) == {len(FACE_OVAL) - 1}


def test_bans_are_the_zones() -> None:
    _, landmarks, person = drawn_person(BLOND)
    zones = Zones.of(landmarks, person.shape)
    face, hair, neck, torso = np.moveaxis(bans(landmarks, person.shape, 160), 2, 0)
    assert not face[zones.above].any()
    assert (torso[zones.above] == 160).all()
    assert (hair[zones.core] == 160).all()
    np.testing.assert_array_equal(neck == 0, zones.neck)
    assert set(np.unique(neck)) == {0, 160}
