"""The pass that looks at every kept picture once more: torso motion, person alpha and labels."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from avatarfit.capture.clip_sample import KeptFrames, Sampled
from avatarfit.capture.face_points import CHIN
from avatarfit.capture.labels import Labeller
from avatarfit.capture.matte import RimMatte
from avatarfit.capture.person_alpha import AlphaSteadier
from avatarfit.capture.picture_maps import HeadMapper
from avatarfit.capture.picture_motion import MotionFinder
from avatarfit.capture.spans import Step, go_through, span_bounds
from avatarfit.capture.stages import load_tensors, save_tensors
from avatarfit.capture.torso_registration import normalised, rested
from avatarfit.capture.torso_shape import between_good, torso_modes
from avatarfit.capture.torso_tracker import TorsoPlace
from avatarfit.contracts import TorsoMotion
from avatarfit.media import VideoWriter, join_videos
from avatarfit.model.torso_modes import TorsoModes

_LEAD = 14
"""Pictures that a span looks at before its own: of the labels' scores, four fifths are carried on to the next one."""
_PERSON, _LABELS = ".person.mkv", ".labels.mkv"


@dataclass(frozen=True)
class _Span:
    """Pictures to parse, those from `first` to before `stop` of the ones that are kept here, and what helps."""

    kept: KeptFrames
    sampled: Sampled
    first: int
    stop: int
    rate_hz: float


@dataclass(frozen=True)
class _Parsed:
    """What was found in a picture: the torso, what its clothes do besides, alpha and labels, both uint8 [H, W]."""

    torso: TorsoPlace
    clothes: np.ndarray | None
    alpha: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class TorsoFound:
    """The torso's motion over the K kept pictures, and the modes that `motion.shape` speaks of."""

    motion: TorsoMotion
    modes: TorsoModes


class _Parser:
    """Torso, alpha and labels of pictures in time order."""

    def __init__(self, kept: KeptFrames, sampled: Sampled) -> None:
        self._landmarks_px = kept.landmarks_px
        self._heads = HeadMapper(kept.landmarks_px[0])
        self._steadier = AlphaSteadier(kept.camera.width_px, kept.camera.height_px)
        self._matte, self._labeller = RimMatte(sampled.plate), Labeller(sampled.parts)
        self._tracker, self._flow = sampled.torso, sampled.torso_flow
        self._motions = MotionFinder()

    def parse(self, at: int, rgb: np.ndarray, mask: np.ndarray) -> _Parsed:
        """Picture `at`, uint8 [H, W, 3], with the network's mask."""
        import cv2

        points = self._landmarks_px[at]
        gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
        torso, head = self._tracker.track(gray), self._heads.to(points)
        # Where no torso is in view, what there is of a body is taken to go with the head.
        body = torso.affine_px if self._tracker.usable else head
        motion = self._motions.next(gray, head, body, float(points[CHIN, 1]))
        alpha = self._matte.refine(rgb, self._steadier.steady(mask, motion), motion)
        clothes = self._flow.measure(gray, torso.affine_px) if self._tracker.usable and self._flow.usable else None
        return _Parsed(torso, clothes, alpha, self._labeller.label(rgb, points, alpha, motion))


def write_masks(
    kept: KeptFrames, sampled: Sampled, person: Path, labels: Path, frame_rate_hz: float, parts: Path,
    step: Step,
) -> tuple[TorsoFound, dict[str, float]]:  # fmt: skip
    """Writes person alpha and labels of every kept picture, and measures the torso's motion.

    Args:
        kept, sampled: what is known of the clip.
        person, labels: the films to write.
        frame_rate_hz: their rate.
        parts: a folder for what is done so far.
        step: told the number of pictures done.

    Returns:
        The torso's motion against the resting (median) torso, and named figures.
    """
    bounds = span_bounds(len(kept))
    spans = []
    for first, stop in pairwise(bounds):
        begin = max(first - _LEAD, 0)
        near = kept.between(begin, stop)
        spans.append(_Span(near, sampled, first - begin, stop - begin, frame_rate_hz))
    done = go_through(_parse_span, spans, np.diff(bounds).tolist(), parts, step)
    join_videos([path.with_suffix(_PERSON) for path in done], person, frame_rate_hz)
    join_videos([path.with_suffix(_LABELS) for path in done], labels, frame_rate_hz)
    torso = [load_tensors(path) for path in done]
    affine_px, clothes, found = (np.concatenate([t[name] for t in torso]) for name in ("affine_px", "clothes", "found"))
    return _torso_result(affine_px, clothes, found, sampled.torso_flow.box, kept)


def _parse_span(span: _Span, result: Path, step: Step) -> None:
    """Writes the films of a span's pictures, then, to `result`, where the torso is in them."""
    size = span.kept.camera.width_px, span.kept.camera.height_px
    parser = _Parser(span.kept, span.sampled)
    mine = range(span.first, span.stop)
    torso: list[TorsoPlace] = []
    clothes: list[np.ndarray] = []
    with (
        VideoWriter(result.with_suffix(_PERSON), *size, span.rate_hz, codec="ffv1", pixel="gray8") as person,
        VideoWriter(result.with_suffix(_LABELS), *size, span.rate_hz, codec="ffv1", pixel="gray8") as labels_out,
    ):
        for at, rgb, mask in span.kept.pictures():
            found = parser.parse(at, rgb, mask)
            if at in mine:
                torso.append(found.torso)
                clothes.append(np.zeros((0, 0, 2), np.float32) if found.clothes is None else found.clothes)
                person.write(found.alpha)
                labels_out.write(found.labels)
                step(1)
    save_tensors(
        result,
        {
            "affine_px": np.stack([t.affine_px for t in torso]),
            "clothes": np.stack(clothes),
            "found": np.array([t.found for t in torso]),
        },
    )


def _torso_result(
    affine_px: np.ndarray, clothes: np.ndarray, good: np.ndarray, box: np.ndarray, kept: KeptFrames
) -> tuple[TorsoFound, dict[str, float]]:
    affine = normalised(affine_px, kept.camera)
    modes, shape = TorsoModes.none(), np.zeros((len(affine), 0), np.float32)
    values = {"torso_tracked_share": float(good.mean())}
    if good.any():
        # Pictures in which the torso was lost take the motion between their neighbours.
        affine = rested(between_good(affine, good), kept.train_count)
        if clothes.size and good[: kept.train_count].sum() > 1:
            modes, shape = torso_modes(clothes, box, good, kept.train_count)
        # Where the body usually is: below the picture's middle.
        low = np.array([0, kept.camera.height_px / 4 / kept.camera.focal_px])
        moved = np.linalg.norm(affine[:, :, :2] @ low + affine[:, :, 2] - low, axis=1) * kept.camera.focal_px
        values["torso_moved_px"] = float(np.median(moved[good]))
    return TorsoFound(TorsoMotion(affine, shape), modes), values
