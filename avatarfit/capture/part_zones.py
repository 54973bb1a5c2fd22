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
    fixed = np.round((np.clip(points_px, -1e4, 1e4) - 0.5) * 2**_SUBPIXEL_BITS).astype(np.int32)
    cv2.fillPoly(out, [fixed], (1,), shift=_SUBPIXEL_BITS)
    return out


@dataclass(frozen=True)
class Zones:
    """Attributes: bool [h, w].

    above: above the jaw line, which is carried sideways at the height of the earlobes.
    beside: below that line, but not below the chin: a rim of cheek, an earlobe, hair, a raised shoulder.
    collar: down to a little below the chin, beside the neck: hair, if there is any so low, rather than clothes.
    oval: inside the face's outline.
    core: face whatever its colour (beard, glasses, open mouth): inside the face's outline, below the brows.
    crown: above the forehead, where hair grows if there is any.
    neck: below the jaw and not wider than it.
    throat: the middle of that, where hair rarely hangs.
    under_jaw: a band along the jaw, with which a neck hangs together.
    """

    above: np.ndarray
    beside: np.ndarray
    collar: np.ndarray
    oval: np.ndarray
    core: np.ndarray
    crown: np.ndarray
    neck: np.ndarray
    throat: np.ndarray
    under_jaw: np.ndarray

    @classmethod
    def of(cls, landmarks_px: np.ndarray, shape: tuple[int, ...]) -> Zones:
        """The zones of a picture of `shape` from its landmarks [478, 2+]."""
        import cv2

        points = landmarks_px[:, :2].astype(np.float64)
        across, up = face_axes(points)
        far = 3.0 * max(shape)
        chin, top = points[CHIN], points[FOREHEAD_TOP]
        face_height = float(np.linalg.norm(chin - top))
        jaw = points[JAW_LINE]
        above = fill_polygon(shape, head_polygon(points, shape)) > 0
        over_chin = fill_polygon(shape, _half_plane(chin, across, up, far)) > 0
        over_collar = fill_polygon(shape, _half_plane(chin - _COLLAR * face_height * up, across, up, far)) > 0
        # Hair falls over temples and cheeks: only the inner part of the outline is face for sure.
        oval = points[FACE_OVAL]
        middle = oval.mean(axis=0)
        aside = (oval - middle) @ across
        eyes = points[[*OUTER_EYE_CORNERS]].mean(axis=0)
        core = np.zeros(shape, bool)
        for width, level in _CORE:
            inner = oval - (1 - width) * aside[:, None] * across
            below = _half_plane(eyes + level * face_height * up, across, -up, far)
            core |= (fill_polygon(shape, inner) & fill_polygon(shape, below)) > 0
        core &= above
        crown = fill_polygon(shape, _half_plane(top + 0.1 * face_height * up, across, up, far)) > 0
        face_width = float(np.ptp((jaw - chin) @ across))
        crown &= fill_polygon(shape, _stripe(top, across, up, 0.35 * face_width, far)) > 0
        sides = jaw[2], jaw[-3]
        end = -_NECK_LENGTH * face_height * up
        neck_quad = np.array([sides[0], sides[1], sides[1] + end, sides[0] + end])
        neck = (fill_polygon(shape, neck_quad) > 0) & ~above
        centre = (sides[0] + sides[1]) / 2
        throat_quad = centre + _THROAT * (neck_quad - neck_quad.mean(axis=0)) + (neck_quad.mean(axis=0) - centre)
        throat = (fill_polygon(shape, throat_quad) > 0) & neck
        band = np.zeros(shape, np.uint8)
        line = np.round((jaw[3:-3] - 0.5) * 2**_SUBPIXEL_BITS).astype(np.int32)
        thickness = max(3, int(face_width / 10))
        cv2.polylines(band, [line], False, (1,), thickness=thickness, shift=_SUBPIXEL_BITS)
        outline = fill_polygon(shape, oval) > 0
        return cls(
            above,
            ~above & over_chin,
            ~above & over_collar & ~neck,
            outline,
            core,
            crown & ~core,
            neck,
            throat,
            band > 0,
        )

    def bans(self, amount: int) -> np.ndarray:
        """uint8 [h, w, 4]: what to take off the scores of face, hair, neck and torso."""
        import cv2

        face, hair, neck, torso = (np.zeros(self.above.shape, np.uint8) for _ in range(4))
        face[~self.above], torso[self.above] = amount, amount
        face[self.beside], torso[self.collar] = _UNLIKELY, _UNLIKELY // 2
        hair[self.throat], hair[self.core] = _UNLIKELY, amount
        neck[~self.neck] = amount
        return np.asarray(cv2.merge([face, hair, neck, torso]))


def face_axes(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors [2] along the face's own horizontal and upwards."""
    across = points[OUTER_EYE_CORNERS[1]] - points[OUTER_EYE_CORNERS[0]]
    across = across / (np.linalg.norm(across) + 1e-9)
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
