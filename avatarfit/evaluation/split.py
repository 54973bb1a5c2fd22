"""Which frames of a clip an avatar was not fitted to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from avatarfit.contracts import FileFormatError, InputError

LAST, BLOCKS = "last", "blocks"
_BLOCKS = 6


@dataclass(frozen=True)
class Split:
    """Held-out stretches of `total` frames.

    Attributes:
        name: "last" (the last eleventh) or "blocks" (stretches spread over the clip).
        held_out: rising, without overlap, each not empty.
        total: frames of the clip.
    """

    name: str
    held_out: tuple[range, ...]
    total: int

    def training(self) -> tuple[range, ...]:
        """The stretches between the held-out ones."""
        edges = [0, *(edge for part in self.held_out for edge in (part.start, part.stop)), self.total]
        return tuple(range(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b)

    def training_frames(self) -> np.ndarray:
        """int [N], rising: every frame that is not held out."""
        return np.concatenate([np.arange(part.start, part.stop) for part in self.training()])

    def as_dict(self) -> dict[str, Any]:
        """JSON-able, as an avatar's `made.split` has it: `{name, held_out: [[first, past the last], ...]}`."""
        return {"name": self.name, "held_out": [[part.start, part.stop] for part in self.held_out]}


def split_into(name: str, total: int, train_count: int) -> Split:
    """Which frames a fit should hold out.

    Blocks are six equal stretches, an eleventh of the clip together, each in the middle of a sixth of it: what is said
    of them tells how an avatar does between the moments it has seen, the last eleventh how it does after them.

    Args:
        name: "last" or "blocks".
        total: frames of the clip.
        train_count: frames before the last eleventh.
    """
    if name == LAST:
        return Split(LAST, (range(train_count, total),) if train_count < total else (), total)
    count = min(_BLOCKS, total - train_count)
    length = (total - train_count) / max(count, 1)
    middles = (np.arange(count) + 0.5) * total / max(count, 1)
    starts = np.round(middles - length / 2).astype(int).tolist()
    return Split(BLOCKS, tuple(range(a, a + round(length)) for a in starts), total)


def runs(indices: Iterable[int]) -> list[range]:
    """Rising indices as stretches of consecutive ones."""
    out: list[range] = []
    for index in indices:
        if out and out[-1].stop == index:
            out[-1] = range(out[-1].start, index + 1)
        else:
            out.append(range(index, index + 1))
    return out


def split_of(made: Mapping[str, Any], total: int, train_count: int, wanted: str | None = None) -> Split:
    """The split that an avatar was fitted with: its `made.split`, or the last eleventh where it says nothing.

    Args:
        made: of the avatar.
        total: frames of the clip.
        train_count: frames before the last eleventh.
        wanted: "last" or "blocks", where a person asked for one; None takes what there is.

    Raises:
        InputError: the avatar was fitted with another split than the wanted one, so that it has seen those frames.
        FileFormatError: what the avatar says is no split of this clip.
    """
    told = made.get("split")
    split = split_into(LAST, total, train_count) if told is None else _parsed(told, total)
    if wanted is not None and wanted != split.name:
        raise InputError(
            f"--split came as {wanted}, and the avatar was fitted with {split.name}: it has seen the frames that "
            f"{wanted} holds out",
            f"--split {split.name}", f"leave it away, or fit the avatar with {wanted}",
        )  # fmt: skip
    return split


def _parsed(told: Any, total: int) -> Split:
    try:
        name, parts = told["name"], [(int(a), int(b)) for a, b in told["held_out"]]
    except (TypeError, KeyError, ValueError):
        name, parts = None, []
    edges = [edge for part in parts for edge in part]
    rising = all(a < b for a, b in parts) and edges == sorted(edges)
    if name not in (LAST, BLOCKS) or not parts or not rising or edges[0] < 0 or edges[-1] > total:
        raise FileFormatError(
            f"the avatar's split ({str(told)[:80]}) is none of a clip of {total} frames",
            "the held-out stretches of the clip it was fitted from", "give that clip's folder, or fit the avatar again",
        )  # fmt: skip
    return Split(name, tuple(range(a, b) for a, b in parts), total)
