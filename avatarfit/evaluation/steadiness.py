"""What only moving pictures show: a torn neck, a trembling head, flickering skin."""

from __future__ import annotations

import numpy as np

from avatarfit.capture.clip_folder import HEAD, NECK, TORSO
from avatarfit.capture.face_points import EYES_AND_BROWS, OUTER_LIPS, RIGID
from avatarfit.capture.pose_measure import measure_pose
from avatarfit.contracts import Camera, HeadPose
from avatarfit.evaluation.composites import face_matte
from avatarfit.evaluation.face_figures import similarity_onto

SEAM_SHARE = 0.04
"""How far the neck's band reaches to both sides of the border, in sizes of the face."""
_FEWEST_SEAM_PX = 20


def luma(rgb: np.ndarray) -> np.ndarray:
    """float32 [H, W], levels of uint8 [H, W, 3]: BT.601's weights on the coded values, as OpenCV's."""
    import cv2

    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.float32)


def seam_band(labels: np.ndarray, face_size_px: float) -> np.ndarray:
    """bool [H, W]: within `SEAM_SHARE` of the face's size of both the head and the body (neck and torso).

    Args:
        labels: uint8 [H, W] of the clip folder.
        face_size_px: side of the square with the area of the landmarks' bounding box.
    """
    import cv2

    reach = max(1, round(SEAM_SHARE * face_size_px))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    head, body = (
        cv2.dilate(np.isin(labels, which).astype(np.uint8), disc) for which in (HEAD, (NECK, TORSO))
    )  # fmt: skip
    return np.asarray(head > 0) & np.asarray(body > 0)


def jaw_band(jaw_px: np.ndarray, face_size_px: float, width_px: int, height_px: int) -> np.ndarray:
    """bool [height, width]: within `SEAM_SHARE` of the face's size of the line along the jaw.

    It needs no labels, so pictures of which no true frame exists have it, too, and just as true frames do.

    Args:
        jaw_px: float [P, 2], from ear to ear, pixels.
        face_size_px: as in `seam_band`.
    """
    import cv2

    away = np.ones((height_px, width_px), np.uint8)
    line = np.round((jaw_px - 0.5) * 16).astype(np.int32)
    cv2.polylines(away, [line[:, None]], False, (0,), shift=4)
    return np.asarray(cv2.distanceTransform(away, cv2.DIST_L2, 5) <= SEAM_SHARE * face_size_px)


def neck_seam(truth: np.ndarray, render: np.ndarray, band: np.ndarray) -> float:
    """Gradient energy of the render over the truth's in the band: near 1 is best; above, an edge; below, a blur.

    Energy is the sum of squared central differences of the luma.

    Args:
        truth, render: uint8 [H, W, 3].
        band: bool [H, W].

    Returns:
        NaN where the band has fewer than 20 pixels, or nothing of the truth is seen to change in it.
    """
    before, after = seam_density(truth, band), seam_density(render, band)
    return after / before if before > 1e-6 else float("nan")


def seam_density(rgb: np.ndarray, band: np.ndarray) -> float:
    """Gradient energy of uint8 [H, W, 3] for each pixel of the band [H, W]; NaN where it has fewer than 20 pixels."""
    if band.sum() < _FEWEST_SEAM_PX:
        return float("nan")
    down, across = np.gradient(luma(rgb))
    return float((down**2 + across**2)[band].mean(dtype=np.float64))


class PoseJitter:
    """Difference of the rigid skin's motion in the pictures from the pose's prediction, from frame to frame.

    The features are those of `capture.pose_measure`: corners of rigid skin that the pose solve did not look at.

    Args:
        head: poses of all frames.
        shape_cm: float [478, 3], the mean landmarks in the head's frame.
        landmarks_px: float [T, 478, 2], for the face's size.
        camera: of the pictures.

    Attributes:
        px: one float a picture, pixels of a 512 px wide picture; NaN for the first of a stretch, and where too few
            features could be followed.
    """

    def __init__(self, head: HeadPose, shape_cm: np.ndarray, landmarks_px: np.ndarray, camera: Camera) -> None:
        self._head, self._camera = head, camera
        self._shape, self._landmarks = shape_cm[None], landmarks_px
        self._before: tuple[int, np.ndarray] | None = None
        self.px: list[float] = []

    def add(self, index: int, rgb: np.ndarray) -> None:
        """Look at frame `index`, uint8 [H, W, 3]; frames come in time order."""
        import cv2

        gray = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))
        value = float("nan")
        if self._before is not None and self._before[0] == index - 1:
            pair = [self._before[1], gray]
            found = measure_pose(
                lambda: pair, self._head[index - 1 : index + 1], self._shape, self._landmarks, self._camera, (1,)
            )
            value = found[0].rms_px if found else value
        self._before = (index, gray)
        self.px.append(value)


def root_mean_square(values: np.ndarray) -> float | None:
    """Of the finite values; None where there are none."""
    finite = values[np.isfinite(values)]
    return float(np.sqrt(np.mean(finite**2))) if len(finite) else None


class Flicker:
    """Second difference in time of the face's luma, its motion taken off.

    Attributes:
        levels: one float a picture, 8-bit levels, of the frame before it; NaN where three in a row are not there.
    """

    def __init__(self) -> None:
        self._last: list[tuple[int, np.ndarray, np.ndarray]] = []
        self.levels: list[float] = []

    def add(self, index: int, rgb: np.ndarray, landmarks_px: np.ndarray) -> None:
        """Look at frame `index`, uint8 [H, W, 3], with the clip's landmarks [478, 2] at its size."""
        self._last = [*self._last[-2:], (index, luma(rgb), landmarks_px)]
        in_a_row = len(self._last) == 3 and self._last[0][0] == index - 2 and self._last[1][0] == index - 1
        self.levels.append(self._middle() if in_a_row else float("nan"))

    def _middle(self) -> float:
        import cv2

        (_, _, first_px), (_, here, here_px), (_, _, last_px) = self._last
        height, width = here.shape
        brought = [
            # Pixel centres lie at whole numbers in OpenCV and at + 0.5 here.
            cv2.warpAffine(
                picture, similarity_onto(points[RIGID] - 0.5, here_px[RIGID] - 0.5), (width, height),
                flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE,
            )
            for (_, picture, _), points in ((self._last[0], first_px), (self._last[2], last_px))
        ]  # fmt: skip
        skin = face_matte(here_px, width, height) > 0.99
        skin &= ~_hulls(here_px, height, width)
        if not skin.any():
            return float("nan")
        return float(np.abs(brought[0] - 2 * here + brought[1])[skin].mean())


def _hulls(points_px: np.ndarray, height: int, width: int) -> np.ndarray:
    """bool [H, W]: mouth, eyes and brows, which move by themselves."""
    import cv2

    out = np.zeros((height, width), np.uint8)
    for indices in (OUTER_LIPS, EYES_AND_BROWS[:16], EYES_AND_BROWS[16:32], EYES_AND_BROWS[32:42], EYES_AND_BROWS[42:]):
        hull = cv2.convexHull(np.round(points_px[indices]).astype(np.int32))
        cv2.fillConvexPoly(out, hull, (1,))
    return np.asarray(cv2.dilate(out, np.ones((3, 3), np.uint8)) > 0)
