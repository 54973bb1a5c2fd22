"""The folder that AD-NeRF's successors read: names, colours, columns and the pose convention.

Learned from how the readers of RAD-NeRF, ER-NeRF, SyncTalk and TalkingGaussian use it; data/README.md tells which of
them needs which file. A picture's number is also its place in the sound's features and in the tables, 25 a second.
"""

from __future__ import annotations

import numpy as np

from avatarfit.capture.clip_folder import BACKGROUND, FACE, HAIR, MOUTH_INTERIOR, NECK, TORSO

FRAME_RATE_HZ = 25.0
"""Fixed by the readers: their sound features come 25 times a second, and pictures are numbered alike."""
SAMPLE_RATE_HZ = 16_000
TRAIN, VAL = "transforms_train.json", "transforms_val.json"
ORIGINAL, GROUND_TRUTH, TORSOS, PARSING, TEETH = "ori_imgs", "gt_imgs", "torso_imgs", "parsing", "teeth_mask"
PLATE, SOUND, ACTION_UNITS, BLENDSHAPES, README = "bc.jpg", "aud.wav", "au.csv", "bs.npy", "README.txt"

PARSING_RGB = {
    BACKGROUND: (255, 255, 255),
    FACE: (0, 0, 255),
    NECK: (0, 255, 0),
    TORSO: (255, 0, 0),
    MOUTH_INTERIOR: (100, 100, 100),
    HAIR: (0, 0, 0),
}
"""Colours of parsing/N.png, red first. The head is blue, for the originals write red into OpenCV's BGR. TalkingGaussian
alone tells mouth and hair from the face; the others read these pictures only while they prepare a clip."""

LANDMARKS_68 = np.array([
    162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389,
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300, 168, 197, 5, 4, 75, 97, 2, 326, 305,
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87,
])  # fmt: skip
"""MediaPipe's landmark at each of the 68 points of N.lms (Sagonas et al. 2013): jaw 0-16, brows 17-26, nose 27-35, eyes
36-47, outer lips 48-59, inner lips 60-67, each from the picture's left."""

HEAD_MIDDLE_CM = np.array([0.0, 1.0, 5.0])
"""The origin of their head in our head frame: inside the head rather than between the eyes, for the readers search
within 25 cm of it, and TalkingGaussian starts within 10."""

ACTION_UNIT_SOURCES: dict[str, tuple[str, ...]] = {
    "AU01_r": ("browInnerUp",),
    "AU02_r": ("browOuterUpLeft", "browOuterUpRight"),
    "AU04_r": ("browDownLeft", "browDownRight"),
    "AU05_r": ("eyeWideLeft", "eyeWideRight"),
    "AU06_r": ("cheekSquintLeft", "cheekSquintRight"),
    "AU07_r": ("eyeSquintLeft", "eyeSquintRight"),
    "AU12_r": ("mouthSmileLeft", "mouthSmileRight"),
    "AU25_r": ("jawOpen",),
    "AU45_r": ("eyeBlinkLeft", "eyeBlinkRight"),
}
"""Columns of au.csv, and the blendshapes whose mean each is made from."""
FULL_ACTION_UNIT, FULL_BLINK = 3.0, 2.0
"""OpenFace's intensities run from 0 to 5; strong movements reach about 3. All readers cut blinks off at 2."""

_FLIP = np.diag([1.0, -1.0, -1.0])
"""Between axes with y down and z away, and OpenGL's: y up, z towards the viewer."""


def camera_to_head(rotation: np.ndarray, translation_cm: np.ndarray) -> np.ndarray:
    """Their transform_matrix of our head pose.

    Their world is the head (metres, y up, z out of the face), and the camera moves in it, looking along its own -z.

    Args:
        rotation: float [..., 3, 3], `x_camera = rotation @ x_head + translation_cm`.
        translation_cm: float [..., 3].

    Returns:
        float64 [..., 4, 4], camera to world.
    """
    rotation = np.asarray(rotation, np.float64)
    middle = np.asarray(translation_cm, np.float64) + rotation @ HEAD_MIDDLE_CM
    back = _FLIP @ np.swapaxes(rotation, -1, -2) @ _FLIP
    out = np.zeros((*rotation.shape[:-2], 4, 4))
    out[..., :3, :3] = back
    out[..., :3, 3] = -np.einsum("...ij,...j->...i", back, middle @ _FLIP / 100)
    out[..., 3, 3] = 1
    return out


def head_in_camera(transform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotation [..., 3, 3] and translation [..., 3] in centimetres of their head in our camera; undoes the axes only.

    `HEAD_MIDDLE_CM` is not taken back, since the head's origin is each tracker's own.
    """
    rotation = _FLIP @ np.swapaxes(transform[..., :3, :3], -1, -2) @ _FLIP
    moved = -np.einsum("...ij,...j->...i", np.swapaxes(transform[..., :3, :3], -1, -2), transform[..., :3, 3])
    return rotation, moved @ _FLIP * 100


def picture_slots(pts_seconds: np.ndarray, frame_rate_hz: float) -> list[tuple[int, int]]:
    """Which picture belongs to which number: (number, index of the picture), rising.

    Number n stands for the time n / 25 s and takes the nearest picture; where none is near, as where pictures were left
    out, the number is left out.

    Args:
        pts_seconds: float [T], times of the pictures, rising.
        frame_rate_hz: their rate.
    """
    reach = 0.6 / min(frame_rate_hz, FRAME_RATE_HZ)
    numbers = np.arange(int(np.floor((pts_seconds[-1] + reach) * FRAME_RATE_HZ)) + 1)
    times = numbers / FRAME_RATE_HZ
    after = np.clip(np.searchsorted(pts_seconds, times), 1, max(len(pts_seconds) - 1, 1))
    after = np.minimum(after, len(pts_seconds) - 1)
    before = np.maximum(after - 1, 0)
    nearest = np.where(times - pts_seconds[before] <= pts_seconds[after] - times, before, after)
    near = np.abs(pts_seconds[nearest] - times) <= reach
    return list(zip(numbers[near].tolist(), nearest[near].tolist(), strict=True))
