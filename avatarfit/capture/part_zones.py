"""Which parts of a person can be where in one picture, by its landmarks alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avatarfit.capture.face_points import CHIN, FACE_OVAL, FOREHEAD_TOP, JAW_LINE, OUTER_EYE_CORNERS

_SIDE_PX = 256
_SUBPIXEL_BITS = 4
_EARLOBE = 1  # of JAW_LINE: where the line leaves the jaw for the side
_RIM = 0.05
# Of the face's outline this share of the width, below this height over the eyes (in face heights), is face for sure.
_CORE = ((0.6, 0.12), (0.88, -0.12))
_NECK_LENGTH, _THROAT = 0.8, 0.7
_COLLAR = 0.3
_UNLIKELY = 24


def working_scale(height: int, width: int) -> float:
    """The scale at which pictures are parsed: 256 pixels on the longer side, or their own size if smaller."""
    return min(1.0, _SIDE_PX / max(height, width))


def fill_polygon(shape: tuple[int, ...], points_px: np.ndarray) -> np.ndarray:
    """uint8 [H, W], 1 inside the polygon [N, 2] (pixel centres at +0.5)."""
    import cv2

    out = np.zeros(shape, np.uint8)
    cv2.fillPoly(out, [_fixed(points_px)], (1,), shift=_SUBPIXEL_BITS)
    return out


def _fixed(points_px: np.ndarray) -> np.ndarray:
    """int32 [N, 2]: pixel indices as OpenCV's polygons want them."""
    inside = np.minimum(np.maximum(points_px, -1e4), 1e4)
    return np.asarray(np.rint((inside - 0.5) * 2**_SUBPIXEL_BITS), np.int32)


@dataclass(frozen=True)
class _Outlines:
    """Polygons [N, 2] and lengths of a face; see `Zones` for what lies inside of them."""

    above: np.ndarray
    over_chin: np.ndarray
    over_collar: np.ndarray
    oval: np.ndarray
    core: tuple[np.ndarray, ...]
    neck: np.ndarray
    throat: np.ndarray
    across: np.ndarray
    up: np.ndarray
    face_height: float

    @classmethod
    def of(cls, landmarks_px: np.ndarray, shape: tuple[int, ...]) -> _Outlines:
        points = landmarks_px[:, :2].astype(np.float64)
        across, up = face_axes(points)
        far = 3.0 * max(shape)
        chin = points[CHIN]
        rise = chin - points[FOREHEAD_TOP]
        face_height = float(np.sqrt(rise[0] * rise[0] + rise[1] * rise[1]))
        # Hair falls over temples and cheeks: only the inner part of the outline is face for sure.
        oval = points[FACE_OVAL]
        aside = (oval - oval.sum(axis=0) / len(oval)) @ across
        left_eye, right_eye = (points[k] for k in OUTER_EYE_CORNERS)
        over_eyes = (oval - (left_eye + right_eye) / 2) @ up
        core = tuple(
            oval
            - ((1 - width) * aside)[:, None] * across
            - np.maximum(over_eyes - level * face_height, 0)[:, None] * up
            for width, level in _CORE
        )
        left, right = points[JAW_LINE[2]], points[JAW_LINE[-3]]
        end = -_NECK_LENGTH * face_height * up
        neck = np.array([left, right, right + end, left + end])
        middle = (left + right + end) / 2
        return cls(
            head_polygon(points, shape),
            _half_plane(chin, across, up, far),
            _half_plane(chin - _COLLAR * face_height * up, across, up, far),
            oval,
            core,
            neck,
            middle + _THROAT * (neck - middle),
            across,
            up,
            face_height,
        )


@dataclass(frozen=True)
class Zones:
    """Attributes: bool [h, w].

    above: above the jaw line, which is carried sideways at the height of the earlobes.
    oval: inside the face's outline.
    core: face whatever its colour (beard, glasses, open mouth): inside the face's outline, below the brows.
    crown: above the forehead, where hair grows if there is any.
    neck: below the jaw and not wider than it.
    under_jaw: a band along the jaw, with which a neck hangs together.
    """

    above: np.ndarray
    oval: np.ndarray
    core: np.ndarray
    crown: np.ndarray
    neck: np.ndarray
    under_jaw: np.ndarray

    @classmethod
    def of(cls, landmarks_px: np.ndarray, shape: tuple[int, ...]) -> Zones:
        """The zones of a picture of `shape` from its landmarks [478, 2+]."""
        import cv2

        lines = _Outlines.of(landmarks_px, shape)
        across, up, far = lines.across, lines.up, 3.0 * max(shape)
        points = landmarks_px[:, :2].astype(np.float64)
        above = fill_polygon(shape, lines.above) > 0
        core = np.zeros(shape, bool)
        for polygon in lines.core:
            core |= fill_polygon(shape, polygon) > 0
        core &= above
        chin, top, jaw = points[CHIN], points[FOREHEAD_TOP], points[JAW_LINE]
        crown = fill_polygon(shape, _half_plane(top + 0.1 * lines.face_height * up, across, up, far)) > 0
        face_width = float(np.ptp((jaw - chin) @ across))
        crown &= fill_polygon(shape, _stripe(top, across, up, 0.35 * face_width, far)) > 0
        band = np.zeros(shape, np.uint8)
        line = np.round((jaw[3:-3] - 0.5) * 2**_SUBPIXEL_BITS).astype(np.int32)
        thickness = max(3, int(face_width / 10))
        cv2.polylines(band, [line], False, (1,), thickness=thickness, shift=_SUBPIXEL_BITS)
        neck = (fill_polygon(shape, lines.neck) > 0) & ~above
        return cls(above, fill_polygon(shape, lines.oval) > 0, core, crown & ~core, neck, band > 0)


def bans(landmarks_px: np.ndarray, shape: tuple[int, ...], amount: int) -> np.ndarray:
    """uint8 [h, w, 4]: what to take off the scores of face, hair, neck and torso, by the landmarks [478, 2+].

    Face must be above the jaw line and torso below it; hair is not on the face's core, neck only below the jaw. Below
    that line, but not below the chin, is a rim of cheek, an earlobe, hair or a raised shoulder: face there is unlikely.
    Down to a little below the chin, beside the neck, is hair, if there is any so low, rather than clothes. Over the
    throat hair rarely hangs.
    """
    import cv2

    lines = _Outlines.of(landmarks_px, shape)
    above = _fixed(lines.above)

    def painted(ground: int, *fills: tuple[np.ndarray, int]) -> np.ndarray:
        # Later fills cover earlier ones.
        out = np.full(shape, ground, np.uint8)
        for polygon, value in fills:
            cv2.fillPoly(out, [polygon], (value,), shift=_SUBPIXEL_BITS)
        return out

    neck = _fixed(lines.neck)
    return np.asarray(
        cv2.merge(
            [
                painted(amount, (_fixed(lines.over_chin), _UNLIKELY), (above, 0)),
                painted(0, (_fixed(lines.throat), _UNLIKELY), (above, 0), *((_fixed(c), amount) for c in lines.core)),
                painted(amount, (neck, 0), (above, amount)),
                painted(0, (_fixed(lines.over_collar), _UNLIKELY // 2), (neck, 0), (above, amount)),
            ]
        )
    )


def face_axes(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors [2] along the face's own horizontal and upwards."""
    across = points[OUTER_EYE_CORNERS[1]] - points[OUTER_EYE_CORNERS[0]]
    across = across / (np.sqrt(across[0] * across[0] + across[1] * across[1]) + 1e-9)
    return across, np.array([across[1], -across[0]])


def head_polygon(landmarks_px: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """[N, 2]: everything above the jaw line, which is carried sideways along the face's own horizontal."""
    points = landmarks_px[:, :2].astype(np.float64)
    across, up = face_axes(points)
    far = 3.0 * max(shape)
    jaw = points[JAW_LINE][_EARLOBE:-_EARLOBE]
    # The landmarks run just inside the cheeks' outline; the rim belongs to the head. Under the chin they are exact.
    aside = (jaw - points[CHIN]) @ across
    jaw = jaw + _RIM * aside[:, None] * across
    left, right = jaw[0] - across * far, jaw[-1] + across * far
    return np.concatenate([[left], jaw, [right], [right + up * far], [left + up * far]])


def _half_plane(point: np.ndarray, across: np.ndarray, up: np.ndarray, far: float) -> np.ndarray:
    left, right = point - across * far, point + across * far
    return np.array([left, right, right + up * far, left + up * far])


def _stripe(point: np.ndarray, across: np.ndarray, up: np.ndarray, half_px: float, far: float) -> np.ndarray:
    left, right = point - across * half_px, point + across * half_px
    return np.array([left - up * far, right - up * far, right + up * far, left + up * far])
