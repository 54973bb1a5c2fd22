"""Necks are held against true ones whose jaw lies alike on the torso, wherever torso and head are."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from avatarfit.compositing.dub_region import JAW_EDGE
from avatarfit.contracts import Camera
from avatarfit.pipeline.seams import _UsualNecks

SIDE, FRAMES, RATE = 160, 300, 25.0
CAMERA = Camera(SIDE, SIDE, 2.0 * SIDE, SIDE / 2, SIDE / 2)


def texture(move: tuple[float, float]) -> np.ndarray:
    """Clothes whose pattern is the stronger the farther down; moved by so many pixels."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(float)
    x, y = x - move[0], y - move[1]
    gray = 128 + 0.4 * y * np.sin(x / 3)
    return np.repeat(np.clip(gray, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def affine(move: tuple[float, float]) -> np.ndarray:
    out = np.eye(2, 3)
    out[:, 2] = np.array(move) / CAMERA.focal_px
    return out


class FilmedTorsos:
    """What a `ClipView` shows: a torso that wanders, a jaw that goes down and up on it."""

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        self.moves = [tuple(row) for row in random.uniform(-8, 8, (FRAMES, 2)).tolist()]
        self.lifts = random.uniform(0, 40, FRAMES)
        self.clip = self

    def __len__(self) -> int:
        return FRAMES

    def jaw(self, index: int) -> np.ndarray:
        angle = np.linspace(np.pi, 0, len(JAW_EDGE))
        at = np.stack([80 + 40 * np.cos(angle), 60 + self.lifts[index] + 25 * np.sin(angle)], axis=1)
        return at + self.moves[index]

    def landmarks_px(self, index: int) -> np.ndarray:
        out = np.zeros((478, 2))
        out[JAW_EDGE] = self.jaw(index)
        out[[10, 234, 454]] = self.jaw(index)[[0, 0, -1]] - [[0, 60], [5, 0], [-5, 0]]
        return out

    def frames(self, stretches: list[range]) -> Iterator[tuple[int, np.ndarray]]:
        for part in stretches:
            for index in part:
                yield index, texture(self.moves[index])


@pytest.fixture(scope="module")
def usual() -> _UsualNecks:
    view = FilmedTorsos()
    motion = SimpleNamespace(torso=SimpleNamespace(affine=np.stack([affine(m) for m in view.moves])))
    avatar = SimpleNamespace(rig=None, camera=CAMERA, frame_rate_hz=RATE)
    made = _UsualNecks(cast(Any, avatar), cast(Any, view), cast(Any, motion))
    made.size_px = 100.0
    return made


def test_true_frames_measure_one(usual: _UsualNecks) -> None:
    ratios = np.array(usual.true_frames())
    assert len(ratios) == FRAMES
    assert np.median(ratios) == pytest.approx(1, abs=0.03)
    assert np.quantile(ratios, 0.95) < 1.3


@pytest.mark.parametrize("move", [(0.0, 0.0), (30.0, -20.0)])
def test_a_seam_is_seen_and_a_moved_torso_is_none(usual: _UsualNecks, move: tuple[float, float]) -> None:
    import cv2

    angle = np.linspace(np.pi, 0, len(JAW_EDGE))
    jaw = np.stack([80 + 40 * np.cos(angle), 80 + 25 * np.sin(angle)], axis=1) + move
    picture = texture(move)
    assert usual.ratio(picture, jaw, affine(move)) == pytest.approx(1, abs=0.15)
    torn = picture.copy()
    cv2.polylines(torn, [np.round(jaw).astype(np.int32)[:, None]], False, (255, 255, 255), 2)
    assert usual.ratio(torn, jaw, affine(move)) > 3
