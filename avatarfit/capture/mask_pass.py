"""The pass that looks at every kept picture once more: torso motion, person alpha and labels."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from avatarfit.capture.clip_sample import KeptFrames, Sampled
from avatarfit.capture.face_points import CHIN, FOREHEAD_TOP
from avatarfit.capture.labels import Labeller
from avatarfit.capture.matte import RimMatte
from avatarfit.capture.person_alpha import AlphaSteadier
from avatarfit.capture.picture_maps import between_maps, head_map, moved_by_parts
from avatarfit.capture.spans import Crew, Step, span_bounds
from avatarfit.capture.stages import load_tensors, save_tensors
from avatarfit.capture.torso_registration import normalised, rested
from avatarfit.capture.torso_tracker import TorsoPlace
from avatarfit.media import VideoWriter, join_videos

_REACH = 2
_CARRIED = 0.25
_LEAD = 14
"""Pictures that a span looks at before its own: of the labels' scores, four fifths are carried on to the next one."""
_TOLD = 10
_PERSON, _LABELS = ".person.mkv", ".labels.mkv"


@dataclass(frozen=True)
class _Seen:
    """A picture whose torso was placed: rgb uint8 [H, W, 3], the network's mask, where the torso is."""

    rgb: np.ndarray
    mask: np.ndarray
    torso: TorsoPlace


@dataclass(frozen=True)
class _Span:
    """Pictures to parse, those from `first` to before `stop` of the ones that are kept here, and what helps."""

    kept: KeptFrames
    sampled: Sampled
    first: int
    stop: int
    rate_hz: float


class _Parser:
    """Alpha and labels of pictures in time order."""

    def __init__(self, kept: KeptFrames, sampled: Sampled) -> None:
        self._landmarks_px = kept.landmarks_px
        self._steadier = AlphaSteadier(kept.camera.width_px, kept.camera.height_px)
        self._matte, self._labeller = RimMatte(sampled.plate), Labeller(sampled.parts)
        self._follow_torso = sampled.torso.usable
        self._former: np.ndarray | None = None

    def parse(self, at: int, around: list[tuple[int, _Seen]]) -> tuple[np.ndarray, np.ndarray]:
        """(alpha, labels), both uint8 [H, W], of picture `at`, the middle one of the five in `around`."""
        here = around[_REACH][1]
        alpha = self._alpha(at, around)
        body = here.torso.affine_px if self._follow_torso else None
        return alpha, self._labeller.label(here.rgb, self._landmarks_px[at], alpha, body)

    def _alpha(self, at: int, around: list[tuple[int, _Seen]]) -> np.ndarray:
        import cv2

        points = self._landmarks_px
        here = around[_REACH][1]
        heads = [np.eye(2, 3) if k == at else head_map(points[k], points[at]) for k, _ in around]
        # Where no torso is in view, what there is of a body is taken to go with the head.
        bodies = heads
        if self._follow_torso:
            bodies = [between_maps(seen.torso.affine_px, here.torso.affine_px) for _, seen in around]
        chin, top = float(points[at, CHIN, 1]), float(points[at, FOREHEAD_TOP, 1])
        seam = chin, chin + 0.25 * (chin - top)
        steadied = self._steadier.steady([seen.mask for _, seen in around], heads, bodies, seam)
        alpha = self._matte.refine(here.rgb, steadied)
        if self._former is not None:
            # The matte follows the picture's noise; a quarter of the former one takes most of that out.
            moved = moved_by_parts(self._former, heads[_REACH - 1], bodies[_REACH - 1], round(chin))
            alpha = np.asarray(cv2.addWeighted(alpha, 1 - _CARRIED, moved, _CARRIED, 0))
        self._former = alpha
        return alpha


def write_masks(
    kept: KeptFrames, sampled: Sampled, person: Path, labels: Path, frame_rate_hz: float, parts: Path, crew: Crew,
    step: Step,
) -> tuple[np.ndarray, dict[str, float]]:  # fmt: skip
    """Writes person alpha and labels of every kept picture, and measures the torso's motion.

    Args:
        kept, sampled: what is known of the clip.
        person, labels: the films to write.
        frame_rate_hz: their rate.
        parts: a folder for what is done so far.
        crew: who goes through the spans.
        step: told the number of pictures done.

    Returns:
        torso_affine float64 [K, 2, 3] in normalised coordinates against the resting (median) torso, and named figures.
    """
    bounds = span_bounds(len(kept))
    spans = []
    for first, stop in pairwise(bounds):
        begin = max(first - _LEAD, 0)
        near = kept.between(begin, min(stop + _REACH, len(kept)))
        spans.append(_Span(near, sampled, first - begin, stop - begin, frame_rate_hz))
    done = crew.go(_parse_span, spans, np.diff(bounds).tolist(), parts, step)
    join_videos([path.with_suffix(_PERSON) for path in done], person, frame_rate_hz)
    join_videos([path.with_suffix(_LABELS) for path in done], labels, frame_rate_hz)
    torso = [load_tensors(path) for path in done]
    affine_px, found = (np.concatenate([t[name] for t in torso]) for name in ("affine_px", "found"))
    return _torso_result(affine_px, found, kept)


def _parse_span(span: _Span, result: Path, step: Step) -> None:
    """Writes the films of a span's pictures, then, to `result`, where the torso is in them."""
    size = span.kept.camera.width_px, span.kept.camera.height_px
    parser = _Parser(span.kept, span.sampled)
    mine = range(span.first, span.stop)
    torso: list[TorsoPlace] = []
    with (
        VideoWriter(result.with_suffix(_PERSON), *size, span.rate_hz, codec="ffv1", pixel="gray8") as person,
        VideoWriter(result.with_suffix(_LABELS), *size, span.rate_hz, codec="ffv1", pixel="gray8") as labels_out,
    ):
        for at, around in _with_neighbours(span):
            alpha, labels = parser.parse(at, around)
            if at in mine:
                torso.append(around[_REACH][1].torso)
                person.write(alpha)
                labels_out.write(labels)
                if len(torso) % _TOLD == 0:
                    step(_TOLD)
    step(len(torso) % _TOLD)
    save_tensors(
        result, {"affine_px": np.stack([t.affine_px for t in torso]), "found": np.array([t.found for t in torso])}
    )


def _with_neighbours(span: _Span) -> Iterator[tuple[int, list[tuple[int, _Seen]]]]:
    """Each picture's place with it and its two neighbours on both sides; beyond the ends, the last ones stand in."""
    import cv2

    count = len(span.kept)
    window: deque[tuple[int, _Seen]] = deque(maxlen=2 * _REACH + 1)

    def around(at: int) -> list[tuple[int, _Seen]]:
        first, last = window[0][0], window[-1][0]
        return [window[min(max(at + d, first), last) - first] for d in range(-_REACH, _REACH + 1)]

    for index, rgb, mask in span.kept.pictures():
        torso = span.sampled.torso.track(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))
        window.append((index, _Seen(rgb, mask, torso)))
        if index >= _REACH:
            yield index - _REACH, around(index - _REACH)
    for at in range(max(count - _REACH, 0), count):
        yield at, around(at)


def _torso_result(affine_px: np.ndarray, good: np.ndarray, kept: KeptFrames) -> tuple[np.ndarray, dict[str, float]]:
    affine = normalised(affine_px, kept.camera)
    values = {"torso_tracked_share": float(good.mean())}
    if good.any():
        # Pictures in which the torso was lost take the motion between their neighbours.
        at = np.arange(len(affine))
        for i in range(2):
            for j in range(3):
                affine[:, i, j] = np.interp(at, at[good], affine[good, i, j])
        affine = rested(affine, kept.train_count)
        # Where the body usually is: below the picture's middle.
        low = np.array([0, kept.camera.height_px / 4 / kept.camera.focal_px])
        moved = np.linalg.norm(affine[:, :, :2] @ low + affine[:, :, 2] - low, axis=1) * kept.camera.focal_px
        values["torso_moved_px"] = float(np.median(moved[good]))
    return affine, values
