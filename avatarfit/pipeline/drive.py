"""An avatar and a sound become a talking video."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from avatarfit.compositing import Background, parse_background
from avatarfit.contracts import AudioClip, InputError, Motion
from avatarfit.contracts.events import Finished, Listener, Picture, Progress, Started, silent
from avatarfit.media import SoundBlocks, VideoWriter, sound_blocks
from avatarfit.output import VideoFile

if TYPE_CHECKING:
    from avatarfit.model.avatar import Avatar

_STAGE = "drive"


@dataclass(frozen=True)
class DriveReport:
    """What was made.

    Attributes:
        path: the video.
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
    sound_path: str | Path,
    output: str | Path,
    *,
    seed: int = 0,
    head_motion: float = 1.0,
    lip_strength: float | None = None,
    lle_strength: float | None = None,
    background: str | Background = "clip",
    backend: str = "auto",
    on_event: Listener = silent,
) -> DriveReport:
    """Write the video of `avatar` speaking `sound_path` at the avatar's own frame rate and size, with the sound in it.

    Rendering and encoding overlap: the encoder has its own thread and a bounded queue. The file appears when whole.

    Args:
        avatar: who speaks.
        sound_path: any sound file, or a video whose sound is taken.
        output: .mp4, .mov or .mkv.
        seed: of the head's motion, blinks and gaze; the same seed gives the same video.
        head_motion: size of head and torso motion, 0 to 1; 0 holds them still.
        lip_strength: size of the mouth's motion, 0 to 2; None: the driver's own choice.
        lle_strength: how far the mouth is pulled to shapes the person has shown, 0 to 1; None: the driver's own choice.
        background: what stands behind: "clip" for the clip's own, a colour such as "green" or "#00b140", or a picture.
        backend: of the renderer.

    Raises:
        SoundError: the sound cannot be read.
        InputError: the output cannot be written, or the background is none.
    """
    from avatarfit.driving import DriveOptions, DriverStream, drive_chunks

    output = Path(output)
    check_output(output)
    behind = parse_background(background) if isinstance(background, str) else background
    plate = behind.at(avatar.plate)
    sound = driving_sound(sound_path)
    began = time.perf_counter()
    asked: dict[str, Any] = {
        "seed": seed,
        "head_motion": head_motion,
        "lip_strength": lip_strength,
        "lle_strength": lle_strength,
    }
    options = DriveOptions(**{name: value for name, value in asked.items() if value is not None})
    stream = DriverStream(avatar.driver, avatar.rig, sound.sample_rate_hz, avatar.frame_rate_hz, options)
    total = max(round(sound.duration_seconds * avatar.frame_rate_hz), 1)
    pieces = _Timed(drive_chunks(stream, sound))
    render_motion(avatar, pieces, total, plate, sound, output, backend=backend, on_event=on_event)
    camera = avatar.camera
    report = DriveReport(
        output, total, avatar.frame_rate_hz, camera.width_px, camera.height_px, sound.duration_seconds,
        round(pieces.seconds, 3), round(time.perf_counter() - began - pieces.seconds, 3),
    )  # fmt: skip
    on_event(
        Finished(_STAGE, report.motion_seconds + report.picture_seconds, {"frames_per_s": report.frames_per_second})
    )
    return report


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
    from avatarfit.rendering.gaussian_renderer import GaussianRenderer

    renderer = GaussianRenderer(avatar.gaussians, avatar.camera, backend=backend)
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
