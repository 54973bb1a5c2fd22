"""A clip folder written as the AD-NeRF family's folder."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avatarfit.capture.clip_folder import FACE, MOUTH_INTERIOR, NECK, TORSO, ClipFolder
from avatarfit.capture.exchange import adnerf_format as form
from avatarfit.capture.exchange.adnerf_tables import action_units_csv, blendshape_rows
from avatarfit.capture.report.face_curves import face_height_px
from avatarfit.capture.stages import write_atomically
from avatarfit.contracts import AudioClip, Camera, InputError
from avatarfit.contracts.events import Finished, Listener, Note, Progress, Started, silent
from avatarfit.model.blendshapes import ARKIT_NAMES

_STAGE = "export"
_MARKER = "UNFINISHED"
_JPEG_QUALITY = 98
_TORSO_REACH = 0.15
"""How far neck and torso are carried on behind the head, in face heights: what a moving head uncovers."""
_CORE_PX = 5
_OFF_CENTRE_PX = 0.5
_IN_FLIGHT = 4


def export_adnerf(clip: ClipFolder, output: Path | str, on_event: Listener = silent) -> int:
    """Writes `clip` as a folder that SyncTalk, ER-NeRF and TalkingGaussian read.

    It is made as OUTPUT.part and renamed when it is whole; what an interrupted export of the same clip left there is
    gone on with. Pictures are written one at a time.

    Returns:
        The number of pictures.

    Raises:
        InputError: the output is there already or cannot be made, or the clip's source is gone.
        SoundError: the clip has no sound, which every reader needs.
    """
    output = Path(output)
    sound = clip.audio()
    part = _started_part(output, clip.content_hash)
    slots = form.picture_slots(clip.pts_seconds, clip.frame_rate_hz)
    began = time.monotonic()
    on_event(Started(_STAGE, len(slots)))
    _write_pictures(clip, part, slots, on_event)
    poses = _poses(clip, on_event)
    for name, split in ((form.TRAIN, (0, clip.train_count)), (form.VAL, (clip.train_count, len(clip)))):
        frames = [
            {"img_id": number, "aud_id": number, "transform_matrix": poses[index].tolist()}
            for number, index in slots
            if split[0] <= index < split[1]
        ]
        write_atomically(part / name, json.dumps(_camera(clip.camera) | {"frames": frames}, indent=1).encode())
    _write_tables(clip, part, slots, on_event)
    _write_sound(sound, part / form.SOUND)
    write_atomically(part / form.README, _readme(clip, len(slots)).encode())
    (part / _MARKER).unlink()
    os.replace(part, output)
    on_event(Finished(_STAGE, time.monotonic() - began, {"pictures": len(slots)}))
    return len(slots)


def _started_part(output: Path, content_hash: str) -> Path:
    """The folder to write into, new or left by an interrupted export of the same clip."""
    if output.exists():
        raise InputError(f"{output} is there already", "a folder that is not there yet", "choose another name")
    if not output.resolve().parent.is_dir():
        raise InputError(f"there is no folder {output.parent} for the output", "a folder that exists", "make it first")
    part = output.with_name(output.name + ".part")
    marker = part / _MARKER
    if part.exists() and not marker.is_file():
        raise InputError(
            f"{part} is there and was not left by an export", "a free place for the unfinished folder", "move it away"
        )
    if marker.is_file() and marker.read_text() != content_hash:
        shutil.rmtree(part)
    try:
        for name in (form.ORIGINAL, form.GROUND_TRUTH, form.TORSOS, form.PARSING, form.TEETH):
            (part / name).mkdir(parents=True, exist_ok=True)
        marker.write_text(content_hash)
    except OSError as cause:
        raise InputError(f"{part} cannot be made ({cause})", "a folder to write to", "choose another folder") from cause
    return part


def _camera(camera: Camera) -> dict[str, float]:
    width, height = camera.width_px, camera.height_px
    return {"focal_len": camera.focal_px, "cx": width / 2, "cy": height / 2, "w": width, "h": height}


def _poses(clip: ClipFolder, on_event: Listener) -> np.ndarray:
    """transform_matrix of every kept picture, float64 [T, 4, 4]."""
    head = clip.motion().head.matrices().astype(np.float64)
    camera = clip.camera
    off = max(abs(camera.center_x_px - camera.width_px / 2), abs(camera.center_y_px - camera.height_px / 2))
    if off > _OFF_CENTRE_PX:
        head, error_px = _for_centred_camera(clip, head)
        on_event(
            Note(_STAGE, f"the camera's axis is {off:.0f} px off the picture's middle, which the format cannot say: "
                 f"poses were solved again for a centred one ({error_px:.2f} px median error)")
        )  # fmt: skip
    return form.camera_to_head(head[:, :, :3], head[:, :, 3])


def _for_centred_camera(clip: ClipFolder, head: np.ndarray) -> tuple[np.ndarray, float]:
    """The poses under which a camera with its axis in the middle sees the same landmarks: [T, 3, 4], median error."""
    import cv2

    camera = clip.camera
    matrix = np.array([
        [camera.focal_px, 0, camera.width_px / 2], [0, camera.focal_px, camera.height_px / 2], [0, 0, 1],
    ])  # fmt: skip
    shift = np.array([camera.center_x_px - camera.width_px / 2, camera.center_y_px - camera.height_px / 2])
    straight = np.zeros(5)  # no distortion
    out, errors = np.empty_like(head), []
    for index, pose in enumerate(head):
        points = clip.landmarks_cm[index].astype(np.float64)
        pixels = clip.landmarks_px[index, :, :2].astype(np.float64)
        start = pose[:, 3] + np.append(shift, 0) * pose[2, 3] / camera.focal_px
        turn = cv2.Rodrigues(pose[:, :3])[0]
        _, turn, place = cv2.solvePnP(points, pixels, matrix, straight, turn, start[:, None].copy(), True)
        out[index] = np.concatenate([cv2.Rodrigues(turn)[0], place], axis=1)
        seen = cv2.projectPoints(points, turn, place, matrix, straight)[0][:, 0]
        errors.append(np.median(np.linalg.norm(seen - pixels, axis=1)))
    return out, float(np.median(errors))


@dataclass(frozen=True)
class _Picture:
    """One picture on its way to the disk, under each of its numbers."""

    numbers: list[int]
    rgb: np.ndarray
    person: np.ndarray
    labels: np.ndarray
    landmarks_px: np.ndarray


def _pictures(clip: ClipFolder, slots: list[tuple[int, int]]) -> Iterator[_Picture]:
    numbers: dict[int, list[int]] = {}
    for number, index in slots:
        numbers.setdefault(index, []).append(number)
    for index, (frame, (person, labels)) in enumerate(zip(clip.frames(), clip.masks(), strict=True)):
        if index in numbers:
            yield _Picture(numbers[index], frame.rgb, person, labels, clip.landmarks_px[index])


def _write_pictures(clip: ClipFolder, part: Path, slots: list[tuple[int, int]], on_event: Listener) -> None:
    plate = clip.plate()
    write_atomically(part / form.PLATE, _jpeg(plate))
    no_teeth = part / form.TEETH / f"{slots[0][0]}.npy"
    with no_teeth.open("wb") as stream:
        np.save(stream, np.zeros(plate.shape[:2], bool))
    done = 0
    with ThreadPoolExecutor(2) as pool:
        waiting: deque[tuple[int, Future[None]]] = deque()

        def finish() -> None:
            nonlocal done
            count, write = waiting.popleft()
            write.result()
            done += count
            if done // 10 != (done - count) // 10 or done == len(slots):
                on_event(Progress(_STAGE, done, len(slots)))

        for picture in _pictures(clip, slots):
            waiting.append((len(picture.numbers), pool.submit(_write_picture, part, picture, plate, no_teeth)))
            while len(waiting) > _IN_FLIGHT:
                finish()
        while waiting:
            finish()


def _write_picture(part: Path, picture: _Picture, plate: np.ndarray, no_teeth: Path) -> None:
    """All files of one picture; parsing comes last and says that the others are there."""
    due = [n for n in picture.numbers if not (part / form.PARSING / f"{n}.png").is_file()]
    if not due:
        return
    rgb, alpha = picture.rgb, picture.person[..., None].astype(np.float32) / 255
    truth = (alpha * rgb + (1 - alpha) * plate + 0.5).astype(np.uint8)
    points = picture.landmarks_px[form.LANDMARKS_68, :2] - 0.5
    files = {
        f"{form.ORIGINAL}/{{}}.jpg": _jpeg(rgb),
        f"{form.ORIGINAL}/{{}}.lms": "".join(f"{x:f} {y:f}\n" for x, y in points).encode(),
        f"{form.GROUND_TRUTH}/{{}}.jpg": _jpeg(truth),
        f"{form.TORSOS}/{{}}.png": _png(torso_rgba(rgb, picture.person, picture.labels, picture.landmarks_px)),
        f"{form.PARSING}/{{}}_face.png": _png(_face_picture(picture.labels)),
        f"{form.PARSING}/{{}}.png": _png(_parsing_picture(picture.labels)),
    }
    for number in due:
        teeth = part / form.TEETH / f"{number}.npy"
        if not teeth.exists():
            try:
                os.link(no_teeth, teeth)  # one file under many names: they are all the same
            except OSError:
                shutil.copyfile(no_teeth, teeth)
        for name, data in files.items():
            write_atomically(part / name.format(number), data)


def torso_rgba(rgb: np.ndarray, person: np.ndarray, labels: np.ndarray, landmarks_px: np.ndarray) -> np.ndarray:
    """Neck and torso, uint8 [H, W, 4] with straight alpha, carried on a little behind the head by their nearest colour.

    Args:
        rgb: uint8 [H, W, 3].
        person, labels: uint8 [H, W].
        landmarks_px: [478, 3], for the face's height.
    """
    import cv2

    body = np.isin(labels, (NECK, TORSO))
    out = np.zeros((*labels.shape, 4), np.uint8)
    if not body.any():
        return out
    out[body, :3] = rgb[body]
    out[body, 3] = person[body]
    # Rims and slivers are mixed with what lies beside them: only the body's own inside lends its colours.
    core = cv2.erode(body.astype(np.uint8), np.ones((_CORE_PX, _CORE_PX), np.uint8), borderValue=(1,)) > 0
    if not core.any():
        return out
    distance, nearest = cv2.distanceTransformWithLabels(
        (~core).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    reach = _TORSO_REACH * float(face_height_px(landmarks_px[None])[0])
    behind = ~body & (labels != 0) & (distance <= reach)
    color_of = np.zeros((int(nearest.max()) + 1, 3), np.uint8)
    color_of[nearest[core]] = rgb[core]
    carried = out[..., :3].copy()
    carried[behind] = color_of[nearest[behind]]
    out[behind, :3] = cv2.blur(carried, (_CORE_PX, _CORE_PX))[behind]
    out[behind, 3] = 255
    return out


def _parsing_picture(labels: np.ndarray) -> np.ndarray:
    table = np.zeros((256, 3), np.uint8)
    for label, color in form.PARSING_RGB.items():
        table[label] = color
    return table[labels]


def _face_picture(labels: np.ndarray) -> np.ndarray:
    """The face without hair, blue on white with a soft rim: SyncTalk's portrait mode blends along it."""
    import cv2

    face = np.isin(labels, (FACE, MOUTH_INTERIOR))
    return cv2.GaussianBlur(np.where(face[..., None], np.array([0, 0, 255], np.uint8), np.uint8(255)), (9, 9), 0)


def _jpeg(rgb: np.ndarray) -> bytes:
    import cv2

    return cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes()


def _png(picture: np.ndarray) -> bytes:
    import cv2

    order = [2, 1, 0, 3][: picture.shape[2]]
    return cv2.imencode(".png", picture[..., order], [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


def _write_tables(clip: ClipFolder, part: Path, slots: list[tuple[int, int]], on_event: Listener) -> None:
    names, values = clip.blendshapes()
    text, empty = action_units_csv(names, values, slots)
    write_atomically(part / form.ACTION_UNITS, text.encode())
    if len(names) < len(ARKIT_NAMES) - 1:  # no source knows tongueOut
        on_event(
            Note(_STAGE, f"this clip's blendshapes are {len(names)} of {len(ARKIT_NAMES)}; the others are 0 in "
                 f"{form.BLENDSHAPES}, and so are {', '.join(empty)} in {form.ACTION_UNITS}")
        )  # fmt: skip
    partial = part / (form.BLENDSHAPES + ".part")
    with partial.open("wb") as stream:
        np.save(stream, blendshape_rows(names, values, slots))
    os.replace(partial, part / form.BLENDSHAPES)


def _write_sound(sound: AudioClip, path: Path) -> None:
    """16 kHz mono that starts with the first picture."""
    from avatarfit.media import resample, write_wav

    sound = resample(sound, form.SAMPLE_RATE_HZ)
    shift = round(sound.start_seconds * form.SAMPLE_RATE_HZ)
    samples = np.pad(sound.samples, (shift, 0)) if shift > 0 else sound.samples[-shift:]
    write_wav(path, AudioClip(samples, form.SAMPLE_RATE_HZ))


def _readme(clip: ClipFolder, count: int) -> str:
    lines = [
        "Written by avatarfit export-clip in the folder format of AD-NeRF's successors.",
        f"Source: {clip.source.name}, sha256 {clip.manifest['source']['sha256']}. {count} pictures, 25 a second.",
        "",
        "transforms_train.json, transforms_val.json  camera and head poses; all readers",
        "ori_imgs/N.jpg, ori_imgs/N.lms              pictures, 68 landmarks; all readers",
        "gt_imgs/N.jpg                               the person over the background plate; all readers",
        "torso_imgs/N.png                            neck and torso with alpha; all readers",
        "bc.jpg                                      background plate; all readers",
        "aud.wav                                     16 kHz mono; SyncTalk, and the tools of the others",
        "au.csv                                      action units; ER-NeRF, TalkingGaussian, SyncTalk with --au45",
        "bs.npy                                      52 blendshapes; SyncTalk",
        "parsing/N.png                               labels as colours; TalkingGaussian",
        "parsing/N_face.png                          the face; SyncTalk with --portrait",
        "teeth_mask/N.npy                            empty; TalkingGaussian (the mouth is in parsing/N.png)",
        "",
        "Still to be made from aud.wav by the reader's own tools: sound features (aud_ds.npy, aud_hu.npy, aud_eo.npy).",
        "SyncTalk with its own audio encoder needs none.",
        "The people in this clip must have agreed to what is done with it.",
    ]
    return "\n".join(lines) + "\n"
