"""The neck's seam wherever a person may meet it: torso of the model and of the clip, own head poses and others'."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from avatarfit.capture.clip_folder import FACE, TORSO
from avatarfit.capture.face_mesh import face_size_px
from avatarfit.compositing import composite, to_uint8
from avatarfit.compositing.dub_region import JAW_EDGE
from avatarfit.compositing.source_torso import inverse, pixel_map
from avatarfit.contracts import Motion
from avatarfit.evaluation.clip_view import ClipView
from avatarfit.evaluation.steadiness import jaw_band, neck_seam, seam_band, seam_density

if TYPE_CHECKING:
    from avatarfit.capture.clip_folder import ClipFolder
    from avatarfit.model.avatar import Avatar

FRAMES = 40
_HEAD_ALONE = (0.85, 1.0)
_ABOUT = 12
_KNOWN, _NEAREST = 600, 9
"""So many true frames, evenly spaced, tell what is usual; so many of them are asked about a pose."""
_APART_SECONDS = 1.0


def neck_seams(
    avatar: Avatar, clip: ClipFolder, poses_from: Path | None = None, frames: int = FRAMES, backend: str = "auto"
) -> dict[str, Any]:
    """`{source, true_frames, model_other_pose, source_other_pose, ..._by_labels}`, each `{median, p95, frames}`; see
    `evaluation.definitions`.

    Args:
        avatar: to be judged.
        clip: the clip it was fitted from.
        poses_from: a clip folder of anybody, or a motion file, whose head poses it takes; None leaves all but `source`
            out.
        frames: so many are judged, evenly spaced: of the held-out ones, and of the other clip's.

    Raises:
        InputError, FileFormatError: the other clip cannot be read.
    """
    from avatarfit.pipeline.torso_clip import HeadOverClip, TorsoClip

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
        from avatarfit.rendering.renderer import renderer_of

        motion = at_rate(recorded_motion(poses_from, avatar), rate)
        drawn = {"model_other_pose": renderer_of(avatar, avatar.camera, backend), "source_other_pose": over_clip()}
        usual = _UsualNecks(avatar, view, lender.motion)
        found = {"true_frames": usual.true_frames(), **_posed(avatar, usual, motion, drawn, frames, backend)}
        figures |= {name: _spread(part) for name, part in found.items()}
    lender.close()
    return figures


class _UsualNecks:
    """How much changes along the jaw in a clip's true frames, by where on the torso the jaw lies: how much of a collar
    is near it tells far more than anything else.

    Args:
        avatar: of the clip's person.
        view: of the clip.
        motion: of the clip, in the avatar's rig.
    """

    def __init__(self, avatar: Avatar, view: ClipView, motion: Motion) -> None:
        clip = view.clip
        self.view, self.motion, self._rig, self._camera = view, motion, avatar.rig, avatar.camera
        self.size_px = float(np.median([face_size_px(view.landmarks_px(k)) for k in _each(np.arange(len(clip)), 20)]))
        self._apart = _APART_SECONDS * avatar.frame_rate_hz
        self._indices = np.array(list(_each(np.arange(len(clip)), _KNOWN)))
        wanted = set(self._indices.tolist())
        densities, places = [], []
        for index, rgb in view.frames([range(len(clip))]):
            if index in wanted:
                jaw = view.landmarks_px(index)[JAW_EDGE]
                densities.append(seam_density(rgb, self._band(jaw)))
                places.append(self._on_torso(jaw, motion.torso.affine[index]))
        self._densities, self._places = np.array(densities), np.array(places)

    def ratio(self, picture: np.ndarray, jaw_px: np.ndarray, affine: np.ndarray) -> float:
        """What changes along the jaw [P, 2] of a picture whose torso is at `affine` [2, 3], over what usually does."""
        usual = self._usual(self._on_torso(jaw_px, affine), np.ones(len(self._places), bool))
        return seam_density(picture, self._band(jaw_px)) / usual

    def true_frames(self) -> list[float]:
        """The ratios of the true frames, each against others than its neighbours in time."""
        return [
            float(self._densities[k]) / self._usual(place, np.abs(self._indices - self._indices[k]) > self._apart)
            for k, place in enumerate(self._places)
        ]

    def jaws_px(self, motion: Motion) -> np.ndarray:
        """float64 [T, P, 2]: where this person's jaw is in a motion."""
        jaws = self._rig.landmarks_cm(motion.face)[:, JAW_EDGE].astype(np.float64)
        poses = motion.head.matrices().astype(np.float64)
        return self._camera.project(np.einsum("tij,tpj->tpi", poses[:, :, :3], jaws) + poses[:, None, :, 3])

    def _usual(self, place: np.ndarray, asked: np.ndarray) -> float:
        away = np.where(asked, np.square(self._places - place).sum(axis=(1, 2)), np.inf)
        return max(float(np.nanmedian(self._densities[np.argsort(away)[:_NEAREST]])), 1e-6)

    def _band(self, jaw_px: np.ndarray) -> np.ndarray:
        return jaw_band(jaw_px, self.size_px, self._camera.width_px, self._camera.height_px)

    def _on_torso(self, jaw_px: np.ndarray, affine: np.ndarray) -> np.ndarray:
        back = pixel_map(self._camera, self._camera, inverse(affine))
        return np.asarray(jaw_px @ back[:, :2].T + back[:, 2])


def _posed(
    avatar: Avatar, usual: _UsualNecks, motion: Motion, drawn: dict[str, Any], frames: int, backend: str
) -> dict[str, list[float]]:
    """The ratios of a person drawn in poses of somebody else, by both definitions."""
    from avatarfit.compositing.torso_walk import TorsoWalk
    from avatarfit.rendering.head_layer import HeadLayer

    head_layer = HeadLayer(avatar, avatar.camera, backend, _HEAD_ALONE)
    nearest = TorsoWalk(usual.motion.head, usual.motion.torso, avatar.frame_rate_hz)
    jaws_px = usual.jaws_px(motion)
    values: dict[str, list[float]] = {f"{name}{by}": [] for name in drawn for by in ("", "_by_labels")}
    wanted = set(_each(np.arange(len(motion)), frames))
    known: dict[int, float] = {}
    for index in range(len(motion)):
        one = slice(index, index + 1)
        like = nearest.step(motion.head[one], motion.torso[one])[-1].index
        if index not in wanted:
            drawn["source_other_pose"].skip(motion, index)
            continue
        if like not in known:
            known[like] = _usual_density(usual.view, like, usual.size_px)
        head = head_layer.render(motion, index)[..., 3]
        for name, renderer in drawn.items():
            rgba = renderer.render(motion, index)
            labels = np.where(head > 0.5, FACE, np.where(rgba[..., 3] - head > 0.5, TORSO, 0)).astype(np.uint8)
            picture = to_uint8(composite(rgba, avatar.plate))
            values[name].append(usual.ratio(picture, jaws_px[index], motion.torso.affine[index]))
            by_labels = seam_density(picture, seam_band(labels, usual.size_px)) / max(known[like], 1e-6)
            values[f"{name}_by_labels"].append(by_labels)
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
