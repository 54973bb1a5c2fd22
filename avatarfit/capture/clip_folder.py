"""The clip folder: what capture leaves behind, and how the rest reads it. The format is told in data/README.md."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from avatarfit.capture.source_view import SourceView, read_working_at
from avatarfit.contracts import (
    AudioClip,
    Camera,
    FaceMotion,
    FileFormatError,
    HeadPose,
    InputError,
    Motion,
    SoundError,
    TorsoMotion,
    VideoFrame,
)
from avatarfit.contracts.motion import LANDMARK_COUNT
from avatarfit.model.rig import Rig
from avatarfit.model.torso_modes import TorsoModes

FORMAT, VERSION = "avatarfit.clip", 3
MANIFEST, TRACKS, PERSON, LABELS = "clip.json", "tracks.safetensors", "person.mkv", "labels.mkv"
PLATE, PLATE_SEEN = "plate.png", "plate_seen.png"

BACKGROUND, FACE, NECK, TORSO, MOUTH_INTERIOR, HAIR = range(6)
"""The values of `labels.mkv`."""
HEAD = (FACE, MOUTH_INTERIOR, HAIR)
"""The labels that make up the head."""

_TRACK_SHAPES: dict[str, tuple[int | None, ...]] = {
    "pts_seconds": (),
    "landmarks_px": (LANDMARK_COUNT, 3),
    "landmarks_cm": (LANDMARK_COUNT, 3),
    "head_rotation_wxyz": (4,),
    "head_translation_cm": (3,),
    "torso_affine": (2, 3),
    "torso_shape": (None,),
    "mouth": (None,),
    "upper": (None,),
    "eyes": (6,),
    "blendshapes": (None,),
}


def train_count_of(count: int) -> int:
    """How many of `count` kept pictures come before the held-out last eleventh."""
    return count - count // 11


class ClipFolder:
    """A captured clip; `len` is the number of kept frames.

    Attributes:
        path: the folder.
        manifest: the contents of clip.json.
        camera: pinhole at the working size, which pictures, masks and plate have.
        view: the part of the source's pictures that they show.
        frame_rate_hz: rate of the kept frames.
        pts_seconds: float64 [T].
        landmarks_px: float32 [T, 478, 3], freed from the error that all landmarks of a picture share.
        landmarks_cm: float32 [T, 478, 3], head frame.
    """

    def __init__(self, path: Path, manifest: dict[str, Any], tracks: dict[str, np.ndarray]) -> None:
        self.path, self.manifest, self._tracks = path, manifest, tracks
        self.camera = Camera(**manifest["camera"])
        self.view = SourceView.of_manifest(manifest)
        self.frame_rate_hz = float(manifest["source"]["frame_rate_hz"])
        self.pts_seconds = tracks["pts_seconds"]
        self.landmarks_px = tracks["landmarks_px"]
        self.landmarks_cm = tracks["landmarks_cm"]

    @classmethod
    def open(cls, path: Path | str) -> ClipFolder:
        """The clip folder at `path`.

        Raises:
            InputError: no clip folder is there, or its capture did not finish.
            FileFormatError: it is damaged or of another version.
        """
        path = Path(path)
        if not (path / MANIFEST).is_file():
            raise InputError(
                f"{path} holds no {MANIFEST}", "a finished clip folder", "run capture on the clip to make one"
            )
        manifest = _read_manifest(path / MANIFEST)
        return cls(path, manifest, _read_tracks(path / TRACKS, len(manifest["frames"])))

    def __len__(self) -> int:
        return len(self.pts_seconds)

    @property
    def train_count(self) -> int:
        """Frames before the held-out last eleventh."""
        return train_count_of(len(self))

    @property
    def content_hash(self) -> str:
        """Changes whenever the clip, the way it was captured, or a result changes."""
        stages = {name: record["key"] for name, record in self.manifest["stages"].items()}
        parts = [self.manifest["source"]["sha256"], stages]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @property
    def source(self) -> Path:
        """The clip this folder was captured from."""
        return Path(self.manifest["source"]["path"])

    def motion(self) -> Motion:
        """All that moves, over the kept frames."""
        t = self._tracks
        return Motion(
            self.pts_seconds,
            FaceMotion(t["mouth"], t["upper"], t["eyes"]),
            HeadPose(t["head_rotation_wxyz"], t["head_translation_cm"]),
            TorsoMotion(t["torso_affine"], t["torso_shape"]),
        )

    def rig(self) -> Rig:
        """The person's rig, fitted on the training frames."""
        return Rig.from_tensors(self._part("rig."))

    def torso_modes(self) -> TorsoModes:
        """What `motion().torso.shape` speaks of."""
        return TorsoModes.from_tensors(self._part("torso_modes."))

    def _part(self, prefix: str) -> dict[str, np.ndarray]:
        return {k.removeprefix(prefix): v for k, v in self._tracks.items() if k.startswith(prefix)}

    def blendshapes(self) -> tuple[tuple[str, ...], np.ndarray]:
        """ARKit's names and their values over the kept frames, float32 [T, P] in 0..1; names not given are not known.

        Raises:
            FileFormatError: the manifest names more or fewer than there are.
        """
        names, values = tuple(self.manifest["blendshapes"]["names"]), self._tracks["blendshapes"]
        if len(names) != values.shape[1]:
            raise FileFormatError(
                f"{self.path} names {len(names)} blendshapes and holds {values.shape[1]}", "a name for each",
                "capture the clip again",
            )  # fmt: skip
        return names, values

    def plate(self) -> np.ndarray:
        """The background without the person, uint8 [H, W, 3]."""
        return _read_picture(self.path / PLATE, color=True)

    def plate_seen(self) -> np.ndarray:
        """bool [H, W]: where the background was really seen; the rest of the plate is made up."""
        return _read_picture(self.path / PLATE_SEEN, color=False) > 127

    def audio(self) -> AudioClip:
        """The clip's sound, mono, at its own rate, moved by `audio_shift_seconds` where capture was asked to.

        Where it begins after the pictures or ends before them, there is silence.

        Raises:
            SoundError: the clip has none.
        """
        from avatarfit.media import covering, read_audio

        self.check_source()
        if self.manifest["source"]["audio"] is None:
            raise SoundError(f"{self.source} has no sound", "a clip with speech", "record the clip with sound")
        sound = read_audio(self.source)
        start = sound.start_seconds - self.manifest.get("audio_shift_seconds", 0.0)
        moved = AudioClip(sound.samples, sound.sample_rate_hz, start)
        return covering(moved, 0.0, float(self.pts_seconds[-1]) + 1 / self.frame_rate_hz)

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[VideoFrame]:
        """The kept pictures from `start` to before `stop`, decoded from the source, cropped and brought to size.

        Raises:
            InputError: the source is gone or was changed.
        """
        from avatarfit.media import ahead

        stop = len(self) if stop is None else min(stop, len(self))
        if start >= stop:
            return
        self.check_source()
        yield from ahead(read_working_at(self.source, self.view, self.pts_seconds[start:stop]))

    def frames_at(self, indices: Sequence[int]) -> Iterator[VideoFrame]:
        """The kept pictures of rising indices; those between cost only their decoding.

        Raises:
            InputError: the source is gone or was changed.
        """
        self.check_source()
        return read_working_at(self.source, self.view, self.pts_seconds[list(indices)])

    def masks(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(person alpha, labels), both uint8 [H, W], of the kept frames from `start` to before `stop`."""
        from avatarfit.media import read_gray_video

        stop = len(self) if stop is None else min(stop, len(self))
        if start >= stop:
            return
        at = start / self.frame_rate_hz
        pairs = zip(
            read_gray_video(self.path / PERSON, at), read_gray_video(self.path / LABELS, at), strict=True
        )  # fmt: skip
        count = 0
        for count, pair in enumerate(pairs, start=1):
            yield pair
            if count == stop - start:
                return
        raise FileFormatError(
            f"{self.path / PERSON} ends after {start + count} pictures", f"{len(self)} pictures",
            "capture the clip again",
        )  # fmt: skip

    def check_source(self) -> None:
        """Raise unless the clip this folder was captured from is at its place, as it was.

        Raises:
            InputError: it is gone or was changed.
        """
        if not self.source.is_file():
            raise InputError(
                f"{self.source}, from which {self.path} was captured, is not there",
                "the clip at its place",
                "put the clip back, or capture it again from its new place",
            )
        size = self.source.stat().st_size
        if size != self.manifest["source"]["size_bytes"]:
            raise InputError(
                f"{self.source} has {size} bytes and had {self.manifest['source']['size_bytes']} when it was captured",
                "the unchanged clip",
                "capture it again",
            )


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_text())
    except (ValueError, OSError) as cause:
        raise FileFormatError(f"{path} cannot be read ({cause})", "JSON", "capture the clip again") from cause
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise FileFormatError(f"{path} is no clip manifest", f'format "{FORMAT}"', "name a folder that capture made")
    if manifest.get("version") != VERSION:
        raise FileFormatError(
            f"{path} has version {manifest.get('version')}", f"version {VERSION}", "capture the clip again"
        )
    wanted = {"source", "view", "camera", "landmarks", "blendshapes", "stages", "frames", "rejects"}
    if not wanted <= manifest.keys():
        missing = ", ".join(sorted(wanted - manifest.keys()))
        raise FileFormatError(f"{path} lacks {missing}", "a whole clip manifest", "capture the clip again")
    return manifest


def _read_tracks(path: Path, count: int) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError

    from avatarfit.capture.stages import load_tensors

    try:
        tracks = load_tensors(path)
    except (OSError, ValueError, SafetensorError) as cause:
        raise FileFormatError(
            f"{path} cannot be read ({cause})", "a safetensors file", "capture the clip again"
        ) from cause
    for name, tail in _TRACK_SHAPES.items():
        if name not in tracks:
            raise FileFormatError(f"{path} lacks {name}", "every track", "capture the clip again")
        shape = tracks[name].shape
        fits = len(shape) == 1 + len(tail) and all(w is None or w == g for w, g in zip(tail, shape[1:], strict=True))
        if not fits or shape[0] != count:
            raise FileFormatError(
                f"{path} holds {name} of shape {list(shape)}", f"{[count, *tail]}", "capture the clip again"
            )
    return tracks


def _read_picture(path: Path, color: bool) -> np.ndarray:
    import cv2

    data = np.fromfile(path, np.uint8) if path.is_file() else np.zeros(0, np.uint8)
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR if color else cv2.IMREAD_GRAYSCALE) if len(data) else None
    if picture is None:
        raise FileFormatError(f"{path} is missing or no picture", "a PNG", "capture the clip again")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB) if color else picture
