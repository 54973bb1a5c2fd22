from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from avatarfit.capture.stages import (
    Rows,
    Stages,
    file_sha256,
    key_of,
    load_tensors,
    save_tensors,
    told_when_full,
    write_atomically,
)  # fmt: skip
from avatarfit.contracts import InputError
from avatarfit.contracts.events import Finished, silent


class Work:
    def __init__(self, output: Path) -> None:
        self.output, self.runs = output, 0

    def __call__(self) -> dict[str, float]:
        self.runs += 1
        write_atomically(self.output, b"x" * self.runs)
        return {"runs": self.runs}


def test_a_finished_stage_runs_once_and_says_that_it_was_reused(tmp_path: Path) -> None:
    heard: list[object] = []
    work = Work(tmp_path / "out")
    assert not Stages(tmp_path, heard.append).run("s", "k", [work.output], work)
    again = Stages(tmp_path, heard.append)
    assert again.run("s", "k", [work.output], work)
    assert work.runs == 1
    assert [e.reused for e in heard if isinstance(e, Finished)] == [False, True]
    assert again.records["s"]["values"] == {"runs": 1}


@pytest.mark.parametrize("harm", ["key", "missing", "size", "record"])
def test_it_runs_again_when_anything_changed(tmp_path: Path, harm: str) -> None:
    work = Work(tmp_path / "out")
    Stages(tmp_path, silent).run("s", "k", [work.output], work)
    if harm == "missing":
        work.output.unlink()
    elif harm == "size":
        work.output.write_bytes(b"longer than before")
    elif harm == "record":
        (tmp_path / "work" / "s.json").write_text('{"key": "k", "sec')
    assert not Stages(tmp_path, silent).run("s", "other" if harm == "key" else "k", [work.output], work)
    assert work.runs == 2


def test_a_stage_that_fails_leaves_no_record(tmp_path: Path) -> None:
    work = Work(tmp_path / "out")
    stages = Stages(tmp_path, silent)
    stages.run("s", "old", [work.output], work)

    def fail() -> dict[str, float]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stages.run("s", "new", [work.output], fail)
    assert not Stages(tmp_path, silent).run("s", "old", [work.output], work)


def test_keys_tell_settings_apart() -> None:
    assert key_of("a", 1, {"x": 1.0, "y": 2}) == key_of("a", 1, {"y": 2, "x": 1.0})
    assert len({key_of("a", 1), key_of("a", 2), key_of("b", 1), key_of("a", 1, None)}) == 4


def test_tensors_and_hashes_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    tensors = {"a": np.arange(6.0).reshape(2, 3), "b": np.array([1, 2], np.int64)}
    save_tensors(path, tensors)
    for name, value in load_tensors(path).items():
        np.testing.assert_array_equal(value, tensors[name])
    (tmp_path / "e").write_bytes(b"abc")
    assert file_sha256(tmp_path / "e") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert not list(tmp_path.glob("*.part"))


def test_tensors_are_the_safetensors_packages_own_and_come_back(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    rng = np.random.default_rng(0)
    tensors = {
        "b": rng.normal(size=(5, 3)), "a": rng.normal(size=(7,)).astype(np.float32), "flag": rng.normal(size=9) > 0,
        "n": np.arange(4), "none": np.zeros((0, 3), np.float32), "u": np.arange(5, dtype=np.uint8),
        "turned": np.arange(6.0).reshape(2, 3).T,
    }  # fmt: skip
    path = tmp_path / "x.safetensors"
    save_tensors(path, tensors)
    for loaded in (load_file(path), load_tensors(path)):
        assert loaded.keys() == tensors.keys()
        for name, value in tensors.items():
            assert loaded[name].dtype == value.dtype
            np.testing.assert_array_equal(loaded[name], value)
    assert list(load_tensors(path, ["n"])) == ["n"]
    changed = load_tensors(path)
    changed["b"][:] = 0
    np.testing.assert_array_equal(load_tensors(path)["b"], tensors["b"])
    save_tensors(path, {"b": changed["b"] + 1})  # may be replaced while it is read
    assert (changed["b"] == 0).all()
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]


def test_rows_gather_on_disk_and_leave_nothing(tmp_path: Path) -> None:
    with Rows(tmp_path / "r.rows") as rows:
        for k in range(5):
            rows.extend(np.full((1, 2, 3), k, np.float32))
        save_tensors(tmp_path / "x.safetensors", {"all": rows.array()})
    np.testing.assert_array_equal(load_tensors(tmp_path / "x.safetensors")["all"][:, 0, 0], np.arange(5))
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]


def test_a_file_that_cannot_be_finished_leaves_the_former_one(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", b"first")
    (tmp_path / "a.part").symlink_to("/dev/full")
    with pytest.raises(InputError, match="is full"), told_when_full(tmp_path):
        write_atomically(tmp_path / "a", b"second")
    assert (tmp_path / "a").read_bytes() == b"first"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    with pytest.raises(FileNotFoundError), told_when_full(tmp_path):
        write_atomically(tmp_path / "no" / "a", b"other errors stay what they are")
