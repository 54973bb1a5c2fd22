"""An avatar and a sound, or recorded motion, become a talking video."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from avatarfit.audio.named_encoder import encoder_of
from avatarfit.compositing import Background, parse_background, to_uint8
from avatarfit.contracts import AudioClip, InputError, Motion
from avatarfit.contracts.events import Finished, Listener, Picture, Progress, Started, silent
from avatarfit.media import SoundBlocks, sound_blocks
from avatarfit.output import OutputOptions, open_sink
from avatarfit.output import check_output as check_sink
from avatarfit.pipeline.blas_threads import one_blas_thread
from avatarfit.pipeline.motion_files import (
    OWN_SOURCES,
    Recorder,
    check_motion_file,
    check_motion_output,
    recorded_motion,
    stance_source,
)
from avatarfit.pipeline.origin import check_consent, sealer_for, shows_real_pictures
from avatarfit.pipeline.picture import PictureMaker, PictureSettings, check_alpha

if TYPE_CHECKING:
    from avatarfit.audio import SpeechEncoder
    from avatarfit.compositing.mark import Mark
    from avatarfit.compositing.shot import Layer
    from avatarfit.driving.control_values import Controls
    from avatarfit.model.avatar import Avatar
    from avatarfit.output.provenance import Sealer, Signing

_STAGE = "drive"
_PIECE = 500


@dataclass(frozen=True)
class DriveReport:
    """What was made.

    Attributes:
        path: the video, or the exported motion where no video was asked for.
        frames, frame_rate_hz, width_px, height_px: of the video.
        sound_seconds: length of the sound.
        motion_seconds: time from sound to motion.
        picture_seconds: time from motion to the finished file.
        frames_per_second: frames over both times together.
    """

    path: Path
    frames: int
    frame_rate_hz: float
    width_px: int
    height_px: int
    sound_seconds: float
    motion_seconds: float
    picture_seconds: float

    @property
    def frames_per_second(self) -> float:
        """Frames made in a second of work, from sound to file."""
        return self.frames / max(self.motion_seconds + self.picture_seconds, 1e-9)

    def as_dict(self) -> dict[str, object]:
        """JSON-able."""
        return {**asdict(self), "path": str(self.path), "frames_per_second": round(self.frames_per_second, 2)}


def driving_sound(sound_path: str | Path) -> SoundBlocks:
    """The sound to speak, read through once and found whole, its clock starting at zero.

    Raises:
        SoundError: it cannot be read.
    """
    return replace(sound_blocks(sound_path), start_seconds=0.0)


def check_output(path: Path, options: OutputOptions | None = None) -> None:
    """Raise unless a video, or pictures, can be written at `path`.

    Raises:
        InputError: the folder is missing, or path and options do not go together.
    """
    check_sink(path, options or OutputOptions())


@one_blas_thread()
def drive_avatar(
    avatar: Avatar,
    sound: str | Path | SoundBlocks | None,
    output: str | Path | None,
    *,
    seed: int = 0,
    lip_strength: float | None = None,
    lle_strength: float | None = None,
    variation: float | None = None,
    controls: Controls | None = None,
    pose_from: str | Path = "habits",
    expression_from: str | Path = "habits",
    motion_file: str | Path | None = None,
    export_motion: str | Path | None = None,
    features: str | None = None,
    background: str | Background = "clip",
    picture: PictureSettings | None = None,
    layers: Sequence[Layer] = (),
    output_options: OutputOptions | None = None,
    signing: Signing | None = None,
    require_consent: bool = False,
    mark: Mark | None = None,
    backend: str = "auto",
    on_event: Listener = silent,
) -> DriveReport:
    """Write the video of `avatar` speaking `sound`, at the avatar's own frame rate and size unless others are asked
    for, with the sound in it.

    Rendering and encoding overlap: the encoder has its own thread and a bounded queue. The file appears when whole.

    Args:
        avatar: who speaks.
        sound: any sound file, or a video whose sound is taken, or what `driving_sound` made of it; None with
            `motion_file`: a silent video.
        output: a film, or a folder or numbered name for pictures (`output.open_sink`); None with `export_motion`:
            no video.
        seed: of the head's motion, blinks and gaze; the same seed gives the same video.
        lip_strength: size of the mouth's motion, 0 to 2; None: the driver's own choice.
        lle_strength: how far the mouth is pulled to shapes the person has shown, 0 to 1; None: the driver's own choice.
        variation: 0 for the mean of the mouths that the sound allows, to 1 for one of them; None: the mean.
        controls: what is turned, for the whole call and for ranges of time.
        pose_from: where head and shoulders come from: "habits", "clip" (the clip that was fitted to, as it was),
            "still", or a clip folder, Live Link Face CSV or landmarks file of anybody.
        expression_from: where eyes and brows come from, likewise.
        motion_file: a clip folder, Live Link Face CSV or landmarks file that all motion comes from, the mouth too.
        export_motion: a .csv (Live Link Face) or .safetensors (landmarks) file to write the motion to.
        features: what the avatar's driver hears, if it is a network: the checkpoint's folder or name.
        background: what stands behind: "clip" for the clip's own, "none", a colour such as "green" or "#00b140", a
            picture or a video.
        picture: size, place, rate, torso and looks.
        layers: more layers of the compositor, after all others (`compositing.Layer`), such as a visible mark.
        output_options: how pictures and sound are stored.
        signing: whose certificate signs what the output says of its origin; None for the local one.
        require_consent: refuse an avatar that records nobody's consent.
        mark: a visible mark on every picture; None for none.
        backend: of the renderer.

    Raises:
        SoundError: the sound cannot be read.
        InputError: the output cannot be written, the background is none, or there is nothing to drive with.
        FileFormatError: recorded motion is damaged.
    """
    options, shown = output_options or OutputOptions(), picture or PictureSettings()
    check_request(sound, output, pose_from, expression_from, motion_file, export_motion, options)
    if require_consent:
        check_consent(avatar)
    behind = parse_background(background) if isinstance(background, str) else background
    if output is not None:
        check_alpha(behind, options.takes_alpha)
    if shown.rate is not None:
        avatar = replace(avatar, frame_rate_hz=float(shown.rate))
    heard = driving_sound(sound) if isinstance(sound, str | Path) else sound
    encoder = encoder_of(avatar.driver.feature_name, features)
    began = time.perf_counter()
    made, total = _motion(
        avatar, heard, encoder, seed,
        {"lip_strength": lip_strength, "lle_strength": lle_strength, "variation": variation}, controls,
        pose_from, expression_from, motion_file,
    )  # fmt: skip
    pieces = _Timed(made)
    recorder = Recorder(pieces)
    camera = avatar.camera
    if output is not None:
        maker = PictureMaker(
            avatar, behind, shown, takes_alpha=options.takes_alpha, layers=layers, mark=mark, backend=backend,
            on_event=on_event,
        )  # fmt: skip
        camera = maker.camera
        made_from = {
            "avatar": avatar.file_sha256 or avatar.made, "sound": heard, "motion": motion_file, "pose": pose_from,
            "expression": expression_from, "seed": seed, "lips": (lip_strength, lle_strength, variation),
            "controls": controls, "background": behind.name, "picture": shown,
            "mark": None if mark is None else mark.text,
        }  # fmt: skip
        sealer = sealer_for(
            avatar, _STAGE, signing, on_event, composite=shows_real_pictures(behind, shown.torso),
            sound=heard, motion=motion_file,
        )  # fmt: skip
        render_motion(
            maker, recorder if export_motion is not None else pieces, total, heard, Path(output),
            shown.rate or avatar.frame_rate_hz, options, made_from=made_from, sealer=sealer,
            on_event=on_event,
        )  # fmt: skip
    else:
        on_event(Started(_STAGE, total))
        done = 0
        for piece in recorder:
            done += len(piece)
            on_event(Progress(_STAGE, done, total))
    if export_motion is not None:
        recorder.write(Path(export_motion), avatar)
    report = DriveReport(
        Path(output if output is not None else str(export_motion)), total, avatar.frame_rate_hz, camera.width_px,
        camera.height_px, total / avatar.frame_rate_hz if heard is None else heard.duration_seconds,
        round(pieces.seconds, 3), round(time.perf_counter() - began - pieces.seconds, 3),
    )  # fmt: skip
    on_event(
        Finished(_STAGE, report.motion_seconds + report.picture_seconds, {"frames_per_s": report.frames_per_second})
    )
    return report


def check_request(
    sound: str | Path | SoundBlocks | None,
    output: str | Path | None,
    pose_from: str | Path,
    expression_from: str | Path,
    motion_file: str | Path | None,
    export_motion: str | Path | None,
    output_options: OutputOptions | None = None,
) -> None:
    """Raise unless these, as `drive_avatar` takes them, go together and name files that are there.

    Raises:
        InputError: they do not.
    """
    if output is None and export_motion is None:
        raise InputError("no output came", "a video to write, or a file to export motion to", "add -o talking.mp4")
    if output is not None:
        check_output(Path(output), output_options)
    if export_motion is not None:
        check_motion_output(Path(export_motion))
    if sound is None and motion_file is None:
        raise InputError("no sound came", "speech, or a file of motion", "add --audio speech.wav")
    others = [name for name in (pose_from, expression_from) if name not in OWN_SOURCES]
    if motion_file is not None:
        if (pose_from, expression_from) != ("habits", "habits"):
            raise InputError(
                "a file of all motion came together with another source of pose or expression", "one of them",
                "leave the other away",
            )  # fmt: skip
        others.append(motion_file)
    for name in others:
        check_motion_file(Path(name))


def _motion(
    avatar: Avatar,
    sound: SoundBlocks | None,
    encoder: SpeechEncoder,
    seed: int,
    options: dict[str, float | None],
    controls: Controls | None,
    pose_from: str | Path,
    expression_from: str | Path,
    motion_file: str | Path | None,
) -> tuple[Iterator[Motion], int]:
    """Pieces of motion, and how many frames they have together."""
    from avatarfit.driving import Controls, DriveOptions, DriverStream, drive_chunks
    from avatarfit.driving.controls import MotionControls
    from avatarfit.driving.motion_sources import at_rate

    turned = controls or Controls()
    if motion_file is not None:
        whole = at_rate(recorded_motion(Path(motion_file), avatar), avatar.frame_rate_hz)
        live = MotionControls(turned, avatar.rig, avatar.driver)
        return (live.apply(whole[k : k + _PIECE]) for k in range(0, len(whole), _PIECE)), len(whole)
    assert sound is not None
    stances = None
    if (pose_from, expression_from) != ("habits", "habits"):
        stances = stance_source(avatar, pose_from, expression_from, seed, lambda seconds: turned.at(seconds).blink_rate)
    asked: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    stream = DriverStream(
        avatar.driver, avatar.rig, sound.sample_rate_hz, avatar.frame_rate_hz, DriveOptions(seed=seed, **asked),
        encoder=encoder, controls=turned, stances=stances,
    )  # fmt: skip
    return drive_chunks(stream, sound), max(round(sound.duration_seconds * avatar.frame_rate_hz), 1)


class _Timed:
    """Iterates pieces of motion and adds up the seconds that making them took."""

    def __init__(self, pieces: Iterator[Motion]) -> None:
        self._pieces, self.seconds = pieces, 0.0

    def __iter__(self) -> Iterator[Motion]:
        return self

    def __next__(self) -> Motion:
        began = time.perf_counter()
        try:
            return next(self._pieces)
        finally:
            self.seconds += time.perf_counter() - began


def render_motion(
    maker: PictureMaker,
    pieces: Iterable[Motion],
    total: int,
    sound: AudioClip | SoundBlocks | None,
    output: Path,
    rate: float | Fraction,
    options: OutputOptions,
    *,
    made_from: Mapping[str, object] | None = None,
    sealer: Sealer | None = None,
    on_event: Listener = silent,
) -> None:
    """Write what `maker` makes of `total` frames of motion, with `sound`.

    `pieces` are asked for one after the other, so that long motion need not lie in memory. What a stopped run has left
    is taken up where `options` ask for it.
    """
    on_event(Started(_STAGE, total))
    camera = maker.camera
    done = 0
    with open_sink(
        output, options, camera.width_px, camera.height_px, rate, sound, made_from=made_from,
        sealer=sealer,
    ) as sink:  # fmt: skip
        for motion in pieces:
            for index in range(len(motion)):
                if done < sink.first_frame:
                    maker.skip(motion, index, done)
                else:
                    picture = maker.make(motion, index, done)
                    sink.write(picture)
                    if done == total // 2:
                        on_event(Picture(_STAGE, done, "frame", _shown(picture)))
                done += 1
                on_event(Progress(_STAGE, done, total))


def _shown(picture: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3], over black where there is alpha."""
    return picture if picture.dtype == np.uint8 else to_uint8(picture[..., :3])
