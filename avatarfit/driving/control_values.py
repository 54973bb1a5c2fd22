"""What a person may turn while an avatar speaks: values for the whole call and for ranges of time, eased."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from avatarfit.contracts import InputError
from avatarfit.driving.emotions import EMOTIONS

EASE_SECONDS = (0.2, 0.4)
"""Shortest and longest time in which a range's values come and go."""
_DEFAULT_EASE_SECONDS = 0.3
GAZE_LIMIT_DEGREES = 30.0
HIGHEST = {
    "lip_opening": 2.0, "expression": 2.0, "head_motion": 1.0, "blink_rate": 5.0,
    "emotion_strength": 1.0, "emotion_upper": 1.0, "emotion_lower": 1.0,
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """Values of controls; None leaves one as it is elsewhere."""

    lip_opening: float | None = None
    """Size of the gap between the lips, 0 to 2; 1 as driven. Closed lips stay closed."""
    expression: float | None = None
    """Size of all that the face does besides opening mouth and closing eyes, 0 to 2; 1 as driven."""
    head_motion: float | None = None
    """Size of head and torso motion about rest, 0 to 1."""
    blink_rate: float | None = None
    """How often the eyes blink, 0 to 5 times as often as the person does."""
    gaze: str | tuple[float, float] | None = None
    """"free", "camera", or degrees (right, up) from the camera in the picture."""
    emotion: str | None = None
    """One of `EMOTIONS`, or "none"."""
    emotion_strength: float | None = None
    """0 to 1, for both halves of the face; 1 where an emotion is given without it."""
    emotion_upper: float | None = None
    """0 to 1, for eyes and brows alone; instead of emotion_strength."""
    emotion_lower: float | None = None
    """0 to 1, for the mouth alone; instead of emotion_strength."""

    def __post_init__(self) -> None:
        for name, highest in HIGHEST.items():
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= highest:
                raise InputError(f"{name} came as {value}", f"a number from 0 to {highest:g}", "change it")
        if self.emotion is not None and self.emotion not in (*EMOTIONS, "none"):
            raise InputError(f"emotion came as {self.emotion}", f"one of {', '.join(EMOTIONS)} or none", "change it")
        if self.gaze is not None:
            object.__setattr__(self, "gaze", parse_gaze(self.gaze))


def parse_gaze(gaze: Any) -> str | tuple[float, float]:
    """ "free", "camera", or (right, up) in degrees, from words or numbers.

    Raises:
        InputError: none of these.
    """
    numbers = gaze.split(",") if isinstance(gaze, str) else gaze
    if gaze in ("free", "camera"):
        return str(gaze)
    try:
        right, up = (float(number) for number in numbers)
        if max(abs(right), abs(up)) <= GAZE_LIMIT_DEGREES:
            return right, up
    except (TypeError, ValueError):
        pass
    raise InputError(
        f"gaze came as {gaze}",
        f"free, camera, or degrees right and up such as 10,-5, at most {GAZE_LIMIT_DEGREES:g} each",
        "change it",
    )


@dataclass(frozen=True)
class ControlRange:
    """Settings from `start_seconds` to `end_seconds` of the sound.

    They come in within `ease_seconds` from the start and go within as long before the end.
    """

    start_seconds: float
    end_seconds: float
    settings: Settings
    ease_seconds: float = _DEFAULT_EASE_SECONDS

    def __post_init__(self) -> None:
        if not (np.isfinite([self.start_seconds, self.end_seconds]).all() and self.end_seconds > self.start_seconds):
            raise InputError(
                f"a range came from {self.start_seconds} to {self.end_seconds} s", "an end after its start", "change it"
            )
        low, high = EASE_SECONDS
        if not low <= self.ease_seconds <= high:
            raise InputError(f"ease came as {self.ease_seconds}", f"{low:g} to {high:g} seconds", "change it")

    def weight(self, pts_seconds: np.ndarray) -> np.ndarray:
        """How far the range's settings hold, float64 [T] in 0..1, with slope zero where it begins and ends.

        A range shorter than twice its ease reaches less than 1, so that it never changes faster.
        """
        inside = np.minimum(pts_seconds - self.start_seconds, self.end_seconds - pts_seconds)
        x = np.clip(inside / self.ease_seconds, 0, 1)
        return np.asarray(x * x * (3 - 2 * x))


@dataclass(frozen=True)
class ControlTrack:
    """Every control at T times; float64 [T] but where said.

    Attributes:
        lip_opening, expression, head_motion, blink_rate: see `Settings`.
        gaze: [T], 0 where the gaze is free, 1 where it is held. gaze_degrees: [T, 2], right and up of the camera.
        emotion_upper, emotion_lower: [T, 6], strength of each of `EMOTIONS`.
    """

    lip_opening: np.ndarray
    expression: np.ndarray
    head_motion: np.ndarray
    blink_rate: np.ndarray
    gaze: np.ndarray
    gaze_degrees: np.ndarray
    emotion_upper: np.ndarray
    emotion_lower: np.ndarray


class ControlSource(Protocol):
    """What tells controls by time: `Controls`, or values that change while somebody looks on."""

    @property
    def neutral(self) -> bool:
        """Nothing is asked for, nor will be."""

    def at(self, pts_seconds: np.ndarray) -> ControlTrack:
        """The controls at times float [T]."""


@dataclass(frozen=True)
class Controls:
    """Settings for the whole call and for ranges of time; where ranges overlap, the later in the list counts.

    Attributes:
        whole: for all times that no range covers.
        ranges: in any order of time.
    """

    whole: Settings = field(default_factory=Settings)
    ranges: tuple[ControlRange, ...] = ()

    @property
    def neutral(self) -> bool:
        """Nothing is asked for."""
        return self.whole == Settings() and not self.ranges

    def at(self, pts_seconds: np.ndarray) -> ControlTrack:
        """The controls at times float [T]: a function of the times alone."""
        count = len(pts_seconds)
        values: dict[str, np.ndarray] = {}
        for name in (f.name for f in fields(ControlTrack)):
            start = _array(name, self.whole)
            values[name] = np.repeat((_DEFAULTS[name] if start is None else start)[None], count, axis=0)
        for part in self.ranges:
            weight = part.weight(pts_seconds)
            for name, course in values.items():
                target = _array(name, part.settings)
                if target is not None:
                    w = weight.reshape(count, *[1] * target.ndim)
                    values[name] = course + w * (target - course)
        return ControlTrack(**values)

    @staticmethod
    def read(path: Path | str, whole: Settings | None = None) -> Controls:
        """Controls from a TOML or JSON file: settings by their names at the top, and a list `range` of tables with
        `start`, `end`, and settings; `ease` if wanted.

        Args:
            whole: counts more than what the file says for all times.

        Raises:
            InputError: no such file, no TOML or JSON, or an unknown name or value.
        """
        path = Path(path)
        content = _content(path)
        listed = content.pop("range", [])
        if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
            raise InputError(f"range in {path} is no list of tables", "[[range]] with start and end", "see the README")
        try:
            ranges = []
            for entry in listed:
                missing = {"start", "end"} - set(entry)
                if missing:
                    raise InputError(f"a range has no {min(missing)}", "start and end in seconds", "add it")
                times = [_number(name, entry.pop(name)) for name in ("start", "end")]
                ease = _number("ease", entry.pop("ease", _DEFAULT_EASE_SECONDS))
                ranges.append(ControlRange(times[0], times[1], _settings(entry), ease))
            base = _settings(content)
        except InputError as error:
            raise InputError(f"in {path}, {error.came}", error.wanted, error.do) from error
        return Controls(base if whole is None else merged(base, whole), tuple(ranges))


def merged(base: Settings, over: Settings) -> Settings:
    """`base`, with what `over` says in its place."""
    said = {f.name: getattr(over, f.name) for f in fields(Settings) if getattr(over, f.name) is not None}
    return Settings(**{f.name: getattr(base, f.name) for f in fields(Settings)} | said)


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{name} came as {value}", "a number", "change it")
    return float(value)


def _settings(entries: Mapping[str, Any]) -> Settings:
    known = {f.name for f in fields(Settings)}
    for name in entries:
        if name not in known:
            raise InputError(f"there is no control {name}", f"one of {', '.join(sorted(known))}", "check its spelling")
    return Settings(**entries)


def _content(path: Path) -> dict[str, Any]:
    wanted = "a TOML or JSON file of controls"
    if path.suffix.lower() not in (".toml", ".json"):
        raise InputError(f"the controls {path} do not end in .toml or .json", wanted, "name it so")
    try:
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text) if path.suffix.lower() == ".toml" else json.loads(text)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})", wanted, "check the name") from error
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error})", wanted, "see the README for an example") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no table of names", wanted, "see the README for an example")
    return content


_DEFAULTS = {
    "lip_opening": np.ones(()), "expression": np.ones(()), "head_motion": np.ones(()), "blink_rate": np.ones(()),
    "gaze": np.zeros(()), "gaze_degrees": np.zeros(2),
    "emotion_upper": np.zeros(len(EMOTIONS)), "emotion_lower": np.zeros(len(EMOTIONS)),
}  # fmt: skip


def _array(name: str, settings: Settings) -> np.ndarray | None:
    """What settings say of a course of `ControlTrack`; None where they say nothing."""
    if name == "gaze":
        return None if settings.gaze is None else np.asarray(float(settings.gaze != "free"))
    if name == "gaze_degrees":
        if settings.gaze in (None, "free"):
            return None
        return np.zeros(2) if settings.gaze == "camera" else np.asarray(settings.gaze, np.float64)
    if name.startswith("emotion_"):
        if settings.emotion is None:
            return None
        strength = getattr(settings, name)
        if strength is None:
            strength = 1.0 if settings.emotion_strength is None else settings.emotion_strength
        return strength * np.array([emotion == settings.emotion for emotion in EMOTIONS], np.float64)
    value = getattr(settings, name)
    return None if value is None else np.asarray(float(value))
