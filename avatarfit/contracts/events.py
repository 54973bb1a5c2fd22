"""What long work says while it runs; command line, logs and apps listen to the same events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Started:
    """A stage began. `total` counts its units (frames, steps), None when it cannot be known."""

    stage: str
    total: int | None
    unit: str = "frames"


@dataclass(frozen=True)
class Progress:
    """`step` of the stage's units are done; `values` are named figures of this moment."""

    stage: str
    step: int
    total: int | None
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Picture:
    """A picture worth looking at: `rgb` uint8 [H, W, 3]."""

    stage: str
    step: int
    name: str
    rgb: np.ndarray


@dataclass(frozen=True)
class Note:
    """One sentence a person should read: a choice that was made, something odd in the input."""

    stage: str
    text: str


@dataclass(frozen=True)
class Finished:
    """A stage ended after `seconds`; `reused` says that a former result was taken as it was."""

    stage: str
    seconds: float
    values: Mapping[str, float] = field(default_factory=dict)
    reused: bool = False


Event = Started | Progress | Picture | Note | Finished
Listener = Callable[[Event], None]


def silent(_event: Event) -> None:
    """A listener that does nothing."""
