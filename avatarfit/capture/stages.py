"""Finished stages are remembered, so that an interrupted capture resumes and an unchanged one costs nothing.

A stage's key is the hash of all it depends on. Its record, `work/NAME.json`, is written last and in one move, so a
record with the right key means that the stage's files are whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from avatarfit.contracts.events import Finished, Listener


def key_of(*parts: object) -> str:
    """Hex SHA-256 of the parts' JSON; equal parts give equal keys."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a file that is either whole or not there."""
    partial = path.with_name(path.name + ".part")
    partial.write_bytes(data)
    os.replace(partial, path)


def save_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """A safetensors file, written atomically."""
    from safetensors.numpy import save

    write_atomically(path, save({name: np.ascontiguousarray(value) for name, value in tensors.items()}))


def load_tensors(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file."""
    from safetensors.numpy import load_file

    return load_file(path)


class Stages:
    """The stages of one capture in its folder."""

    def __init__(self, folder: Path, on_event: Listener) -> None:
        self.folder, self.work, self._on_event = folder, folder / "work", on_event
        self.work.mkdir(parents=True, exist_ok=True)
        self.records: dict[str, dict[str, Any]] = {}

    def run(self, name: str, key: str, outputs: list[Path], make: Callable[[], Mapping[str, float]]) -> bool:
        """Runs `make` unless its outputs are there from the same key; True when it was reused.

        Args:
            name: the stage.
            key: hash of everything the outputs depend on.
            outputs: files that `make` writes.
            make: does the work and returns named figures for the record.
        """
        record_path = self.work / f"{name}.json"
        record = _read_record(record_path)
        sizes = {path.name: path.stat().st_size for path in outputs if path.is_file()}
        if record is not None and record.get("key") == key and record.get("files") == sizes:
            self.records[name] = record
            self._on_event(Finished(name, record["seconds"], record["values"], reused=True))
            return True
        record_path.unlink(missing_ok=True)
        start = time.monotonic()
        values = {k: round(float(v), 6) for k, v in make().items()}
        seconds = round(time.monotonic() - start, 3)
        record = {"key": key, "seconds": seconds, "values": values}
        record["files"] = {path.name: path.stat().st_size for path in outputs}
        write_atomically(record_path, json.dumps(record).encode())
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
