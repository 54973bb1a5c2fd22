"""The footage's pictures with a new mouth: what is drawn, where it is blended in, and what stays."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from avatarfit.capture.clip_folder import PERSON
from avatarfit.compositing.dub_blend import blended, changed, colour_match, uncovered
from avatarfit.compositing.dub_region import JAW_EDGE, DubRegion
from avatarfit.contracts import Camera, InputError, Motion
from avatarfit.media import read_gray_video, read_video
from avatarfit.pipeline.dub_footage import Footage

if TYPE_CHECKING:
    from avatarfit.model.avatar import Avatar
    from avatarfit.rendering.renderer import Renderer

_EASE_SECONDS = 0.16
"""Where the person turns away or back in the middle of a shot, the mouth passes over from and to the old one."""
_PIECE = 100
_SPREAD_CM = 0.5
"""Over which the footage's light is measured."""
_REACH_CM = 0.15
"""So far the footage's jaw may lie from where the avatar has it."""
_COVER_CM = 0.4
"""Over which the footage is compared with the avatar to find what stands before the face."""
_SAME_SECONDS = 1e-3


@dataclass(frozen=True)
class DubbedFrame:
    """One picture of the footage.

    Attributes:
        index, pts_seconds: which, and when, in the footage.
        original, picture: uint8 [H, W, 3], before and after; one array where the picture stays as it is.
        box: left, top, right, bottom of the part that was worked on; None where the picture stays.
        mask: float32 [bottom - top, right - left] of that part: where it is 0, both pictures are equal.
    """

    index: int
    pts_seconds: float
    original: np.ndarray
    picture: np.ndarray
    box: tuple[int, int, int, int] | None = None
    mask: np.ndarray | None = None


def dubbed_frames(
    avatar: Avatar, footage: Footage, mouth: np.ndarray, backend: str = "auto", *, part: range | None = None,
    matched: bool = True,
) -> Generator[DubbedFrame, None, None]:  # fmt: skip
    """Every picture of the footage, one after the other, with the new mouth where the person is seen.

    Args:
        mouth: float32 [N, M], the rig's coefficients at the footage's pictures.
        part: only these pictures; None for all.
        matched: False leaves the footage's light, and what stands before the face, out of it, for measuring.

    Raises:
        InputError: the footage is gone or was changed.
    """
    asked = range(len(footage)) if part is None else part
    if not asked:
        return
    own = footage.motion
    new = replace(own, face=replace(own.face, mouth=eased(own.face.mouth, mouth, footage)))
    poses = own.head.matrices()
    dubbed = ~footage.left
    jaws = (avatar.rig.landmarks_cm(new.face[dubbed])[:, JAW_EDGE], footage.landmarks_cm[dubbed][:, JAW_EDGE])
    region = DubRegion.of(avatar.rig.shape_cm, jaws)
    stretches = [range(max(s.start, asked.start), min(s.stop, asked.stop)) for s in footage.stretches()]
    pieces = [range(a, min(a + _PIECE, s.stop)) for s in stretches for a in range(s.start, s.stop, _PIECE)]
    behind = _Background(footage)
    draw: _Piece | None = None
    upcoming = iter([*pieces, range(asked.stop, asked.stop)])
    piece = next(upcoming)
    done = asked.start
    start = float(footage.pts_seconds[asked.start]) if asked.start else 0.0
    with closing(read_video(footage.clip.source, start)) as pictures:
        for index, frame in zip(asked, pictures, strict=False):
            if abs(frame.pts_seconds - footage.pts_seconds[index]) > _SAME_SECONDS:
                break
            done += 1
            if index >= piece.stop:
                piece, draw = next(upcoming), None
            if index not in piece:
                yield DubbedFrame(index, frame.pts_seconds, frame.rgb, frame.rgb)
                continue
            if draw is None:
                box = region.box(poses[piece.start : piece.stop], footage.camera)
                draw = _Piece(avatar, own, new, piece, box, footage.camera, backend)
            left, top, right, bottom = draw.box
            if right <= left or bottom <= top:
                yield DubbedFrame(index, frame.pts_seconds, frame.rgb, frame.rgb)
                continue
            old = np.ascontiguousarray(frame.rgb[top:bottom, left:right])
            may, must = region.masks(poses[index], draw.camera)
            drawn = draw.pictures(index, behind.at(index, old, draw.box))
            per_cm = draw.camera.focal_px / float(poses[index, 2, 3])
            mask = may * np.maximum(must, changed(*drawn, _REACH_CM * per_cm))
            fresh = drawn[1].astype(np.float32)
            if matched:
                mask *= uncovered(old, drawn[0], may, must, _COVER_CM * per_cm)
                fresh += colour_match(old, drawn[0], _SPREAD_CM * per_cm)
            picture = frame.rgb.copy()
            picture[top:bottom, left:right] = blended(old, fresh, mask)
            yield DubbedFrame(index, frame.pts_seconds, frame.rgb, picture, draw.box, mask)
    if done < asked.stop:
        raise InputError(
            f"{footage.clip.source} has no picture at {footage.pts_seconds[done]:.3f} s any more",
            "the footage that was captured", "remove the work folder and run again",
        )  # fmt: skip


class _Piece:
    """Draws the avatar in one part of the picture for some pictures in a row."""

    def __init__(
        self, avatar: Avatar, own: Motion, new: Motion, piece: range, box: tuple[int, int, int, int], camera: Camera,
        backend: str,
    ) -> None:  # fmt: skip
        from avatarfit.rendering.renderer import renderer_of

        left, top, right, bottom = box
        self.box, self._first = box, piece.start
        self.camera = Camera(
            max(right - left, 1), max(bottom - top, 1), camera.focal_px, camera.center_x_px - left,
            camera.center_y_px - top,
        )  # fmt: skip
        # A renderer keeps what it has prepared of one motion.
        self._drawn: list[tuple[Renderer, Motion]] = [
            (renderer_of(avatar, self.camera, backend), motion[piece.start : piece.stop]) for motion in (own, new)
        ]

    def pictures(self, index: int, background: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """uint8 [H, W, 3] with the footage's mouth, and with the new one."""
        own, new = (drawer.render_over(motion, index - self._first, background) for drawer, motion in self._drawn)
        return own, new


class _Background:
    """What stands behind the person in a part of the footage's pictures: the pictures themselves beside the person, and
    the clip folder's plate where the person is."""

    def __init__(self, footage: Footage) -> None:
        self._clip, self._row = footage.clip, footage.row
        self._plate = footage.clip.plate()
        self._alphas: Iterator[np.ndarray] | None = None
        self._at = -1
        self._alpha = np.zeros((1, 1), np.uint8)

    def at(self, index: int, part: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
        """uint8 [H, W, 3] for picture `index`, asked for in rising order, whose part in `box` is `part`."""
        row = int(self._row[index])
        if self._alphas is None or row < self._at:
            start = row / self._clip.frame_rate_hz
            self._alphas, self._at = read_gray_video(self._clip.path / PERSON, start), row - 1
        while self._at < row:
            self._alpha = next(self._alphas)
            self._at += 1
        plate, alpha = (self._in_box(picture, box, part.shape) for picture in (self._plate, self._alpha))
        weight = alpha.astype(np.float32)[:, :, None] / 255
        return np.asarray(np.rint(part + weight * (plate.astype(np.float32) - part)), np.float32).astype(np.uint8)

    def _in_box(self, picture: np.ndarray, box: tuple[int, int, int, int], shape: tuple[int, ...]) -> np.ndarray:
        """A working picture's part for a box of the source's picture; beyond its edge the edge goes on."""
        import cv2

        view, (left, top, _, _) = self._clip.view, box
        if np.allclose(view.scale, 1) and view.x_px == view.y_px == 0:
            return picture[top : top + shape[0], left : left + shape[1]]
        a, b = view.scale
        to_working = np.array(
            [[a, 0, a * (left + 0.5 - view.x_px) - 0.5], [0, b, b * (top + 0.5 - view.y_px) - 0.5]], np.float64
        )
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return np.asarray(
            cv2.warpAffine(picture, to_working, shape[1::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)
        )


def eased(own: np.ndarray, new: np.ndarray, footage: Footage) -> np.ndarray:
    """The new mouth [N, M], begun and ended with the footage's own where a stretch begins or ends within a shot."""
    out = new.astype(np.float32).copy()
    pts = footage.pts_seconds
    for part in footage.stretches():
        seconds = pts[part.start : part.stop]
        weight = np.ones(len(part))
        if part.start > 0 and not footage.cuts[part.start]:
            weight = np.minimum(weight, (seconds - pts[part.start - 1]) / _EASE_SECONDS)
        if part.stop < len(pts) and not footage.cuts[part.stop]:
            weight = np.minimum(weight, (pts[part.stop] - seconds) / _EASE_SECONDS)
        smooth = (weight * weight * (3 - 2 * weight))[:, None]
        mine = own[part.start : part.stop]
        out[part.start : part.stop] = mine + smooth * (new[part.start : part.stop] - mine)
    return out
