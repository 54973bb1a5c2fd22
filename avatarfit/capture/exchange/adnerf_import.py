"""The AD-NeRF family's folder as a clip folder: its pictures and sound become a video, and capture measures that.

Nothing of the folder's own measurements is taken over but the focal length; how far they are from ours is told.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from avatarfit.capture.capture import capture_clip
from avatarfit.capture.clip_folder import HEAD, MANIFEST, ClipFolder
from avatarfit.capture.exchange import adnerf_format as form
from avatarfit.capture.exchange.adnerf_listing import Listing, read_listing
from avatarfit.capture.stages import Stages, key_of, write_atomically
from avatarfit.contracts import AudioClip, FileFormatError, InputError
from avatarfit.contracts.events import Listener, Note, Progress, Started, silent

_STAGE = "import"
_FOCAL_OVER_LONG_SIDE = (0.3, 20.0)
"""From a fisheye to a telescope; what lies outside is no camera but a tracker that went astray."""
_GREY = 128
_COMPARED = 40


def import_adnerf(
    folder: Path | str, output: Path | str, frame_rate_hz: float = form.FRAME_RATE_HZ, on_event: Listener = silent
) -> ClipFolder:
    """Makes the clip folder `output` from an AD-NeRF folder, and beside it the video OUTPUT.mkv (lossless).

    An interrupted import goes on where it stopped. `clip.json` has `imported`: where from, and how its measurements
    compare with ours.

    Args:
        folder: with transforms_train.json, ori_imgs/ (or gt_imgs/) and aud.wav.
        output: the clip folder.
        frame_rate_hz: the folder's; the format does not tell, its readers take 25.
        on_event: told of stages, progress and what is odd.

    Raises:
        InputError: something is missing, the pictures' sizes differ, or the output cannot be written.
        SoundError: no aud.wav, or it holds no sound.
        FileFormatError: the transforms or a picture are damaged.
        FaceError: no face in the pictures.
    """
    folder, output = Path(folder), Path(output)
    listing = read_listing(folder)
    video = output.with_name(output.name + ".mkv")
    try:
        stages = Stages(output, on_event)
    except OSError as cause:
        raise InputError(
            f"{output} cannot be made ({cause})", "a folder to write to", "choose another folder"
        ) from cause
    stats = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in (*listing.pictures, listing.sound)]
    key = key_of(str(folder.resolve()), stats, listing.numbers.tolist(), frame_rate_hz)
    stages.run(_STAGE, key, [video], lambda: _write_video(listing, video, frame_rate_hz, on_event))
    if listing.missing:
        on_event(Note(_STAGE, f"{listing.missing} numbers have no picture; they are grey in {video.name}"))
    clip = capture_clip(video, output, size="source", focal_px=_focal(listing, on_event), on_event=on_event)
    imported = {
        "format": "adnerf",
        "folder": str(folder.resolve()),
        "pictures": len(listing.pictures),
        "missing": listing.missing,
        "frame_rate_hz": frame_rate_hz,
        "focal_len": listing.focal_px,
    } | {name: round(value, 4) for name, value in compared(clip, listing).items()}
    write_atomically(output / MANIFEST, json.dumps(clip.manifest | {"imported": imported}, indent=1).encode())
    on_event(Note(_STAGE, "their measurements against ours: " + _told(imported)))
    return ClipFolder.open(output)


def _picture(path: Path) -> np.ndarray:
    import cv2

    bgr = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR) if path.stat().st_size else None
    if bgr is None:
        raise FileFormatError(f"{path} is no picture", "a JPEG", "make it again")
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def _pictures(listing: Listing) -> Iterator[np.ndarray]:
    """One picture for every number from the first to the last, grey where there is none; one at a time."""
    by_number = dict(zip(listing.numbers.tolist(), listing.pictures, strict=True))
    shape: tuple[int, ...] | None = None
    for number in range(int(listing.numbers[0]), int(listing.numbers[-1]) + 1):
        path = by_number.get(number)
        rgb = np.full(shape or (1, 1, 3), _GREY, np.uint8) if path is None else _picture(path)
        shape = shape or rgb.shape
        if rgb.shape != shape:
            raise InputError(
                f"{path} is {rgb.shape[1]}x{rgb.shape[0]} and the pictures before it are {shape[1]}x{shape[0]}",
                "pictures of one size", "make the folder again from one clip",
            )  # fmt: skip
        yield rgb


def _write_video(listing: Listing, video: Path, frame_rate_hz: float, on_event: Listener) -> dict[str, float]:
    from avatarfit.media import VideoWriter, read_audio

    total = int(listing.numbers[-1] - listing.numbers[0]) + 1
    on_event(Started(_STAGE, total))
    heard = read_audio(listing.sound)
    sound = AudioClip(heard.samples, heard.sample_rate_hz, -int(listing.numbers[0]) / frame_rate_hz)
    height, width = _picture(listing.pictures[0]).shape[:2]
    with VideoWriter(video, width, height, frame_rate_hz, codec="ffv1", sound=sound) as writer:
        for count, rgb in enumerate(_pictures(listing), start=1):
            writer.write(rgb)
            if count % 10 == 0 or count == total:
                on_event(Progress(_STAGE, count, total))
    return {"pictures": total, "missing": listing.missing}


def _focal(listing: Listing, on_event: Listener) -> float | None:
    if listing.focal_px is None:
        return None
    ratio = listing.focal_px / max(_picture(listing.pictures[0]).shape[:2])
    if _FOCAL_OVER_LONG_SIDE[0] <= ratio <= _FOCAL_OVER_LONG_SIDE[1]:
        return listing.focal_px
    on_event(Note(_STAGE, f"focal_len is {ratio:.2g} times the picture's longer side; the usual lens is taken instead"))
    return None


def compared(clip: ClipFolder, listing: Listing) -> dict[str, float]:
    """How the folder's measurements differ from the capture's, as medians over the kept pictures.

    Returns:
        rotation_degrees (the one turn between the two heads' axes taken out), translation_share (of the distance, one
        shift and scale taken out), landmarks_px where the folder has N.lms, and head_iou where it has parsing/.
    """
    source = np.array([f["source_index"] for f in clip.manifest["frames"]])
    place = np.searchsorted(listing.numbers, source + listing.numbers[0])
    known = listing.numbers[np.minimum(place, len(listing.numbers) - 1)] == source + listing.numbers[0]
    kept, theirs = np.flatnonzero(known), place[known]
    values = _pose_differences(clip.motion().head.matrices()[kept].astype(np.float64), listing.transforms[theirs])
    sample = np.unique(np.linspace(0, len(kept) - 1, min(len(kept), _COMPARED)).round().astype(int))
    apart, overlap = [], []
    for k, other in zip(kept[sample].tolist(), theirs[sample].tolist(), strict=True):
        stem = listing.pictures[other].stem
        points = _read_lms(listing.folder / form.ORIGINAL / f"{stem}.lms")
        if points is not None:
            ours = clip.landmarks_px[k, form.LANDMARKS_68, :2] - 0.5
            apart.append(float(np.median(np.linalg.norm(ours - points, axis=1))))
        head = _read_head(listing.folder / form.PARSING / f"{stem}.png")
        labels = next(clip.masks(k, k + 1))[1]
        if head is not None and head.shape == labels.shape:
            ours_head = np.isin(labels, HEAD)
            overlap.append(float((head & ours_head).sum() / max((head | ours_head).sum(), 1)))
    if apart:
        values["landmarks_px"] = float(np.median(apart))
    if overlap:
        values["head_iou"] = float(np.median(overlap))
    return values


def _pose_differences(ours: np.ndarray, transforms: np.ndarray) -> dict[str, float]:
    from scipy.spatial.transform import Rotation

    rotation, translation = form.head_in_camera(transforms)
    between = Rotation.from_matrix(np.swapaxes(rotation, 1, 2) @ ours[:, :, :3])
    left = (between.mean().inv() * between).magnitude()
    # t_ours = scale * t_theirs + R_theirs @ (scale * shift): linear in scale and in the product.
    design = np.concatenate([translation[:, :, None], rotation], axis=2).reshape(-1, 4)
    wanted = ours[:, :, 3].reshape(-1)
    solution = np.linalg.lstsq(design, wanted, rcond=None)[0]
    error = np.linalg.norm((wanted - design @ solution).reshape(-1, 3), axis=1)
    return {
        "rotation_degrees": float(np.degrees(np.median(left))),
        "translation_share": float(np.median(error / np.linalg.norm(ours[:, :, 3], axis=1))),
    }


def _read_lms(path: Path) -> np.ndarray | None:
    """The 68 points [68, 2], None where the file is missing or no such list."""
    if not path.is_file() or path.stat().st_size > 65536:
        return None
    try:
        points = np.array([line.split() for line in path.read_text().splitlines() if line.strip()], np.float64)
    except ValueError:
        return None
    return points if points.shape == (68, 2) and np.isfinite(points).all() else None


def _read_head(path: Path) -> np.ndarray | None:
    """bool [H, W] by the colours of face, mouth interior and hair; None where the picture is missing."""
    if not path.is_file():
        return None
    rgb = _picture(path)
    return np.any([(rgb == form.PARSING_RGB[label]).all(axis=2) for label in HEAD], axis=0)


def _told(imported: dict[str, object]) -> str:
    said = [
        f"head turned by {imported['rotation_degrees']:.2f} degrees",
        f"{imported['translation_share']:.2%} of the distance away",
    ]
    if "landmarks_px" in imported:
        said.append(f"68 landmarks {imported['landmarks_px']:.1f} px apart")
    if "head_iou" in imported:
        said.append(f"heads overlap by {imported['head_iou']:.0%}")
    return ", ".join(said) + " (medians)"
