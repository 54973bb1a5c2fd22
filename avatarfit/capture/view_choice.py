"""Choosing the working picture and the person in it, by a quick look at pictures spread over the clip."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from avatarfit.capture.face_mesh import Detection, face_size_px
from avatarfit.capture.frame_selection import FaceMark, choose_face
from avatarfit.capture.source_view import SourceView
from avatarfit.contracts import FaceError, InputError
from avatarfit.media import MediaInfo, read_pictures_at

LARGEST_DEFAULT_PX = 1024
SMALLEST_PX, LARGEST_PX = 128, 2048
Size = int | Literal["source"] | None
"""The working picture's longer side, "source" for the source's own size, None for the default."""

_LOOKS = 24
_LOOKED_AT_PX = 1280
_FACES = 6
_TILE_STEP = 0.5
_SAVES = 0.8
_SAME_RATE = 0.002
# In heights of the face, which the mesh has from hairline to chin: hair above it, shoulders beside and below.
_ABOVE, _BESIDE, _BELOW = 0.75, 1.05, 1.15


@dataclass(frozen=True)
class ViewChoice:
    """What was chosen.

    Attributes:
        view: crop, size and rate.
        face: where the person was seen; None where nobody looked.
        notes: sentences that say what was chosen and why.
    """

    view: SourceView
    face: FaceMark | None = None
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """For `from_json`."""
        face = None if self.face is None else asdict(self.face)
        return {"view": self.view.to_json(), "face": face, "notes": list(self.notes)}

    @staticmethod
    def from_json(values: dict[str, Any]) -> ViewChoice:
        """What `to_json` told."""
        face = None if values["face"] is None else FaceMark(**values["face"])
        return ViewChoice(SourceView.from_json(values["view"]), face, tuple(values["notes"]))


@dataclass(frozen=True)
class Glance:
    """One picture that was looked at: its time, and the faces' landmarks float32 [478, 3], upright source pixels."""

    seconds: float
    faces: list[np.ndarray]


def needs_look(info: MediaInfo, size: Size, face: int | None) -> bool:
    """Whether the choice depends on what the pictures show."""
    longer = max(info.width_px, info.height_px)
    return face is not None or (size is None and longer > LARGEST_DEFAULT_PX) or isinstance(size, int)


def choose_view(
    clip: Path, info: MediaInfo, size: Size = None, frame_rate_hz: float | None = None, face: int | None = None
) -> ViewChoice:
    """The working picture of a clip.

    Args:
        clip: the source.
        info: its outline.
        size: the longer side. By default a source of up to 1024 px is taken as it is; of a larger one, a square about
            head and shoulders, brought to at most 1024 px. A given number takes that square too where it is much
            smaller than the source. "source" takes everything as it is.
        frame_rate_hz: drop pictures evenly down to this rate.
        face: the person, counted from the left in the first picture looked at that shows them all.

    Raises:
        InputError: a size or rate that cannot be had.
        FaceError: no face where one is looked for, or fewer than `face`.
    """
    check_choice(info, size, frame_rate_hz, face)
    all_taken = frame_rate_hz is None or frame_rate_hz > info.frame_rate_hz * (1 - _SAME_RATE)
    rate = None if all_taken else frame_rate_hz
    notes = []
    if rate is not None:
        notes.append(f"{rate:.6g} of {info.frame_rate_hz:.6g} pictures a second are taken, the others dropped evenly")
    view, mark = SourceView.whole(info.width_px, info.height_px), None
    if needs_look(info, size, face):
        glances = look_over(clip, info, every_corner=face is not None)
        mark, boxes, told = person_of(glances, face, clip.name)
        notes += told
        if size != "source" and (size is not None or max(info.width_px, info.height_px) > LARGEST_DEFAULT_PX):
            view, told_view = _view_about(boxes, info, size)
            notes.append(told_view)
    return ViewChoice(SourceView(**view.to_json() | {"frame_rate_hz": rate}), mark, tuple(notes))


def check_choice(info: MediaInfo, size: Size, frame_rate_hz: float | None, face: int | None) -> None:
    """Raise unless `choose_view` can take these of such a clip, as far as its outline tells.

    Raises:
        InputError: a size, rate or face that cannot be had.
    """
    if isinstance(size, int) and not SMALLEST_PX <= size <= LARGEST_PX:
        raise InputError(
            f"--size came as {size}", f"{SMALLEST_PX} to {LARGEST_PX} pixels, or source", "choose such as 512"
        )
    if face is not None and not 1 <= face <= _FACES:
        raise InputError(f"--face came as {face}", f"1 to {_FACES}", "count the faces from the left")
    if frame_rate_hz is not None and not frame_rate_hz >= 1:
        raise InputError(f"--fps came as {frame_rate_hz:g}", "a number from 1 to the clip's own", "choose such as 25")
    if frame_rate_hz is not None and frame_rate_hz > info.frame_rate_hz * (1 + _SAME_RATE):
        raise InputError(
            f"--fps came as {frame_rate_hz:g} and {info.path.name} has {info.frame_rate_hz:.6g} pictures a second",
            "that or less, since no pictures are made up", "leave --fps out to take every picture",
        )  # fmt: skip


def look_over(clip: Path, info: MediaInfo, every_corner: bool = False) -> list[Glance]:
    """Faces in pictures spread over the clip.

    Args:
        clip, info: the source and its outline.
        every_corner: look at overlapping squares of each picture as well, in which small faces are larger; without it
            only where the whole picture shows none.
    """
    from avatarfit.capture.native_logs import quiet_native_stderr

    scale = min(1.0, _LOOKED_AT_PX / max(info.width_px, info.height_px))
    size = (max(1, round(info.width_px * scale)), max(1, round(info.height_px * scale)))
    to_source = np.array([info.width_px / size[0], info.height_px / size[1], info.width_px / size[0]], np.float32)
    times = np.linspace(0, max(info.duration_seconds - 1 / info.frame_rate_hz, 0), _LOOKS)
    glances = []
    with ExitStack() as closing:
        closing.enter_context(quiet_native_stderr())  # before mediapipe loads, which decides then what it says
        import mediapipe as mp

        network = closing.enter_context(mp.solutions.face_mesh.FaceMesh(static_image_mode=True, max_num_faces=_FACES))
        for frame in read_pictures_at(clip, times.tolist(), size):
            tiles = _tiles(*size)
            faces = _faces_in(network, frame.rgb, tiles[:1])
            if every_corner or not faces:
                faces = _faces_in(network, frame.rgb, tiles)
            glances.append(Glance(frame.pts_seconds, [f * to_source for f in faces]))
    return glances


def _tiles(width: int, height: int) -> list[tuple[int, int, int, int]]:
    """The whole picture, then overlapping squares along its longer side."""
    side, longer = min(width, height), max(width, height)
    count = 1 + int(np.ceil((longer / side - 1) / _TILE_STEP))
    starts = np.linspace(0, longer - side, count).astype(int).tolist() if count > 1 else []
    return [(0, 0, width, height)] + [(s, 0, side, side) if width > height else (0, s, side, side) for s in starts]


def _faces_in(network: Any, rgb: np.ndarray, tiles: list[tuple[int, int, int, int]]) -> list[np.ndarray]:
    found: list[np.ndarray] = []
    for x, y, width, height in tiles:
        answer = network.process(np.ascontiguousarray(rgb[y : y + height, x : x + width]))
        for face in answer.multi_face_landmarks or []:
            points = np.array([(p.x, p.y, p.z) for p in face.landmark], np.float32) * (width, height, width)
            points[:, :2] += (x, y)
            middle = points[:, :2].mean(axis=0)
            if all(np.linalg.norm(middle - f[:, :2].mean(axis=0)) > 0.5 * face_size_px(f) for f in found):
                found.append(points.astype(np.float32))
    return found


def person_of(glances: list[Glance], face: int | None, name: str) -> tuple[FaceMark, np.ndarray, list[str]]:
    """The person to keep: the one asked for, else the larger and steadier face.

    Returns:
        where they are seen first, the box [n, 4] (left, top, right, bottom) of their face wherever they were seen, and
        sentences to tell.

    Raises:
        FaceError: no face, or fewer than `face`.
    """
    most = max((len(g.faces) for g in glances), default=0)
    if not most:
        raise FaceError(
            f"no face was found in any of the {len(glances)} pictures of {name} that were looked at",
            "a clip that shows one face", "use a clip in which the face is larger and turned to the camera",
        )  # fmt: skip
    told: list[str] = []
    mark = None
    if face is not None:
        if not 1 <= face <= most:
            seen = "one face is" if most == 1 else f"{most} faces are"
            raise FaceError(
                f"--face came as {face} and at most {seen} seen at once in {name}", f"1 to {most}",
                "count the faces from the left",
            )  # fmt: skip
        glance = next(g for g in glances if len(g.faces) == most)
        chosen_face = sorted(glance.faces, key=lambda f: float(f[:, 0].mean()))[face - 1]
        mark = FaceMark.of(glance.seconds, chosen_face)
        told.append(f"face {face} of {most}, counted from the left at {glance.seconds:.2f} s, is kept")
    still = np.full((1, 2), np.nan, np.float32)
    detections = [[Detection(f, still) for f in g.faces] for g in glances]
    chosen, others = choose_face(detections, np.array([g.seconds for g in glances]), mark)
    faces = [(g.seconds, g.faces[c]) for g, c in zip(glances, chosen, strict=True) if c >= 0]
    if others and face is None:
        told.append(f"up to {most} faces are seen; the larger and steadier one is kept, --face chooses another")
    points = np.stack([f[:, :2] for _, f in faces])
    boxes = np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1)
    return mark or FaceMark.of(*faces[0]), boxes, told


def _view_about(boxes: np.ndarray, info: MediaInfo, size: Size) -> tuple[SourceView, str]:
    crop = head_and_shoulders(boxes, info.width_px, info.height_px, size if isinstance(size, int) else 0)
    longer, picture = max(crop[2:]), f"{info.width_px}x{info.height_px}"
    cropped = longer <= _SAVES * max(info.width_px, info.height_px)
    if not cropped:
        crop, longer = (0, 0, info.width_px, info.height_px), max(info.width_px, info.height_px)
        asked = isinstance(size, int) and size > _SAVES * longer
        why = "it is hardly larger than was asked for" if asked else "head and shoulders nearly fill it"
        what = f"the whole {picture} picture is taken, for {why}"
    else:
        spread = boxes[:, 2:].max(axis=0) - boxes[:, :2].min(axis=0)
        what = (
            f"of the {picture} picture, {crop[2]}x{crop[3]} px at ({crop[0]}, {crop[1]}) are taken: head and "
            f"shoulders, with room for a face that moves within {spread[0]:.0f}x{spread[1]:.0f} px"
        )
    target = size if isinstance(size, int) else min(longer, LARGEST_DEFAULT_PX)
    width, height = (_scaled(side, target / longer) for side in crop[2:])
    if width > crop[2]:
        what += f"; enlarged to {width}x{height}, as asked, which adds no detail"
    elif width < crop[2]:
        what += f"; scaled to {width}x{height}"
    view = SourceView(crop[0], crop[1], crop[2], crop[3], width, height)
    return view, what + ("; --size source keeps all of it" if cropped else "")


def _scaled(side: int, scale: float) -> int:
    """Even, unless nothing changes."""
    return side if scale == 1 else max(2, 2 * round(side * scale / 2))


def head_and_shoulders(boxes: np.ndarray, width_px: int, height_px: int, at_least_px: int = 0) -> tuple[int, ...]:
    """x, y, width, height of a square, as far as the picture holds one, that shows head and shoulders throughout.

    Args:
        boxes: float [n, 4], the face's left, top, right, bottom in pictures spread over the clip.
        width_px, height_px: the picture.
        at_least_px: smallest side.

    Returns:
        even width and height (or the picture's own), inside the picture.
    """
    left, top = boxes[:, :2].min(axis=0)
    right, bottom = boxes[:, 2:].max(axis=0)
    face = float(np.median(boxes[:, 3] - boxes[:, 1]))
    side = max(bottom - top + (_ABOVE + _BELOW) * face, right - left + 2 * _BESIDE * face, at_least_px)
    even = 2 * int(np.ceil(side / 2))
    width, height = (even if even < whole else whole for whole in (width_px, height_px))
    x = int(np.clip((left + right - width) / 2, 0, width_px - width)) // 2 * 2
    spare = height - (bottom - top + (_ABOVE + _BELOW) * face)
    y = int(np.clip(top - _ABOVE * face - spare / 3, 0, height_px - height)) // 2 * 2
    return x, y, width, height
