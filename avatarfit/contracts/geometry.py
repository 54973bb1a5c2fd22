"""Camera and poses.

Camera axes are OpenCV's (x right, y down, z forward); the world is the camera's and the head moves in it.
Lengths are centimetres, quaternions wxyz, pixels at centres (+0.5).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from avatarfit.contracts._checks import as_array

if TYPE_CHECKING:
    from scipy.spatial.transform import Rotation


@dataclass(frozen=True)
class Camera:
    """A pinhole without distortion: `x_px = focal_px * x / z + center_x_px`.

    Attributes:
        width_px, height_px: picture size.
        focal_px: focal length, equal in both directions.
        center_x_px, center_y_px: principal point.
    """

    width_px: int
    height_px: int
    focal_px: float
    center_x_px: float
    center_y_px: float

    def __post_init__(self) -> None:
        if self.width_px < 1 or self.height_px < 1 or not self.focal_px > 0:
            raise ValueError(
                f"Camera came as {self.width_px}x{self.height_px} px, focal {self.focal_px}; wanted positive numbers"
            )

    def resized(self, width_px: int, height_px: int) -> Camera:
        """The same view at another size; the aspect ratio must stay within one pixel.

        Raises:
            ValueError: the aspect ratio differs.
        """
        scale = width_px / self.width_px
        if abs(self.height_px * scale - height_px) > 1:
            raise ValueError(f"{width_px}x{height_px} has another aspect ratio than {self.width_px}x{self.height_px}")
        return Camera(
            width_px, height_px, self.focal_px * scale, self.center_x_px * scale,
            self.center_y_px * height_px / self.height_px,
        )  # fmt: skip

    def project(self, points_cm: np.ndarray) -> np.ndarray:
        """Pixels [..., 2] of camera-frame points [..., 3]."""
        center = np.array([self.center_x_px, self.center_y_px], points_cm.dtype)
        return self.focal_px * points_cm[..., :2] / points_cm[..., 2:] + center


def rotations(rotation_wxyz: np.ndarray) -> Rotation:
    """Quaternions float [T, 4] as scipy's rotations, whose quaternions are xyzw."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_quat(rotation_wxyz[:, [1, 2, 3, 0]].astype(np.float64))


@dataclass(frozen=True)
class HeadPose:
    """The head in the camera's frame, for T frames: `x_camera = R(rotation_wxyz) @ x_head + translation_cm`.

    Attributes:
        rotation_wxyz: float32 [T, 4], unit quaternions.
        translation_cm: float32 [T, 3].
    """

    rotation_wxyz: np.ndarray
    translation_cm: np.ndarray

    def __post_init__(self) -> None:
        q = as_array("HeadPose.rotation_wxyz", self.rotation_wxyz, (None, 4), np.float32)
        if (np.abs(np.square(q).sum(axis=1) - 1) > 2e-3).any():
            raise ValueError("HeadPose.rotation_wxyz holds a quaternion that is not of unit length")
        object.__setattr__(self, "rotation_wxyz", q)
        t = as_array("HeadPose.translation_cm", self.translation_cm, (len(q), 3), np.float32)
        object.__setattr__(self, "translation_cm", t)

    def __len__(self) -> int:
        return len(self.rotation_wxyz)

    def __getitem__(self, index: slice | np.ndarray) -> HeadPose:
        return HeadPose(self.rotation_wxyz[index], self.translation_cm[index])

    def matrices(self) -> np.ndarray:
        """float32 [T, 3, 4]: rotation beside translation."""
        if not len(self):
            return np.zeros((0, 3, 4), np.float32)
        rotation = rotations(self.rotation_wxyz).as_matrix()
        return np.concatenate([rotation, self.translation_cm[:, :, None]], axis=2).astype(np.float32)


@dataclass(frozen=True)
class TorsoMotion:
    """The upper body's motion, for T frames: an affine map of the image plane at z = 1, and what clothes do besides.

    A point of the resting torso seen at normalised coordinates `u = ((x_px - cx) / f, (y_px - cy) / f)` is seen at
    `affine[:, :2] @ u + affine[:, 2]`. Being normalised, it holds at every picture size.

    Attributes:
        affine: float32 [T, 2, 3].
        shape: float32 [T, S], how far the person's torso modes (avatarfit.model.torso_modes) are moved, in standard
            deviations over the clip; S may be 0, which is the default.
    """

    affine: np.ndarray
    shape: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))

    def __post_init__(self) -> None:
        object.__setattr__(self, "affine", as_array("TorsoMotion.affine", self.affine, (None, 2, 3), np.float32))
        shape = self.shape if self.shape.size else np.zeros((len(self), 0), np.float32)
        object.__setattr__(self, "shape", as_array("TorsoMotion.shape", shape, (len(self), None), np.float32))

    def __len__(self) -> int:
        return len(self.affine)

    def __getitem__(self, index: slice | np.ndarray) -> TorsoMotion:
        return TorsoMotion(self.affine[index], self.shape[index])

    def matrices(self) -> np.ndarray:
        """float32 [T, 3, 4]: the same map on camera-frame points, depth kept: `x' = (a u + t) z`."""
        out = np.zeros((len(self), 3, 4), np.float32)
        out[:, :2, :3] = self.affine
        out[:, 2, 2] = 1
        return out

    @staticmethod
    def still(count: int) -> TorsoMotion:
        """A torso at rest for `count` frames."""
        return TorsoMotion(np.tile(np.eye(2, 3, dtype=np.float32), (count, 1, 1)))
