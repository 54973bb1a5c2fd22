"""The first stage: every working picture is looked at once, span by span, and what was seen is kept on disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from avatarfit.capture.face_landmarker import BUNDLE_BLENDSHAPES
from avatarfit.capture.face_points import RIGID
from avatarfit.capture.frame_selection import shows_one_picture
from avatarfit.capture.landmark_source import LandmarkSource
from avatarfit.capture.source_view import SourceView, read_working
from avatarfit.capture.spans import Step, go_through, span_bounds
from avatarfit.capture.stages import Rows, load_tensors, save_tensors
from avatarfit.contracts import FaceError, InputError, VideoFrame
from avatarfit.contracts.motion import LANDMARK_COUNT
from avatarfit.media import MediaInfo

_FACES, _MANY_FACES = 2, 6
_LEAD_SECONDS = 0.4
"""A tracker finds its face at once and settles in a few pictures."""


@dataclass(frozen=True)
class _Span:
    """The pictures shown from `start` to before `stop`."""

    clip: Path
    view: SourceView
    rate_hz: float
    source: LandmarkSource
    several: bool
    start_seconds: float
    stop_seconds: float


def observe_clip(
    info: MediaInfo, view: SourceView, rate_hz: float, source: LandmarkSource, several: bool, observed: Path,
    raw_alpha: Path, parts: Path, step: Step,
) -> dict[str, float]:  # fmt: skip
    """Writes what was seen to `observed` and the network's masks to `raw_alpha`; returns figures.

    Args:
        info, view: the source and the part of it that is worked on.
        rate_hz: of the masks' film.
        source: the network that finds the landmarks.
        several: follow more than two faces.
        observed: per picture `source_index`, `pts_seconds`, `difference`; per face `face_frame` (the picture, counted
            among those taken), `face_landmarks_px`, `face_flow_px` and, where the network gives them,
            `face_blendshapes`.
        raw_alpha: the masks.
        parts: a folder for what is done so far.
        step: told the number of pictures done.

    Raises:
        InputError: all pictures are the same, or pictures are missing.
        FaceError: no face in any.
    """
    from avatarfit.media import check_whole, join_videos

    # Where the file does not tell its length, or tells it wrong, the last span takes the rest.
    bounds = span_bounds(round(info.duration_seconds * rate_hz))
    times = [0.0, *(b / rate_hz for b in bounds[1:-1]), np.inf]
    spans = [_Span(info.path, view, rate_hz, source, several, a, b) for a, b in pairwise(times)]
    seen = go_through(_observe_span, spans, np.diff(bounds).tolist(), parts, step)
    figures = _join(seen, observed, info.path.name)
    check_whole(info.path, info.frame_count_announced, int(figures.pop("stored")))
    masks = [path.with_suffix(".mkv") for path in seen]
    join_videos([path for path in masks if path.is_file()], raw_alpha, rate_hz)
    return figures


def _observe_span(span: _Span, result: Path, step: Step) -> None:
    """What is seen in a span's pictures, and their masks beside it; no masks where there are no pictures."""
    from avatarfit.capture.observation import Observation, observe
    from avatarfit.capture.person_alpha import NETWORK_SIDE_PX
    from avatarfit.media import VideoWriter

    pick = span.view.picker()
    source_index: list[int] = []
    stored = 0

    def mine(seconds: float) -> bool:
        return span.start_seconds <= seconds < span.stop_seconds

    def taken(seconds: float) -> bool:
        nonlocal stored
        take = pick(seconds)
        if mine(seconds):
            if take:
                source_index.append(stored)
            stored += 1
        return take

    def pictures() -> Iterator[VideoFrame]:
        """The span's, those of its lead, and one more, to which the last one's flow leads."""
        start = max(span.start_seconds - _LEAD_SECONDS, 0.0)
        with closing(read_working(span.clip, span.view, start, pick=taken)) as frames:
            for frame in frames:
                yield frame
                if frame.pts_seconds >= span.stop_seconds:
                    return

    seen: list[Observation] = []
    for picture in observe(pictures(), span.source, _MANY_FACES if span.several else _FACES):
        if mine(picture.pts_seconds):
            seen.append(picture)
            step(1)
    if seen:
        size = NETWORK_SIDE_PX, NETWORK_SIDE_PX
        with VideoWriter(result.with_suffix(".mkv"), *size, span.rate_hz, codec="ffv1", pixel="gray8") as masks:
            for picture in seen:
                masks.write(picture.alpha)
    faces = [(k, face) for k, picture in enumerate(seen) for face in picture.detections]
    tensors = {
        "stored": np.array([stored], np.int64),
        "source_index": np.array(source_index, np.int64),
        "pts_seconds": np.array([s.pts_seconds for s in seen], np.float64),
        "difference": np.array([s.difference for s in seen], np.float64),
        "face_frame": np.array([k for k, _ in faces], np.int64),
        "face_landmarks_px": _rows([f.landmarks_px for _, f in faces], LANDMARK_COUNT, 3),
        "face_flow_px": _rows([f.flow_px for _, f in faces], len(RIGID), 2),
    }
    if span.source.bundle is not None:
        tensors["face_blendshapes"] = _rows([f.blendshapes for _, f in faces], len(BUNDLE_BLENDSHAPES))
    save_tensors(result, tensors)


def _rows(items: Sequence[np.ndarray | None], *shape: int) -> np.ndarray:
    return np.stack([np.asarray(item, np.float32) for item in items]) if items else np.zeros((0, *shape), np.float32)


def _join(seen: Sequence[Path], observed: Path, name: str) -> dict[str, float]:
    """Writes the spans' results as one file; returns figures."""
    parts = [load_tensors(path) for path in seen]
    joined: dict[str, np.ndarray] = {}
    with ExitStack() as files:
        for key in parts[0].keys() - {"stored", "source_index", "face_frame"}:
            rows = files.enter_context(Rows(observed.with_name(f"{key}.rows")))
            for part in parts:
                rows.extend(part[key])
            joined[key] = rows.array()
        stored = np.cumsum([0] + [int(p["stored"][0]) for p in parts])
        taken = np.cumsum([0] + [len(p["pts_seconds"]) for p in parts])
        joined["source_index"] = np.concatenate([p["source_index"] + n for p, n in zip(parts, stored, strict=False)])
        joined["face_frame"] = np.concatenate([p["face_frame"] + n for p, n in zip(parts, taken, strict=False)])
        if not len(joined["face_frame"]):
            raise FaceError(
                f"no face was found in any of the {taken[-1]} pictures of {name}", "a clip that shows one face",
                "use a clip in which the face is at least a fifth of the picture's height and turned to the camera",
            )  # fmt: skip
        if shows_one_picture(joined["difference"]):
            raise InputError(
                f"{name} shows one still picture throughout", "a film of a person who moves and speaks",
                "film the person",
            )  # fmt: skip
        save_tensors(observed, joined)
    return {"frames": float(taken[-1]), "faces": float(len(joined["face_frame"])), "stored": float(stored[-1])}
