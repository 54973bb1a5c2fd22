"""Two avatars of one person on the same held-out frames: which is better in what, and whether that is sure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from avatarfit.contracts import InputError
from avatarfit.contracts.events import Listener, silent
from avatarfit.evaluation.definitions import definitions, direction, flat_figures
from avatarfit.evaluation.evaluate import evaluate_avatar
from avatarfit.evaluation.split import split_of

if TYPE_CHECKING:
    from avatarfit.capture.clip_folder import ClipFolder
    from avatarfit.model.avatar import Avatar

BLOCK_FRAMES, RESAMPLES = 10, 1000
_EQUAL = 1e-6


def compare_avatars(
    a: Avatar, b: Avatar, clip: ClipFolder, *, frames_limit: int | None = None, syncnet: str | Path | None = None,
    backend: str = "auto", on_event: Listener = silent,
) -> dict[str, Any]:  # fmt: skip
    """Judge two avatars as `evaluate_avatar` does and set every figure side by side.

    Args:
        a, b: of one size, fitted from this clip with one split.

    Returns:
        JSON-able: `a` and `b`, the whole evaluations; `figures`: `{name: {a, b, difference (b - a), direction, better,
        interval}}`. `better` is "a", "b", "equal", "unclear" (see `interval`), or "" where a figure has no direction or
        is missing. `interval` is the 95 % interval of the mean difference, where a figure is a mean over frames: a
        circular bootstrap over blocks of ten neighbouring frames (Politis and Romano 1992), since neighbours are alike.

    Raises:
        InputError: the sizes or the splits differ; and as `evaluate_avatar`.
        FileFormatError: as `evaluate_avatar`.
    """
    sizes = [(avatar.camera.width_px, avatar.camera.height_px) for avatar in (a, b)]
    if sizes[0] != sizes[1]:
        raise InputError(
            f"the avatars are {sizes[0][0]}x{sizes[0][1]} and {sizes[1][0]}x{sizes[1][1]} px",
            "two of one size, for figures of two sizes cannot be compared", "fit one of them again with --size",
        )  # fmt: skip
    splits = [split_of(avatar.made, len(clip), clip.train_count) for avatar in (a, b)]
    if splits[0] != splits[1]:
        raise InputError(
            f"the avatars were fitted with different frames held out ({splits[0].name} and {splits[1].name})",
            "one split, for else one of them has seen what the other is judged on", "fit one of them again",
        )  # fmt: skip
    results = [
        evaluate_avatar(avatar, clip, frames_limit=frames_limit, syncnet=syncnet, backend=backend, on_event=on_event)
        for avatar in (a, b)
    ]
    return {"a": results[0], "b": results[1], "figures": compared(*results), "definitions": definitions()}


def compared(a: dict[str, Any], b: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The `figures` of `compare_avatars` from two evaluations."""
    mine, theirs = flat_figures(a), flat_figures(b)
    out = {}
    for name in [*mine, *(n for n in theirs if n not in mine)]:
        first, second = mine.get(name), theirs.get(name)
        better, interval = "", None
        difference = None if first is None or second is None else round(second - first, 4)
        if first is not None and second is not None:
            interval = _interval(_frames(a, name), _frames(b, name))
            better = which(direction(name), first, second)
            if better in ("a", "b") and interval is not None and interval[0] <= 0 <= interval[1]:
                better = "unclear"
        out[name] = {
            "a": first, "b": second, "difference": difference, "direction": direction(name), "better": better,
            "interval": interval,
        }  # fmt: skip
    return out


def which(better: str, a: float, b: float) -> str:
    """ "a" or "b", whichever is better in a direction of `definitions`; "equal"; "" where there is no direction."""
    badness = {
        "higher": lambda v: -v, "lower": lambda v: v, "near 1": lambda v: abs(v - 1), "near 0": abs,
    }.get(better)  # fmt: skip
    if badness is None:
        return ""
    gap = badness(b) - badness(a)
    return "equal" if abs(gap) <= _EQUAL else "a" if gap > 0 else "b"


def _frames(result: dict[str, Any], name: str) -> np.ndarray | None:
    """The figure frame by frame, NaN where a frame has none; None where it is no mean over frames."""
    pictures, motion = result["per_frame"]["pictures"], result["per_frame"]["motion"]
    values = pictures.get(name.removeprefix("composites.")) if name.startswith("composites.") else None
    if name in ("found_landmarks.lmd_px", "found_landmarks.expression_error", "temporal_flicker.render"):
        values = motion.get(name.removeprefix("found_landmarks."))
    return None if values is None else np.array([np.nan if v is None else v for v in values], np.float64)


def _interval(a: np.ndarray | None, b: np.ndarray | None) -> list[float] | None:
    """95 % interval of the mean of b - a; None below two blocks."""
    if a is None or b is None or len(a) != len(b):
        return None
    gap = b - a
    gap = gap[np.isfinite(gap)]
    blocks = len(gap) // BLOCK_FRAMES
    if blocks < 2:
        return None
    rng = np.random.default_rng(0)
    starts = rng.integers(0, len(gap), (RESAMPLES, blocks))
    means = gap[(starts[..., None] + np.arange(BLOCK_FRAMES)) % len(gap)].mean(axis=(1, 2))
    low, high = np.quantile(means, [0.025, 0.975])
    return [round(float(low), 4), round(float(high), 4)]
