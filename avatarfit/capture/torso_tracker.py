"""The torso followed through a clip: direct alignment from picture to picture, corners where it loses its way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avatarfit.capture.torso_alignment import TorsoAligner
from avatarfit.capture.torso_registration import TorsoRegistrar

_AGREEING = 0.2
_FEWEST_PIXELS = 300
_SLACK = 0.08
_LOST = 0.6  # of noise, half fits
_FORGETTING = 0.05


@dataclass(frozen=True)
class TorsoPlace:
    """Attributes:
    affine_px: float64 [2, 3], resting picture's pixel index to this picture's.
    found: whether the torso was found; else the map is the last one known.
    """

    affine_px: np.ndarray
    found: bool


class TorsoTracker:
    """Places the torso in pictures in time order.

    A body moves little from picture to picture, so alignment begins where it was. Where that fits worse than it lately
    did, corners find the body from any distance first, and the better fit is taken.

    Args:
        gray, torso, person: the resting picture uint8 [H, W], its torso and its person (non-zero inside).
    """

    def __init__(self, gray: np.ndarray, torso: np.ndarray, person: np.ndarray) -> None:
        self._registrar, self._aligner = TorsoRegistrar(gray, torso), TorsoAligner(gray, torso, person)
        self._place = TorsoPlace(np.eye(2, 3), False)
        self._usual = 1.0

    @property
    def usable(self) -> bool:
        """Whether enough of a torso is in view to be followed at all."""
        return self._aligner.pixel_count >= _FEWEST_PIXELS and self._registrar.usable

    def track(self, gray: np.ndarray) -> TorsoPlace:
        """Where the torso of the next picture, uint8 [H, W], is."""
        if not self.usable:
            return self._place
        former = self._place.affine_px
        aligned = self._aligner.align(gray, former, former) if self._place.found else None
        if aligned is None or aligned.agreeing < self._usual - _SLACK:
            self._registrar.follow(former)
            corners = self._registrar.register(gray)
            if corners.agreeing > _AGREEING:
                again = self._aligner.align(gray, corners.affine_px, former)
                aligned = again if aligned is None or again.agreeing > aligned.agreeing else aligned
            elif aligned is None or aligned.agreeing < _LOST * self._usual:
                self._place = TorsoPlace(former, False)
                return self._place
        self._usual += _FORGETTING * (aligned.agreeing - self._usual)
        self._place = TorsoPlace(aligned.affine_px, True)
        return self._place
