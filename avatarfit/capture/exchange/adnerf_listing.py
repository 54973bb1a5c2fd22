"""What an AD-NeRF folder says it holds, read with distrust: it may come from anywhere."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from avatarfit.capture.exchange import adnerf_format as form
from avatarfit.contracts import FileFormatError, InputError, SoundError

_LARGEST_JSON_BYTES = 256 * 2**20
_MOST_PICTURES = 1_000_000
_GAPS_PER_PICTURE, _GAPS_ALLOWED = 1, 250
_WANTED = "an AD-NeRF folder, as SyncTalk, ER-NeRF or TalkingGaussian prepare it"


@dataclass(frozen=True)
class Listing:
    """The pictures of a folder, in the order of the sound.

    Attributes:
        folder: it.
        numbers: int [N], rising: each picture's place on the clock of the sound, in pictures.
        pictures: their files.
        transforms: float64 [N, 4, 4], camera to head.
        focal_px: focal length, None where it is not told.
        sound: aud.wav.
    """

    folder: Path
    numbers: np.ndarray
    pictures: list[Path]
    transforms: np.ndarray
    focal_px: float | None
    sound: Path

    @property
    def missing(self) -> int:
        """Numbers between the first and the last that have no picture."""
        return int(self.numbers[-1] - self.numbers[0] + 1 - len(self.numbers))


def read_listing(folder: Path) -> Listing:
    """The folder's transforms, and whether the files that they name are there.

    Raises:
        InputError: no such folder, or pictures are missing.
        SoundError: no aud.wav.
        FileFormatError: the transforms are no such thing, or say what cannot be.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise InputError(f"{folder} {what}", _WANTED, "name the folder that holds transforms_train.json")
    paths = [folder / name for name in (form.TRAIN, form.VAL)]
    if not paths[0].is_file():
        raise InputError(f"{folder} holds no {form.TRAIN}", _WANTED, "run its preparation to the end")
    parts = [_read_json(path) for path in paths if path.is_file()]
    sound = folder / form.SOUND
    if not sound.is_file():
        raise SoundError(
            f"{folder} holds no {form.SOUND}", "the sound of the clip, 16 kHz mono", "put it there: ffmpeg extracts it"
        )
    frames: dict[int, tuple[int, np.ndarray]] = {}
    for path, content in parts:
        for place, frame in enumerate(content["frames"]):
            image, number, transform = _read_frame(path, place, frame)
            if number in frames:
                raise _broken(path, f"frame {place} has the aud_id {number} of another frame")
            frames[number] = image, transform
    if not frames:
        raise _broken(paths[0], "it lists no frame")
    numbers = np.array(sorted(frames))
    span = int(numbers[-1] - numbers[0]) + 1
    if span > (1 + _GAPS_PER_PICTURE) * len(numbers) + _GAPS_ALLOWED:
        raise _broken(paths[0], f"its {len(numbers)} frames are spread over {span} numbers")
    return Listing(
        folder,
        numbers,
        _find_pictures(folder, [frames[n][0] for n in numbers.tolist()]),
        np.stack([frames[n][1] for n in numbers.tolist()]),
        _focal(*parts[0]),
        sound,
    )


def _broken(path: Path, what: str) -> FileFormatError:
    return FileFormatError(
        f"{path} cannot be used: {what}", "transforms as AD-NeRF's tools write them", "make it again"
    )


def _read_json(path: Path) -> tuple[Path, dict[str, Any]]:
    size = path.stat().st_size
    if size > _LARGEST_JSON_BYTES:
        raise _broken(path, f"it has {size / 2**20:.0f} MiB, and {_LARGEST_JSON_BYTES // 2**20} are read at most")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as cause:
        raise _broken(path, "it is nested too deeply") from cause
    except (OSError, ValueError) as cause:
        raise _broken(path, str(cause)) from cause
    if not isinstance(content, dict) or not isinstance(content.get("frames"), list):
        raise _broken(path, "it has no list of frames")
    if len(content["frames"]) > _MOST_PICTURES:
        raise _broken(path, f"it lists {len(content['frames'])} frames, and {_MOST_PICTURES} are read at most")
    return path, content


def _read_frame(path: Path, place: int, frame: object) -> tuple[int, int, np.ndarray]:
    """img_id, aud_id and transform_matrix of one entry."""
    if not isinstance(frame, dict):
        raise _broken(path, f"frame {place} is no object")
    image = _whole(path, place, "img_id", frame.get("img_id"))
    number = _whole(path, place, "aud_id", frame.get("aud_id", image))
    try:
        transform = np.array(frame.get("transform_matrix"), np.float64)
    except (TypeError, ValueError, OverflowError):
        transform = np.zeros(0)
    if transform.shape != (4, 4) or not np.isfinite(transform).all():
        raise _broken(path, f"frame {place} has no transform_matrix of 4 x 4 finite numbers")
    turn = transform[:3, :3]
    if not np.allclose(turn @ turn.T, np.eye(3), atol=1e-2):
        raise _broken(path, f"frame {place} has a transform_matrix that does not turn but distort")
    return image, number, transform


def _whole(path: Path, place: int, name: str, value: object) -> int:
    # A bool is an int to Python, and anything but a whole number might become a path out of the folder.
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**31:
        raise _broken(path, f"frame {place} has {name} {str(value)[:40]!r}, which is no whole number from 0 on")
    return value


def _focal(path: Path, content: dict[str, Any]) -> float | None:
    value = content.get("focal_len")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise _broken(path, f"focal_len is {str(value)[:40]!r}")
    return float(value)


def _find_pictures(folder: Path, images: list[int]) -> list[Path]:
    """The original pictures, or where those are gone the ones over the plate."""
    for name in (form.ORIGINAL, form.GROUND_TRUTH):
        if (folder / name).is_dir():
            pictures = [folder / name / f"{image}.jpg" for image in images]
            gone = [p for p in pictures if not p.is_file()]
            if gone:
                raise InputError(
                    f"{len(gone)} of the {len(pictures)} pictures that {folder} lists are not there, such as {gone[0]}",
                    "every picture that is listed", "run its preparation to the end",
                )  # fmt: skip
            return pictures
    raise InputError(f"{folder} holds neither {form.ORIGINAL} nor {form.GROUND_TRUTH}", _WANTED, "run its preparation")
