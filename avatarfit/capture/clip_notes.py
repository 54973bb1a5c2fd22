"""What a person should know about a clip besides what the stages found: how it was read, its sound, its length."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from avatarfit.capture.source_view import SourceView
from avatarfit.contracts import Camera
from avatarfit.contracts.events import Listener, Note
from avatarfit.media import MediaInfo, SoundSpan

_SHORT_SECONDS = 20.0
_SOUND_GAP_SECONDS = 0.1
_CUT_OFF_SHARE = 0.01
_RANGES = {"hlg": "HLG", "pq": "PQ"}


def tell_reading(info: MediaInfo, on_event: Listener) -> None:
    """How the pictures are read, where that is not as they are stored."""
    name = info.path.name
    if info.interlaced:
        on_event(Note("read", f"{name} is interlaced; one whole picture is made of each frame's two fields"))
    if info.dynamic_range != "sdr":
        kind = _RANGES[info.dynamic_range]
        on_event(Note("read", f"{name} is high dynamic range ({kind}); it is tone-mapped to SDR, BT.709"))


def tell_sound(name: str, span: SoundSpan | None, pictures_end_seconds: float, on_event: Listener) -> None:
    """Where the sound is missing."""
    if span is None:
        on_event(Note("capture", f"{name} has no sound: it teaches how the person looks, not how they talk"))
        return
    late, early = span.start_seconds, pictures_end_seconds - span.end_seconds
    if late > _SOUND_GAP_SECONDS:
        on_event(Note("capture", f"the sound of {name} begins {late:.2f} s after the pictures; silence is put there"))
    if early > _SOUND_GAP_SECONDS:
        on_event(Note("capture", f"the sound of {name} ends {early:.2f} s before the pictures; silence is put there"))


def tell_length(pts_seconds: np.ndarray, rate_hz: float, on_event: Listener) -> None:
    """That there is little of the person."""
    seconds = len(pts_seconds) / rate_hz
    if seconds < _SHORT_SECONDS:
        wanted = f"an avatar that speaks wants {_SHORT_SECONDS:.0f} s or more"
        on_event(Note("capture", f"the face is seen for {seconds:.1f} s only; {wanted}"))


def tell_cut_off(
    landmarks_px: np.ndarray, view: SourceView, source_size: tuple[int, int], camera: Camera, on_event: Listener
) -> None:
    """That the face leaves the crop, where the source goes on.

    Args:
        landmarks_px: float32 [K, 478, 3], working pixels.
        view, camera: the working picture.
        source_size: width and height of the upright source.
    """
    low, high = landmarks_px[..., :2].min(axis=1), landmarks_px[..., :2].max(axis=1)
    out = np.zeros(len(landmarks_px), bool)
    starts, ends = (view.x_px, view.y_px), (view.x_px + view.width_px, view.y_px + view.height_px)
    for axis, size in enumerate((camera.width_px, camera.height_px)):
        if starts[axis] > 0:
            out |= low[:, axis] < 0
        if ends[axis] < source_size[axis]:
            out |= high[:, axis] > size
    if out.mean() > _CUT_OFF_SHARE:
        told = f"in {out.sum()} pictures the face reaches beyond the part of the picture that was taken"
        on_event(Note("capture", f"{told}; --size source takes all of it"))


def source_json(clip: Path, sha256: str, info: MediaInfo, rate_hz: float, span: SoundSpan | None) -> dict[str, object]:
    """The `source` entry of clip.json."""
    audio = None
    if span is not None:
        audio = {
            "sample_rate_hz": info.audio_sample_rate_hz,
            "start_seconds": round(span.start_seconds, 4),
            "end_seconds": round(span.end_seconds, 4),
        }
    return {
        "path": str(clip),
        "sha256": sha256,
        "size_bytes": clip.stat().st_size,
        "width_px": info.width_px,
        "height_px": info.height_px,
        "rotation_degrees": info.rotation_degrees,
        "interlaced": info.interlaced,
        "dynamic_range": info.dynamic_range,
        "frame_rate_hz": rate_hz,
        "file_frame_rate_hz": info.frame_rate_hz,
        "duration_seconds": info.duration_seconds,
        "audio": audio,
    }
