"""An avatar file gives back the avatar it was made of, with either head, and what does not fit is one sentence."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from avatarfit.avatarfile import OLDEST, VERSION, read_avatar, write_avatar
from avatarfit.contracts import FileFormatError
from avatarfit.model.avatar import Avatar


@pytest.fixture(scope="module")
def saved(hashgrid_avatar: Avatar, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("avatars") / "a.avatar"
    hashgrid_avatar.save(path)
    return path


def test_a_hash_grid_avatar_comes_back_as_it_was(saved: Path, hashgrid_avatar: Avatar) -> None:
    header, tensors = read_avatar(saved)
    assert (header["head"], header["version"]) == ("hashgrid", VERSION)
    back = Avatar.load(saved)
    assert back.head == "hashgrid"
    assert back.field is not None
    assert hashgrid_avatar.field is not None
    for name, value in hashgrid_avatar.field.state_dict().items():
        halved = tensors[f"field.{name}"].dtype == np.float16
        torch.testing.assert_close(back.field.state_dict()[name], value.half().float() if halved else value)
    assert back.field.box == hashgrid_avatar.field.box
    assert back.field.shape == hashgrid_avatar.field.shape
    torch.testing.assert_close(back.gaussians.base, hashgrid_avatar.gaussians.base)
    again = saved.with_name("again.avatar")
    back.save(again)
    assert again.read_bytes() == saved.read_bytes()


def test_a_gaussian_avatar_has_no_field(hashgrid_avatar: Avatar, tmp_path: Path) -> None:
    path = tmp_path / "g.avatar"
    replace(hashgrid_avatar, field=None).save(path)
    header, tensors = read_avatar(path)
    assert header["head"] == "gaussian"
    assert "field" not in header
    assert not any(name.startswith("field.") for name in tensors)
    assert Avatar.load(path).head == "gaussian"


def test_a_gaussian_avatar_of_the_version_before_is_read(hashgrid_avatar: Avatar, tmp_path: Path) -> None:
    path = tmp_path / "old.avatar"
    replace(hashgrid_avatar, field=None).save(path)
    header, tensors = read_avatar(path)
    save_file(tensors, path, metadata={"avatarfit": json.dumps(header | {"version": OLDEST})})
    assert read_avatar(path)[0]["version"] == OLDEST
    assert Avatar.load(path).field is None


def broken(**changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Changes to the field's part of the header, and to its arrays."""
    tensors = {name.removeprefix("t_").replace("__", "."): v for name, v in changes.items() if name.startswith("t_")}
    return {name: v for name, v in changes.items() if not name.startswith("t_")}, tensors


@pytest.mark.parametrize(
    "change",
    [
        broken(hash_rows_log2=30),
        broken(hash_rows_log2=9),
        broken(hash_levels=-1),
        broken(hash_finest=1e300),
        broken(motion_cells=1000),
        broken(motion_cells="many"),
        broken(basis_count=10**9),
        broken(density_hidden=0),
        broken(colour_hidden=10**7),
        broken(occupancy_side=512),
        broken(occupancy_side=17),
        broken(step_cm=0.0),
        broken(step_cm=1e-9),
        broken(step_cm=None),
        broken(max_samples=10**9),
        broken(side_cm=-3.0),
        broken(side_cm=1e30),
        broken(low_cm=[0, 0]),
        broken(regions=["nose"]),
        broken(mouth_count=3),
        broken(surprise=1),
        broken(t_occupancy=np.zeros(7, np.uint8)),
        broken(t_occupancy=np.zeros(512, np.float32)),
        broken(t_motion__vertices=np.full(729, 10**6)),
        broken(t_motion__vertices=np.zeros(729, np.float32)),
        broken(t_motion__rest=np.zeros((729, 2), np.float32)),
        broken(t_table=np.zeros((5, 2), np.float16)),
        broken(t_rest_head=np.zeros((4, 4), np.float32)),
        broken(t_condition_low=np.zeros(3, np.float32)),
    ],
    ids=lambda change: "-".join([*change[0], *change[1]]),
)
def test_a_field_that_does_not_fit_is_refused(saved: Path, tmp_path: Path, change: tuple[dict, dict]) -> None:
    header, tensors = read_avatar(saved)
    assert not set(change[1]) - {name.removeprefix("field.") for name in tensors}
    header["field"] |= change[0]
    tensors |= {f"field.{name}": value for name, value in change[1].items()}
    path = tmp_path / "odd.avatar"
    write_avatar(path, header, tensors)
    with pytest.raises(FileFormatError, match="parts do not fit"):
        Avatar.load(path)


def test_a_head_that_is_unknown_or_incomplete_is_refused(saved: Path, tmp_path: Path) -> None:
    header, tensors = read_avatar(saved)
    without = {name: value for name, value in tensors.items() if name != "field.table"}
    no_field = {key: value for key, value in header.items() if key != "field"}
    path = tmp_path / "odd.avatar"
    for odd in ((header | {"head": "plaster"}, tensors), (header, without), (no_field, tensors)):
        write_avatar(path, *odd)
        with pytest.raises(FileFormatError, match="parts do not fit"):
            Avatar.load(path)
    write_avatar(path, header | {"head": "plaster"}, tensors)
    with pytest.raises(FileFormatError, match="the head is 'plaster', which is none of gaussian, hashgrid"):
        Avatar.load(path)
