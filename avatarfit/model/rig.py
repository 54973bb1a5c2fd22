"""The rig: one person's face landmarks as a rest shape and two small linear bases, mouth-and-jaw and upper face.

Landmarks are MediaPipe's 478 in the head's frame (centimetres; axes as the camera's when the head faces it squarely).
The two regions have bases of their own so that a driver which knows the mouth leaves the eyes alone. Coefficients are
in standard deviations over the clip the rig was fitted on. Basis: principal components, as in the person-specific
active shape models of Cootes et al. 1995.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from avatarfit.contracts import FaceMotion
from avatarfit.contracts.motion import LANDMARK_COUNT

# fmt: off
LIPS_OUTER = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
LIPS_INNER = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)
LIPS_BETWEEN = (76, 77, 90, 180, 85, 16, 315, 404, 320, 307, 306, 408, 304, 303, 302, 11, 72, 73, 74, 184,
                62, 96, 89, 179, 86, 15, 316, 403, 319, 325, 292, 407, 272, 271, 268, 12, 38, 41, 42, 183)
JAW = (58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288, 18, 200, 199, 175, 83, 313, 182, 406,
       106, 335, 194, 418, 201, 421, 208, 428, 171, 396, 140, 369, 32, 262, 204, 424, 211, 431, 170, 395, 169, 394,
       135, 364, 138, 367, 43, 273, 57, 287, 212, 432, 202, 422, 210, 430, 214, 434, 192, 416)
LOWER_CHEEKS = (205, 425, 206, 426, 207, 427, 216, 436, 186, 410, 92, 322, 165, 391, 167, 393, 164, 203, 423)
RIGHT_EYE = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
LEFT_EYE = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
LIDS = (130, 25, 110, 24, 23, 22, 26, 112, 243, 190, 56, 28, 27, 29, 30, 247,
        359, 255, 339, 254, 253, 252, 256, 341, 463, 414, 286, 258, 257, 259, 260, 467)
BROWS = (70, 63, 105, 66, 107, 55, 65, 52, 53, 46, 300, 293, 334, 296, 336, 285, 295, 282, 283, 276, 9, 8,
         151, 108, 337, 69, 299, 104, 333)
# fmt: on
MOUTH_REGION = np.array(sorted({*LIPS_OUTER, *LIPS_INNER, *LIPS_BETWEEN, *JAW, *LOWER_CHEEKS}))
UPPER_REGION = np.array(sorted({*RIGHT_EYE, *LEFT_EYE, *LIDS, *BROWS}))

OUTER_EYE_CORNERS = (33, 263)
OUTER_EYE_DISTANCE_CM = 8.9
"""An adult's mean distance between the outer eye corners. It sets the scale, which a picture cannot give."""

# Person's left, person's right: iris centre, its ring, corners, middle of the upper lid, middle of the lower lid.
_EYES = ((473, (474, 475, 476, 477), (263, 362), 386, 374), (468, (469, 470, 471, 472), (33, 133), 159, 145))


def eye_measures(landmarks_cm: np.ndarray) -> np.ndarray:
    """Gaze and opening of both eyes, as fractions of each eye's width.

    Args:
        landmarks_cm: float [T, 478, 3] in the head's frame.

    Returns:
        float [T, 6]: gaze left x, y, gaze right x, y (iris centre from the corners' middle), opening left, right.
    """
    gaze, opening = [], []
    for iris, _, (outer, inner), upper, lower in _EYES:
        width = np.linalg.norm(landmarks_cm[:, outer, :2] - landmarks_cm[:, inner, :2], axis=1, keepdims=True)
        middle = (landmarks_cm[:, outer, :2] + landmarks_cm[:, inner, :2]) / 2
        gaze.append((landmarks_cm[:, iris, :2] - middle) / width)
        opening.append((landmarks_cm[:, lower, 1:2] - landmarks_cm[:, upper, 1:2]) / width)
    return np.concatenate(gaze + opening, axis=1)


def lip_aperture_cm(landmarks_cm: np.ndarray) -> np.ndarray:
    """Height of the inner lips' gap, float [...], from landmarks [..., 478, 3]."""
    return landmarks_cm[..., 14, 1] - landmarks_cm[..., 13, 1]


def closed_gaps_cm(gaps_cm: np.ndarray) -> tuple[float, float]:
    """Up to which gap lips are closed, and nearly closed, from those of the training frames, float [T].

    The 15th percentile, and a tenth of the way from there to the 95th above it.
    """
    low, high = np.percentile(gaps_cm, [15, 95])
    return float(low), float(low + 0.1 * (high - low))


@dataclass(frozen=True)
class Rig:
    """One person's rest shape and expression bases.

    Attributes:
        shape_cm: float32 [478, 3], the mean landmarks.
        mouth_basis: float32 [M, L, 3], orthonormal when flattened; rows fall in variance.
        mouth_deviation_cm: float32 [M], standard deviation along each row.
        upper_basis, upper_deviation_cm: the same for the upper face, [U, L', 3] and [U].
        eyes_mean, eyes_deviation: float32 [6], of `eye_measures`.
    """

    shape_cm: np.ndarray
    mouth_basis: np.ndarray
    mouth_deviation_cm: np.ndarray
    upper_basis: np.ndarray
    upper_deviation_cm: np.ndarray
    eyes_mean: np.ndarray
    eyes_deviation: np.ndarray

    @property
    def mouth_indices(self) -> np.ndarray:
        """int [L]: the landmarks of the mouth region, in the order of `mouth_basis`."""
        return MOUTH_REGION

    @classmethod
    def fit(cls, landmarks_cm: np.ndarray, mouth_count: int = 16, upper_count: int = 8) -> Rig:
        """The rig of a clip.

        Args:
            landmarks_cm: float [T, 478, 3] in the head's frame, T >= 2.
            mouth_count, upper_count: components to keep; fewer when the clip has fewer frames.

        Raises:
            ValueError: fewer than two frames, or another shape.
        """
        if landmarks_cm.ndim != 3 or landmarks_cm.shape[1:] != (LANDMARK_COUNT, 3) or len(landmarks_cm) < 2:
            raise ValueError(f"landmarks_cm came as {list(landmarks_cm.shape)}; wanted [T >= 2, {LANDMARK_COUNT}, 3]")
        shape = landmarks_cm.mean(axis=0, dtype=np.float64)
        parts: list[np.ndarray] = []
        for region, count in ((MOUTH_REGION, mouth_count), (UPPER_REGION, upper_count)):
            centred = (landmarks_cm[:, region] - shape[region]).reshape(len(landmarks_cm), -1)
            # The covariance is small ([3L, 3L]) and its cost does not grow with the clip as an SVD's would.
            variance, vectors = np.linalg.eigh(centred.T @ centred / len(centred))
            keep = np.argsort(variance)[::-1][: min(count, len(landmarks_cm) - 1)]
            parts += [
                vectors[:, keep].T.reshape(len(keep), len(region), 3),
                np.sqrt(np.maximum(variance[keep], 1e-10)),
            ]
        eyes = eye_measures(landmarks_cm)
        parts += [eyes.mean(axis=0), np.maximum(eyes.std(axis=0), 1e-4)]
        return cls(shape.astype(np.float32), *(part.astype(np.float32) for part in parts))

    def encode(self, landmarks_cm: np.ndarray) -> FaceMotion:
        """Coefficients of landmarks [T, 478, 3] in the head's frame."""
        eyes = (eye_measures(landmarks_cm) - self.eyes_mean) / self.eyes_deviation
        return FaceMotion(
            self.encode_mouth(landmarks_cm[:, MOUTH_REGION]),
            self._project(landmarks_cm[:, UPPER_REGION], UPPER_REGION, self.upper_basis, self.upper_deviation_cm),
            eyes.astype(np.float32),
        )

    def encode_mouth(self, mouth_landmarks_cm: np.ndarray) -> np.ndarray:
        """float32 [T, M] from the mouth region's landmarks [T, L, 3]."""
        return self._project(mouth_landmarks_cm, MOUTH_REGION, self.mouth_basis, self.mouth_deviation_cm)

    def mouth_landmarks_cm(self, mouth: np.ndarray) -> np.ndarray:
        """float32 [T, L, 3] of mouth coefficients [T, M]."""
        return self.shape_cm[MOUTH_REGION] + np.einsum("tm,mlc->tlc", mouth * self.mouth_deviation_cm, self.mouth_basis)

    def landmarks_cm(self, face: FaceMotion) -> np.ndarray:
        """float32 [T, 478, 3]; landmarks of neither region rest, irises follow the gaze."""
        out = np.repeat(self.shape_cm[None], len(face), axis=0)
        out[:, MOUTH_REGION] = self.mouth_landmarks_cm(face.mouth)
        out[:, UPPER_REGION] += np.einsum("tu,ulc->tlc", face.upper * self.upper_deviation_cm, self.upper_basis)
        measures = face.eyes * self.eyes_deviation + self.eyes_mean
        for side, (iris, ring, (outer, inner), _, _) in enumerate(_EYES):
            width = np.linalg.norm(out[:, outer, :2] - out[:, inner, :2], axis=1, keepdims=True)
            centre = (out[:, outer, :2] + out[:, inner, :2]) / 2 + measures[:, 2 * side : 2 * side + 2] * width
            shift = centre - out[:, iris, :2]
            out[:, [iris, *ring], :2] += shift[:, None]
        return out

    def _project(self, points: np.ndarray, region: np.ndarray, basis: np.ndarray, deviation: np.ndarray) -> np.ndarray:
        centred = points - self.shape_cm[region]
        return (np.einsum("tlc,mlc->tm", centred, basis) / deviation).astype(np.float32)

    def to_tensors(self) -> dict[str, np.ndarray]:
        """Every array by its attribute's name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_tensors(cls, tensors: dict[str, np.ndarray]) -> Rig:
        """The inverse of `to_tensors`; other keys are ignored.

        Raises:
            KeyError: an array is missing.
        """
        return cls(**{field.name: np.asarray(tensors[field.name], np.float32) for field in fields(cls)})
