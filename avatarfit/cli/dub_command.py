"""`avatarfit dub`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from avatarfit.cli.output_options import OutputChoice
from avatarfit.cli.provenance_options import ProvenanceOptions
from avatarfit.cli.types import MaybeFloat, MaybePath, MaybeText


@dataclass(frozen=True)
class Dub:
    """Let the person in footage say something else: only the face below the eyes is drawn anew, all else stays."""

    avatar: tyro.conf.Positional[Path]
    """The avatar file of the person in the footage."""
    video: Path
    """The footage: the clip the avatar was fitted from or another of the same person, or its clip folder."""
    audio: Path
    """The new speech: a WAV or any other sound file, or a video whose sound is taken. Where it ends before the footage
    the mouth rests; what is longer is cut off."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """The video to write, of the footage's size and rate, such as dubbed.mp4."""
    work_dir: MaybePath = None
    """Where the footage is measured, to go on with or to use again; OUTPUT.work if not given."""
    lip_strength: MaybeFloat = None
    """How much the mouth moves, 0 to 2, as avatarfit drive takes it."""
    lle_strength: MaybeFloat = None
    """How far mouth shapes are pulled to those the person has shown, 0 to 1, as avatarfit drive takes it."""
    variation: MaybeFloat = None
    """How much the mouth departs from the mean of all that the sound allows, 0 (the default) to 1."""
    seed: int = 0
    """Which of these mouths."""
    features: MaybeText = None
    """What the avatar's driver hears, if it is a network: its folder or its name on the hub, as fit was told."""
    stored: Annotated[OutputChoice, tyro.conf.arg(name="")] = field(default_factory=OutputChoice)
    provenance: Annotated[ProvenanceOptions, tyro.conf.arg(name="")] = field(default_factory=ProvenanceOptions)
    report: MaybePath = None
    """A JSON file for what was dubbed, what stayed as it was and why, and how sure the person is the avatar's; if not
    given, beside the output: OUTPUT.json."""

    def run(self) -> int:
        """Dub; the exit code."""
        from avatarfit.cli.checks import check_clip, check_output_file, check_output_folder, check_range
        from avatarfit.pipeline.drive import driving_sound
        from avatarfit.pipeline.dub import check_dub, dub_video
        from avatarfit.pipeline.listeners import Listeners

        check_dub(self.video, self.audio, self.output, options=self.stored.options)
        mark = self.provenance.visible_mark()
        report = self.report or self.output.with_suffix(".json")
        check_output_file(report, ".json")
        work = self.work_dir or self.output.with_suffix(".work")
        check_output_folder(work)
        for name, highest in (("lip-strength", 2), ("lle-strength", 1), ("variation", 1)):
            value = getattr(self, name.replace("-", "_"))
            if value is not None:
                check_range(f"--{name}", value, 0, highest)
        # Before the avatar is read: what is wrong with footage and sound is said at once.
        check_clip(self.video, needs_sound=False)
        sound = driving_sound(self.audio)
        from avatarfit.model.avatar import Avatar

        avatar = Avatar.load(self.avatar)
        with Listeners() as on_event:
            made = dub_video(
                avatar, self.video, sound, self.output, work_dir=work, lip_strength=self.lip_strength,
                lle_strength=self.lle_strength, variation=self.variation, seed=self.seed, features=self.features,
                output_options=self.stored.options, signing=self.provenance.signing,
                require_consent=self.provenance.require_consent, mark=mark, report=report, on_event=on_event,
            )  # fmt: skip
        print(
            f"{made.path}: {made.dubbed} of {made.frames} frames speak anew, {made.frames - made.dubbed} stay as they "
            f"were; the report is {report}"
        )
        return 0
