"""Which source pictures are kept: no padded duplicates, one face, the same one throughout."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avatarfit.capture.face_mesh import Detection, face_size_px
from avatarfit.capture.source_view import SourceView
from avatarfit.contracts import FaceError

_DUPLICATE_RATIO = 0.2
_DUPLICATE_LEVELS = 0.1
_NEIGHBOURS = 3
_CUT_RATIO, _CUT_LEVELS = 4.0, 4.0
_CUT_OVER_NEIGHBOURS = 2.0
_STILL_LEVELS, _STILL_SHARE = 0.02, 0.95
_MARK_SECONDS, _MARK_SIZES = 1.0, 0.7


def near_duplicates(difference: np.ndarray) -> np.ndarray:
    """Pictures that only repeat the one before: bool [T].

    A repeat differs from its forerunner by coding noise only, and stands out: far below its neighbours' differences.
    A person who sits still has small differences over many pictures, and those stay.

    Args:
        difference: float [T], mean absolute luma difference to the picture before, 8-bit levels; [0] is ignored.
    """
    repeated = np.zeros(len(difference), bool)
    for t in range(1, len(difference)):
        around = [
            difference[k]
            for k in range(max(1, t - _NEIGHBOURS), min(len(difference), t + _NEIGHBOURS + 1))
            if k != t and not repeated[k]
        ]
        if len(around) >= 2:
            stands_out = difference[t] < _DUPLICATE_RATIO * np.median(around) and difference[t] < 0.5 * min(around)
            repeated[t] = stands_out and difference[t] < max(_DUPLICATE_LEVELS, 0.1 * float(np.median(around)))
    return repeated


def shows_one_picture(difference: np.ndarray) -> bool:
    """Whether a clip is a still picture: nearly all its pictures equal the one before to the last coding error.

    Args:
        difference: as for `near_duplicates`.
    """
    return len(difference) > 1 and float(np.mean(difference[1:] < _STILL_LEVELS)) > _STILL_SHARE


def longest_gap(missing: np.ndarray, pts_seconds: np.ndarray) -> tuple[float, float]:
    """Times of the first and last picture of the longest run of `missing` [T], bool; one at least must be."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], missing, [False]]).astype(int)))
    starts, ends = edges[::2], edges[1::2] - 1
    longest = int(np.argmax(pts_seconds[ends] - pts_seconds[starts]))
    return float(pts_seconds[starts[longest]]), float(pts_seconds[ends[longest]])


def cuts(difference: np.ndarray) -> np.ndarray:
    """Pictures that do not go on from the one before: bool [T]; a splice, a change of shot.

    Args:
        difference: as for `near_duplicates`.
    """
    found = np.zeros(len(difference), bool)
    for t in range(1, len(difference)):
        around = np.delete(difference[max(1, t - 6) : t + 7], min(t - 1, 6))
        found[t] = len(around) > 3 and difference[t] > max(_CUT_RATIO * float(np.median(around)), _CUT_LEVELS)
    return found


def new_shots(difference: np.ndarray) -> np.ndarray:
    """Pictures that begin a new shot, int: `cuts` among which those are left that the pictures around cannot explain.

    A chain of image motion is broken at a quick movement, too; a person should only be told of real cuts.

    Args:
        difference: as for `near_duplicates`.
    """
    found = []
    for k in np.flatnonzero(cuts(difference)).tolist():
        around = np.delete(difference[max(1, k - 2) : k + 3], min(k - 1, 2))
        if difference[k] > _CUT_OVER_NEIGHBOURS * around.max():
            found.append(k)
    return np.array(found, np.int64)


@dataclass(frozen=True)
class FaceMark:
    """Where the person to keep was seen: the time, the landmarks' mean and the face's size, pixels."""

    seconds: float
    x_px: float
    y_px: float
    size_px: float

    @staticmethod
    def of(seconds: float, landmarks_px: np.ndarray) -> FaceMark:
        """The mark of a face, landmarks [478, 3]."""
        x, y = landmarks_px[:, :2].mean(axis=0)
        return FaceMark(float(seconds), float(x), float(y), face_size_px(landmarks_px))

    def within(self, view: SourceView) -> FaceMark:
        """The same place in the view's working picture."""
        x, y = view.to_working(np.array([self.x_px, self.y_px]))
        return FaceMark(self.seconds, float(x), float(y), self.size_px * float(view.scale.mean()))


@dataclass
class _Track:
    frames: list[int]
    indices: list[int]
    center: np.ndarray
    size: float
    total: float


def choose_face(
    detections: list[list[Detection]], pts_seconds: np.ndarray | None = None, mark: FaceMark | None = None
) -> tuple[np.ndarray, int]:
    """The face to keep in every picture.

    Faces are linked from picture to picture by nearness; the track with the largest sum of face sizes wins, so the
    larger and steadier face is kept even where another one is found first. Tracks of one face broken by a cut or a lost
    picture are joined where the winner has none. With a mark, the track that passes it wins instead.

    Args:
        detections: per picture, the faces found.
        pts_seconds: float [T], their times; needed for a mark.
        mark: where the wanted person was seen.

    Returns:
        int [T] index into each picture's faces (-1 where the person is not there), and the number of pictures in which
        another face of at least half the size was seen too.

    Raises:
        FaceError: no face passes the mark.
    """
    tracks: list[_Track] = []
    for t, faces in enumerate(detections):
        free = list(range(len(faces)))
        for track in sorted(tracks, key=lambda k: -k.size):
            if not free or t - track.frames[-1] > 50:
                continue
            centers = [faces[i].landmarks_px[:, :2].mean(axis=0) for i in free]
            nearest = int(np.argmin([np.linalg.norm(c - track.center) for c in centers]))
            size = face_size_px(faces[free[nearest]].landmarks_px)
            if np.linalg.norm(centers[nearest] - track.center) < 0.6 * track.size and 0.6 < size / track.size < 1.67:
                track.frames.append(t)
                track.indices.append(free[nearest])
                track.center, track.size, track.total = centers[nearest], size, track.total + size
                free.pop(nearest)
        for i in free:
            points = faces[i].landmarks_px
            size = face_size_px(points)
            if size > 0:
                tracks.append(_Track([t], [i], points[:, :2].mean(axis=0), size, size))
    chosen = np.full(len(detections), -1)
    if not tracks:
        return chosen, 0
    if mark is None or pts_seconds is None:
        best = max(tracks, key=lambda k: k.total)
    else:
        best = _passing(tracks, detections, pts_seconds, mark)
    chosen[best.frames] = best.indices
    mean_size = best.total / len(best.frames)
    for track in sorted(tracks, key=lambda k: -k.total):
        similar = 0.7 < track.total / len(track.frames) / mean_size < 1.4
        if track is not best and similar and (chosen[track.frames[0] : track.frames[-1] + 1] < 0).all():
            chosen[track.frames] = track.indices
    others = 0
    for t, faces in enumerate(detections):
        if chosen[t] >= 0 and len(faces) > 1:
            size = face_size_px(faces[chosen[t]].landmarks_px)
            others += any(face_size_px(f.landmarks_px) > 0.5 * size for i, f in enumerate(faces) if i != chosen[t])
    return chosen, others


def _passing(
    tracks: list[_Track], detections: list[list[Detection]], pts_seconds: np.ndarray, mark: FaceMark
) -> _Track:
    """The track nearest to the mark, in time and place; a tracker may lose or find a face a little earlier or later."""
    best, nearest = None, np.inf
    for track in tracks:
        for frame, index in zip(track.frames, track.indices, strict=True):
            late = abs(float(pts_seconds[frame]) - mark.seconds)
            if late > _MARK_SECONDS:
                continue
            seen = FaceMark.of(0.0, detections[frame][index].landmarks_px)
            away = float(np.hypot(seen.x_px - mark.x_px, seen.y_px - mark.y_px)) / mark.size_px
            if away < _MARK_SIZES and away + late < nearest:
                best, nearest = track, away + late
    if best is None:
        raise FaceError(
            f"the face seen at {mark.seconds:.2f} s was lost when the clip was gone through",
            "a face that stays in view", "leave --face out, or cut the clip to where the person is in view",
        )  # fmt: skip
    return best


def links(kept: np.ndarray, repeated: np.ndarray, cut: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How kept pictures follow each other.

    Args:
        kept: int [K], rising source indices.
        repeated: bool [T], `near_duplicates`.
        cut: bool [T], `cuts`.

    Returns:
        linked bool [K]: kept picture k + 1 follows k with nothing but repeats and no cut between them; and int [K],
        the source picture whose image motion leads to k + 1 (k itself, or the last repeat of it).
    """
    linked = np.zeros(len(kept), bool)
    source = kept.copy()
    for k in range(len(kept) - 1):
        between = np.arange(kept[k] + 1, kept[k + 1])
        linked[k] = repeated[between].all() and not cut[kept[k] + 1 : kept[k + 1] + 1].any()
        source[k] = kept[k + 1] - 1
    return linked, source
