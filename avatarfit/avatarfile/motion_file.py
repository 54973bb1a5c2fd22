"""Motion as landmarks in a safetensors file: `tracks.safetensors` of a clip folder has the same arrays, and is one.

Arrays: `pts_seconds` f64 [T], `landmarks_cm` f32 [T, 478, 3] in the head's frame, `head_rotation_wxyz` f32 [T, 4],
`head_translation_cm` f32 [T, 3]; and, where they are known, `torso_affine` f32 [T, 2, 3] and `rest_landmarks_cm`
f32 [478, 3], the face that the landmarks move from.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avatarfit.avatarfile.whole_file import whole_file
from avatarfit.contracts import FileFormatError, InputError
from avatarfit.contracts.motion import LANDMARK_COUNT

_WANTED = "landmarks as `avatarfit drive --export-motion` writes them, or tracks.safetensors of a clip folder"
_SHAPES: dict[str, tuple[int, ...]] = {
    "pts_seconds": (),
    "landmarks_cm": (LANDMARK_COUNT, 3),
    "head_rotation_wxyz": (4,),
    "head_translation_cm": (3,),
    "torso_affine": (2, 3),
}
_OPTIONAL = ("torso_affine",)


@dataclass(frozen=True)
class LandmarkMotion:
    """T frames of anybody's face.

    Attributes:
        pts_seconds: float64 [T], rising.
        landmarks_cm: float32 [T, 478, 3] in the head's frame, outer eye corners 8.9 cm apart.
        head_rotation_wxyz, head_translation_cm: float32 [T, 4], [T, 3], as `HeadPose`.
        torso_affine: float32 [T, 2, 3], as `TorsoMotion`, or None.
        rest_landmarks_cm: float32 [478, 3], or None where the resting face is not told.
    """

    pts_seconds: np.ndarray
    landmarks_cm: np.ndarray
    head_rotation_wxyz: np.ndarray
    head_translation_cm: np.ndarray
    torso_affine: np.ndarray | None = None
    rest_landmarks_cm: np.ndarray | None = None


def write_landmark_motion(path: Path | str, motion: LandmarkMotion) -> None:
    """Writes the file in one step.

    Raises:
        InputError: the folder cannot be written.
    """
    from safetensors.numpy import save

    path = Path(path)
    arrays = {
        name: np.ascontiguousarray(value, np.float64 if name == "pts_seconds" else np.float32)
        for name, value in vars(motion).items()
        if value is not None
    }
    data = save(arrays)
    with whole_file(path) as file:
        file.write(data)


def read_landmark_motion(path: Path | str) -> LandmarkMotion:
    """Reads the file.

    Raises:
        InputError: no such file.
        FileFormatError: damaged, or an array is missing or of another shape.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no file {path}", _WANTED, "check the name")
    try:
        with safe_open(path, framework="np") as file:
            there = set(file.keys())
            names = [name for name in (*_SHAPES, "rest_landmarks_cm") if name in there]
            arrays = {name: np.asarray(file.get_tensor(name)) for name in names}
    except (SafetensorError, OSError, ValueError) as error:
        raise FileFormatError(f"{path} is truncated or damaged ({error})", _WANTED, "make it again") from error
    missing = [name for name in _SHAPES if name not in arrays and name not in _OPTIONAL]
    if missing:
        raise FileFormatError(f"{path} has no array {missing[0]}", _WANTED, "make it again")
    count = len(arrays["pts_seconds"]) if arrays["pts_seconds"].ndim == 1 else 0
    for name, array in arrays.items():
        shape = (LANDMARK_COUNT, 3) if name == "rest_landmarks_cm" else (count, *_SHAPES[name])
        if not count or array.shape != shape or not np.issubdtype(array.dtype, np.floating):
            raise FileFormatError(
                f"{name} in {path} is {array.dtype} {list(array.shape)}", f"floats [{', '.join(map(str, shape))}]",
                "make it again",
            )  # fmt: skip
        if not np.isfinite(array).all():
            raise FileFormatError(f"{path} holds NaN or infinity in {name}", "finite numbers", "make it again")
    if not (np.diff(arrays["pts_seconds"]) > 0).all():
        raise FileFormatError(f"the times in {path} do not rise", "rising times", "make it again")
    lengths = np.linalg.norm(arrays["head_rotation_wxyz"], axis=1)
    if not np.allclose(lengths, 1, atol=1e-3):
        raise FileFormatError(f"{path} holds a quaternion that is not of unit length", _WANTED, "make it again")
    return LandmarkMotion(**arrays)
