"""Head, neck, torso and mouth interior of one picture, from its landmarks and the person's alpha.

Head is the person above the jaw line, which is carried sideways at the height of the earlobes. Of what is below, the
neck is what has the skin's chromaticity and hangs together with the jaw; the torso is the rest. Hair that falls below
the earlobes counts as torso; what ends above the chin, such as a rim of skin beneath an ear, is no torso but head.
"""

from __future__ import annotations

import numpy as np

from avatarfit.capture.clip_folder import BACKGROUND, FACE, MOUTH_INTERIOR, NECK, TORSO
from avatarfit.capture.face_points import BARE_SKIN, CHIN, FOREHEAD_TOP, INNER_LIPS, JAW_LINE, OUTER_EYE_CORNERS

_BINS = 64
_SUBPIXEL_BITS = 4
_EARLOBE = 1  # of JAW_LINE: where the line leaves the jaw for the side
_RIM = 0.05


def fill_polygon(shape: tuple[int, ...], points_px: np.ndarray) -> np.ndarray:
    """uint8 [H, W], 1 inside the polygon [N, 2] (pixel centres at +0.5)."""
    import cv2

    out = np.zeros(shape, np.uint8)
    fixed = np.round((np.clip(points_px, -1e4, 1e4) - 0.5) * 2**_SUBPIXEL_BITS).astype(np.int32)
    cv2.fillPoly(out, [fixed], (1,), shift=_SUBPIXEL_BITS)
    return out


def head_polygon(landmarks_px: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """[N, 2]: everything above the jaw line, which is carried sideways along the face's own horizontal."""
    points = landmarks_px[:, :2].astype(np.float64)
    across = points[OUTER_EYE_CORNERS[1]] - points[OUTER_EYE_CORNERS[0]]
    across /= np.linalg.norm(across) + 1e-9
    up = np.array([across[1], -across[0]])
    far = 3.0 * max(shape)
    jaw = points[JAW_LINE][_EARLOBE:-_EARLOBE]
    # The landmarks run just inside the cheeks' outline; the rim belongs to the head. Under the chin they are exact.
    aside = (jaw - points[CHIN]) @ across
    jaw = jaw + _RIM * aside[:, None] * across
    left, right = jaw[0] - across * far, jaw[-1] + across * far
    return np.concatenate([[left], jaw, [right], [right + up * far], [left + up * far]])


class SkinColor:
    """How likely a chromaticity (r, g) = (R, G) / (R + G + B) is to be this person's skin; shading cancels out.

    Two histograms over the clip, smoothed: bare skin of the face, and the picture's lowest person pixels (clothes).
    """

    def __init__(self) -> None:
        self._skin = np.zeros((_BINS, _BINS))
        self._other = np.zeros((_BINS, _BINS))
        self._luma: list[float] = []

    @staticmethod
    def _bins(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        value = rgb.astype(np.float32)
        # Chromaticities of real surfaces crowd around 1/3; the bins span [0.1, 0.7].
        scale = np.float32(_BINS / 0.6) / (value[..., 0] + value[..., 1] + value[..., 2] + 3)
        red, green = ((value[..., k] + 1) * scale - _BINS / 6 for k in range(2))
        return np.clip(red, 0, _BINS - 1).astype(np.int32), np.clip(green, 0, _BINS - 1).astype(np.int32)

    def add(self, rgb: np.ndarray, landmarks_px: np.ndarray, person: np.ndarray) -> None:
        """Learns from one picture, uint8 [H, W, 3], its landmarks and person alpha uint8 [H, W]."""
        shape = rgb.shape[:2]
        skin = np.zeros(shape, np.uint8)
        for polygon in BARE_SKIN:
            skin |= fill_polygon(shape, landmarks_px[polygon, :2])
        pixels = rgb[skin > 0]
        if len(pixels):
            np.add.at(self._skin, self._bins(pixels), 1 / len(pixels))
            self._luma.append(float(np.median(pixels.mean(axis=1))))
        face_height = np.linalg.norm(landmarks_px[CHIN, :2] - landmarks_px[FOREHEAD_TOP, :2])
        low = int(landmarks_px[CHIN, 1] + 0.45 * face_height)
        if low < shape[0] - 2:
            clothes = rgb[low:][person[low:] > 230]
            if len(clothes):
                np.add.at(self._other, self._bins(clothes), 1 / len(clothes))

    def finish(self) -> None:
        """Turns the counts into the table that `likelihood` reads."""
        import cv2

        def smooth(histogram: np.ndarray) -> np.ndarray:
            total = histogram.sum()
            return cv2.GaussianBlur(histogram / total if total else histogram, (0, 0), 1.2)

        skin, other = smooth(self._skin), smooth(self._other)
        self._table = ((skin + 1e-7) / (skin + other + 2e-5)).astype(np.float32)
        self._dark = 0.18 * float(np.median(self._luma)) if self._luma else 0.0

    def likelihood(self, rgb: np.ndarray) -> np.ndarray:
        """float32 [H, W] in [0, 1]; what is much darker than the face has no chromaticity to speak of and gets 0."""
        value = self._table[self._bins(rgb)]
        luma = rgb[..., 0].astype(np.float32) + rgb[..., 1] + rgb[..., 2]
        return np.where(luma > 3 * self._dark, value, 0).astype(np.float32)


def neck_mask(rgb: np.ndarray, landmarks_px: np.ndarray, below_jaw: np.ndarray, skin: SkinColor) -> np.ndarray:
    """uint8 [H, W], 1 on skin below the jaw that hangs together with it.

    Args:
        rgb: uint8 [H, W, 3].
        landmarks_px: [478, 3].
        below_jaw: uint8 [H, W], person below the jaw line.
        skin: the clip's skin colour, finished.
    """
    import cv2

    height, width = below_jaw.shape
    jaw = landmarks_px[JAW_LINE, :2]
    face_width = float(np.ptp(jaw[:, 0]))
    # No neck is wider than the jaw; beyond its corners, skin-coloured things are hair.
    left = int(np.clip(jaw[2:-2, 0].min(), 0, width))
    right = int(np.clip(jaw[2:-2, 0].max(), 0, width))
    top = int(np.clip(jaw[:, 1].min(), 0, height))
    bottom = int(np.clip(jaw[:, 1].max() + 0.9 * face_width, 0, height))
    out = np.zeros((height, width), np.uint8)
    if right - left < 4 or bottom - top < 4:
        return out
    window = (slice(top, bottom), slice(left, right))
    likely = cv2.GaussianBlur(skin.likelihood(rgb[window]), (0, 0), max(1.0, face_width / 100))
    below = below_jaw[window] > 0
    found = ((likely > 0.5) & below).astype(np.uint8)
    side = max(3, int(face_width / 30)) | 1
    small = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    large = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * side + 1, 2 * side + 1))
    opened = np.asarray(cv2.morphologyEx(found, cv2.MORPH_OPEN, small), np.uint8)
    # Closed together with the face above, or the shadow under the chin would be a gap between the two.
    chin = fill_polygon((height, width), jaw)[window]
    closed = np.asarray(cv2.morphologyEx(opened | chin, cv2.MORPH_CLOSE, large), np.uint8)
    neck = ((closed > 0) & (chin == 0) & below).astype(np.uint8)
    # Keep what touches a band just under the jaw.
    band = np.zeros((height, width), np.uint8)
    line = np.round((jaw[3:-3] - 0.5) * 2**_SUBPIXEL_BITS).astype(np.int32)
    cv2.polylines(band, [line], False, (1,), thickness=max(3, int(face_width / 12)), shift=_SUBPIXEL_BITS)
    _, parts = cv2.connectedComponents(neck)
    touching = np.unique(parts[(band[window] > 0) & (neck > 0)])
    out[window] = np.isin(parts, touching[touching > 0])
    return out


def label_picture(rgb: np.ndarray, landmarks_px: np.ndarray, person: np.ndarray, skin: SkinColor) -> np.ndarray:
    """The labels of one picture: uint8 [H, W] of BACKGROUND, FACE, NECK, TORSO, MOUTH_INTERIOR.

    Args:
        rgb: uint8 [H, W, 3].
        landmarks_px: float [478, 3].
        person: uint8 [H, W], soft alpha; the person is where it is at least one half.
        skin: the clip's skin colour, finished.
    """
    shape = person.shape
    here = person >= 128
    above = fill_polygon(shape, head_polygon(landmarks_px, shape)) > 0
    labels = np.full(shape, BACKGROUND, np.uint8)
    labels[here] = TORSO
    below = (here & ~above).astype(np.uint8)
    labels[neck_mask(rgb, landmarks_px, below, skin) > 0] = NECK
    labels[here & above] = FACE
    labels[_ends_above(labels == TORSO, float(landmarks_px[CHIN, 1]))] = FACE
    labels[(fill_polygon(shape, landmarks_px[INNER_LIPS, :2]) > 0) & here] = MOUTH_INTERIOR
    return labels


def _ends_above(mask: np.ndarray, row_px: float) -> np.ndarray:
    """bool [H, W]: the connected parts of `mask` that lie wholly above a row."""
    import cv2

    _, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    bottom = stats[:, cv2.CC_STAT_TOP] + stats[:, cv2.CC_STAT_HEIGHT]
    return mask & (bottom < row_px)[parts]
