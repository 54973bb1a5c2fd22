"""Each advice comes where exactly that is wrong, and not on a good clip."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from avatarfit.capture.report import write_report
from avatarfit.contracts import AudioClip, HeadPose
from avatarfit.contracts.events import Note
from avatarfit.performer import Performer
from avatarfit.performer import face_shape as fs
from avatarfit.performer.performance import Performance, project_landmarks

Film = Any  # of conftest.py


def failed(clip: Any) -> list[str]:
    return [check.name for check in write_report(clip).failed]


def test_a_good_clip_passes_every_check(good: Film, make_clip: Callable, tmp_path: Path) -> None:
    heard: list[Any] = []
    report = write_report(make_clip(good, tmp_path / "good"), heard.append)
    assert {c.name: c.measured for c in report.checks if not c.passed} == {}
    assert len({c.name for c in report.checks}) == len(report.checks) == 15
    assert not any(isinstance(e, Note) for e in heard)


def brightness(take: Film) -> Film:
    gain = np.linspace(1, 0.7, len(take.rgb))[:, None, None, None]
    return replace(take, rgb=(take.rgb * gain).astype(np.uint8))


def soft(take: Film) -> Film:
    return replace(take, rgb=np.stack([cv2.GaussianBlur(p, (0, 0), 2) for p in take.rgb]))


def smeared(take: Film) -> Film:
    rgb = take.rgb.copy()
    for k in range(0, len(rgb), 6):
        rgb[k] = cv2.blur(rgb[k], (15, 1))
    return replace(take, rgb=rgb)


def another_room(take: Film) -> Film:
    alpha = take.alpha[..., None].astype(np.float32) / 255
    rgb = take.rgb.copy()
    half = len(rgb) // 2
    rgb[half:] = (alpha * take.rgb + (1 - alpha) * (255 - take.plate))[half:]
    return replace(take, rgb=rgb)


def lost_face(take: Film) -> Film:
    return replace(take, rejects=tuple((float(t), "no face") for t in np.linspace(10, 20, 6)))


def hurried(take: Film) -> Film:
    """The same pictures within fifteen seconds."""
    sound = take.sound
    rate = len(take.rgb) / 15
    return replace(take, frame_rate_hz=rate, sound=replace(sound, samples=sound.samples[: 15 * sound.sample_rate_hz]))


PICTURES: dict[str, tuple[str, Callable[[Film], Film]]] = {
    "short": ("short", hurried), "light": ("light", brightness), "out of focus": ("focus", soft),
    "smeared": ("motion", smeared), "cut": ("cuts", another_room), "small": ("small", lambda take: take.halved()),
    "cut off": ("frame", lambda take: take.moved(-60)), "away": ("frame", lost_face),
}  # fmt: skip


@pytest.mark.parametrize("wrong", PICTURES)
def test_pictures_in_which_one_thing_is_wrong(wrong: str, good: Film, make_clip: Callable, tmp_path: Path) -> None:
    name, harm = PICTURES[wrong]
    assert failed(make_clip(harm(good), tmp_path / "clip")) == [name]


def still_head(performer: Performer, p: Performance) -> Performance:
    turn = Rotation.from_quat(p.head.rotation_wxyz[:, [1, 2, 3, 0]])
    vectors = turn.as_rotvec()
    x, y, z, w = Rotation.from_rotvec(vectors.mean(0) + 0.15 * (vectors - vectors.mean(0))).as_quat().T
    head = HeadPose(np.stack([w, x, y, z], axis=1), p.head.translation_cm)
    return replace(p, head=head, landmarks_px=project_landmarks(p.landmarks_cm, head, p.camera))


def mumbled(performer: Performer, p: Performance, opening: float) -> Performance:
    coefficients = p.coefficients.copy()
    mouth = [fs.SHAPES.index(n) for n in fs.SHAPES if not n.startswith("brow")]
    coefficients[:, mouth] *= opening
    landmarks = performer.shape.landmarks_cm(coefficients, p.blink, p.gaze).astype(np.float32)
    return replace(
        p, coefficients=coefficients, landmarks_cm=landmarks, mouth_open_cm=p.mouth_open_cm * opening,
        landmarks_px=project_landmarks(landmarks, p.head, p.camera),
    )  # fmt: skip


def test_a_still_head(performer: Performer, performance: Performance, filmed, make_clip, tmp_path: Path) -> None:
    clip = make_clip(filmed(performer, still_head(performer, performance)), tmp_path / "clip")
    assert failed(clip) == ["turn", "nod"]


def test_a_mouth_that_barely_opens(performer: Performer, performance: Performance, filmed, make_clip, tmp_path) -> None:
    clip = make_clip(filmed(performer, mumbled(performer, performance, 0.3)), tmp_path / "clip")
    assert failed(clip) in (["mouth"], ["mouth", "shapes"])  # a mouth that hardly opens has few shapes, too


def test_few_shapes(good: Film, make_clip: Callable, tmp_path: Path) -> None:
    """One word again and again: wide open and shut."""
    p = good.performance
    ends = [int(np.argmin(p.mouth_open_cm)), int(np.argmax(p.mouth_open_cm))]
    landmarks = p.landmarks_cm.copy()
    lips = slice(0, 468)
    landmarks[:, lips] = landmarks[[ends[k % 2] for k in range(len(landmarks))], lips]
    assert failed(make_clip(replace(good, performance=replace(p, landmarks_cm=landmarks)), tmp_path / "clip")) == [
        "shapes"
    ]


def power_of(sound: AudioClip) -> float:
    return float(np.sqrt(np.square(sound.samples).mean()))


def with_noise(sound: AudioClip, db: float) -> AudioClip:
    noise = np.random.default_rng(0).normal(size=len(sound.samples)) * power_of(sound) * 10 ** (db / 20)
    return replace(sound, samples=(sound.samples + noise).astype(np.float32))


def with_music(sound: AudioClip, db: float) -> AudioClip:
    """Four chords, struck twice a second, each with its overtones."""
    rate = sound.sample_rate_hz
    t = np.arange(len(sound.samples)) / rate
    chords = np.array([[220, 277.2, 329.6], [196, 246.9, 293.7], [174.6, 220, 261.6], [164.8, 207.7, 246.9]])
    struck = (t / 0.5).astype(int)
    music = np.zeros(len(t))
    for tone in chords.T:
        for overtone in (1, 2, 3, 4):
            music += np.sin(2 * np.pi * overtone * tone[struck % 4] * t) / overtone * np.exp(-1.5 * (t - 0.5 * struck))
    music *= power_of(sound) * 10 ** (db / 20) / music.std()
    return replace(sound, samples=(sound.samples + music).astype(np.float32))


def overloaded(sound: AudioClip) -> AudioClip:
    return replace(sound, samples=np.clip(2 * sound.samples / np.abs(sound.samples).max(), -1, 1))


SOUNDS: dict[str, tuple[list[str], Callable[[AudioClip], AudioClip | None]]] = {
    "none": (["silent"], lambda sound: None),
    "muted": (["silent"], lambda sound: replace(sound, samples=sound.samples * 1e-5)),
    "overloaded": (["overload"], overloaded),
    "noisy": (["noise"], lambda sound: with_noise(sound, -15)),
    "a little noise": ([], lambda sound: with_noise(sound, -30)),
    "soft music": (["music"], lambda sound: with_music(sound, -28)),
    "loud music": (["music"], lambda sound: with_music(sound, -14)),
}


@pytest.mark.parametrize("wrong", SOUNDS)
def test_sound_in_which_one_thing_is_wrong(wrong: str, good: Film, make_clip: Callable, tmp_path: Path) -> None:
    names, harm = SOUNDS[wrong]
    assert failed(make_clip(replace(good, sound=harm(good.sound)), tmp_path / "clip")) == names
