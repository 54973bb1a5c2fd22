"""How a picture's pixels came from the picture before: by the head's and the body's own maps, and by what the picture
says beyond them.

The two affine maps are precise where they hold; but a head that turns carries its hair along a different way than its
face, a jaw drops, and loose hair swings. Dense optical flow (Kroeger et al. 2016) at a small size sees that, though a
little unsteadily. So of its difference from the maps the small part is taken for noise and the large part for true.
"""

from __future__ import annotations

import functools

import numpy as np

from avatarfit.capture.picture_maps import (
    between_maps,
    interpolated,
    inverse_map,
    pixel_positions,
    resized_map,
    shrunk,
    small_size,
)

_SIDE_PX = 128
_NOISE_PX_AT_512 = 1.5
_AROUND = 5
_CUT = 0.5  # of the picture's own deviation
_NO_MAP = np.empty(0, np.float32)


class Motion:
    """Where a picture's pixels lay in the former one.

    Args:
        shift: float32 [h, w, 2], how far to the right of and below a pixel of a small copy its origin lies in the
            former picture's small copy, in the copy's pixels.
    """

    def __init__(self, shift: np.ndarray) -> None:
        self._shift = shift
        self._origins: dict[tuple[int, int], np.ndarray] = {}

    @staticmethod
    def of_maps(head: np.ndarray, body: np.ndarray, seam_px: float, size: tuple[int, int]) -> Motion:
        """The motion by maps [2, 3] from the former picture of `size` (width, height) alone: the head's above the row
        `seam_px`, the body's from it on."""
        small = small_size(size, _SIDE_PX)
        return Motion(_shift_of_maps(head, body, seam_px, size, small))

    def moved(self, former: np.ndarray) -> np.ndarray:
        """The former picture [H, W] or [H, W, C], uint8 and of any size, as it would be now."""
        import cv2

        size = former.shape[1], former.shape[0]
        if size not in self._origins:
            height, width = self._shift.shape[:2]
            shift = cv2.resize(self._shift, size, interpolation=cv2.INTER_LINEAR)
            if size[0] * height == size[1] * width:
                self._origins[size] = cv2.scaleAdd(shift, size[0] / width, _grid(size))
            else:
                self._origins[size] = shift * np.array([size[0] / width, size[1] / height], np.float32) + _grid(size)
        return np.asarray(
            cv2.remap(former, self._origins[size], _NO_MAP, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        )

    def origins(self, rows: np.ndarray, columns: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Where pixels, int [P], of this picture of `size` (width, height) lay: x and y, float32 [P], as indices."""
        height, width = self._shift.shape[:2]
        x, y = pixel_positions(size[0], width)[columns], pixel_positions(size[1], height)[rows]
        shift = interpolated(self._shift, x, y)
        scale_x, scale_y = np.float32(size[0] / width), np.float32(size[1] / height)
        return columns.astype(np.float32) + scale_x * shift[:, 0], rows.astype(np.float32) + scale_y * shift[:, 1]


class MotionFinder:
    """Finds the motion of pictures in time order."""

    def __init__(self) -> None:
        import cv2

        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._former: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    def next(self, gray: np.ndarray, head: np.ndarray, body: np.ndarray, seam_px: float) -> Motion | None:
        """How the former picture's pixels came to this one; None for the first, and after a cut.

        Args:
            gray: uint8 [H, W].
            head, body: [2, 3], maps of pixel indices to this picture from one that is the same for all.
            seam_px: the row from which on the body's map holds.
        """
        import cv2

        size = gray.shape[1], gray.shape[0]
        small = shrunk(gray, small_size(size, _SIDE_PX))
        before, self._former = self._former, (small, head, body)
        if before is None:
            return None
        former, was_head, was_body = before
        by_maps = _shift_of_maps(
            between_maps(was_head, head), between_maps(was_body, body), seam_px, size, small.shape[::-1]
        )
        beyond = self._flow.calc(small, former, np.empty(0, np.float32)) - by_maps
        across, down = cv2.split(beyond)
        power = cv2.blur(across * across + down * down, (_AROUND, _AROUND))
        share = power / (power + np.float32((_NOISE_PX_AT_512 * max(small.shape) / 512) ** 2))
        motion = Motion(cv2.add(by_maps, cv2.multiply(beyond, cv2.merge([share, share]))))
        unlike = cv2.absdiff(small, motion.moved(former)).mean()
        return None if unlike > _CUT * small.std() else motion


def _shift_of_maps(
    head: np.ndarray, body: np.ndarray, seam_px: float, size: tuple[int, int], small: tuple[int, ...]
) -> np.ndarray:
    import cv2

    width, height = small
    row = min(max(round(seam_px * height / size[1]), 0), height)
    grid = _grid((width, height))
    out = np.empty_like(grid)
    for affine, part in ((head, slice(0, row)), (body, slice(row, height))):
        if part.start < part.stop:
            back = resized_map(inverse_map(affine), size, (width, height))
            back[:, :2] -= np.eye(2)
            cv2.transform(grid[part], back.astype(np.float32), dst=out[part])
    return out


@functools.lru_cache(maxsize=8)
def _grid(size: tuple[int, int]) -> np.ndarray:
    """float32 [h, w, 2]: every pixel's own indices, x first."""
    return np.stack(np.meshgrid(np.arange(size[0]), np.arange(size[1])), axis=2).astype(np.float32)
