"""Pictures and sound, as they travel between packages."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avatarfit.contracts._checks import as_array


@dataclass(frozen=True)
class VideoFrame:
    """One decoded picture.

    Attributes:
        pts_seconds: presentation time, seconds from the start of the clip's own clock.
        rgb: uint8 [height, width, 3], sRGB-coded, upright.
    """

    pts_seconds: float
    rgb: np.ndarray

    def __post_init__(self) -> None:
        if self.rgb.dtype != np.uint8 or self.rgb.ndim != 3 or self.rgb.shape[2] != 3:
            raise ValueError(
                f"VideoFrame.rgb came as {self.rgb.dtype} {list(self.rgb.shape)}; wanted uint8 [height, width, 3]"
            )


@dataclass(frozen=True)
class AudioClip:
    """Mono sound.

    Attributes:
        samples: float32 [n], nominally in [-1, 1].
        sample_rate_hz: samples a second.
        start_seconds: time of the first sample on the clip's clock.
    """

    samples: np.ndarray
    sample_rate_hz: int
    start_seconds: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "samples", as_array("AudioClip.samples", self.samples, (None,), np.float32))
        if self.sample_rate_hz <= 0:
            raise ValueError(f"AudioClip.sample_rate_hz came as {self.sample_rate_hz}; wanted a positive rate")

    @property
    def duration_seconds(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate_hz
