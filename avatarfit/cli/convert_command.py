"""`avatarfit convert`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from avatarfit.cli.types import MaybeFloat, MaybeInt, MaybePath, MaybeText


@dataclass(frozen=True)
class Convert:
    """Make an avatar of Gaussians, which a CPU draws live, of one with a hash-grid head.

    The Gaussians begin on the surface that the field shows and move as it moves. Then they are fitted: to the clip
    where --clip is given, else to pictures that the field draws in motion that the person has shown. Stopped with
    Ctrl-C? The same command with --resume goes on.
    """

    avatar: tyro.conf.Positional[Path]
    """The avatar file, made by `avatarfit fit --head hashgrid`."""
    to: str
    """What the head is to be made of: gaussian."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """The avatar file to write, such as live.avatar."""
    clip: MaybePath = None
    """The clip folder it was fitted from (WORK_DIR/clip after `avatarfit fit`); without, nothing but the avatar is
    needed."""
    minutes: MaybeFloat = None
    """How long to fit; the preset's own if not given."""
    steps: MaybeInt = None
    """Number of optimisation steps instead of minutes: gives the same avatar every time."""
    seed: int = 0
    """Seed of everything random."""
    preset: MaybeText = None
    """A preset's name, or the path of a TOML file, whose [gaussian] table is taken; cpu if not given."""
    work_dir: MaybePath = None
    """Folder for pictures, checkpoints and logs; NAME.work beside the output if not given."""
    resume: bool = False
    """Go on from the checkpoint in the work folder."""

    def run(self) -> int:
        """Convert; the exit code."""
        from avatarfit.cli.checks import (
            check_clip,
            check_clip_folder,
            check_length,
            check_output_file,
            check_output_folder,
        )
        from avatarfit.contracts import InputError

        if self.to != "gaussian":
            raise InputError(f"--to came as {self.to}", "gaussian", "change it: nothing else can be converted to")
        check_output_file(self.output, ".avatar")
        if self.output.exists() and self.avatar.exists() and self.output.samefile(self.avatar):
            raise InputError(f"the output {self.output} is the avatar itself", "another name", "choose one")
        check_length(self.minutes, self.steps)
        work = self.work_dir or self.output.with_suffix(".work")
        check_output_folder(work)
        if self.clip is not None:
            check_clip_folder(self.clip)
            check_clip(self.clip, needs_sound=False)
        from avatarfit.model.avatar import Avatar
        from avatarfit.pipeline.convert import check_convertible, convert_to_gaussian
        from avatarfit.pipeline.listeners import Listeners

        avatar = Avatar.load(self.avatar)
        check_convertible(avatar)
        with Listeners(work) as on_event:
            convert_to_gaussian(
                avatar, self.output, clip=self.clip, minutes=self.minutes, steps=self.steps, preset=self.preset,
                work_dir=work, seed=self.seed, resume=self.resume, on_event=on_event,
            )  # fmt: skip
        print(f"{self.output} is ready; make it speak: avatarfit drive {self.output} --audio speech.wav -o talking.mp4")
        return 0
