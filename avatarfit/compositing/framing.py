"""Where a person stands in a picture of any size, and the camera that sees them there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avatarfit.contracts import Camera, InputError

_LEAST_PX, _MOST_PX = 64, 4096
_MOST_PIXELS = 4096 * 2160
_SCALES = (0.1, 10.0)
_SEAM_SHARE = 0.02
"""A border of the clip so near to the picture's border counts as the same."""


@dataclass(frozen=True)
class Framing:
    """A picture's size, and how the clip's picture lies in it.

    At scale 1 the clip's picture is as high as this one, and in its middle. A larger scale enlarges about a point at
    two fifths of the height, where eyes are; a smaller one leaves the clip's lower border on this picture's, so that
    nobody floats.

    Attributes:
        width_px, height_px: 64 to 4096, together up to 4096 x 2160; None for the avatar's own size.
        scale: 0.1 to 10.
        right, down: how far the person is moved, in widths and heights of the picture.
        safe_area: the share of width and height, in the middle, that the head keeps within; None does not look. (EBU
            R 95 has 0.93 for action and 0.9 for graphics.)
    """

    width_px: int | None = None
    height_px: int | None = None
    scale: float = 1.0
    right: float = 0.0
    down: float = 0.0
    safe_area: float | None = None

    def __post_init__(self) -> None:
        given = [v for v in (self.width_px, self.height_px) if v is not None]
        if len(given) == 1:
            raise InputError("only one of width and height came", "both", "give a size such as 1920x1080")
        if given and not (
            all(_LEAST_PX <= v <= _MOST_PX for v in given) and given[0] * given[1] <= _MOST_PIXELS
        ):  # fmt: skip
            raise InputError(
                f"the size {self.width_px}x{self.height_px} came",
                f"sides of {_LEAST_PX} to {_MOST_PX} pixels, and no more pixels than 4096x2160 has",
                "choose another --size",
            )
        low, high = _SCALES
        if not low <= self.scale <= high:
            raise InputError(f"--scale came as {self.scale:g}", f"{low:g} to {high:g}", "choose a value in between")
        for name, value in (("right", self.right), ("down", self.down)):
            if not -1 <= value <= 1:
                raise InputError(
                    f"--position came with {value:g} to the {name}" if name == "right" else
                    f"--position came with {value:g} down", "-1 to 1, in sizes of the picture", "choose a smaller way",
                )  # fmt: skip
        if self.safe_area is not None and not 0.3 <= self.safe_area <= 1:
            raise InputError(
                f"--safe-area came as {self.safe_area:g}", "0.3 to 1, a share of the picture", "0.9 is usual"
            )

    def camera(self, own: Camera) -> Camera:
        """The camera that renders the person at the picture's size and place; nothing is resampled.

        Args:
            own: the avatar's camera.
        """
        width, height = self.width_px or own.width_px, self.height_px or own.height_px
        if (width, height, self.scale, self.right, self.down) == (own.width_px, own.height_px, 1.0, 0.0, 0.0):
            return own
        enlarged = height / own.height_px * self.scale
        held = 0.4 if self.scale > 1 else 1.0
        left = (width - enlarged * own.width_px) / 2 + self.right * width
        top = held * (height - enlarged * own.height_px) + self.down * height
        return Camera(
            width, height, own.focal_px * enlarged, own.center_x_px * enlarged + left,
            own.center_y_px * enlarged + top,
        )  # fmt: skip


def placement(own: Camera, camera: Camera) -> np.ndarray:
    """float64 [2, 3]: where pixels of the avatar's own camera lie in another camera's picture; centres are at + 0.5."""
    scale = camera.focal_px / own.focal_px
    return np.array(
        [
            [scale, 0.0, camera.center_x_px - scale * own.center_x_px],
            [0.0, scale, camera.center_y_px - scale * own.center_y_px],
        ]
    )


def placed(picture: np.ndarray, own: Camera, camera: Camera) -> np.ndarray:
    """A picture [H, W, ...] of the avatar's own camera as the other camera has it; beyond its border it is mirrored."""
    import cv2

    if camera == own:
        return picture
    matrix = placement(own, camera)
    scale = matrix[0, 0]
    if scale < 1:
        # What is made smaller is blurred first, or fine texture would alias.
        picture = cv2.GaussianBlur(picture, (0, 0), max(0.5 * (1 / scale - 1), 0.01))
    matrix[:, 2] += 0.5 * scale - 0.5  # OpenCV has pixel centres at whole numbers
    return cv2.warpAffine(
        picture, matrix, (camera.width_px, camera.height_px), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
    )


def beyond_clip(own: Camera, camera: Camera) -> dict[str, float]:
    """By how much, in shares of the picture, it reaches past the clip's borders; only borders that it does pass."""
    matrix = placement(own, camera)
    scale = matrix[0, 0]
    past = {
        "left": matrix[0, 2] / camera.width_px,
        "right": 1 - (matrix[0, 2] + scale * own.width_px) / camera.width_px,
        "top": matrix[1, 2] / camera.height_px,
        "bottom": 1 - (matrix[1, 2] + scale * own.height_px) / camera.height_px,
    }
    return {side: float(share) for side, share in past.items() if share > _SEAM_SHARE}


def kept_safe(camera: Camera, box: tuple[float, float, float, float], safe_area: float) -> tuple[Camera, bool]:
    """The camera moved, and where that is not enough zoomed out, so that `box` lies within the safe area.

    Args:
        box: left, top, right, bottom in pixels of `camera`.
        safe_area: share of width and height, in the middle.

    Returns:
        the camera, and whether it is another one.
    """
    sides = np.array([camera.width_px, camera.height_px], np.float64)
    low, high = np.array(box[:2]), np.array(box[2:])
    room = safe_area * sides
    scale = min(float((room / np.maximum(high - low, 1e-6)).min()), 1.0)
    center = np.array([camera.center_x_px, camera.center_y_px])
    middle = (low + high) / 2
    low, high, center = middle + scale * (low - middle), middle + scale * (high - middle), (
        middle + scale * (center - middle)
    )  # fmt: skip
    shift = np.maximum((sides - room) / 2 - low, 0) + np.minimum((sides + room) / 2 - high, 0)
    if scale == 1 and not shift.any():
        return camera, False
    center += shift
    return Camera(camera.width_px, camera.height_px, camera.focal_px * scale, *center.tolist()), True
