"""What can be known to be wrong before long work begins."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def check_output_file(path: Path, suffix: str) -> None:
    """Raise unless a file may be made at `path`.

    Raises:
        InputError: a folder, a missing or unwritable folder, or another suffix.
    """
    import os

    from avatarfit.contracts import InputError

    wanted = f"the path of a {suffix} file in a folder that exists"
    if path.is_dir():
        raise InputError(f"the output {path} is a folder", wanted, f"name a file in it, such as out{suffix}")
    if not path.parent.is_dir():
        raise InputError(f"there is no folder {path.parent} for the output", wanted, "make the folder first")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"the folder {path.parent} may not be written", wanted, "choose another folder")
    if path.suffix.lower() != suffix:
        raise InputError(f"the output {path} does not end in {suffix}", wanted, f"add {suffix} to its name")


def check_output_folder(path: Path) -> None:
    """Raise unless a folder may be made, or already is, at `path`.

    Raises:
        InputError: a file is in the way, or the folder above it is missing.
    """
    from avatarfit.contracts import InputError

    if path.exists() and not path.is_dir():
        raise InputError(f"the output {path} is a file", "a folder to put files in", "choose another name")
    if not path.exists() and not path.resolve().parent.is_dir():
        raise InputError(f"there is no folder {path.parent} for the output", "a folder that exists", "make it first")


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Raise unless `low <= value <= high`.

    Raises:
        InputError: outside, or not a number.
    """
    from avatarfit.contracts import InputError

    if not low <= value <= high:
        raise InputError(f"{name} came as {value:g}", f"a number from {low:g} to {high:g}", "change it")


def check_length(minutes: float | None, steps: int | None) -> None:
    """Raise unless a fit may take so many minutes, or so many steps.

    Raises:
        InputError: both came, or one is out of range.
    """
    from avatarfit.contracts import InputError

    if minutes is not None and steps is not None:
        raise InputError("both --minutes and --steps came", "one of them", "leave one away")
    if minutes is not None:
        check_range("--minutes", minutes, 0.01, 24 * 60)
    if steps is not None:
        check_range("--steps", steps, 1, 10_000_000)


def check_clip(path: Path, needs_sound: bool) -> None:
    """Raise unless `path` is a clip folder or a video whose pictures (and sound) can be decoded.

    Raises:
        InputError: not such a clip.
        SoundError: no sound, where it is needed.
    """
    from avatarfit.contracts import InputError, SoundError

    if path.is_dir():
        if not (path / "clip.json").is_file():
            raise InputError(
                f"{path} is a folder without clip.json", "a video, or a clip folder made by avatarfit capture",
                "give the video file itself",
            )  # fmt: skip
        return
    from avatarfit.media import probe

    info = probe(path)
    if needs_sound and not info.has_audio:
        raise SoundError(f"{path} has no sound", "a clip in which the person speaks", "record it with sound")


def check_clip_folder(path: Path) -> None:
    """Raise unless `path` is a folder.

    Raises:
        InputError: a file, or nothing.
    """
    from avatarfit.contracts import InputError

    if not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise InputError(f"the clip {path} {what}", "a clip folder", "make it with avatarfit capture")


def parse_size(text: str | None) -> int | Literal["source"] | None:
    """The `size` of `capture_clip` from `--size`.

    Raises:
        InputError: neither a whole number nor source.
    """
    if text is None or text.isdecimal():
        return None if text is None else int(text)
    if text == "source":
        return "source"
    from avatarfit.contracts import InputError

    raise InputError(f"--size came as {text}", "a whole number of pixels, or source", "choose such as 512")


def check_view(path: Path, size: int | Literal["source"] | None, frame_rate_hz: float | None, face: int | None) -> None:
    """Raise unless a video's pictures can be taken at this size and rate and of this person, as far as its outline
    tells.

    Raises:
        InputError: out of range, more pictures a second than the clip has, or a clip folder, which has its own.
    """
    from avatarfit.contracts import InputError

    if path.is_dir():
        for name, value in (("--fps", frame_rate_hz), ("--face", face)):
            if value is not None:
                raise InputError(
                    f"{name} came with a clip folder", "a video", f"give {name} to avatarfit capture, which made it"
                )
        return
    from avatarfit.capture.view_choice import check_choice
    from avatarfit.media import probe

    check_choice(probe(path), size, frame_rate_hz, face)


def parse_audio_offset(text: str) -> float | str:
    """Seconds, or "auto", of an `--audio-offset`.

    Raises:
        InputError: neither.
    """
    if text == "auto":
        return text
    try:
        seconds = float(text)
    except ValueError:
        from avatarfit.contracts import InputError

        raise InputError(f"--audio-offset came as {text}", "auto, or a number of seconds", "change it") from None
    check_range("--audio-offset", seconds, -10, 10)
    return seconds
