"""Which of a clip's own frames lends its torso to each driven frame.

Head and torso of a frame belong together: the neck between them is right only when the frame's pose is the driven one.
So that frame is sought whose head, as it sits on the torso, is nearest. Habits replay moments of the clip, and of those
the very frame is found, at distance zero. From frame to frame the walk goes on in the clip; only where that leads away
from the driven pose it passes, by a dissolve, to another place (video textures, Schoedl et al. 2000).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avatarfit.contracts import HeadPose, TorsoMotion, rotations

_FACE_FROM_NECK_CM = 6.0
_TORSO_SHARE, _SHAPE_CM = 0.3, 0.05
"""What moves the torso as a whole can be mended by moving its picture, so it counts less than the neck."""
_STEPS = 4
"""So many frames ahead may be gone at once: clips of a lower rate are held, those of a higher one skipped through."""
_WORSE, _MARGIN_CM2 = 2.5, 0.02
_DISSOLVE_SECONDS, _DWELL_SECONDS = 0.32, 0.5


@dataclass(frozen=True)
class Lent:
    """A frame of the clip, and how much of the torso's picture it is."""

    index: int
    share: float


class TorsoWalk:
    """Walks through a clip beside a driven motion; the same poses take the same way.

    Args:
        head, torso: the clip's, T frames.
        frame_rate_hz: of the driven motion.
    """

    def __init__(self, head: HeadPose, torso: TorsoMotion, frame_rate_hz: float) -> None:
        self._turn = rotations(head.rotation_wxyz).mean().inv()
        self._rest = np.median(head.translation_cm, axis=0).astype(np.float64)
        self._features = self._of(head, torso)
        self._squares = np.square(self._features).sum(axis=1)
        self._dissolve = max(round(_DISSOLVE_SECONDS * frame_rate_hz), 1)
        self._dwell = round(_DWELL_SECONDS * frame_rate_hz)
        self._here: int | None = None
        self._before = 0
        self._left = 0
        self._stayed = 0

    def step(self, head: HeadPose, torso: TorsoMotion) -> list[Lent]:
        """The frames for the next driven pose: one, or two that are being dissolved into each other, adding up to 1.

        Args:
            head, torso: of one frame.
        """
        wanted = self._of(head, torso)[0]
        cost = np.maximum(self._squares + wanted @ wanted - 2 * self._features @ wanted, 0)
        best = int(cost.argmin())
        if self._here is None:
            self._here = best
            return [Lent(best, 1.0)]
        self._here = self._onward(self._here, cost)
        self._stayed += 1
        if self._left:
            self._before = self._onward(self._before, cost)
        elif self._stayed > self._dwell and cost[self._here] > _WORSE * cost[best] + _MARGIN_CM2:
            self._before, self._here, self._left, self._stayed = self._here, best, self._dissolve, 0
        if not self._left:
            return [Lent(self._here, 1.0)]
        x = 1 - self._left / (self._dissolve + 1)
        self._left -= 1
        share = x * x * (3 - 2 * x)
        return [Lent(self._before, 1 - share), Lent(self._here, share)]

    def _onward(self, index: int, cost: np.ndarray) -> int:
        return index + int(cost[index : index + _STEPS].argmin())

    def _of(self, head: HeadPose, torso: TorsoMotion) -> np.ndarray:
        """float64 [T, 15 + S], in centimetres."""
        turned = (rotations(head.rotation_wxyz) * self._turn).as_rotvec() * _FACE_FROM_NECK_CM
        matrices = torso.matrices().astype(np.float64)
        carried = matrices[:, :, :3] @ self._rest
        affine = (torso.affine - np.eye(2, 3)).reshape(len(torso), 6) * self._rest[2] * _TORSO_SHARE
        return np.concatenate([turned, head.translation_cm - carried, affine, torso.shape * _SHAPE_CM], axis=1)
