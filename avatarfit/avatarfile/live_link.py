"""Live Link Face's table of a take: ARKit's blendshapes and the angles of head and eyes, one row a picture, as CSV.

The layout is that of the app's own export: `Timecode`, `BlendshapeCount` (61), 52 blendshapes, 9 angles. Columns are
found by their names, whatever their order and capitals. A time code is HH:MM:SS:FF.SSS: frames of a second at the
nearest whole rate, and thousandths of a frame. Angles are radians about ARKit's axes (x to the person's left, y up, z
out of the face), turned in the order yaw (y), pitch (x), roll (z).
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avatarfit.avatarfile.whole_file import whole_file
from avatarfit.contracts import FileFormatError, InputError

# fmt: off
LIVE_LINK_NAMES = (
    "eyeBlinkLeft", "eyeLookDownLeft", "eyeLookInLeft", "eyeLookOutLeft", "eyeLookUpLeft", "eyeSquintLeft",
    "eyeWideLeft", "eyeBlinkRight", "eyeLookDownRight", "eyeLookInRight", "eyeLookOutRight", "eyeLookUpRight",
    "eyeSquintRight", "eyeWideRight", "jawForward", "jawRight", "jawLeft", "jawOpen", "mouthClose", "mouthFunnel",
    "mouthPucker", "mouthRight", "mouthLeft", "mouthSmileLeft", "mouthSmileRight", "mouthFrownLeft", "mouthFrownRight",
    "mouthDimpleLeft", "mouthDimpleRight", "mouthStretchLeft", "mouthStretchRight", "mouthRollLower", "mouthRollUpper",
    "mouthShrugLower", "mouthShrugUpper", "mouthPressLeft", "mouthPressRight", "mouthLowerDownLeft",
    "mouthLowerDownRight", "mouthUpperUpLeft", "mouthUpperUpRight", "browDownLeft", "browDownRight", "browInnerUp",
    "browOuterUpLeft", "browOuterUpRight", "cheekPuff", "cheekSquintLeft", "cheekSquintRight", "noseSneerLeft",
    "noseSneerRight", "tongueOut",
)
"""The 52 blendshapes in the file's order, by ARKit's names."""
# fmt: on
ANGLE_NAMES = (
    "headYaw",
    "headPitch",
    "headRoll",
    "leftEyeYaw",
    "leftEyePitch",
    "leftEyeRoll",
    "rightEyeYaw",
    "rightEyePitch",
    "rightEyeRoll",
)  # fmt: skip

_COUNT = len(LIVE_LINK_NAMES) + len(ANGLE_NAMES)
_USUAL_RATES = (24, 25, 30, 48, 50, 60, 72, 90, 100, 120, 240)
_MOST_BYTES = 1 << 30
_WANTED = "a CSV file as Live Link Face writes it"


@dataclass(frozen=True)
class LiveLinkTake:
    """T pictures of a take.

    Attributes:
        pts_seconds: float64 [T], rising, the first at 0.
        values: float32 [T, 52] in 0..1, columns as `LIVE_LINK_NAMES`; 0 where the file has no such column.
        angles: float32 [T, 9], radians, columns as `ANGLE_NAMES`; 0 where the file has none.
    """

    pts_seconds: np.ndarray
    values: np.ndarray
    angles: np.ndarray


def write_live_link(path: Path | str, take: LiveLinkTake, frame_rate_hz: float) -> None:
    """Writes a take in one step.

    Raises:
        InputError: the folder cannot be written.
    """
    path = Path(path)
    with whole_file(path) as raw:
        file = io.TextIOWrapper(raw, encoding="utf-8", newline="")
        writer = csv.writer(file)
        writer.writerow(["Timecode", "BlendshapeCount", *map(_capital, (*LIVE_LINK_NAMES, *ANGLE_NAMES))])
        numbers = np.concatenate([take.values, take.angles], axis=1)
        for seconds, row in zip(take.pts_seconds, numbers, strict=True):
            writer.writerow([_timecode(float(seconds), frame_rate_hz), _COUNT, *(f"{x:.8f}" for x in row)])
        file.detach()


def read_live_link(path: Path | str) -> LiveLinkTake:
    """Reads a take.

    Raises:
        InputError: no such file, or it is too large.
        FileFormatError: it is no table of this kind, or a row is damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no file {path}", _WANTED, "check the name")
    if path.stat().st_size > _MOST_BYTES:
        raise InputError(f"{path} is larger than 1 GB", _WANTED, "give a shorter take")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file) if any(cell.strip() for cell in row)]
    except (OSError, ValueError, csv.Error) as error:
        raise FileFormatError(f"{path} is no readable table ({error})", _WANTED, "export the take again") from error
    columns = {name.strip().lower(): k for k, name in enumerate(rows[0])} if rows else {}
    known = [name for name in LIVE_LINK_NAMES if name.lower() in columns]
    if "timecode" not in columns or not known:
        raise FileFormatError(
            f"{path} has no column Timecode, or none of ARKit's blendshapes", _WANTED, "export the take again"
        )
    if len(rows) < 2:
        raise FileFormatError(f"{path} has no rows under its names", _WANTED, "export the take again")
    numbers = np.zeros((len(rows) - 1, _COUNT), np.float32)
    codes = []
    for k, row in enumerate(rows[1:]):
        try:
            codes.append(_parsed(row[columns["timecode"]]))
            for j, name in enumerate((*LIVE_LINK_NAMES, *ANGLE_NAMES)):
                column = columns.get(name.lower())
                if column is not None:
                    numbers[k, j] = float(row[column])
        except (ValueError, IndexError) as error:
            raise FileFormatError(
                f"row {k + 2} of {path} is damaged ({error})", "a time code and a number in each column",
                "export the take again",
            ) from error  # fmt: skip
    if not np.isfinite(numbers).all():
        raise FileFormatError(f"{path} holds numbers that are none (NaN or infinity)", "numbers", "export it again")
    pts, kept = _times(codes)
    blendshapes = len(LIVE_LINK_NAMES)
    return LiveLinkTake(pts, np.clip(numbers[kept, :blendshapes], 0, 1), numbers[kept, blendshapes:])


def _capital(name: str) -> str:
    return name[0].upper() + name[1:]


def _timecode(seconds: float, frame_rate_hz: float) -> str:
    nominal = max(round(frame_rate_hz), 1)
    thousandths = round(seconds * nominal * 1000)
    frames, sub = divmod(thousandths, 1000)
    whole, frame = divmod(frames, nominal)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}:{frame:02d}.{sub:03d}"


def _parsed(code: str) -> tuple[int, float]:
    """Whole seconds, and frames of the next one."""
    parts = code.strip().split(":")
    if len(parts) != 4:
        raise ValueError(f"time code {code!r}")
    hours, minutes, seconds = (int(part) for part in parts[:3])
    frames = float(parts[3])
    if min(hours, minutes, seconds, frames) < 0 or not np.isfinite(frames):
        raise ValueError(f"time code {code!r}")
    return 3600 * hours + 60 * minutes + seconds, frames


def _times(codes: list[tuple[int, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Times from the first row, float64, and which rows to take: those later than all before them.

    The rate at which frames are counted stands nowhere in the file: it is the least usual one that has room for the
    highest count seen; for takes under a second, in which none may have been seen, how the count goes up tells nothing
    better.
    """
    whole = np.array([code[0] for code in codes], np.float64)
    frames = np.array([code[1] for code in codes])
    highest = int(np.floor(frames.max())) + 1
    complete = whole[-1] > whole[0] + 1
    rate = next((r for r in _USUAL_RATES if r >= highest), highest) if complete or highest > 60 else max(highest, 60)
    if not complete and whole[-1] > whole[0]:
        # One border of a second was crossed: the count before it is the rate, but for a frame.
        before = frames[np.flatnonzero(np.diff(whole) > 0)[0]]
        rate = next((r for r in _USUAL_RATES if r > before), highest)
    seconds = whole + frames / rate
    kept = np.concatenate([[True], seconds[1:] > np.maximum.accumulate(seconds)[:-1]])
    return seconds[kept] - seconds[0], kept
