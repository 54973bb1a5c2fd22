"""Landmarks as safetensors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from avatarfit.avatarfile.motion_file import LandmarkMotion, read_landmark_motion, write_landmark_motion
from avatarfit.contracts import FileFormatError, InputError


def motion(count: int = 5) -> LandmarkMotion:
    random = np.random.default_rng(0)
    rotation = np.tile(np.float32([1, 0, 0, 0]), (count, 1))
    return LandmarkMotion(
        np.arange(count) / 25, random.normal(size=(count, 478, 3)).astype(np.float32), rotation,
        random.normal(size=(count, 3)).astype(np.float32), random.normal(size=(count, 2, 3)).astype(np.float32),
        random.normal(size=(478, 3)).astype(np.float32),
    )  # fmt: skip


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    for made in (motion(), replace(motion(), torso_affine=None, rest_landmarks_cm=None)):
        write_landmark_motion(tmp_path / "m.safetensors", made)
        read = read_landmark_motion(tmp_path / "m.safetensors")
        for name, value in vars(made).items():
            if value is None:
                assert getattr(read, name) is None
            else:
                np.testing.assert_array_equal(getattr(read, name), value)


def test_what_is_wrong_is_told(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    with pytest.raises(InputError, match="there is no file"):
        read_landmark_motion(path)
    path.write_bytes(b"not a safetensors file")
    with pytest.raises(FileFormatError, match="truncated or damaged"):
        read_landmark_motion(path)
    arrays = {name: value for name, value in vars(motion()).items() if value is not None}
    nan = arrays["landmarks_cm"].copy()
    nan[0, 0, 0] = np.nan
    for changed, said in (
        ({"landmarks_cm": arrays["landmarks_cm"][:, :68].copy()}, r"landmarks_cm in .* is float32 \[5, 68, 3\]"),
        ({"landmarks_cm": nan}, "NaN or infinity"),
        ({"pts_seconds": np.zeros(5)}, "do not rise"),
        ({"pts_seconds": np.zeros(0)}, "pts_seconds"),
        ({"head_rotation_wxyz": np.zeros((5, 4), np.float32)}, "unit length"),
        ({"head_translation_cm": None}, "has no array head_translation_cm"),
    ):
        save_file({k: v for k, v in (arrays | changed).items() if v is not None}, path)
        with pytest.raises(FileFormatError, match=said):
            read_landmark_motion(path)
