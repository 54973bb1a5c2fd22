"""Laws of the controls: closed lips and eyes stay closed, nothing pops, nothing leaves the shown range."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from avatarfit.contracts import FaceMotion, InputError, Motion
from avatarfit.driving.control_values import ControlRange, Controls, Settings
from avatarfit.driving.controls import MotionControls
from avatarfit.driving.emotions import EMOTIONS, emotion_offsets
from avatarfit.driving.face_space import FaceSpace
from avatarfit.model.rig import lip_aperture_cm


def controlled(someone: SimpleNamespace, settings: Settings, *ranges: ControlRange) -> Motion:
    return MotionControls(Controls(settings, ranges), someone.rig, someone.driver).apply(someone.motion)


def gap_cm(someone: SimpleNamespace, motion: Motion) -> np.ndarray:
    return lip_aperture_cm(someone.rig.landmarks_cm(motion.face)).astype(np.float64)


@pytest.fixture(scope="module")
def space(someone: SimpleNamespace) -> FaceSpace:
    return FaceSpace.of(someone.rig, someone.driver)


def test_without_controls_nothing_changes(someone: SimpleNamespace) -> None:
    assert controlled(someone, Settings()) is someone.motion
    same = controlled(someone, Settings(lip_opening=1.0, expression=1.0, head_motion=1.0, gaze="free", emotion="none"))
    for part in ("mouth", "upper", "eyes"):
        np.testing.assert_array_equal(getattr(same.face, part), getattr(someone.motion.face, part))
    np.testing.assert_array_equal(same.head.rotation_wxyz, someone.motion.head.rotation_wxyz)


_MOUTHS = [Settings(emotion=name) for name in EMOTIONS] + [
    Settings(lip_opening=0.0), Settings(lip_opening=2.0), Settings(expression=0.0), Settings(expression=2.0),
    Settings(lip_opening=1.7, expression=1.7, emotion="surprised"),
]  # fmt: skip


@pytest.mark.parametrize("settings", _MOUTHS)
def test_closed_lips_stay_closed(someone: SimpleNamespace, space: FaceSpace, settings: Settings) -> None:
    before, after = gap_cm(someone, someone.motion), gap_cm(someone, controlled(someone, settings))
    closed = before <= space.closed_cm
    assert closed.sum() > 100
    np.testing.assert_allclose(after[closed], before[closed], atol=1e-4)
    assert (after[~closed] >= space.closed_cm - 1e-4).all()


@pytest.mark.parametrize("name", EMOTIONS)
def test_what_an_emotion_adds_to_the_gap_fades_towards_closure(
    someone: SimpleNamespace, space: FaceSpace, name: str
) -> None:
    """Mouths on the way from closed to wide: the change of the gap starts from nothing and never jumps."""
    count = 400
    gaps = np.linspace(space.closed_cm - 0.05, space.wide_cm, count)
    mouth = space.mouth.rest + np.outer(gaps - space.gaps_cm(space.mouth.rest[None])[0, 3], space.opening)
    face = FaceMotion(mouth, np.tile(space.upper.rest, (count, 1)), np.tile(space.eyes.rest, (count, 1)))
    motion = replace(someone.motion[:count], face=face)
    after = MotionControls(Controls(Settings(emotion=name)), someone.rig, someone.driver).apply(motion)
    added = gap_cm(someone, after) - gap_cm(someone, motion)
    nearly = np.abs(gaps - space.closed_cm) < 0.02 * (space.wide_cm - space.closed_cm)
    assert np.abs(added[nearly]).max() < 0.02
    assert np.abs(np.diff(added)).max() < 0.05
    assert np.abs(np.diff(after.face.mouth, axis=0)).max() < 0.3


def test_emotions_show_in_both_halves_and_each_half_alone(someone: SimpleNamespace) -> None:
    for name in EMOTIONS:
        both = controlled(someone, Settings(emotion=name))
        upper = controlled(someone, Settings(emotion=name, emotion_lower=0.0))
        lower = controlled(someone, Settings(emotion=name, emotion_upper=0.0))
        np.testing.assert_array_equal(upper.face.mouth, someone.motion.face.mouth)
        np.testing.assert_array_equal(lower.face.upper, someone.motion.face.upper)
        np.testing.assert_array_equal(lower.face.eyes, someone.motion.face.eyes)
        np.testing.assert_array_equal(both.face.upper, upper.face.upper)
        np.testing.assert_array_equal(both.face.mouth, lower.face.mouth)


def test_emotions_move_the_face_as_they_are_named(someone: SimpleNamespace, space: FaceSpace) -> None:
    rest = FaceMotion(space.mouth.rest[None], space.upper.rest[None], space.eyes.rest[None])
    offsets = emotion_offsets(space)
    still = someone.rig.landmarks_cm(rest)[0]

    def moved(name: str) -> np.ndarray:
        k = EMOTIONS.index(name)
        face = FaceMotion(rest.mouth + offsets.mouth[k], rest.upper + offsets.upper[k], rest.eyes + offsets.eyes[k])
        return someone.rig.landmarks_cm(face)[0] - still

    corners, inner_brows, outer_brows = [61, 291], [107, 336], [105, 334]
    happy, sad, angry, surprised = (moved(name) for name in ("happy", "sad", "angry", "surprised"))
    assert happy[291, 0] > 0.1
    assert happy[61, 0] < -0.1
    assert happy[corners, 1].mean() < sad[corners, 1].mean() - 0.05
    assert angry[inner_brows, 1].mean() > 0.1
    assert surprised[outer_brows, 1].mean() < -0.1
    assert surprised[152, 1] > 0.1


def test_shut_eyes_stay_shut(someone: SimpleNamespace, space: FaceSpace) -> None:
    before = someone.motion.face.eyes[:, 4:].mean(axis=1)
    shut = space.closure(someone.motion.face.eyes) >= 1
    assert shut.sum() > 5
    for settings in (Settings(emotion="surprised"), Settings(expression=2.0), Settings(gaze=(0.0, 20.0))):
        after = controlled(someone, settings)
        np.testing.assert_allclose(after.face.eyes[shut, 4:].mean(axis=1), before[shut], atol=1e-4)
        np.testing.assert_allclose(after.face.upper[shut], someone.motion.face.upper[shut], atol=1e-4)


def test_nothing_goes_beyond_what_the_person_has_shown(someone: SimpleNamespace, space: FaceSpace) -> None:
    for settings in [*_MOUTHS, Settings(gaze=(30.0, 30.0)), Settings(gaze=(-30.0, -30.0))]:
        after, before = controlled(someone, settings).face, someone.motion.face
        # The middle gap is put right last, by a little beyond the range.
        for part, slack in (("mouth", 0.3), ("upper", 1e-4), ("eyes", 1e-4)):
            shown, new, old = getattr(space, part), getattr(after, part), getattr(before, part)
            assert (new <= np.maximum(shown.high, old) + slack).all()
            assert (new >= np.minimum(shown.low, old) - slack).all()


def test_lip_opening_scales_the_gap(someone: SimpleNamespace, space: FaceSpace) -> None:
    before = gap_cm(someone, someone.motion) - space.closed_cm
    wide = before > 0.1
    half = gap_cm(someone, controlled(someone, Settings(lip_opening=0.5))) - space.closed_cm
    # Where the smaller gap would leave the person's range of shapes, less of it is done.
    assert (np.abs(half[wide] - 0.5 * before[wide]) < 1e-3).mean() > 0.8
    assert (half[wide] <= before[wide] + 1e-4).all()
    none = gap_cm(someone, controlled(someone, Settings(lip_opening=0.0))) - space.closed_cm
    assert np.median(np.abs(none[wide])) < 0.05


def test_expression_scales_the_rest_of_the_face_and_not_the_gap(someone: SimpleNamespace) -> None:
    calm, lively = controlled(someone, Settings(expression=0.5)), controlled(someone, Settings(expression=1.5))
    np.testing.assert_allclose(gap_cm(someone, calm), gap_cm(someone, someone.motion), atol=1e-4)
    spread = [motion.face.upper.std(axis=0).sum() for motion in (calm, someone.motion, lively)]
    assert spread[0] < 0.8 * spread[1] < 0.8 * spread[2]


def test_the_gaze_follows_its_target_whatever_the_head_does(someone: SimpleNamespace) -> None:
    free = someone.motion.face.eyes
    towards = {name: controlled(someone, Settings(gaze=g)).face.eyes for name, g in
               {"right": (10.0, 0.0), "left": (-10.0, 0.0), "up": (0.0, 8.0), "down": (0.0, -8.0)}.items()}  # fmt: skip
    assert np.median(towards["right"][:, 0]) > np.median(free[:, 0]) > np.median(towards["left"][:, 0])
    assert np.median(towards["up"][:, 1]) < np.median(free[:, 1]) < np.median(towards["down"][:, 1])
    camera = controlled(someone, Settings(gaze="camera")).face.eyes
    quat = someone.motion.head.rotation_wxyz
    # Of a head that turns to the picture's right (about -y), eyes that stay with the camera go left.
    assert np.corrcoef(camera[:, 0], 2 * quat[:, 2])[0, 1] > 0.5


def test_head_motion_goes_to_the_common_rest(someone: SimpleNamespace) -> None:
    still = controlled(someone, Settings(head_motion=0.0))
    assert np.ptp(still.head.translation_cm, axis=0).max() < 1e-5
    assert np.ptp(still.torso.affine, axis=0).max() < 1e-6
    assert np.ptp(still.torso.shape, axis=0).max() < 1e-6
    half = controlled(someone, Settings(head_motion=0.5))
    middle = (still.head.translation_cm + someone.motion.head.translation_cm) / 2
    np.testing.assert_allclose(half.head.translation_cm, middle, atol=1e-4)
    np.testing.assert_array_equal(still.face.eyes, someone.motion.face.eyes)


def test_ranges_come_and_go_smoothly(someone: SimpleNamespace) -> None:
    inside = ControlRange(10.0, 20.0, Settings(emotion="happy", lip_opening=0.3, head_motion=0.0), 0.2)
    pts = np.arange(0, 30, 0.001)
    weight = inside.weight(pts)
    assert np.abs(np.diff(weight)).max() < 0.01
    assert (weight[(pts < 10) | (pts > 20)] == 0).all()
    assert (weight[(pts > 10.2) & (pts < 19.8)] == 1).all()
    after, whole = controlled(someone, Settings(), inside), controlled(someone, inside.settings)
    t = someone.motion.pts_seconds
    outside, core = (t <= 10) | (t >= 20), (t > 10.2) & (t < 19.8)
    np.testing.assert_array_equal(after.face.mouth[outside], someone.motion.face.mouth[outside])
    np.testing.assert_allclose(after.face.mouth[core], whole.face.mouth[core], atol=1e-5)
    # No frame steps farther than the motion itself and an even ease of the change would.
    step, own = (np.abs(np.diff(m.face.mouth, axis=0)).max() for m in (after, someone.motion))
    reach = np.abs(whole.face.mouth - someone.motion.face.mouth).max()
    assert step < own + reach * 1.5 * 0.04 / 0.2 + 0.1


def test_pieces_give_what_the_whole_gives(someone: SimpleNamespace) -> None:
    controls = Controls(Settings(emotion="sad"), (ControlRange(1.0, 3.0, Settings(gaze="camera", lip_opening=1.5)),))
    live = MotionControls(controls, someone.rig, someone.driver)
    whole = live.apply(someone.motion[:200])
    parts = [live.apply(someone.motion[start : start + 7]) for start in range(0, 200, 7)]
    joined = np.concatenate([part.face.mouth for part in parts])[:200]
    np.testing.assert_allclose(joined, whole.face.mouth, atol=1e-5)
    np.testing.assert_allclose(np.concatenate([p.face.eyes for p in parts])[:200], whole.face.eyes, atol=1e-5)


def test_controls_are_read_from_toml_and_json(tmp_path: Path) -> None:
    text = 'lip_opening = 1.2\n[[range]]\nstart = 1\nend = 2.5\nemotion = "happy"\nemotion_upper = 0.4\nease = 0.2\n'
    (tmp_path / "c.toml").write_text(text)
    (tmp_path / "c.json").write_text(
        '{"lip_opening": 1.2, "range": '
        '[{"start": 1, "end": 2.5, "emotion": "happy", "emotion_upper": 0.4, "ease": 0.2}]}'
    )
    read = Controls.read(tmp_path / "c.toml")
    assert read == Controls.read(tmp_path / "c.json")
    part = ControlRange(1.0, 2.5, Settings(emotion="happy", emotion_upper=0.4), 0.2)
    assert read == Controls(Settings(lip_opening=1.2), (part,))
    track = read.at(np.array([0.0, 1.75]))
    np.testing.assert_allclose(track.emotion_upper[:, EMOTIONS.index("happy")], [0, 0.4])
    np.testing.assert_allclose(track.emotion_lower[:, EMOTIONS.index("happy")], [0, 1])
    np.testing.assert_allclose(track.lip_opening, 1.2)
    over = Controls.read(tmp_path / "c.toml", Settings(lip_opening=0.5, gaze="10,-5"))
    assert over.whole == Settings(lip_opening=0.5, gaze=(10.0, -5.0))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lips = 1", "there is no control lips"),
        ("lip_opening = 3", "lip_opening came as 3; wanted a number from 0 to 2"),
        ("lip_opening = true", "lip_opening came as True"),
        ('emotion = "bored"', "emotion came as bored; wanted one of happy"),
        ('gaze = "99,0"', "gaze came as 99,0"),
        ("range = 3", "is no list of tables"),
        ("[[range]]\nstart = 1", "a range has no end"),
        ("[[range]]\nstart = 2\nend = 1", "a range came from 2.0 to 1.0 s"),
        ("[[range]]\nstart = nan\nend = 1", "a range came from nan"),
        ('[[range]]\nstart = "x"\nend = 1', "start came as x"),
        ("[[range]]\nstart = 1\nend = 2\nease = 3", "ease came as 3"),
        ("lip_opening = = 2", "is damaged"),
    ],
)
def test_wrong_controls_are_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(InputError, match=said):
        Controls.read(tmp_path / "c.toml")
    with pytest.raises(InputError, match="cannot be read"):
        Controls.read(tmp_path / "no.toml")
    with pytest.raises(InputError, match=r"do not end in .toml or .json"):
        Controls.read(tmp_path / "c.txt")
