"""A clip of a person becomes a clip folder: the stages, their order, and what they tell the person who waits."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from avatarfit.capture import audio_offset as sound
from avatarfit.capture import blendshapes as shapes
from avatarfit.capture import clip_folder as files
from avatarfit.capture.clip_folder import ClipFolder, train_count_of
from avatarfit.capture.clip_notes import source_json, tell_cut_off, tell_length, tell_reading, tell_sound
from avatarfit.capture.clip_sample import KeptFrames, sample_clip
from avatarfit.capture.expression_fit import unexplained_px
from avatarfit.capture.landmark_source import LandmarkSource, choose_source
from avatarfit.capture.mask_pass import write_masks
from avatarfit.capture.observe_stage import observe_clip
from avatarfit.capture.pose_solver import PoseSettings
from avatarfit.capture.pose_stage import REASONS, REPEAT, register_clip, solve_clip
from avatarfit.capture.source_view import SourceView
from avatarfit.capture.stages import (
    Stages,
    file_sha256,
    key_of,
    load_tensors,
    save_tensors,
    told_when_full,
    write_atomically,
)
from avatarfit.capture.view_choice import Size, ViewChoice, check_choice, choose_view, needs_look
from avatarfit.contracts import Camera, HeadPose, InputError
from avatarfit.contracts.events import Finished, Listener, Note, Progress, Started, silent
from avatarfit.media import MediaInfo
from avatarfit.model.rig import Rig

FOCAL_OVER_LONG_SIDE = 2.34
"""A frontal clip barely shows its focal length (errors change by under 2 % over a factor of ten); a usual lens."""

_RATES_HZ = (10, 12.5, 15, 24000 / 1001, 24, 25, 30000 / 1001, 30, 48, 50, 60000 / 1001, 60)
_VERSIONS = {"view": 1, "observe": 4, "pose": 5, "register": 4, "masks": 8, "tracks": 4}


def capture_clip(
    clip_path: Path | str, folder: Path | str, *, size: Size = None, frame_rate_hz: float | None = None,
    face: int | None = None, focal_px: float | None = None, landmarker: Path | str = "auto",
    audio_offset: float | str = 0.0, on_event: Listener = silent,
) -> ClipFolder:  # fmt: skip
    """Captures a clip: landmarks, head pose, torso motion, masks, background plate, rig.

    Stages that were finished before from the same clip and settings are taken as they are, so an interrupted capture
    goes on where it stopped.

    Args:
        clip_path: a video of one person.
        folder: where the clip folder goes; made when it is not there.
        size, frame_rate_hz, face: the working picture's longer side, how many pictures a second, which person from the
            left; see `view_choice.choose_view`.
        focal_px: focal length at the clip's own size, when it is known; else 2.34 times the working picture's longer
            side.
        landmarker: the network that finds the landmarks: "none", a path or "auto", see `landmark_source.choose_source`.
        audio_offset: seconds by which the clip's sound is late and is moved back, or "auto" for the measured ones.
        on_event: told of stages, progress and anything odd in the clip.

    Raises:
        InputError: not a readable video, no landmarker at the path, a size or rate that cannot be had, or the folder
            cannot be written.
        FaceError: no face, too few pictures of one, or no such one.
    """
    from avatarfit.media import probe, sound_span

    clip_path, folder = Path(clip_path).resolve(), Path(folder)
    info = probe(clip_path)
    if focal_px is not None and not focal_px > 0:
        raise InputError(f"focal_px came as {focal_px}", "a positive number of pixels", "leave it out for the default")
    if audio_offset != "auto" and not (isinstance(audio_offset, float | int) and abs(audio_offset) <= 10):
        raise InputError(f"audio_offset came as {audio_offset}", "auto, or seconds from -10 to 10", "change it")
    check_choice(info, size, frame_rate_hz, face)
    landmark_source = choose_source(landmarker, on_event)
    try:
        stages = Stages(folder, on_event)
    except OSError as cause:
        raise InputError(
            f"{folder} cannot be made ({cause})", "a folder to write to", "choose another folder"
        ) from cause
    sha256 = file_sha256(clip_path)
    tell_reading(info, on_event)
    choice = _choose_view(stages, sha256, clip_path, info, size, frame_rate_hz, face)
    for text in choice.notes:
        on_event(Note("view", text))
    view, mark = choice.view, None if choice.face is None else choice.face.within(choice.view)
    working_focal = FOCAL_OVER_LONG_SIDE * max(view.working_width_px, view.working_height_px)
    focal = working_focal if focal_px is None else focal_px * float(view.scale.mean())
    camera = view.camera(focal)
    taken_hz = min(info.frame_rate_hz, view.frame_rate_hz or info.frame_rate_hz)
    settings = PoseSettings()
    keys = {"observe": key_of(sha256, _VERSIONS["observe"], landmark_source.name, view.to_json(), face is not None)}
    keys["pose"] = key_of(
        keys["observe"], _VERSIONS["pose"], asdict(camera), asdict(settings), None if mark is None else asdict(mark)
    )
    keys["register"] = key_of(keys["pose"], _VERSIONS["register"])
    keys["masks"] = key_of(keys["register"], _VERSIONS["masks"])
    keys["tracks"] = key_of(keys["masks"], _VERSIONS["tracks"], shapes.VERSION)
    manifest_path = folder / files.MANIFEST
    keys["sound"] = key_of(keys["tracks"], sound.VERSION, audio_offset)
    if manifest_path.is_file() and not _made_from(manifest_path, keys["tracks"]):
        manifest_path.unlink()  # what follows overwrites what it describes

    work = stages.work
    observed, raw_alpha, pose, registered, torso = (
        work / name
        for name in (
            "observations.safetensors", "alpha.mkv", "pose.safetensors", "face.safetensors", "torso.safetensors",
        )
    )  # fmt: skip
    stages.run(
        "observe", keys["observe"], [observed, raw_alpha],
        lambda: observe_clip(
            info, view, taken_hz, landmark_source, face is not None, observed, raw_alpha,
            stages.parts("observe", keys["observe"]),
            _ticker("observe", round(info.frame_count_estimate * taken_hz / info.frame_rate_hz), on_event),
        ),
    )  # fmt: skip
    stages.run(
        "pose", keys["pose"], [pose],
        lambda: solve_clip(clip_path, observed, camera, settings, mark, pose, on_event),
    )  # fmt: skip
    stages.run(
        "register", keys["register"], [registered],
        lambda: register_clip(
            clip_path, view, pose, camera, settings, registered, stages.parts("register", keys["register"]),
            on_event,
        ),
    )  # fmt: skip
    solved = load_tensors(pose) | load_tensors(registered)
    rate_hz = _kept_rate_hz(taken_hz, solved)
    kept = KeptFrames(
        clip_path, view, raw_alpha, taken_hz, solved["source_index"], solved["pts_seconds"], solved["landmarks_px"],
        HeadPose(solved["head_rotation_wxyz"], solved["head_translation_cm"]), camera,
        train_count_of(len(solved["source_index"])),
    )  # fmt: skip
    stages.run(
        "masks", keys["masks"],
        [folder / files.PERSON, folder / files.LABELS, folder / files.PLATE, folder / files.PLATE_SEEN, torso],
        lambda: _masks(kept, rate_hz, folder, torso, stages.parts("masks", keys["masks"]), on_event),
    )  # fmt: skip
    stages.run(
        "tracks", keys["tracks"], [folder / files.TRACKS],
        lambda: _tracks(solved, torso, camera, folder / files.TRACKS),
    )  # fmt: skip
    span = sound_span(clip_path)
    tell_sound(clip_path.name, span, float(solved["source_pts_seconds"][-1]) + 1 / info.frame_rate_hz, on_event)
    tell_length(solved["pts_seconds"], rate_hz, on_event)
    tell_cut_off(solved["landmarks_px"], view, (info.width_px, info.height_px), camera, on_event)
    if span is not None:
        stages.run(
            "sound", keys["sound"], [],
            lambda: sound.measured_offset(
                clip_path, solved["pts_seconds"], solved["landmarks_cm"], rate_hz, audio_offset, on_event
            ),
        )  # fmt: skip
    source = source_json(clip_path, sha256, info, rate_hz, span)
    source_index = load_tensors(observed, ["source_index"])["source_index"]
    manifest = _manifest(source, view, camera, landmark_source, stages.records, solved, source_index)
    with told_when_full(folder):
        write_atomically(manifest_path, json.dumps(manifest, indent=1).encode())
    return ClipFolder.open(folder)


def _choose_view(
    stages: Stages, sha256: str, clip: Path, info: MediaInfo, size: Size, frame_rate_hz: float | None, face: int | None
) -> ViewChoice:
    if not needs_look(info, size, face):
        return choose_view(clip, info, size, frame_rate_hz, face)
    path = stages.work / "view.choice.json"

    def choose() -> dict[str, float]:
        choice = choose_view(clip, info, size, frame_rate_hz, face)
        write_atomically(path, json.dumps(choice.to_json()).encode())
        return {"width_px": choice.view.working_width_px, "height_px": choice.view.working_height_px}

    stages.run("view", key_of(sha256, _VERSIONS["view"], size, frame_rate_hz, face), [path], choose)
    return ViewChoice.from_json(json.loads(path.read_text()))


def _made_from(manifest_path: Path, tracks_key: str) -> bool:
    try:
        return bool(json.loads(manifest_path.read_text())["stages"]["tracks"]["key"] == tracks_key)
    except (ValueError, KeyError, TypeError):
        return False


def _ticker(stage: str, total: int | None, on_event: Listener) -> Callable[[int], None]:
    on_event(Started(stage, total))
    return lambda step: on_event(Progress(stage, step, total))


def _kept_rate_hz(file_rate_hz: float, solved: dict[str, np.ndarray]) -> float:
    """The clip's true rate: the file's, less the repeats where they are many enough to be padding."""
    repeats = float((solved["status"] == REPEAT).mean())
    if repeats < 0.03:
        return file_rate_hz
    rate = file_rate_hz * (1 - repeats)
    nearest = min(_RATES_HZ, key=lambda r: abs(r - rate))
    return float(nearest) if abs(nearest - rate) < 0.02 * rate else rate


def _masks(
    kept: KeptFrames, rate_hz: float, folder: Path, torso: Path, parts: Path, on_event: Listener
) -> dict[str, float]:
    import cv2

    began = time.monotonic()
    sampled = sample_clip(kept, _ticker("sample", len(kept), on_event))
    on_event(Finished("sample", time.monotonic() - began))
    step = _ticker("masks", len(kept), on_event)
    found, values = write_masks(
        kept, sampled, folder / files.PERSON, folder / files.LABELS, rate_hz, parts, step
    )  # fmt: skip
    seen_picture = sampled.plate_seen.astype(np.uint8) * 255
    for name, picture in ((files.PLATE, sampled.plate[..., ::-1]), (files.PLATE_SEEN, seen_picture)):
        write_atomically(folder / name, cv2.imencode(".png", picture)[1].tobytes())
    save_tensors(
        torso,
        {
            "torso_affine": found.motion.affine,
            "torso_shape": found.motion.shape,
            **{f"torso_modes.{name}": value for name, value in found.modes.to_tensors().items()},
        },
    )
    tracked = values["torso_tracked_share"]
    if tracked < 0.9:
        on_event(
            Note("masks", f"the torso was followed in only {tracked:.0%} of the pictures; it is guessed elsewhere")
        )
    return values | {"plate_seen_share": float(sampled.plate_seen.mean())}


def _tracks(solved: dict[str, np.ndarray], torso: Path, camera: Camera, path: Path) -> dict[str, float]:
    landmarks_cm = solved["landmarks_cm"]
    train = train_count_of(len(landmarks_cm))
    rig = Rig.fit(landmarks_cm[:train])
    face = rig.encode(landmarks_cm)
    if "bundle_scores" in solved:
        found = shapes.bundle_blendshapes(solved["bundle_scores"], train)
    else:
        found = shapes.geometry_blendshapes(landmarks_cm, train)
    names = ("pts_seconds", "landmarks_px", "landmarks_cm", "head_rotation_wxyz", "head_translation_cm")
    save_tensors(
        path,
        {name: solved[name] for name in names}
        | load_tensors(torso)
        | {"mouth": face.mouth, "upper": face.upper, "eyes": face.eyes}
        | {"blendshapes": found.values, "blendshape_range": found.range}
        | {f"rig.{name}": value for name, value in rig.to_tensors().items()},
    )
    head = HeadPose(solved["head_rotation_wxyz"], solved["head_translation_cm"])
    return unexplained_px(rig, face, head, solved["landmarks_px"], camera) | {
        "eyes_closed_share": float(shapes.blinks(found.names, found.values).mean()),
    }


def _manifest(
    source: dict[str, Any], view: SourceView, camera: Camera, landmark_source: LandmarkSource,
    records: dict[str, dict[str, Any]], solved: dict[str, np.ndarray], source_index: np.ndarray,
) -> dict[str, Any]:  # fmt: skip
    status, all_pts = solved["status"], solved["source_pts_seconds"]
    kept_index = source_index[solved["source_index"]]
    shots = np.searchsorted(solved["source_index"], solved["new_shots"])
    heard = records.get("sound", {"values": {}})["values"]
    return {
        "format": files.FORMAT,
        "version": files.VERSION,
        "source": source,
        "view": view.crop_json() | {"frame_rate_hz": view.frame_rate_hz},
        "camera": asdict(camera),
        "landmarks": landmark_source.name,
        "blendshapes": shapes.described(landmark_source),
        "audio_offset_seconds": heard.get("offset_seconds"),
        "audio_offset_confidence": heard.get("confidence"),
        "audio_shift_seconds": heard.get("shift_seconds", 0.0),
        "stages": {n: {"key": r["key"], "seconds": r["seconds"], "values": r["values"]} for n, r in records.items()},
        "frames": [
            {"index": i, "pts_seconds": float(p), "source_index": int(s), "pose_residual_px": round(float(e), 4)}
            for i, (p, s, e) in enumerate(
                zip(solved["pts_seconds"], kept_index, solved["pose_residual_px"], strict=True)
            )
        ],
        "cuts": [int(k) for k in np.unique(shots) if 0 < k < len(kept_index)],
        "rejects": [
            {"source_index": int(source_index[i]), "pts_seconds": float(all_pts[i]), "reason": REASONS[status[i]]}
            for i in np.flatnonzero(status >= 0)
        ],
    }
