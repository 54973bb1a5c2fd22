from __future__ import annotations

import numpy as np

from avatarfit.capture.clip_folder import BACKGROUND, HEAD, MOUTH_INTERIOR, NECK, TORSO
from avatarfit.capture.face_points import (
    BARE_SKIN,
    CHIN,
    FACE_OVAL,
    FOREHEAD_TOP,
    INNER_LIPS,
    JAW_LINE,
    OUTER_EYE_CORNERS,
)
from avatarfit.capture.labels import SkinColor, fill_polygon, label_picture

SKIN, SHIRT, WALL, HAIR = (200, 150, 120), (60, 70, 160), (90, 160, 90), (40, 30, 25)


def drawn_person() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A flat drawing: uint8 [256, 256, 3], landmarks_px [478, 3], person alpha."""
    height = width = 256
    landmarks = np.zeros((478, 3), np.float32)
    landmarks[:, :2] = [128, 100]
    angle = np.linspace(0, 2 * np.pi, len(FACE_OVAL), endpoint=False)
    landmarks[FACE_OVAL, :2] = np.stack([128 + 45 * np.sin(angle), 100 - 60 * np.cos(angle)], axis=1)
    turn = np.linspace(0, 2 * np.pi, len(INNER_LIPS), endpoint=False)
    landmarks[INNER_LIPS, :2] = np.stack([128 + 12 * np.cos(turn), 135 + 5 * np.sin(turn)], axis=1)
    landmarks[list(OUTER_EYE_CORNERS), :2] = [[105, 90], [151, 90]]
    assert landmarks[CHIN, 1] == 160
    assert landmarks[FOREHEAD_TOP, 1] == 40
    for polygon, (x, y) in zip(BARE_SKIN, ((105, 115), (151, 115), (128, 60)), strict=True):
        a = np.linspace(0, 2 * np.pi, len(polygon), endpoint=False)
        landmarks[polygon, :2] = np.stack([x + 8 * np.cos(a), y + 6 * np.sin(a)], axis=1)
    y, x = np.mgrid[:height, :width] + 0.5
    picture = np.empty((height, width, 3), np.uint8)
    picture[:] = WALL
    person = np.zeros((height, width), np.uint8)
    for inside, color in (
        (((x - 128) / 52) ** 2 + ((y - 92) / 68) ** 2 < 1, HAIR),
        ((np.abs(x - 128) < 28) & (y > 130) & (y < 200), SKIN),
        (y > 190 + np.abs(x - 128) * 0.1, SHIRT),
        (((x - 128) / 45) ** 2 + ((y - 100) / 60) ** 2 < 1, SKIN),
    ):
        picture[inside] = color
        person[inside] = 255
    return picture, landmarks, person


def learned(picture: np.ndarray, landmarks: np.ndarray, person: np.ndarray) -> SkinColor:
    skin = SkinColor()
    skin.add(picture, landmarks, person)
    skin.finish()
    return skin


def test_every_region_gets_its_label() -> None:
    picture, landmarks, person = drawn_person()
    labels = label_picture(picture, landmarks, person, learned(picture, landmarks, person))
    for (x, y), label in {
        (128, 100): HEAD, (128, 30): HEAD, (128, 135): MOUTH_INTERIOR, (128, 175): NECK, (108, 172): NECK,
        (128, 230): TORSO, (30, 230): TORSO, (20, 60): BACKGROUND, (240, 150): BACKGROUND,
    }.items():  # fmt: skip
        assert labels[y, x] == label, (x, y, labels[y, x])
    assert set(np.unique(labels)) == {BACKGROUND, HEAD, NECK, TORSO, MOUTH_INTERIOR}


def test_labels_cover_exactly_the_person() -> None:
    picture, landmarks, person = drawn_person()
    labels = label_picture(picture, landmarks, person, learned(picture, landmarks, person))
    np.testing.assert_array_equal(labels > 0, person >= 128)


def test_a_rim_beneath_an_ear_is_head_and_no_floating_torso() -> None:
    picture, landmarks, person = drawn_person()
    skin = learned(picture, landmarks, person)
    jaw_row = int(landmarks[JAW_LINE, 1].min())
    rim = (slice(jaw_row + 14, jaw_row + 24), slice(70, 76))
    person[rim], picture[rim] = 255, HAIR
    labels = label_picture(picture, landmarks, person, skin)
    assert (labels[rim] == HEAD).all()
    assert labels[230, 128] == TORSO


def test_shade_does_not_end_the_neck() -> None:
    picture, landmarks, person = drawn_person()
    skin = learned(picture, landmarks, person)
    picture[160:175] = (picture[160:175] * 0.5).astype(np.uint8)
    labels = label_picture(picture, landmarks, person, skin)
    assert (labels[168:186, 110:146] == NECK).mean() > 0.95


def test_a_high_collar_leaves_no_neck() -> None:
    picture, landmarks, person = drawn_person()
    skin = learned(picture, landmarks, person)
    below = fill_polygon(picture.shape[:2], landmarks[FACE_OVAL, :2]) == 0
    below[:140] = False
    picture[below & (person > 0)] = SHIRT
    labels = label_picture(picture, landmarks, person, skin)
    assert (labels == NECK).sum() < 120  # a pixel's width along the jaw
    assert labels[180, 128] == TORSO


def test_a_tilted_head_tilts_its_lower_edge() -> None:
    picture, landmarks, person = drawn_person()
    person[:] = 255
    tilt = np.deg2rad(20)
    turn = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])
    skin = learned(picture, landmarks, person)
    landmarks[:, :2] = (landmarks[:, :2] - [128, 100]) @ turn.T + [128, 100]
    labels = label_picture(picture, landmarks, person, skin)
    edge = [int(np.flatnonzero(np.isin(labels[:, x], (HEAD, MOUTH_INTERIOR))).max()) for x in (10, 245)]
    assert edge[1] - edge[0] > 0.5 * 235 * np.tan(tilt)


def test_polygons_fill_whole_pixels_by_their_centres() -> None:
    mask = fill_polygon((10, 12), np.array([[2.5, 3.5], [6.5, 3.5], [6.5, 5.5], [2.5, 5.5]]))
    expected = np.zeros((10, 12), np.uint8)
    expected[3:6, 2:7] = 1
    np.testing.assert_array_equal(mask, expected)


def test_the_jaw_line_is_part_of_the_face_oval_once_round() -> None:
    at = [FACE_OVAL.tolist().index(i) for i in JAW_LINE]
    assert set(np.diff(at) % len(FACE_OVAL)) == {len(FACE_OVAL) - 1}
