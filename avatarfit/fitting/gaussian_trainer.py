"""Fits a Gaussian avatar to the frames of a clip, one frame a step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avatarfit.contracts import Motion
from avatarfit.contracts.events import Listener, silent
from avatarfit.fitting.fitted_gaussians import FittedGaussians
from avatarfit.fitting.frame_store import FrameStore
from avatarfit.fitting.frame_trainer import FrameTrainer
from avatarfit.fitting.gaussian_settings import GaussianSettings
from avatarfit.fitting.initialise import initial_gaussians
from avatarfit.model.gaussian_avatar import GaussianAvatar
from avatarfit.model.torso_modes import TorsoModes


class GaussianTrainer(FrameTrainer[GaussianAvatar]):
    """Fits the Gaussians of one person.

    Args:
        motion: of the training frames, measured.
        landmarks_cm: float32 [T, 478, 3] of the training frames, in the head's frame.
        aperture_cm: float [T], the inner lips' gap.
        frames: the same T frames on disk.
        plate: uint8 [H, W, 3], the background at the fitting size.
        modes: how the torso gives way; as many as `motion.torso.shape` has columns.
        settings: how; its counts of Gaussians and of deltas are of no account where `initial` has them.
        initial: Gaussians to begin with, left as they are; None makes them from the frames. The range of motion that
            they know stays theirs.
        checkpoint: where to keep the state; None keeps none.
        resume: go on from the checkpoint when there is one.
    """

    def __init__(
        self,
        motion: Motion,
        landmarks_cm: np.ndarray,
        aperture_cm: np.ndarray,
        frames: FrameStore,
        plate: np.ndarray,
        modes: TorsoModes,
        settings: GaussianSettings,
        *,
        initial: GaussianAvatar | None = None,
        checkpoint: Path | None = None,
        resume: bool = False,
        on_event: Listener = silent,
    ) -> None:
        super().__init__(len(motion), frames, plate, settings, checkpoint, on_event)
        self.settings = settings
        if initial is not None:
            avatar = initial.trainable()
        else:
            avatar = initial_gaussians(
                motion,
                landmarks_cm,
                frames,
                aperture_cm,
                modes,
                count=settings.count,
                basis_count=settings.basis_count,
                generator=np.random.default_rng(settings.seed),
            )
        self.gaussians = FittedGaussians(avatar, motion, frames.camera, settings, self.backend)
        if resume:
            self._resume()

    def result(self) -> GaussianAvatar:
        """The Gaussians that show, as they are now."""
        return self._those_that_show(self.gaussians.avatar)

    def _step(self, share: float) -> float:
        frame = self._next_frame()
        image = self.gaussians.draw(frame, self.state.generator)
        loss, gradient = self._loss(image, frame, self.frames[frame])
        self.gaussians.take(gradient, self.state.step + 1, self.settings.last_rate**share)
        return float(loss)

    @torch.no_grad()
    def preview(self) -> np.ndarray:
        """uint8 [H, 2W, 3]: a training frame beside the avatar in the same motion."""
        frame = self.frame_count // 3
        picture = self.gaussians.draw_over(frame, (self.plate * 255).round().to(torch.uint8))
        return np.concatenate([self.frames[frame].rgb, picture.numpy()], axis=1)

    def _tensors(self) -> dict[str, Tensor]:
        return self.gaussians.tensors() | {"exposure": self.exposure.log_gain}
