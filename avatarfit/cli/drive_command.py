"""`avatarfit drive`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from avatarfit.cli.output_options import OutputChoice
from avatarfit.cli.picture_options import PictureChoice
from avatarfit.cli.provenance_options import ProvenanceOptions
from avatarfit.cli.types import MaybeFloat, MaybePath, MaybeText

if TYPE_CHECKING:
    from avatarfit.driving import Controls


@dataclass(frozen=True)
class Drive:
    """Let an avatar speak: sound in, video with that sound out. Or let it do recorded motion (--motion)."""

    avatar: tyro.conf.Positional[Path]
    """The avatar file."""
    audio: MaybePath = None
    """Speech: a WAV or any other sound file, or a video whose sound is taken. Needed unless --motion is given."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="PATH")] = None
    """The video to write, such as talking.mp4, or a folder for pictures. Needed unless --export-motion is given."""
    seed: int = 0
    """Seed of head motion, blinks and gaze; the same seed gives the same video."""
    lip_strength: MaybeFloat = None
    """How much the mouth moves, 0 to 2: 0 rests, 1 is the fit's cautious guess; a little over 1 if not given."""
    lle_strength: MaybeFloat = None
    """How far mouth shapes are pulled to those the person has shown, 0 to 1; the avatar's own choice if not given."""
    variation: MaybeFloat = None
    """How much the mouth departs from the mean of all that the sound allows, drawn by the seed, 0 (the default) to 1:
    at 1 it is as varied as the person's own."""
    lip_opening: MaybeFloat = None
    """How wide the lips part, 0 to 2; 1 as driven. Closed lips stay closed."""
    expression: MaybeFloat = None
    """How lively the face is besides opening the mouth and blinking, 0 to 2; 1 as driven."""
    head_motion: MaybeFloat = None
    """How much head and shoulders move: 0 still, 1 as driven (the default)."""
    blink_rate: MaybeFloat = None
    """How often the eyes blink: 0 never, 1 as often as the person does (the default), 2 twice as often; at most 5."""
    gaze: MaybeText = None
    """free, camera, or degrees right and up of the camera, such as 10,-5."""
    emotion: MaybeText = None
    """happy, sad, angry, surprised, afraid or disgusted, laid over what the face does."""
    emotion_strength: MaybeFloat = None
    """How strong the emotion is, 0 to 1 (the default)."""
    emotion_upper: MaybeFloat = None
    """Its strength in eyes and brows alone, 0 to 1."""
    emotion_lower: MaybeFloat = None
    """Its strength in the mouth alone, 0 to 1."""
    controls: MaybePath = None
    """A TOML or JSON file that turns these for ranges of time; what is given here holds outside the ranges."""
    pose_from: str = "habits"
    """Where head and shoulders come from: habits (the person's own, never the same), clip (the fitted clip as it was),
    still, or a clip folder, a captured video, a Live Link Face CSV or a landmarks file (.safetensors) of anybody."""
    expression_from: str = "habits"
    """Where eyes and brows come from; the same choices."""
    motion: MaybePath = None
    """Drive by recorded motion, the mouth too: a Live Link Face CSV, a landmarks file, or a clip folder. --audio then
    only adds its sound."""
    export_motion: MaybePath = None
    """Write the motion, too: .csv in Live Link Face's layout (ARKit's blendshapes), or .safetensors with landmarks."""
    features: MaybeText = None
    """What the avatar's driver hears, if it is a network: its folder or its name on the hub, as fit was told."""
    picture: Annotated[PictureChoice, tyro.conf.arg(name="")] = field(default_factory=PictureChoice)
    stored: Annotated[OutputChoice, tyro.conf.arg(name="")] = field(default_factory=OutputChoice)
    provenance: Annotated[ProvenanceOptions, tyro.conf.arg(name="")] = field(default_factory=ProvenanceOptions)
    report: MaybePath = None
    """A JSON file to write with sizes, times and speed."""

    def run(self) -> int:
        """Drive; the exit code."""
        from avatarfit.cli.checks import check_output_file, check_range
        from avatarfit.compositing import parse_background
        from avatarfit.pipeline.drive import check_request, drive_avatar, driving_sound
        from avatarfit.pipeline.listeners import Listeners
        from avatarfit.pipeline.picture import check_alpha

        settings, options = self.picture.settings(), self.stored.options
        check_request(
            self.audio, self.output, self.pose_from, self.expression_from, self.motion, self.export_motion, options
        )
        mark = self.provenance.visible_mark()
        if self.report is not None:
            check_output_file(self.report, ".json")
        if self.lip_strength is not None:
            check_range("--lip-strength", self.lip_strength, 0, 2)
        if self.lle_strength is not None:
            check_range("--lle-strength", self.lle_strength, 0, 1)
        if self.variation is not None:
            check_range("--variation", self.variation, 0, 1)
        controls = self._controls()
        background = parse_background(self.picture.background)
        if self.output is not None:
            check_alpha(background, options.takes_alpha)
        # Before the avatar is read, and read through only once: what is wrong with it is said at once.
        sound = None if self.audio is None else driving_sound(self.audio)
        from avatarfit.model.avatar import Avatar

        avatar = Avatar.load(self.avatar)
        with Listeners() as on_event:
            report = drive_avatar(
                avatar, sound, self.output, seed=self.seed, lip_strength=self.lip_strength,
                lle_strength=self.lle_strength, variation=self.variation, controls=controls, pose_from=self.pose_from,
                expression_from=self.expression_from, motion_file=self.motion, export_motion=self.export_motion,
                features=self.features, background=background, picture=settings, output_options=options,
                signing=self.provenance.signing, require_consent=self.provenance.require_consent, mark=mark,
                on_event=on_event,
            )  # fmt: skip
        if self.report is not None:
            import json

            self.report.write_text(json.dumps(report.as_dict(), indent=2) + "\n", encoding="utf-8")
        source = "motion" if self.audio is None else "speech"
        print(
            f"{report.path}: {report.frames} frames, {report.sound_seconds:.1f} s of {source}, "
            f"made at {report.frames_per_second:.0f} frames a second"
        )
        return 0

    def _controls(self) -> Controls:
        """What is asked for here and in the file of controls.

        Raises:
            InputError: a value is out of its range.
        """
        from dataclasses import fields

        from avatarfit.contracts import InputError
        from avatarfit.driving import Controls, Settings

        try:
            whole = Settings(**{field.name: getattr(self, field.name) for field in fields(Settings)})
        except InputError as error:
            raise InputError(_as_option(error.came), error.wanted, error.do) from error
        return Controls(whole) if self.controls is None else Controls.read(self.controls, whole)


def _as_option(came: str) -> str:
    """A sentence that begins with a setting's name, with the option's name in its place."""
    name, _, rest = came.partition(" ")
    return f"--{name.replace('_', '-')} {rest}"
