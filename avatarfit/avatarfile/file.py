"""Reading and writing .avatar files.

A file is one safetensors container; its metadata holds a single entry, `avatarfit`, with the JSON header. Nothing in it
is ever executed or unpickled, so a file from a stranger can at worst be refused.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from avatarfit.avatarfile.consent import Consent
from avatarfit.avatarfile.whole_file import whole_file
from avatarfit.contracts import FileFormatError, InputError

FORMAT = "avatarfit.avatar"
VERSION, OLDEST = 4, 3
"""What is written, and what is still read: version 3 knows no head but Gaussians."""
HEADS = ("gaussian", "hashgrid")
"""What the header's "head" may say."""
_KEY = "avatarfit"


def check_head(head: str) -> None:
    """Raise unless an avatar may have such a head.

    Raises:
        InputError: none of `HEADS`.
    """
    if head not in HEADS:
        raise InputError(f"--head came as {head}", " or ".join(HEADS), "choose one of them")


def write_avatar(path: Path | str, header: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    """Writes the file in one step: either the whole new file is there, or what was there before.

    Args:
        header: JSON-able; `format` and `version` are added.
        tensors: arrays by dotted name.

    Raises:
        InputError: the folder does not exist or cannot be written.
    """
    from safetensors.numpy import save

    path = Path(path)
    text = json.dumps({**header, "format": FORMAT, "version": VERSION}, allow_nan=False)
    data = save({name: np.ascontiguousarray(array) for name, array in tensors.items()}, metadata={_KEY: text})
    with whole_file(path) as file:
        file.write(data)


def header_consent(path: Path | str, header: dict[str, Any]) -> Consent | None:
    """The consent that an avatar file's header records; None where none is recorded.

    Raises:
        FileFormatError: what it holds there is no such record.
    """
    try:
        return Consent.of_header(header.get("consent"))
    except ValueError as error:
        raise FileFormatError(
            f"{path} holds a damaged record of consent ({error})", "a record as avatarfit writes it",
            "fetch the file again, or fit the avatar anew",
        ) from error  # fmt: skip


def read_avatar(path: Path | str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The header and the arrays of an avatar file.

    Raises:
        InputError: no such file.
        FileFormatError: truncated, damaged, not an avatar file, or of another version.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise InputError(
            f"there is no file {path}", "an .avatar file", "check the name, or make one with avatarfit fit"
        )
    refit = "fetch the file again, or fit the avatar anew"
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            header = json.loads(metadata.get(_KEY, "null"))
            if not isinstance(header, dict) or header.get("format") != FORMAT:
                raise FileFormatError(f"{path} is not an avatar file", f"a file of format {FORMAT}", refit)
            if header.get("version") not in range(OLDEST, VERSION + 1):
                raise FileFormatError(
                    f"{path} is of version {header.get('version')}",
                    f"version {OLDEST} or {VERSION}",
                    "update avatarfit, or fit the avatar anew with this one",
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, json.JSONDecodeError, OSError, ValueError) as error:
        raise FileFormatError(f"{path} is truncated or damaged ({error})", "a whole avatar file", refit) from error
    for name, tensor in tensors.items():
        if np.issubdtype(tensor.dtype, np.floating) and not np.isfinite(tensor).all():
            raise FileFormatError(f"{path} holds NaN or infinity in {name}", "finite numbers", refit)
    return header, tensors
