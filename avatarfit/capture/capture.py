"""A clip of a person becomes a clip folder: the stages, their order, and what they tell the person who waits."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from avatarfit.capture import audio_offset as sound
from avatarfit.capture import blendshapes as shapes
from avatarfit.capture import clip_folder as files
from avatarfit.capture.clip_folder import ClipFolder, train_count_of
from avatarfit.capture.clip_sample import KeptFrames, sample_clip
from avatarfit.capture.landmark_source import LandmarkSource, choose_source
from avatarfit.capture.mask_pass import write_masks
from avatarfit.capture.pose_solver import PoseSettings
from avatarfit.capture.pose_stage import REASONS, REPEAT, register_clip, solve_clip
from avatarfit.capture.stages import Stages, file_sha256, key_of, load_tensors, save_tensors, write_atomically
from avatarfit.contracts import Camera, FaceError, HeadPose, InputError
from avatarfit.contracts.events import Finished, Listener, Note, Progress, Started, silent
from avatarfit.model.rig import Rig

FOCAL_OVER_LONG_SIDE = 2.34
"""A frontal clip barely shows its focal length (errors change by under 2 % over a factor of ten); a usual lens."""

_RATES_HZ = (10, 12.5, 15, 24000 / 1001, 24, 25, 30000 / 1001, 30, 48, 50, 60000 / 1001, 60)
_VERSIONS = {"observe": 1, "pose": 3, "register": 1, "masks": 4, "tracks": 2}


def capture_clip(
    clip_path: Path | str, folder: Path | str, *, focal_px: float | None = None, landmarker: Path | str = "auto",
    audio_offset: float | str = 0.0, on_event: Listener = silent,
) -> ClipFolder:  # fmt: skip
    """Captures a clip: landmarks, head pose, torso motion, masks, background plate, rig.

    Stages that were finished before from the same clip and settings are taken as they are, so an interrupted capture
    goes on where it stopped.

    Args:
        clip_path: a video of one person.
        folder: where the clip folder goes; made when it is not there.
        focal_px: focal length at the clip's size, when it is known; else 2.34 times the longer side.
        landmarker: the network that finds the landmarks: "none", a path or "auto", see `landmark_source.choose_source`.
        audio_offset: seconds by which the clip's sound is late and is moved back, or "auto" for the measured ones.
        on_event: told of stages, progress and anything odd in the clip.

    Raises:
        InputError: not a readable video, no landmarker at the path, or the folder cannot be written.
        FaceError: no face, or too few pictures of one.
    """
    from avatarfit.media import probe

    clip_path, folder = Path(clip_path).resolve(), Path(folder)
    info = probe(clip_path)
    if focal_px is not None and not focal_px > 0:
        raise InputError(f"focal_px came as {focal_px}", "a positive number of pixels", "leave it out for the default")
    if audio_offset != "auto" and not (isinstance(audio_offset, float | int) and abs(audio_offset) <= 10):
        raise InputError(f"audio_offset came as {audio_offset}", "auto, or seconds from -10 to 10", "change it")
    landmark_source = choose_source(landmarker, on_event)
    try:
        stages = Stages(folder, on_event)
    except OSError as cause:
        raise InputError(
            f"{folder} cannot be made ({cause})", "a folder to write to", "choose another folder"
        ) from cause
    focal = focal_px or FOCAL_OVER_LONG_SIDE * max(info.width_px, info.height_px)
    camera = Camera(info.width_px, info.height_px, focal, info.width_px / 2, info.height_px / 2)
    sha256 = file_sha256(clip_path)
    settings = PoseSettings()
    keys = {"observe": key_of(sha256, _VERSIONS["observe"], landmark_source.name)}
    keys["pose"] = key_of(keys["observe"], _VERSIONS["pose"], focal, asdict(settings))
    keys["register"] = key_of(keys["pose"], _VERSIONS["register"])
    keys["masks"] = key_of(keys["register"], _VERSIONS["masks"])
    keys["tracks"] = key_of(keys["masks"], _VERSIONS["tracks"], shapes.VERSION)
    manifest_path = folder / files.MANIFEST
    keys["sound"] = key_of(keys["tracks"], sound.VERSION, audio_offset)
    if manifest_path.is_file() and not _made_from(manifest_path, keys["tracks"]):
        manifest_path.unlink()  # what follows overwrites what it describes

    work = stages.work
    observed, raw_alpha, pose, face, torso = (
        work / name
        for name in (
            "observations.safetensors", "alpha.mkv", "pose.safetensors", "face.safetensors", "torso.safetensors",
        )
    )  # fmt: skip
    stages.run(
        "observe", keys["observe"], [observed, raw_alpha],
        lambda: _observe(
            clip_path, info.frame_count_estimate, info.frame_rate_hz, landmark_source, observed, raw_alpha, on_event
        ),
    )  # fmt: skip
    stages.run("pose", keys["pose"], [pose], lambda: solve_clip(clip_path, observed, camera, settings, pose, on_event))
    stages.run(
        "register", keys["register"], [face], lambda: _register(clip_path, pose, camera, settings, face, on_event)
    )
    solved = load_tensors(pose) | load_tensors(face)
    rate_hz = _kept_rate_hz(info.frame_rate_hz, solved)
    stages.run(
        "masks", keys["masks"],
        [folder / files.PERSON, folder / files.LABELS, folder / files.PLATE, folder / files.PLATE_SEEN, torso],
        lambda: _masks(clip_path, raw_alpha, solved, camera, rate_hz, folder, torso, on_event),
    )  # fmt: skip
    stages.run("tracks", keys["tracks"], [folder / files.TRACKS], lambda: _tracks(solved, torso, folder / files.TRACKS))
    audio = {"sample_rate_hz": info.audio_sample_rate_hz} if info.has_audio else None
    if audio is None:
        on_event(Note("capture", f"{clip_path.name} has no sound: it teaches how the person looks, not how they talk"))
    else:
        stages.run(
            "sound", keys["sound"], [],
            lambda: sound.measured_offset(
                clip_path, solved["pts_seconds"], solved["landmarks_cm"], rate_hz, audio_offset, on_event
            ),
        )  # fmt: skip
    source = {
        "path": str(clip_path),
        "sha256": sha256,
        "size_bytes": clip_path.stat().st_size,
        "width_px": info.width_px,
        "height_px": info.height_px,
        "frame_rate_hz": rate_hz,
        "file_frame_rate_hz": info.frame_rate_hz,
        "duration_seconds": info.duration_seconds,
        "audio": audio,
    }
    manifest = _manifest(source, camera, landmark_source, stages.records, solved)
    write_atomically(manifest_path, json.dumps(manifest, indent=1).encode())
    return ClipFolder.open(folder)


def _made_from(manifest_path: Path, tracks_key: str) -> bool:
    try:
        return bool(json.loads(manifest_path.read_text())["stages"]["tracks"]["key"] == tracks_key)
    except (ValueError, KeyError, TypeError):
        return False


def _ticker(stage: str, total: int | None, on_event: Listener) -> Callable[[int], None]:
    on_event(Started(stage, total))
    return lambda step: on_event(Progress(stage, step, total))


def _observe(
    clip: Path, estimate: int, rate_hz: float, source: LandmarkSource, observed: Path, raw_alpha: Path,
    on_event: Listener,
) -> dict[str, float]:  # fmt: skip
    from avatarfit.capture.observation import observe
    from avatarfit.capture.person_alpha import NETWORK_SIDE_PX
    from avatarfit.media import VideoWriter, read_video

    step = _ticker("observe", estimate, on_event)
    pts, difference, frame_of, landmarks, flow, blendshapes = [], [], [], [], [], []
    side = NETWORK_SIDE_PX
    with VideoWriter(raw_alpha, side, side, rate_hz, codec="ffv1", pixel="gray8") as writer:
        for index, seen in enumerate(observe(read_video(clip), source)):
            pts.append(seen.pts_seconds)
            difference.append(seen.difference)
            for face in seen.detections:
                frame_of.append(index)
                landmarks.append(face.landmarks_px)
                flow.append(face.flow_px)
                if face.blendshapes is not None:
                    blendshapes.append(face.blendshapes)
            writer.write(seen.alpha)
            if index % 10 == 9:
                step(index + 1)
    if not landmarks:
        raise FaceError(
            f"no face was found in any of the {len(pts)} pictures of {clip.name}", "a clip that shows one face",
            "use a clip in which the face is at least a fifth of the picture's height and turned to the camera",
        )  # fmt: skip
    save_tensors(
        observed,
        {
            "pts_seconds": np.array(pts, np.float64),
            "difference": np.array(difference, np.float64),
            "face_frame": np.array(frame_of, np.int64),
            "face_landmarks_px": np.stack(landmarks),
            "face_flow_px": np.stack(flow).astype(np.float32),
        }
        | ({"face_blendshapes": np.stack(blendshapes)} if blendshapes else {}),
    )
    return {"frames": len(pts), "faces": len(landmarks)}


def _register(
    clip: Path, pose: Path, camera: Camera, settings: PoseSettings, face: Path, on_event: Listener
) -> dict[str, float]:
    source_index = load_tensors(pose)["source_index"]

    def grays() -> Iterator[np.ndarray]:
        import cv2

        from avatarfit.media import read_video

        wanted, last = set(source_index.tolist()), int(source_index[-1])
        for index, frame in enumerate(read_video(clip)):
            if index in wanted:
                yield cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2GRAY)
            if index >= last:
                return

    return register_clip(grays, pose, camera, settings, face, _ticker("register", len(source_index), on_event))


def _kept_rate_hz(file_rate_hz: float, solved: dict[str, np.ndarray]) -> float:
    """The clip's true rate: the file's, less the repeats where they are many enough to be padding."""
    repeats = float((solved["status"] == REPEAT).mean())
    if repeats < 0.03:
        return file_rate_hz
    rate = file_rate_hz * (1 - repeats)
    nearest = min(_RATES_HZ, key=lambda r: abs(r - rate))
    return float(nearest) if abs(nearest - rate) < 0.02 * rate else rate


def _masks(
    clip: Path, raw_alpha: Path, solved: dict[str, np.ndarray], camera: Camera, rate_hz: float, folder: Path,
    torso: Path, on_event: Listener,
) -> dict[str, float]:  # fmt: skip
    import cv2

    kept = KeptFrames(
        clip, raw_alpha, solved["source_index"], solved["landmarks_px"],
        HeadPose(solved["head_rotation_wxyz"], solved["head_translation_cm"]), camera,
        train_count_of(len(solved["source_index"])),
    )  # fmt: skip
    began = time.monotonic()
    sampled = sample_clip(kept, _ticker("sample", len(kept), on_event))
    on_event(Finished("sample", time.monotonic() - began))
    step = _ticker("masks", len(kept), on_event)
    affine, values = write_masks(kept, sampled, folder / files.PERSON, folder / files.LABELS, rate_hz, step)
    seen_picture = sampled.plate_seen.astype(np.uint8) * 255
    for name, picture in ((files.PLATE, sampled.plate[..., ::-1]), (files.PLATE_SEEN, seen_picture)):
        write_atomically(folder / name, cv2.imencode(".png", picture)[1].tobytes())
    save_tensors(torso, {"affine": affine.astype(np.float32)})
    tracked = values["torso_tracked_share"]
    if tracked < 0.9:
        on_event(
            Note("masks", f"the torso was followed in only {tracked:.0%} of the pictures; it is guessed elsewhere")
        )
    return values | {"plate_seen_share": float(sampled.plate_seen.mean())}


def _tracks(solved: dict[str, np.ndarray], torso: Path, path: Path) -> dict[str, float]:
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
        | {"torso_affine": load_tensors(torso)["affine"], "mouth": face.mouth, "upper": face.upper, "eyes": face.eyes}
        | {"blendshapes": found.values, "blendshape_range": found.range}
        | {f"rig.{name}": value for name, value in rig.to_tensors().items()},
    )
    error = (rig.landmarks_cm(face) - landmarks_cm)[:, rig.mouth_indices]
    return {
        "mouth_basis_error_cm": float(np.median(np.linalg.norm(error, axis=2))),
        "eyes_closed_share": float(shapes.blinks(found.names, found.values).mean()),
    }


def _manifest(
    source: dict[str, Any], camera: Camera, landmark_source: LandmarkSource, records: dict[str, dict[str, Any]],
    solved: dict[str, np.ndarray],
) -> dict[str, Any]:  # fmt: skip
    status, all_pts = solved["status"], solved["source_pts_seconds"]
    heard = records.get("sound", {"values": {}})["values"]
    return {
        "format": files.FORMAT,
        "version": files.VERSION,
        "source": source,
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
                zip(solved["pts_seconds"], solved["source_index"], solved["pose_residual_px"], strict=True)
            )
        ],
        "rejects": [
            {"source_index": int(i), "pts_seconds": float(all_pts[i]), "reason": REASONS[status[i]]}
            for i in np.flatnonzero(status >= 0)
        ],
    }
