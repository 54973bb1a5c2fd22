"""Motion from files and into files, for driving: what a person names on the command line becomes a source of motion."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from avatarfit.contracts import InputError, Motion

if TYPE_CHECKING:
    from avatarfit.driving.motion_sources import StanceSource
    from avatarfit.model.avatar import Avatar

OWN_SOURCES = ("habits", "clip", "still")
"""Sources of motion that an avatar has in itself; any other is a file or folder."""

_WANTED = "a Live Link Face CSV, landmarks as .safetensors, or a clip folder"
_VIDEOS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")


def check_motion_file(path: Path) -> None:
    """Raise unless motion may be read from `path`, as far as its name tells.

    Raises:
        InputError: nothing there, a video that was not captured yet, or another kind of file.
    """
    path = _captured(path)
    if path.is_dir():
        if not (path / "tracks.safetensors").is_file():
            raise InputError(f"{path} is a folder without tracks.safetensors", _WANTED, "capture the clip first")
        return
    if path.suffix.lower() in _VIDEOS and path.is_file():
        raise InputError(
            f"{path} is a video, whose motion was not measured yet", _WANTED,
            f"run avatarfit capture {path} -o {path.with_suffix('.clip')} first",
        )  # fmt: skip
    if not path.is_file():
        raise InputError(f"there is no file or folder {path}", _WANTED, "check the name")
    if path.suffix.lower() not in (".csv", ".safetensors"):
        raise InputError(f"{path} does not end in .csv or .safetensors", _WANTED, "name it by its kind")


def _captured(path: Path) -> Path:
    """The clip folder beside a video, NAME.clip, if the video was captured into it; else `path` itself."""
    folder = path.with_suffix(".clip")
    return folder if path.suffix.lower() in _VIDEOS and (folder / "tracks.safetensors").is_file() else path


def check_motion_output(path: Path) -> None:
    """Raise unless motion may be written to `path`.

    Raises:
        InputError: a missing folder, a folder, or another suffix.
    """
    wanted = "the path of a .csv (Live Link Face) or .safetensors (landmarks) file in a folder that exists"
    if path.is_dir():
        raise InputError(f"the output {path} is a folder", wanted, "name a file in it, such as motion.csv")
    if not path.parent.is_dir():
        raise InputError(f"there is no folder {path.parent} for the output", wanted, "make the folder first")
    if path.suffix.lower() not in (".csv", ".safetensors"):
        raise InputError(f"the output {path} does not end in .csv or .safetensors", wanted, "add .csv to its name")


def recorded_motion(path: Path, avatar: Avatar) -> Motion:
    """A recording of anybody as this avatar would do it, from time 0, at its own frame rate.

    Raises:
        InputError, FileFormatError: there is none, or it is damaged.
    """
    from avatarfit.avatarfile.live_link import read_live_link
    from avatarfit.avatarfile.motion_file import read_landmark_motion
    from avatarfit.driving.motion_sources import Retargeting

    check_motion_file(path)
    path = _captured(path)
    if path.suffix.lower() == ".csv" and path.is_file():
        return Retargeting(avatar.rig, avatar.driver).from_take(read_live_link(path))
    theirs = read_landmark_motion(path / "tracks.safetensors" if path.is_dir() else path)
    return Retargeting(avatar.rig, avatar.driver).from_landmarks(theirs)


def stance_source(
    avatar: Avatar,
    pose: str | Path,
    expression: str | Path,
    seed: int,
    blink_rate: Callable[[np.ndarray], np.ndarray],
) -> StanceSource:
    """Where head and torso (`pose`), and eyes and brows (`expression`) come from.

    Args:
        pose, expression: one of `OWN_SOURCES`, or a file or folder of recorded motion.
        seed: of the habits.
        blink_rate: of the habits' blinks (`HabitSampler`).
    """
    from avatarfit.driving.motion_sources import Playback, PoseAndExpression, Still
    from avatarfit.model.habits import HabitSampler

    def source(name: str | Path) -> StanceSource:
        if name == "habits":
            return HabitSampler(avatar.driver.habits, seed, avatar.frame_rate_hz, blink_rate)
        if name == "still":
            return Still(avatar.driver.habits)
        if name == "clip":
            return Playback.of_clip(avatar.driver.habits, avatar.frame_rate_hz)
        return Playback.of(recorded_motion(Path(name), avatar), avatar.frame_rate_hz)

    first = source(pose)
    return first if str(pose) == str(expression) else PoseAndExpression(first, source(expression))


class Recorder:
    """Passes pieces of motion on and keeps them, 0.2 kB a frame, to `write` them when all are through."""

    def __init__(self, pieces: Iterable[Motion]) -> None:
        self._pieces, self._kept = pieces, list[Motion]()

    def __iter__(self) -> Iterator[Motion]:
        for piece in self._pieces:
            self._kept.append(piece)
            yield piece

    def write(self, path: Path, avatar: Avatar) -> None:
        """All that passed: `.csv` as Live Link Face writes it, `.safetensors` as landmarks.

        Raises:
            InputError: `path` cannot be written.
        """
        from avatarfit.avatarfile.live_link import write_live_link
        from avatarfit.avatarfile.motion_file import LandmarkMotion, write_landmark_motion
        from avatarfit.driving.blendshape_map import BlendshapeMap
        from avatarfit.driving.driver_stream import joined
        from avatarfit.driving.face_space import FaceSpace, PersonRest

        check_motion_output(path)
        motion = joined(self._kept)
        if path.suffix.lower() == ".csv":
            shapes = BlendshapeMap(FaceSpace.of(avatar.rig, avatar.driver), avatar.driver)
            write_live_link(path, shapes.take(motion.pts_seconds, motion.face, motion.head), avatar.frame_rate_hz)
            return
        write_landmark_motion(
            path,
            LandmarkMotion(
                motion.pts_seconds, avatar.rig.landmarks_cm(motion.face), motion.head.rotation_wxyz,
                motion.head.translation_cm, motion.torso.affine, PersonRest.of(avatar.rig, avatar.driver).landmarks_cm,
            ),
        )  # fmt: skip
