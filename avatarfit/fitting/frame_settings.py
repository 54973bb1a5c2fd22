"""What the settings of every fit to a clip's frames have."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FrameSettings:
    """How long to fit, and by what loss of a picture. Learning rates are the first ones; all fall to `last_rate` of
    that."""

    minutes: float | None = 4.0
    """Time to fit; a run by time ends with whatever steps the machine managed."""
    steps: int | None = None
    """Steps to fit instead of minutes; such a run is repeatable."""
    seed: int = 0
    dssim_fraction: float = 0.2
    """Share of structural dissimilarity in the picture loss (3D Gaussian splatting, Kerbl et al. 2023, eq. 7)."""
    lpips_weight: float = 0.05
    """Weight of LPIPS, where its weights are on the machine; 0 leaves it out."""
    lpips_every: int = 4
    """Steps from one to the next that looks at LPIPS too."""
    alpha_weight: float = 0.1
    """Weight of the person's outline: alpha against the matte, where the matte is sure."""
    motion_noise: float = 0.1
    """Deviation of the noise on the networks' inputs, in deviations of the motion: held-out motion is never exact."""
    last_rate: float = 0.05
    exposure_rate: float = 0.3
    """How much of a newly measured exposure of a frame is believed; 0 takes the frames as they are."""
    checkpoint_seconds: float = 60.0
    picture_seconds: float = 20.0
