"""`avatarfit fit` and `avatarfit capture`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from avatarfit.cli.consent_command import ConsentOptions, consent_text
from avatarfit.cli.types import MaybeFloat, MaybeInt, MaybePath, MaybeSize, MaybeText


@dataclass(frozen=True)
class Fit:
    """Make an avatar file of the person in a clip.

    The clip: one person, facing the camera, speaking, good light, a still camera; one to five minutes are best.
    On two processor cores it takes a few minutes. Stopped with Ctrl-C? The same command with --resume goes on.
    """

    clip: tyro.conf.Positional[Path]
    """The video, or a clip folder made by `avatarfit capture`."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """The avatar file to write, such as anna.avatar."""
    head: str = "gaussian"
    """What the head is made of. gaussian: fitted in minutes, drawn live on a CPU. hashgrid: a radiance field (NeRF),
    slower to fit and to draw; `avatarfit convert` makes Gaussians of it."""
    size: MaybeInt = None
    """Width of the avatar's picture in pixels; more is sharper and slower. The preset's own if not given (cpu: 256)."""
    minutes: MaybeFloat = None
    """How long to fit the picture. A few are enough: more sharpen what the clip shows, not what it does not. The
    preset's own if not given."""
    steps: MaybeInt = None
    """Number of optimisation steps instead of minutes: gives the same avatar every time."""
    seed: int = 0
    """Seed of everything random."""
    preset: MaybeText = None
    """A preset's name, or the path of a TOML file with settings; cpu for Gaussians and hashgrid for the hash-grid head
    if not given."""
    work_dir: MaybePath = None
    """Folder for measurements, checkpoints, logs, curves and preview.png; NAME.work beside the output if not given."""
    resume: bool = False
    """Go on from the checkpoint in the work folder."""
    fps: MaybeFloat = None
    """Take so many of the clip's pictures a second, the others are dropped evenly; all if not given."""
    face: MaybeInt = None
    """Which person, counted from the left in the first picture that shows them all; the larger and steadier one if not
    given."""
    landmarker: str = "auto"
    """A face_landmarker.task's path for finer landmarks and blendshapes, none to do without, auto: where it lies."""
    audio_offset: str = "0"
    """Seconds by which the clip's sound comes late, to move it back; auto: as measured, where that is sure."""
    split: Literal["last", "blocks"] = "last"
    """Which eleventh of the clip is kept out of the fit for evaluate: the last, or six blocks spread over the clip."""
    features: str = "built-in"
    """What the driver hears: built-in (log-mel bands and our own encoder of speech), log-mel (the bands alone), or the
    folder or the hub's name of a HuBERT, wav2vec2 or Whisper checkpoint, such as facebook/hubert-base-ls960. drive and
    evaluate then need the same. These networks are not for live use."""
    driver_prior: MaybePath = None
    """A file of `avatarfit fit-driver`, what many people's drivers have in common; this person's begins with it."""
    consent: ConsentOptions = field(default_factory=ConsentOptions)
    """Who agreed to be made speak."""

    def run(self) -> int:
        """Fit; the exit code."""
        from avatarfit.avatarfile import check_head
        from avatarfit.cli.checks import (
            check_clip,
            check_length,
            check_output_file,
            check_output_folder,
            check_range,
            check_view,
            parse_audio_offset,
        )

        check_clip(self.clip, needs_sound=True)
        check_output_file(self.output, ".avatar")
        check_head(self.head)
        check_length(self.minutes, self.steps)
        if self.size is not None:
            check_range("--size", self.size, 32, 2048)
        check_view(self.clip, None, self.fps, self.face)
        work = self.work_dir or self.output.with_suffix(".work")
        check_output_folder(work)
        audio_offset = parse_audio_offset(self.audio_offset)
        consent = self.consent.record()
        from avatarfit.pipeline.fit import fit
        from avatarfit.pipeline.listeners import Listeners

        with Listeners(work) as on_event:
            fit(
                self.clip, self.output, head=self.head, size=self.size, minutes=self.minutes, steps=self.steps,
                preset=self.preset, work_dir=work, seed=self.seed, resume=self.resume, frame_rate_hz=self.fps,
                face=self.face, landmarker=self.landmarker, audio_offset=audio_offset, split=self.split,
                features=self.features, driver_prior=self.driver_prior, consent=consent, on_event=on_event,
            )  # fmt: skip
        print(f"{consent_text(consent, self.output)}.")
        print(f"{self.output} is ready; make it speak: avatarfit drive {self.output} --audio speech.wav -o talking.mp4")
        return 0


@dataclass(frozen=True)
class Capture:
    """Measure a clip only: face, pose, masks and background, into a clip folder that `fit` and `evaluate` take."""

    clip: tyro.conf.Positional[Path]
    """The video."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """The clip folder to make."""
    size: MaybeSize = None
    """The longer side of the pictures to work on, 128 to 2048, about head and shoulders where the clip shows much more;
    source: the clip's own pictures, whole. If not given: a clip of up to 1024 px as it is, a larger one about head and
    shoulders, at most 1024 px."""
    fps: MaybeFloat = None
    """Take so many of the clip's pictures a second, the others are dropped evenly; all if not given."""
    face: MaybeInt = None
    """Which person, counted from the left in the first picture that shows them all; the larger and steadier one if not
    given."""
    focal: MaybeFloat = None
    """The lens's focal length in pixels of the clip's own pictures, where it is known; if not given, 2.34 times the
    working picture's longer side, which a frontal clip hardly tells from another."""
    landmarker: str = "auto"
    """A face_landmarker.task's path for finer landmarks and blendshapes, none to do without, auto: where it lies."""
    audio_offset: str = "0"
    """Seconds by which the clip's sound comes late, to move it back; auto: as measured, where that is sure."""

    def run(self) -> int:
        """Capture; the exit code."""
        from avatarfit.cli.checks import check_clip, check_output_folder, check_view, parse_audio_offset, parse_size

        if self.clip.is_dir():
            from avatarfit.contracts import InputError

            raise InputError(f"{self.clip} is a folder", "a video file", "give the video itself")
        check_clip(self.clip, needs_sound=False)
        check_output_folder(self.output)
        size = parse_size(self.size)
        check_view(self.clip, size, self.fps, self.face)
        audio_offset = parse_audio_offset(self.audio_offset)
        from avatarfit.capture import capture_clip
        from avatarfit.capture.report import REPORT, write_report
        from avatarfit.pipeline.listeners import Listeners

        with Listeners() as on_event:
            clip = capture_clip(
                self.clip, self.output, size=size, frame_rate_hz=self.fps, face=self.face, focal_px=self.focal,
                landmarker=self.landmarker, audio_offset=audio_offset, on_event=on_event,
            )  # fmt: skip
            write_report(clip, on_event)
        print(
            f"{self.output}: {len(clip)} frames of {clip.camera.width_px}x{clip.camera.height_px} px are usable, "
            f"{clip.frame_rate_hz:g} a second; "
            f"what to look at and what to record again: {self.output / REPORT}"
        )
        return 0
