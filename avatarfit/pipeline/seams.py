"""The neck's seam wherever a person may meet it: torso of the model and of the clip, own head poses and others'."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from avatarfit.capture.clip_folder import FACE, TORSO
from avatarfit.capture.face_mesh import face_size_px
from avatarfit.compositing import composite, to_uint8
from avatarfit.contracts import Motion
from avatarfit.evaluation.clip_view import ClipView
from avatarfit.evaluation.steadiness import neck_seam, seam_band, seam_density

if TYPE_CHECKING:
    from avatarfit.capture.clip_folder import ClipFolder
    from avatarfit.model.avatar import Avatar

FRAMES = 40
_HEAD_ALONE = (0.85, 1.0)
_ABOUT = 12


def neck_seams(
    avatar: Avatar, clip: ClipFolder, poses_from: Path | None = None, frames: int = FRAMES, backend: str = "auto"
) -> dict[str, Any]:
    """`{source, model_other_pose, source_other_pose}`, each `{median, p95, frames}`; see `evaluation.definitions`.

    Args:
        avatar: to be judged.
        clip: the clip it was fitted from.
        poses_from: a clip folder of anybody, or a motion file, whose head poses it takes; None leaves those out.
        frames: so many are judged, evenly spaced: of the held-out ones, and of the other clip's.

    Raises:
        InputError, FileFormatError: the other clip cannot be read.
    """
    from avatarfit.pipeline.torso_clip import HeadOverClip, TorsoClip
    from avatarfit.rendering.renderer import renderer_of

    lender = TorsoClip(avatar, clip.path)
    view = ClipView(clip, avatar.camera)
    rate = avatar.frame_rate_hz

    def over_clip() -> HeadOverClip:
        return HeadOverClip(avatar, lender, avatar.camera, rate, backend)

    held_out = np.arange(clip.train_count, len(clip))
    source = over_clip()
    values = []
    for index in _each(held_out, frames):
        part = range(index, index + 1)
        truth = next(view.truths([part], {index}, whole=True))[2]
        if truth is None or truth.labels is None or truth.landmarks_px is None:
            continue
        picture = to_uint8(composite(source.render(lender.motion, index), avatar.plate))
        values.append(neck_seam(truth.rgb, picture, seam_band(truth.labels, face_size_px(truth.landmarks_px))))
    figures = {"source": _spread(values)}
    if poses_from is not None:
        from avatarfit.driving.motion_sources import at_rate
        from avatarfit.pipeline.motion_files import recorded_motion

        motion = at_rate(recorded_motion(poses_from, avatar), rate)
        drawn = {"model_other_pose": renderer_of(avatar, avatar.camera, backend), "source_other_pose": over_clip()}
        found = _posed(avatar, clip, view, motion, drawn, frames, backend)
        figures |= {name: _spread(part) for name, part in found.items()}
    lender.close()
    return figures


def _posed(
    avatar: Avatar,
    clip: ClipFolder,
    view: ClipView,
    motion: Motion,
    drawn: dict[str, Any],
    frames: int,
    backend: str,
) -> dict[str, list[float]]:
    """How much changes along the neck's border in a pose, over how much does in the clip's frame nearest to it."""
    from avatarfit.compositing.torso_walk import TorsoWalk
    from avatarfit.rendering.head_layer import HeadLayer

    own = clip.motion()
    size = float(np.median([face_size_px(view.landmarks_px(k)) for k in _each(np.arange(len(clip)), 20)]))
    head_layer = HeadLayer(avatar, avatar.camera, backend, _HEAD_ALONE)
    nearest = TorsoWalk(own.head, own.torso, avatar.frame_rate_hz)
    values: dict[str, list[float]] = {name: [] for name in drawn}
    wanted = set(_each(np.arange(len(motion)), frames))
    known: dict[int, float] = {}
    for index in range(len(motion)):
        one = slice(index, index + 1)
        like = nearest.step(motion.head[one], motion.torso[one])[-1].index
        if index not in wanted:
            drawn["source_other_pose"].skip(motion, index)
            continue
        if like not in known:
            known[like] = _usual_density(view, like, size)
        head = head_layer.render(motion, index)[..., 3]
        for name, renderer in drawn.items():
            rgba = renderer.render(motion, index)
            labels = np.where(head > 0.5, FACE, np.where(rgba[..., 3] - head > 0.5, TORSO, 0)).astype(np.uint8)
            picture = to_uint8(composite(rgba, avatar.plate))
            values[name].append(seam_density(picture, seam_band(labels, size)) / max(known[like], 1e-6))
    return values


def _usual_density(view: ClipView, index: int, size_px: float) -> float:
    """What changes along the neck's border in the true frames about `index`: their median, for it differs twofold from
    frame to frame with the labels' border near a collar."""
    about = range(max(index - _ABOUT, 0), min(index + _ABOUT + 1, len(view.clip)))
    wanted = set(about[::3])
    densities = [
        seam_density(truth.rgb, seam_band(truth.labels, size_px))
        for _, _, truth in view.truths([about], wanted, whole=True)
        if truth is not None and truth.labels is not None
    ]
    return float(np.nanmedian(densities))


def _each(indices: np.ndarray, count: int) -> Iterator[int]:
    """`count` of rising indices, evenly spaced; all where there are no more."""
    total = len(indices)
    count = min(count, total)
    return (int(indices[(2 * k + 1) * total // (2 * count)]) for k in range(count))


def _spread(values: list[float]) -> dict[str, float | int | None]:
    finite = np.array([v for v in values if np.isfinite(v)])
    if not len(finite):
        return {"median": None, "p95": None, "frames": 0}
    return {
        "median": round(float(np.median(finite)), 4), "p95": round(float(np.quantile(finite, 0.95)), 4),
        "frames": len(finite),
    }  # fmt: skip
