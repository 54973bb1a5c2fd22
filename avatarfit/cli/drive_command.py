"""`avatarfit drive`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from avatarfit.cli.types import MaybeFloat, MaybePath


@dataclass(frozen=True)
class Drive:
    """Let an avatar speak: sound in, video with that sound out."""

    avatar: tyro.conf.Positional[Path]
    """The avatar file."""
    audio: Path
    """Speech: a WAV or any other sound file, or a video whose sound is taken."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """The video to write, such as talking.mp4."""
    seed: int = 0
    """Seed of head motion, blinks and gaze; the same seed gives the same video."""
    head_motion: float = 1.0
    """How much the head and shoulders move: 0 still, 1 as the person does."""
    lip_strength: MaybeFloat = None
    """How much the mouth moves, 0 to 2: 0 rests, 1 is the fit's cautious guess; a little over 1 if not given."""
    lle_strength: MaybeFloat = None
    """How far mouth shapes are pulled to those the person has shown, 0 to 1; the avatar's own choice if not given."""
    background: str = "clip"
    """clip, a colour such as green or "#00b140", or a picture file."""
    report: MaybePath = None
    """A JSON file to write with sizes, times and speed."""

    def run(self) -> int:
        """Drive; the exit code."""
        from avatarfit.cli.checks import check_output_file, check_range
        from avatarfit.compositing import parse_background
        from avatarfit.pipeline.drive import check_output, drive_avatar, driving_sound
        from avatarfit.pipeline.listeners import Listeners

        check_output(self.output)
        if self.report is not None:
            check_output_file(self.report, ".json")
        check_range("--head-motion", self.head_motion, 0, 1)
        if self.lip_strength is not None:
            check_range("--lip-strength", self.lip_strength, 0, 2)
        if self.lle_strength is not None:
            check_range("--lle-strength", self.lle_strength, 0, 1)
        background = parse_background(self.background)
        driving_sound(self.audio)
        from avatarfit.model.avatar import Avatar

        avatar = Avatar.load(self.avatar)
        with Listeners() as on_event:
            report = drive_avatar(
                avatar, self.audio, self.output, seed=self.seed, head_motion=self.head_motion,
                lip_strength=self.lip_strength, lle_strength=self.lle_strength, background=background,
                on_event=on_event,
            )  # fmt: skip
        if self.report is not None:
            import json

            self.report.write_text(json.dumps(report.as_dict(), indent=2) + "\n", encoding="utf-8")
        print(
            f"{self.output}: {report.frames} frames, {report.sound_seconds:.1f} s of speech, "
            f"made at {report.frames_per_second:.0f} frames a second"
        )
        return 0
