"""The stages that turn what was seen into head poses and pose-normalised landmarks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from avatarfit.capture.clip_folder import train_count_of
from avatarfit.capture.face_mesh import Detection, face_size_px
from avatarfit.capture.face_points import RIGID
from avatarfit.capture.face_registration import Keyframes, matching_scale, pose_distance_state, register_faces
from avatarfit.capture.frame_selection import (
    FaceMark,
    choose_face,
    cuts,
    links,
    longest_gap,
    near_duplicates,
    new_shots,
)
from avatarfit.capture.head_frame import place_landmarks, prior_shape_cm
from avatarfit.capture.pose_keyframes import solve_keyframes
from avatarfit.capture.pose_refinement import refine_poses, without_pose_error
from avatarfit.capture.pose_solver import PoseSettings, RigidSolution, solve_poses
from avatarfit.capture.rotations import continuous_wxyz
from avatarfit.capture.source_view import SourceView, read_working_at
from avatarfit.capture.spans import Step, go_through, span_bounds
from avatarfit.capture.stages import load_tensors, save_tensors
from avatarfit.contracts import Camera, FaceError
from avatarfit.contracts.events import Listener, Note, Progress, Started

REASONS = ("repeats the picture before", "no face", "the landmarks do not fit the head")
REPEAT, NO_FACE, MISFIT = range(3)
"""Why a picture was left out, as `status` in the pose stage's file; -1 is kept."""

_FEWEST_FRAMES = 12
_SMALL_FACE_PX = 100
_KEYS_A_PICTURE = 2


def solve_clip(
    clip: Path, observed: Path, camera: Camera, settings: PoseSettings, mark: FaceMark | None, pose: Path,
    on_event: Listener,
) -> dict[str, float]:  # fmt: skip
    """Chooses pictures and face, solves the poses from landmarks and flow, writes `pose`; returns figures.

    The face is the one that passes `mark`, in the working picture; the larger and steadier one where that is None.

    Raises:
        FaceError: too few pictures with a face.
    """
    seen = load_tensors(observed)
    count = len(seen["pts_seconds"])
    on_event(Started("pose", None, "rounds"))
    repeated, cut = near_duplicates(seen["difference"]), cuts(seen["difference"])
    detections: list[list[Detection]] = [[] for _ in range(count)]
    seen_shapes = seen.get("face_blendshapes", [None] * len(seen["face_frame"]))
    rows = zip(seen["face_frame"], seen["face_landmarks_px"], seen["face_flow_px"], seen_shapes, strict=True)
    for frame, points, flow, blendshapes in rows:
        detections[frame].append(Detection(points, flow, blendshapes))
    chosen, others = choose_face(detections, seen["pts_seconds"], mark)
    kept = np.flatnonzero((chosen >= 0) & ~repeated)
    if len(kept) < _FEWEST_FRAMES:
        raise FaceError(
            f"a face was found in only {len(kept)} of the {count} pictures of {clip.name}",
            f"at least {_FEWEST_FRAMES} pictures with a face, and minutes of them for a good avatar",
            "use a longer clip in which the face is in view",
        )
    linked, flow_source = links(kept, repeated, cut)
    faces = [detections[k][chosen[k]] for k in kept]
    landmarks_px = np.stack([f.landmarks_px for f in faces])
    # The flow to the next kept picture starts at the last repeat, if there is one, which shows the same picture.
    flow_faces = [detections[s][chosen[s]] if chosen[s] >= 0 else f for s, f in zip(flow_source, faces, strict=True)]
    flow_px = np.stack([f.flow_px for f in flow_faces])
    scores = [f.blendshapes for f in faces if f.blendshapes is not None]
    solution = solve_poses(landmarks_px[:, RIGID], prior_shape_cm(landmarks_px), camera, flow_px, linked, settings)
    limit = max(6 * np.median(solution.residual_px), 4 * max(camera.width_px, camera.height_px) / 512)
    fits = solution.residual_px <= limit
    status = np.full(count, NO_FACE)
    status[repeated] = REPEAT
    status[kept] = np.where(fits, -1, MISFIT)
    # A picture that is left out breaks the chain of flow, too.
    linked &= fits & np.append(fits[1:], False)
    save_tensors(
        pose,
        {
            "status": status.astype(np.int64),
            "source_pts_seconds": seen["pts_seconds"],
            "new_shots": new_shots(seen["difference"]),
            "source_index": kept[fits].astype(np.int64),
            "pts_seconds": seen["pts_seconds"][kept[fits]],
            "landmarks_px": landmarks_px[fits],
            "flow_px": flow_px[fits].astype(np.float32),
            "linked": linked[fits],
            "shape_cm": solution.shape_cm,
            "rotation": solution.rotation[fits],
            "translation_cm": solution.translation_cm[fits],
            "residual_px": solution.residual_px[fits],
        }
        | ({"bundle_scores": np.stack(scores)[fits]} if scores else {}),
    )
    if cut.any():
        on_event(Note("pose", f"{cut.sum()} cuts; motion is not smoothed across them"))
    _tell(clip.name, status, seen["pts_seconds"], others, landmarks_px, on_event)
    return {
        "kept": float(fits.sum()),
        "repeats": float((status == REPEAT).sum()),
        "without_face": float((status == NO_FACE).sum()),
        "misfits": float((status == MISFIT).sum()),
        "reprojection_px": float(np.median(solution.residual_px[fits])),
    }


def _tell(
    name: str, status: np.ndarray, pts_seconds: np.ndarray, others: int, landmarks_px: np.ndarray, on_event: Listener
) -> None:
    repeats, lost, misfits = ((status == k).sum() for k in (REPEAT, NO_FACE, MISFIT))
    if repeats:
        on_event(Note("pose", f"{repeats} of {len(status)} pictures only repeat the one before; they are left out"))
    if lost:
        first, last = longest_gap(status == NO_FACE, pts_seconds)
        where = f"the longest stretch from {first:.2f} to {last:.2f} s"
        on_event(Note("pose", f"{lost} of {len(status)} pictures show no face, {where}; they are left out"))
    if misfits:
        on_event(Note("pose", f"in {misfits} pictures the landmarks do not fit the head; they are left out"))
    if others:
        on_event(Note("pose", f"{others} pictures show another face beside the one that is kept; --face chooses"))
    size = float(np.median([face_size_px(f) for f in landmarks_px[::10]]))
    if size < _SMALL_FACE_PX:
        on_event(Note("pose", f"the face is only {size:.0f} px large in {name}; closer pictures give a better avatar"))


@dataclass(frozen=True)
class _Span:
    """Pictures to match with keyframes: their times, which keyframes, and the poses so far."""

    clip: Path
    view: SourceView
    pts_seconds: np.ndarray
    keys: Keyframes
    chosen: np.ndarray
    rotation: np.ndarray
    translation_cm: np.ndarray
    camera: Camera
    scale: float


def _register_span(span: _Span, result: Path, step: Step) -> None:
    """Writes where the keyframes' spots lie in a span's pictures."""

    def expected_px(index: int, key: int) -> np.ndarray:
        placed = span.keys.spots_cm[key] @ span.rotation[index].T + span.translation_cm[index]
        return span.camera.project(placed)

    def counted() -> Iterator[np.ndarray]:
        for gray in _grays(span.clip, span.view, span.pts_seconds):
            yield gray
            step(1)

    found_px = register_faces(counted(), span.keys, span.chosen, expected_px, span.scale)
    save_tensors(result, {"found_px": found_px})


def _grays(clip: Path, view: SourceView, pts_seconds: np.ndarray) -> Iterator[np.ndarray]:
    import cv2

    for frame in read_working_at(clip, view, pts_seconds):
        yield cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2GRAY)


def register_clip(
    clip: Path, view: SourceView, pose: Path, camera: Camera, settings: PoseSettings, face: Path, parts: Path,
    on_event: Listener,
) -> dict[str, float]:  # fmt: skip
    """Corrects the poses by matching pictures, places the landmarks in the head frame, writes `face`; returns figures.

    Args:
        clip, view: the source and the part of it that is worked on.
        pose: the file that `solve_clip` wrote.
        camera, settings: as in the solve.
        face: the file to write.
        parts: a folder for what is done so far.
        on_event: told of progress.
    """
    solved = load_tensors(pose)
    solution = RigidSolution(solved["shape_cm"], solved["rotation"], solved["translation_cm"], solved["residual_px"])
    landmarks_px, pts, count = solved["landmarks_px"], solved["pts_seconds"], len(solved["landmarks_px"])
    on_event(Started("register", count))
    train = train_count_of(count)
    scale = matching_scale(landmarks_px)
    keys, spot_deviation_px, solution = solve_keyframes(
        lambda chosen: _grays(clip, view, pts[list(chosen)]), solution, landmarks_px, camera, scale
    )
    state = pose_distance_state(solution.rotation, solution.translation_cm)
    chosen = keys.nearest(state, _KEYS_A_PICTURE)
    bounds = span_bounds(count)
    spans = [
        _Span(
            clip, view, pts[a:b], keys, chosen[a:b], solution.rotation[a:b], solution.translation_cm[a:b], camera, scale
        )
        for a, b in pairwise(bounds)
    ]  # fmt: skip
    matched = go_through(
        _register_span, spans, np.diff(bounds).tolist(), parts, lambda n: on_event(Progress("register", n, count))
    )
    found_px = np.concatenate([load_tensors(path)["found_px"] for path in matched])
    solution = refine_poses(
        solution, keys, spot_deviation_px, chosen, found_px, landmarks_px[:, RIGID], solved["flow_px"],
        solved["linked"], camera, settings,
    )  # fmt: skip
    corrected = without_pose_error(landmarks_px, RIGID, solution.project(camera))
    landmarks_cm, solution = place_landmarks(corrected, solution, camera, train)
    error = np.linalg.norm(solution.project(camera) - corrected[:, RIGID, :2], axis=2)
    save_tensors(
        face,
        {
            "landmarks_px": corrected,
            "landmarks_cm": landmarks_cm,
            "head_rotation_wxyz": continuous_wxyz(solution.rotation).astype(np.float32),
            "head_translation_cm": solution.translation_cm.astype(np.float32),
            "pose_residual_px": np.median(error, axis=1).astype(np.float32),
        },
    )
    return {
        "reprojection_px": float(np.median(error)),
        "corrected_px": float(np.sqrt(np.mean(np.sum((corrected - landmarks_px)[..., :2] ** 2, axis=2)))),
        "matched_share": float(np.isfinite(found_px[..., 0]).any(axis=1).mean()),
        "keyframes": float(len(keys.pictures)),
    }
