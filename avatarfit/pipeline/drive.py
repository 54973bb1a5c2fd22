"""An avatar and a sound, or recorded motion, become a talking video."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from avatarfit.audio.named_encoder import encoder_of
from avatarfit.compositing import Background, parse_background
from avatarfit.contracts import AudioClip, InputError, Motion
from avatarfit.contracts.events import Finished, Listener, Picture, Progress, Started, silent
from avatarfit.media import SoundBlocks, VideoWriter, sound_blocks
from avatarfit.output import VideoFile
from avatarfit.pipeline.motion_files import (
    OWN_SOURCES,
    Recorder,
    check_motion_file,
    check_motion_output,
    recorded_motion,
    stance_source,
)

if TYPE_CHECKING:
    from avatarfit.audio import SpeechEncoder
    from avatarfit.driving.control_values import Controls
    from avatarfit.model.avatar import Avatar

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


def check_output(path: Path) -> None:
    """Raise unless a video can be written at `path`.

    Raises:
        InputError: the folder is missing, or the path is a folder or has an unknown suffix.
    """
    wanted = "the path of an MP4 file in a folder that exists"
    if path.is_dir():
        raise InputError(f"the output {path} is a folder", wanted, "name a file in it, such as talking.mp4")
    if not path.parent.is_dir():
        raise InputError(f"there is no folder {path.parent} for the output", wanted, "make the folder first")
    if path.suffix.lower() not in (".mp4", ".mov", ".mkv"):
        raise InputError(f"the output {path} does not end in .mp4, .mov or .mkv", wanted, "add .mp4 to its name")


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
    backend: str = "auto",
    on_event: Listener = silent,
) -> DriveReport:
    """Write the video of `avatar` speaking `sound` at the avatar's own frame rate and size, with the sound in it.

    Rendering and encoding overlap: the encoder has its own thread and a bounded queue. The file appears when whole.

    Args:
        avatar: who speaks.
        sound: any sound file, or a video whose sound is taken, or what `driving_sound` made of it; None with
            `motion_file`: a silent video.
        output: .mp4, .mov or .mkv; None with `export_motion`: no video.
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
        background: what stands behind: "clip" for the clip's own, a colour such as "green" or "#00b140", or a picture.
        backend: of the renderer.

    Raises:
        SoundError: the sound cannot be read.
        InputError: the output cannot be written, the background is none, or there is nothing to drive with.
        FileFormatError: recorded motion is damaged.
    """
    check_request(sound, output, pose_from, expression_from, motion_file, export_motion)
    plate = None
    if output is not None:
        behind = parse_background(background) if isinstance(background, str) else background
        plate = behind.at(avatar.plate)
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
    if output is not None and plate is not None:
        render_motion(avatar, recorder if export_motion is not None else pieces, total, plate, heard, Path(output),
                      backend=backend, on_event=on_event)  # fmt: skip
    else:
        on_event(Started(_STAGE, total))
        done = 0
        for piece in recorder:
            done += len(piece)
            on_event(Progress(_STAGE, done, total))
    if export_motion is not None:
        recorder.write(Path(export_motion), avatar)
    camera = avatar.camera
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
) -> None:
    """Raise unless these, as `drive_avatar` takes them, go together and name files that are there.

    Raises:
        InputError: they do not.
    """
    if output is None and export_motion is None:
        raise InputError("no output came", "a video to write, or a file to export motion to", "add -o talking.mp4")
    if output is not None:
        check_output(Path(output))
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
    avatar: Avatar,
    pieces: Iterable[Motion],
    total: int,
    plate: np.ndarray,
    sound: AudioClip | SoundBlocks | None,
    output: Path,
    *,
    backend: str = "auto",
    on_event: Listener = silent,
) -> None:
    """Write the video of `avatar` doing `total` frames of motion over `plate` uint8 [H, W, 3] with `sound`.

    `pieces` are asked for one after the other, so that long motion need not lie in memory.
    """
    from avatarfit.rendering.renderer import renderer_of

    renderer = renderer_of(avatar, avatar.camera, backend)
    on_event(Started(_STAGE, total))
    writer = VideoWriter(output, avatar.camera.width_px, avatar.camera.height_px, avatar.frame_rate_hz, sound=sound)
    done = 0
    with VideoFile(writer) as sink:
        for motion in pieces:
            for index in range(len(motion)):
                picture = renderer.render_over(motion, index, plate)
                sink.write(picture)
                if done == total // 2:
                    on_event(Picture(_STAGE, done, "frame", picture))
                done += 1
                on_event(Progress(_STAGE, done, total))
