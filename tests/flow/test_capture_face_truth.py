"""Blinks, blendshapes and the sound's offset of a captured performer, against the exact truth.

The performer blinks more often here than people do, so that a short clip holds enough of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from avatarfit.capture import ClipFolder, capture_clip
from avatarfit.capture.blendshapes import blinks
from avatarfit.capture.landmark_source import FACE_MESH_NAME
from avatarfit.contracts import AudioClip
from avatarfit.contracts.events import Event, Note
from avatarfit.media import VideoWriter
from avatarfit.model.blendshapes import GEOMETRY_NAMES
from avatarfit.performer import Performer
from avatarfit.performer.face_shape import SHAPES
from avatarfit.performer.performance import Performance

SECONDS, RATE_HZ, SIZE = 8.0, 25.0, 256
BLINK_SECONDS, SOUND_LATE_SECONDS = 0.913, 0.12


@dataclass(frozen=True)
class Captured:
    truth: Performance
    clip: ClipFolder
    notes: list[str]


@pytest.fixture(scope="module")
def captured(tmp_path_factory: pytest.TempPathFactory) -> Captured:
    folder: Path = tmp_path_factory.mktemp("face")
    performer = Performer(0, SIZE)
    truth = performer.performance(SECONDS, RATE_HZ, 0)
    # As the performer's own blinks: the lids close within 0.1 s, rest for 0.04 s and open within 0.16 s.
    phase = (truth.pts_seconds - 0.3) % BLINK_SECONDS
    closure = np.interp(phase, [0, 0.10, 0.14, 0.30], [0, 1, 1, 0])
    closure = np.repeat((closure**2 * (3 - 2 * closure))[:, None], 2, axis=1)
    landmarks = performer.shape.landmarks_cm(truth.coefficients, closure, truth.gaze)
    truth = replace(truth, blink=closure, landmarks_cm=landmarks.astype(np.float32))
    rate = truth.sound.sample_rate_hz
    late = np.concatenate([np.zeros(round(SOUND_LATE_SECONDS * rate), np.float32), truth.sound.samples])
    with VideoWriter(folder / "clip.mp4", SIZE, SIZE, RATE_HZ, crf=14, sound=AudioClip(late, rate)) as out:
        for index in range(len(truth)):
            out.write(performer.render(truth, index).rgb)
    heard: list[Event] = []
    clip = capture_clip(
        folder / "clip.mp4", folder / "clip", landmarker="none", audio_offset="auto", on_event=heard.append
    )
    return Captured(truth, clip, [e.text for e in heard if isinstance(e, Note)])


def test_blink_frames(captured: Captured) -> None:
    assert len(captured.clip) == len(captured.truth)
    closed = captured.truth.blink.mean(axis=1) > 0.5
    assert closed.sum() > 30
    found = blinks(*captured.clip.blendshapes())
    assert 2 * (found & closed).sum() / (found.sum() + closed.sum()) >= 0.95


def test_blendshapes_follow_what_the_face_did(captured: Captured) -> None:
    names, values = captured.clip.blendshapes()
    assert names == GEOMETRY_NAMES
    assert values.dtype == np.float32
    assert values.shape == (len(captured.clip), len(names))
    assert values.min() >= 0
    assert values.max() <= 1
    about = captured.clip.manifest["blendshapes"]
    assert captured.clip.manifest["landmarks"] == FACE_MESH_NAME
    assert about["source"] == "geometry"
    assert "mouthPucker" in about["absent"]
    assert not set(about["absent"]) & set(names)
    truth = captured.truth

    def agreement(name: str, true: np.ndarray) -> float:
        return float(np.corrcoef(values[:, names.index(name)], true)[0, 1])

    assert agreement("jawOpen", truth.coefficients[:, SHAPES.index("jaw")]) > 0.85
    for side in ("Left", "Right"):
        assert agreement(f"eyeBlink{side}", truth.blink.mean(axis=1)) > 0.9
        across = truth.gaze[:, 0] * (1 if side == "Left" else -1)
        assert agreement(f"eyeLookOut{side}", np.clip(across - np.median(across), 0, None)) > 0.8


def test_the_sounds_offset_is_found_and_mended(captured: Captured) -> None:
    manifest = captured.clip.manifest
    assert abs(manifest["audio_offset_seconds"] - SOUND_LATE_SECONDS) < 0.5 / RATE_HZ
    assert manifest["audio_offset_confidence"] > 0.9
    assert manifest["audio_shift_seconds"] == manifest["audio_offset_seconds"]
    assert captured.clip.audio().start_seconds == pytest.approx(-manifest["audio_shift_seconds"], abs=1e-3)
    assert any("ms after the mouth; it is moved by -1" in note for note in captured.notes)
