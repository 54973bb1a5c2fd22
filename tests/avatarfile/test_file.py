from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from avatarfit.avatarfile import FORMAT, OLDEST, VERSION, read_avatar, write_avatar
from avatarfit.contracts import FileFormatError, InputError


def test_round_trip(tmp_path: Path) -> None:
    tensors = {"a.b": np.arange(6, dtype=np.float32).reshape(2, 3), "plate": np.zeros((2, 2, 3), np.uint8)}
    write_avatar(tmp_path / "x.avatar", {"made": {"steps": 3}}, tensors)
    header, back = read_avatar(tmp_path / "x.avatar")
    assert header == {"format": FORMAT, "version": VERSION, "made": {"steps": 3}}
    assert back.keys() == tensors.keys()
    for name in tensors:
        np.testing.assert_array_equal(back[name], tensors[name])
    assert [p.name for p in tmp_path.iterdir()] == ["x.avatar"]


@pytest.mark.parametrize("kept", [0, 4, 40, 200])
def test_a_truncated_file_is_refused(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "x.avatar"
    write_avatar(path, {}, {"a": np.zeros(200, np.float32)})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(FileFormatError, match="truncated or damaged"):
        read_avatar(path)


def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.avatar"
    text = json.dumps({"format": FORMAT, "version": VERSION + 1})
    save_file({"a": np.zeros(1, np.float32)}, path, metadata={"avatarfit": text})
    with pytest.raises(FileFormatError, match=f"is of version {VERSION + 1}; wanted version {OLDEST} or {VERSION}"):
        read_avatar(path)


def of_version(path: Path, version: object) -> Path:
    text = json.dumps({"format": FORMAT, "version": version})
    save_file({"a": np.zeros(1, np.float32)}, path, metadata={"avatarfit": text})
    return path


@pytest.mark.parametrize("version", [OLDEST - 1, None, "4", [4], True])
def test_what_is_no_version_that_is_read_is_refused(tmp_path: Path, version: object) -> None:
    with pytest.raises(FileFormatError, match="is of version"):
        read_avatar(of_version(tmp_path / "x.avatar", version))


def test_the_version_before_is_read(tmp_path: Path) -> None:
    assert read_avatar(of_version(tmp_path / "x.avatar", OLDEST))[0]["version"] == OLDEST


@pytest.mark.parametrize("metadata", [None, {"avatarfit": "[]"}, {"avatarfit": '{"format": "other"}'}])
def test_another_format_is_refused(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    path = tmp_path / "x.avatar"
    save_file({"a": np.zeros(1, np.float32)}, path, metadata=metadata)
    with pytest.raises(FileFormatError, match="is not an avatar file"):
        read_avatar(path)


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.avatar"
    write_avatar(path, {}, {"bad.one": np.array([1, np.nan], np.float32)})
    with pytest.raises(FileFormatError, match=r"NaN or infinity in bad\.one"):
        read_avatar(path)


def test_a_missing_file_and_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file"):
        read_avatar(tmp_path / "none.avatar")
    with pytest.raises(InputError, match="cannot be written"):
        write_avatar(tmp_path / "none" / "x.avatar", {}, {})


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.avatar"
    write_avatar(path, {}, {"a": np.zeros(3, np.float32)})
    before = path.read_bytes()
    with pytest.raises(ValueError, match="Out of range float"):
        write_avatar(path, {"bad": float("nan")}, {})
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1
