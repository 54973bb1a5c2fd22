"""A look at some of a clip's pictures: light on the face, sharpness, cuts, and the few pictures that a report shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from avatarfit.capture.clip_folder import HEAD, LABELS, ClipFolder
from avatarfit.capture.face_points import BARE_SKIN, OUTER_EYE_CORNERS
from avatarfit.capture.part_zones import fill_polygon
from avatarfit.contracts import FileFormatError
from avatarfit.media import read_gray_video

SAMPLES = 120
"""So many pictures at the most are judged for light and sharpness, evenly spread: enough for a percentile."""
_EDGE_SAMPLES = 40
_EYES_PX = 96
"""Sharpness is judged with the outer eye corners this far apart, so that a large picture need not be sharp in every
pixel; a smaller one is judged as it is."""
_BLUR_TAPS = 9


@dataclass
class PictureMeasures:
    """What the pictures of a clip looked like, at S evenly spread kept pictures.

    Attributes:
        sampled: int [S], kept pictures that were judged.
        skin_luma: float [S], median luma of cheeks and forehead, 0..255.
        blur: float [S] in 0..1, of the face; see `blur_of`.
        head_cut: float [E], share of the head's own width that lies on the picture's top, left or right edge; of E
            evenly spread pictures.
        cut_frames: kept pictures that begin a new shot.
        shown: the pictures to show, uint8 [H, W, 3], by index.
        masks: their person alpha and labels, uint8 [H, W] each.
    """

    sampled: np.ndarray
    skin_luma: np.ndarray
    blur: np.ndarray
    head_cut: np.ndarray
    cut_frames: list[int] = field(default_factory=list)
    shown: dict[int, np.ndarray] = field(default_factory=dict)
    masks: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)


def measure_pictures(
    clip: ClipFolder, show: list[int], reduce: Callable[[int, np.ndarray], np.ndarray], step: Callable[[int], None]
) -> PictureMeasures:
    """Looks at some of the kept pictures; holds one of them at a time, and small ones of those to show.

    Args:
        show: kept pictures to keep, each as `reduce(index, rgb)`.
        reduce: makes a picture small enough to be kept.
        step: told how many pictures are done.

    Raises:
        InputError: the source is gone or was changed.
        FileFormatError: the folder is from a time when cuts were not written down.
    """
    if "cuts" not in clip.manifest:
        raise FileFormatError(f"{clip.path} does not tell of cuts", "a folder of today's", "capture the clip again")
    count = len(clip)
    sampled = np.unique(np.linspace(0, count - 1, min(count, SAMPLES)).round().astype(int))
    judged, wanted = set(sampled.tolist()), set(show)
    luma, blur, shown = [], [], {}
    looked_at = sorted(judged | wanted)
    for index, frame in zip(looked_at, clip.frames_at(looked_at), strict=True):
        if index in judged:
            luma.append(skin_luma(frame.rgb, clip.landmarks_px[index]))
            blur.append(blur_of(face_gray(frame.rgb, clip.landmarks_px[index])))
        if index in wanted:
            shown[index] = reduce(index, frame.rgb)
        step(index + 1)
    edges = np.unique(np.linspace(0, count - 1, min(count, _EDGE_SAMPLES)).round().astype(int))
    return PictureMeasures(
        sampled, np.array(luma), np.array(blur), np.array([head_cut_share(_labels(clip, k)) for k in edges.tolist()]),
        clip.manifest["cuts"], shown, {k: next(clip.masks(k, k + 1)) for k in sorted(wanted)},
    )  # fmt: skip


def _labels(clip: ClipFolder, index: int) -> np.ndarray:
    """A kept picture's labels alone: opening and decoding the person's mask, too, would cost as much again."""
    return next(read_gray_video(clip.path / LABELS, index / clip.frame_rate_hz))


def skin_luma(rgb: np.ndarray, landmarks_px: np.ndarray) -> float:
    """Median luma (BT.709 weights on the coded values) of cheeks and forehead; NaN where none is in the picture."""
    skin = np.zeros(rgb.shape[:2], np.uint8)
    for polygon in BARE_SKIN:
        skin |= fill_polygon(skin.shape, landmarks_px[polygon, :2])
    pixels = rgb[skin > 0].astype(np.float32)
    return float(np.median(pixels @ np.array([0.2126, 0.7152, 0.0722], np.float32))) if len(pixels) else float("nan")


def face_gray(rgb: np.ndarray, landmarks_px: np.ndarray) -> np.ndarray:
    """The face's bounding box, uint8 [h, w], reduced until the outer eye corners are `_EYES_PX` apart."""
    import cv2

    points = landmarks_px[:468, :2]
    height, width = rgb.shape[:2]
    low = np.clip(points.min(axis=0), 0, [width - 2, height - 2]).astype(int)
    high = np.clip(np.ceil(points.max(axis=0)), low + 2, [width, height]).astype(int)
    gray = cv2.cvtColor(rgb[low[1] : high[1], low[0] : high[0]], cv2.COLOR_RGB2GRAY)
    apart = float(np.linalg.norm(np.subtract(*landmarks_px[list(OUTER_EYE_CORNERS), :2])))
    scale = min(1.0, _EYES_PX / max(apart, 1.0))
    size = (max(2, round(gray.shape[1] * scale)), max(2, round(gray.shape[0] * scale)))
    return cv2.resize(gray, size, interpolation=cv2.INTER_AREA) if scale < 1 else gray


def blur_of(gray: np.ndarray) -> float:
    """How blurred a picture is, 0 sharp to 1: what a further blur no longer takes from its fine changes.

    The blur effect of Crete et al., "The blur effect: perception and estimation with a new no-reference perceptual
    blur metric" (SPIE 6492, 2007): the larger of both directions.
    """
    import cv2

    picture = gray.astype(np.float32)
    worst = 0.0
    for axis, taps in ((0, (1, _BLUR_TAPS)), (1, (_BLUR_TAPS, 1))):
        blurred = cv2.blur(picture, taps, borderType=cv2.BORDER_REPLICATE)
        change = np.abs(np.diff(picture, axis=axis))
        lost = np.maximum(change - np.abs(np.diff(blurred, axis=axis)), 0)
        total = float(change.sum())
        worst = max(worst, 1 - float(lost.sum()) / total if total > 0 else 1.0)
    return worst


def head_cut_share(labels: np.ndarray) -> float:
    """Length of the picture's top, left and right edges that the head lies on, in widths of the head."""
    head = np.isin(labels, HEAD)
    columns = np.flatnonzero(head.any(axis=0))
    if not len(columns):
        return 0.0
    on_edge = int(head[0].sum() + head[:, 0].sum() + head[:, -1].sum())
    return on_edge / float(columns[-1] - columns[0] + 1)
