"""What is asked of an output, and whether it can be had."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

from avatarfit.contracts import InputError
from avatarfit.media.timecode import Timecode
from avatarfit.media.video_coding import CODINGS, FORMATS, VideoCoding

PICTURE_FILES = {"png": "PNG", "exr": "EXR"}
CODECS = (*CODINGS, *PICTURE_FILES)
ALPHAS = ("none", "straight", "premultiplied")
SOUNDS = ("aac", "pcm")

_DEFAULTS = {".mp4": ("h264", ""), ".mov": ("h264", "prores4444"), ".mkv": ("h264", "ffv1"), ".webm": ("vp9", "vp9")}
NUMBER = re.compile(r"%(?:0?(\d+))?d|#+")


@dataclass(frozen=True)
class OutputOptions:
    """How pictures and sound are stored.

    Attributes:
        codec: "h264", "h265", "av1", "vp9", "prores4444", "ffv1", "png" or "exr"; None: what the path's suffix says.
        alpha: "none" for opaque pictures, or how colours are stored beside alpha: "straight" as they are, or
            "premultiplied" by it. With `key_fill`, "none" means a premultiplied fill, as broadcast keyers take it.
        key_fill: two files in step, NAME.fill.EXT with the colours and NAME.key.EXT with alpha as grey.
        audio: "aac" or "pcm" (24 bits); None: AAC, in ProRes and FFV1 files PCM, and in WebM Opus, which it demands.
        timecode: of the first picture, such as "10:00:00:00"; "10:00:00;00" for drop-frame.
        resume: take up what a stopped run has left beside the output.
    """

    codec: str | None = None
    alpha: Literal["none", "straight", "premultiplied"] = "none"
    key_fill: bool = False
    audio: Literal["aac", "pcm"] | None = None
    timecode: str | None = None
    resume: bool = False

    @property
    def takes_alpha(self) -> bool:
        """Whether the output wants pictures with alpha."""
        return self.alpha != "none" or self.key_fill


@dataclass(frozen=True)
class OutputFormat:
    """What path and options come to.

    Attributes:
        path: as given.
        coding: of a film; None for numbered pictures.
        picture_kind: "png" or "exr"; None for a film.
        sound_coding: "aac", "pcm" or "opus".
        stores_alpha: whether the files themselves have an alpha channel.
        premultiplied: whether colours are stored multiplied by alpha.
    """

    path: Path
    coding: VideoCoding | None
    picture_kind: Literal["png", "exr"] | None
    sound_coding: str
    stores_alpha: bool
    premultiplied: bool

    def track_path(self, track: str) -> Path:
        """Where the pictures called `track` go: "picture", or "key" and "fill"."""
        if track == "picture":
            return self.path
        if self.picture_kind is not None and self.path.suffix.lower() != f".{self.picture_kind}":
            return self.path.with_name(f"{self.path.name}.{track}")
        return self.path.with_name(f"{self.path.stem}.{track}{self.path.suffix}")


def output_format(path: str | Path, options: OutputOptions) -> OutputFormat:
    """The format that `path` and `options` name together.

    Raises:
        InputError: they do not go together; the sentence says why.
    """
    path = Path(path)
    _check_words(options)
    codec = options.codec or _codec_of(path, options)
    if codec in PICTURE_FILES:
        _check_picture_path(path, codec)
        kind: Literal["png", "exr"] = "png" if codec == "png" else "exr"
        usual = kind == "exr"
        return OutputFormat(path, None, kind, "pcm", _stores_alpha(options), _premultiplied(options, usual))
    coding, suffix = CODINGS[codec], path.suffix.lower()
    if suffix not in coding.suffixes:
        allowed = " or ".join(coding.suffixes)
        raise InputError(
            f"the output {path} came for {coding.title}", f"a name that ends in {allowed}",
            f"name it {path.with_suffix(coding.suffixes[0]).name}" if path.name else "name a file",
        )  # fmt: skip
    if _stores_alpha(options) and coding.alpha_pixels is None:
        raise InputError(
            f"alpha was asked for in {coding.title}, which has none",
            "a .mov with prores4444, a .webm with vp9, a .mkv with ffv1, or .png or .exr files",
            "choose one of these, or ask for key and fill as two files",
        )  # fmt: skip
    return OutputFormat(
        path, coding, None, _sound_coding(options, coding, suffix), _stores_alpha(options),
        _premultiplied(options, False),
    )  # fmt: skip


def check_output(path: str | Path, options: OutputOptions, rate: Fraction | None = None) -> OutputFormat:
    """As `output_format`, and whether something can be written there.

    Raises:
        InputError: it cannot be written, or the options do not go together.
    """
    form = output_format(path, options)
    if options.timecode is not None and rate is not None:
        Timecode.parse(options.timecode, rate)
    wanted = "an output path in a folder that exists and may be written"
    for track in ("key", "fill") if options.key_fill else ("picture",):
        target = form.track_path(track)
        if form.coding is not None and target.is_dir():
            raise InputError(f"the output {target} is a folder", wanted, "name a file in it, such as talking.mp4")
        if form.picture_kind is not None and target.is_file():
            raise InputError(f"the output {target} is a file", "a folder for the pictures", "choose another name")
        folder = target.parent
        if not folder.is_dir():
            raise InputError(f"there is no folder {folder} for the output", wanted, "make the folder first")
        if not os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
            raise InputError(f"the folder {folder} may not be written", wanted, "choose another folder")
    return form


def _check_words(options: OutputOptions) -> None:
    for name, value, allowed in (
        ("codec", options.codec, CODECS), ("alpha", options.alpha, ALPHAS), ("audio codec", options.audio, SOUNDS)
    ):  # fmt: skip
        if value is not None and value not in allowed:
            raise InputError(f"the {name} {value!r} came", f"one of {', '.join(allowed)}", "choose one of them")


def _codec_of(path: Path, options: OutputOptions) -> str:
    suffix = path.suffix.lower()
    if suffix in _DEFAULTS:
        opaque, with_alpha = _DEFAULTS[suffix]
        return (with_alpha or opaque) if _stores_alpha(options) else opaque
    if suffix.removeprefix(".") in PICTURE_FILES:
        return suffix.removeprefix(".")
    known = ", ".join(FORMATS)
    if not suffix:
        raise InputError(
            f"the output {path} has no suffix", f"one of {known}, or a folder for numbered pictures with --codec png "
            "or exr", "add .mp4 to its name, or the codec",
        )  # fmt: skip
    raise InputError(
        f"the output {path} ends in {suffix}", f"one of {known}, or numbered pictures such as frame_%06d.png or .exr",
        "add .mp4 to its name",
    )  # fmt: skip


def _check_picture_path(path: Path, kind: str) -> None:
    suffix = path.suffix.lower()
    if suffix == f".{kind}":
        if len(NUMBER.findall(path.stem)) != 1:
            raise InputError(
                f"the output {path} names one picture", "a name with room for a number, or a folder",
                f"write {path.stem.replace('%', '').replace('#', '')}_%06d{path.suffix}",
            )  # fmt: skip
    elif suffix in FORMATS or suffix.removeprefix(".") in PICTURE_FILES:
        raise InputError(
            f"the output {path} came for {PICTURE_FILES[kind]} pictures",
            f"a folder, or a name such as frame_%06d.{kind}", "change its name or the codec",
        )  # fmt: skip


def _stores_alpha(options: OutputOptions) -> bool:
    return options.alpha != "none" and not options.key_fill


def _premultiplied(options: OutputOptions, usual: bool) -> bool:
    if options.alpha == "none":
        return options.key_fill or usual
    return options.alpha == "premultiplied"


def _sound_coding(options: OutputOptions, coding: VideoCoding, suffix: str) -> str:
    if suffix == ".webm":
        if options.audio is not None:
            raise InputError(
                f"{options.audio.upper()} sound came for a WebM file", "Opus, which is taken there by itself",
                "leave the audio codec away, or name the output .mkv",
            )  # fmt: skip
        return "opus"
    return options.audio or ("pcm" if coding.name in ("prores4444", "ffv1") else "aac")
