"""How a hash-grid avatar is fitted."""

from __future__ import annotations

from dataclasses import dataclass, fields

from avatarfit.fitting.frame_settings import FrameSettings
from avatarfit.fitting.gaussian_settings import GaussianSettings
from avatarfit.model.hashgrid_head import FieldShape


@dataclass(frozen=True)
class HashgridSettings(FieldShape, FrameSettings):
    """The field's size and how it and the Gaussians below it are fitted."""

    minutes: float | None = 60.0
    exposure_rate: float = 0.1
    patch_px: int = 32
    """Side of a square of the head that a step's rays look through."""
    patches: int = 4
    """Such squares in a step; they are drawn by the loss' weight, lips above all."""
    head_alpha_weight: float = 0.1
    """Weight of the field's own alpha against the head's labels, away from their rim."""
    distortion_weight: float = 0.002
    """Weight of the distortion of a ray's samples (mip-NeRF 360, Barron et al. 2022, eq. 15): no fog, no floaters."""
    basis_decay: float = 0.02
    """Decoupled weight decay of the motion grid's bases (Loshchilov and Hutter 2019), per unit of step * rate."""
    code_weight: float = 0.1
    """Decoupled weight decay of the frames' codes, so that their mean is zero."""
    table_rate: float = 1e-2
    displacement_rate_cm: float = 2e-3
    """Of the motion grid at rest; its bases' rates are a quarter of the grid's."""
    motion_rate: float = 5e-3
    mlp_rate: float = 2e-3
    network_rate: float = 1e-3
    code_rate: float = 1e-3
    occupancy_from: int = 300
    """Step at which the first shell gives way to the cells in which something was seen."""
    occupancy_every: int = 100
    occupancy_fade: float = 0.8
    """What a cell's largest weight is multiplied with each time."""
    occupancy_threshold: float = 0.02
    """Rendering weight from which a cell stays."""
    gaussians: int = 6000
    """Gaussians of neck and torso."""
    gaussian_bases: int = 24
    """Deltas for each Gaussian."""

    def shape(self) -> FieldShape:
        """The field's size alone."""
        return FieldShape(**{f.name: getattr(self, f.name) for f in fields(FieldShape)})

    def below(self) -> GaussianSettings:
        """How the Gaussians of neck and torso are fitted."""
        return GaussianSettings(
            count=self.gaussians, basis_count=self.gaussian_bases, minutes=self.minutes, steps=self.steps,
            seed=self.seed, motion_noise=self.motion_noise, last_rate=self.last_rate,
        )  # fmt: skip
