"""The first stage: every working picture is looked at once, and what was seen is kept on disk as it comes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from avatarfit.capture.frame_selection import shows_one_picture
from avatarfit.capture.landmark_source import LandmarkSource
from avatarfit.capture.source_view import SourceView, read_working
from avatarfit.capture.stages import Rows, save_tensors
from avatarfit.contracts import FaceError, InputError

_FACES, _MANY_FACES = 2, 6


def observe_clip(
    clip: Path, view: SourceView, rate_hz: float, source: LandmarkSource, several: bool, observed: Path,
    raw_alpha: Path, step: Callable[[int], None],
) -> dict[str, float]:  # fmt: skip
    """Writes what was seen to `observed` and the network's masks to `raw_alpha`; returns figures.

    Args:
        clip, view: the source and the part of it that is worked on.
        rate_hz: of the masks' film.
        source: the network that finds the landmarks.
        several: follow more than two faces.
        observed: per picture `source_index`, `pts_seconds`, `difference`; per face `face_frame` (the picture, counted
            among those taken), `face_landmarks_px`, `face_flow_px` and, where the network gives them,
            `face_blendshapes`.
        raw_alpha: the masks.
        step: told the number of pictures done.

    Raises:
        InputError: all pictures are the same.
        FaceError: no face in any.
    """
    from avatarfit.capture.observation import observe
    from avatarfit.capture.person_alpha import NETWORK_SIDE_PX
    from avatarfit.media import VideoWriter

    pick, source_index, asked = view.picker(), [], 0

    def taken(seconds: float) -> bool:
        nonlocal asked
        take = pick(seconds)
        if take:
            source_index.append(asked)
        asked += 1
        return take

    pts, difference, frame_of = [], [], []
    side = NETWORK_SIDE_PX
    with ExitStack() as files:
        landmarks, flow, blendshapes = (
            files.enter_context(Rows(observed.with_name(f"{name}.rows"))) for name in ("landmarks", "flow", "scores")
        )
        writer = files.enter_context(VideoWriter(raw_alpha, side, side, rate_hz, codec="ffv1", pixel="gray8"))
        pictures = read_working(clip, view, pick=taken)
        for index, seen in enumerate(observe(pictures, source, _MANY_FACES if several else _FACES)):
            pts.append(seen.pts_seconds)
            difference.append(seen.difference)
            for face in seen.detections:
                frame_of.append(index)
                landmarks.append(face.landmarks_px)
                flow.append(face.flow_px.astype(np.float32))
                if face.blendshapes is not None:
                    blendshapes.append(face.blendshapes)
            writer.write(seen.alpha)
            if index % 10 == 9:
                step(index + 1)
        if not frame_of:
            raise FaceError(
                f"no face was found in any of the {len(pts)} pictures of {clip.name}", "a clip that shows one face",
                "use a clip in which the face is at least a fifth of the picture's height and turned to the camera",
            )  # fmt: skip
        if shows_one_picture(np.array(difference)):
            raise InputError(
                f"{clip.name} shows one still picture throughout", "a film of a person who moves and speaks",
                "film the person",
            )  # fmt: skip
        save_tensors(
            observed,
            {
                "source_index": np.array(source_index, np.int64),
                "pts_seconds": np.array(pts, np.float64),
                "difference": np.array(difference, np.float64),
                "face_frame": np.array(frame_of, np.int64),
                "face_landmarks_px": landmarks.array(),
                "face_flow_px": flow.array(),
            }
            | ({"face_blendshapes": blendshapes.array()} if blendshapes.count else {}),
        )
    return {"frames": len(pts), "faces": len(frame_of)}
