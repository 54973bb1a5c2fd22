"""Finished stages are remembered, so that an interrupted capture resumes and an unchanged one costs nothing.

A stage's key is the hash of all it depends on. Its record, `work/NAME.json`, is written last and in one move, so a
record with the right key means that the stage's files are whole.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from threadpoolctl import threadpool_limits

from avatarfit.contracts import InputError
from avatarfit.contracts.events import Finished, Listener


def key_of(*parts: object) -> str:
    """Hex SHA-256 of the parts' JSON; equal parts give equal keys."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes its place when it is whole; an error, such as a full disk, leaves nothing behind."""
    partial = path.with_name(path.name + ".part")
    try:
        with partial.open("wb") as stream:
            yield stream
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a file that is either whole or not there."""
    with whole_file(path) as stream:
        stream.write(data)


_TYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32, "I16": np.int16,
    "I8": np.int8, "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip
_NAMES = {np.dtype(kind): name for name, kind in _TYPES.items()}


def save_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """A safetensors file, written atomically and, unlike by the package's own `save`, without a copy in memory."""
    header: dict[str, Any] = {}
    end = 0
    # Larger items first, as the package does, so that every array is aligned for its type.
    order = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    for name in order:
        array = tensors[name]
        start, end = end, end + array.nbytes
        header[name] = {"dtype": _NAMES[array.dtype], "shape": list(array.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with whole_file(path) as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            stream.write(np.ascontiguousarray(tensors[name]).data)


def load_tensors(path: Path, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file, or the named ones, read through the page cache as they are touched.

    Changing one changes neither the file nor what others load.

    Raises:
        ValueError: an element type that this package does not write.
    """
    from safetensors import safe_open

    with safe_open(path, "np") as file:  # checks the header against the file's length
        wanted = list(file.keys() if names is None else names)
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
    tensors: dict[str, np.ndarray] = {}
    for name in wanted:
        about = header[name]
        if about["dtype"] not in _TYPES:
            raise ValueError(f"{name} came as {about['dtype']}; wanted one of {', '.join(_TYPES)}")
        kind, shape = _TYPES[about["dtype"]], tuple(about["shape"])
        if 0 in shape:
            tensors[name] = np.zeros(shape, kind)
        else:
            start = 8 + length + about["data_offsets"][0]
            tensors[name] = np.memmap(path, kind, "c", start, shape).view(np.ndarray)
    return tensors


class Rows:
    """Rows of arrays of one shape and type, put together on disk.

    Args:
        path: a file to keep them in until `close`.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._stream = path, path.open("wb")
        self._shape: tuple[int, ...] = ()
        self._dtype = np.dtype(np.float32)
        self._count = 0

    def extend(self, rows: np.ndarray) -> None:
        """More of them, [n, ...]."""
        self._shape, self._dtype = rows.shape[1:], rows.dtype
        self._stream.write(np.ascontiguousarray(rows).data)
        self._count += len(rows)

    def array(self) -> np.ndarray:
        """All of them, [count, ...], until `close`; something must have come."""
        self._stream.flush()
        shape = (self._count, *self._shape)
        if not all(shape):
            return np.zeros(shape, self._dtype)
        return np.memmap(self._path, self._dtype, "r", 0, shape).view(np.ndarray)

    def __enter__(self) -> Rows:
        return self

    def __exit__(self, *_: object) -> None:
        # After a full disk, closing fails once more on what is still buffered.
        with suppress(OSError):
            self._stream.close()
        self._path.unlink(missing_ok=True)


@contextmanager
def told_when_full(folder: Path) -> Iterator[None]:
    """Turns the system's word for a full disk into a sentence.

    Raises:
        InputError: the disk, or the share of it that this user may fill, is full.
    """
    try:
        yield
    except OSError as cause:
        if cause.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise InputError(
            f"the disk that holds {folder} is full", "room for the clip folder, some tens of MB a minute of film",
            "make room and run the same command again, which goes on after the last finished stage",
        ) from cause  # fmt: skip


class Stages:
    """The stages of one capture in its folder."""

    def __init__(self, folder: Path, on_event: Listener) -> None:
        self.folder, self.work, self._on_event = folder, folder / "work", on_event
        self.work.mkdir(parents=True, exist_ok=True)
        self.records: dict[str, dict[str, Any]] = {}

    def parts(self, name: str, key: str) -> Path:
        """A folder for what is done of a stage until it is finished; an interrupted one with this key goes on there."""
        folder = self.work / f"{name}-{key[:16]}"
        self._drop_parts(name, folder)
        folder.mkdir(exist_ok=True)
        return folder

    def _drop_parts(self, name: str, kept: Path | None = None) -> None:
        for folder in self.work.glob(f"{name}-*"):
            if folder != kept:
                shutil.rmtree(folder)

    def run(self, name: str, key: str, outputs: list[Path], make: Callable[[], Mapping[str, float]]) -> bool:
        """Runs `make` unless its outputs are there from the same key; True when it was reused.

        Args:
            name: the stage.
            key: hash of everything the outputs depend on.
            outputs: files that `make` writes.
            make: does the work and returns named figures for the record.

        Raises:
            InputError: the disk is full; what was finished before stays.
        """
        record_path = self.work / f"{name}.json"
        record = _read_record(record_path)
        sizes = {path.name: path.stat().st_size for path in outputs if path.is_file()}
        if record is not None and record.get("key") == key and record.get("files") == sizes:
            self.records[name] = record
            self._on_event(Finished(name, record["seconds"], record["values"], reused=True))
            return True
        import scipy.linalg  # noqa: F401 - SciPy's BLAS must be there to be held to one thread

        record_path.unlink(missing_ok=True)
        start = time.monotonic()
        # BLAS threads gain nothing on such small matrices and, waiting, take the cores from the stage itself.
        with told_when_full(self.folder), threadpool_limits(1, user_api="blas"):
            values = {k: round(float(v), 6) for k, v in make().items()}
            seconds = round(time.monotonic() - start, 3)
            record = {"key": key, "seconds": seconds, "values": values}
            record["files"] = {path.name: path.stat().st_size for path in outputs}
            write_atomically(record_path, json.dumps(record).encode())
        self._drop_parts(name)
        self.records[name] = record
        self._on_event(Finished(name, seconds, values))
        return False


def _read_record(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text())
    except ValueError:
        return None
    return record if isinstance(record, dict) and {"key", "seconds", "values", "files"} <= record.keys() else None
