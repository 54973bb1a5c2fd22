"""Fitting to the frames of a clip, one a step: the loop, the picture's loss, and what a checkpoint holds of them."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from avatarfit import ops
from avatarfit.contracts.events import Finished, Listener, Note, Picture, Progress, Started
from avatarfit.fitting.checkpoint import read_checkpoint, write_checkpoint
from avatarfit.fitting.exposure import Exposure
from avatarfit.fitting.fitted_gaussians import FittedGaussians
from avatarfit.fitting.frame_settings import FrameSettings
from avatarfit.fitting.frame_store import WEIGHT_SCALE, FrameStore, StoredFrame
from avatarfit.fitting.perceptual_loss import PerceptualLoss
from avatarfit.model.gaussian_avatar import GaussianAvatar
from avatarfit.model.lpips_network import lpips_network
from avatarfit.ops.torch_threads import torch_threads

STAGE = "avatar"
_RELOCATE_UNTIL = 0.7
_EXPOSURE_FROM = 0.1
"""Share of the fit after which a picture is like enough for its gain to mean exposure."""

T = TypeVar("T")


@dataclass
class _State:
    """What a checkpoint holds beside what is fitted."""

    generator: torch.Generator
    step: int = 0
    relocated: int = 0
    seconds: float = 0.0
    order: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))


class FrameTrainer(ABC, Generic[T]):
    """What fits Gaussians, and perhaps more, to frames. A subclass sets `gaussians`, then calls `_resume` if asked to.

    Args:
        frame_count: of the training frames.
        frames: they, on disk.
        plate: uint8 [H, W, 3], the background at the fitting size.
        settings: how.
        checkpoint: where to keep the state; None keeps none.
    """

    gaussians: FittedGaussians

    def __init__(
        self, frame_count: int, frames: FrameStore, plate: np.ndarray, settings: FrameSettings,
        checkpoint: Path | None, on_event: Listener,
    ) -> None:  # fmt: skip
        self._plan, self.frames, self.on_event, self.checkpoint = settings, frames, on_event, checkpoint
        self.frame_count = frame_count
        self.plate = torch.from_numpy(plate).float() / 255
        backend = ops.choose("auto")
        self.backend = backend.name
        on_event(Note(STAGE, f"kernels: {backend.name} ({backend.reason})"))
        network, said = lpips_network() if settings.lpips_weight else (None, "LPIPS is off: its weight is 0")
        self.perceptual = None if network is None else PerceptualLoss(network, settings.lpips_weight)
        on_event(Note(STAGE, f"in the loss, {said}"))
        torch.manual_seed(settings.seed)
        self.state = _State(torch.Generator().manual_seed(settings.seed))
        self.exposure = Exposure(frame_count, settings.exposure_rate)

    @abstractmethod
    def result(self) -> T:
        """What has been fitted, as it is now."""

    @abstractmethod
    def preview(self) -> np.ndarray:
        """uint8 [H, 2W, 3]: a training frame beside the avatar in the same motion."""

    @abstractmethod
    def _step(self, share: float) -> float:
        """One step, when this share of the fit is done; its loss."""

    @abstractmethod
    def _tensors(self) -> dict[str, Tensor]:
        """Everything that changes, by name; reading a checkpoint writes into these."""

    def run(self, until_seconds: float | None = None) -> T:
        """Fits until the minutes or the steps are used up; `result`.

        Args:
            until_seconds: return once fitting has taken so long; run again to go on.
        """
        with torch_threads(1):
            self._run(until_seconds)
            return self.result()

    def _run(self, until_seconds: float | None) -> None:
        settings, state, relocate_every = self._plan, self.state, self.gaussians.settings.relocate_every
        started = time.monotonic() - state.seconds
        last_checkpoint = last_picture = time.monotonic()
        total = settings.steps
        self.on_event(Started(STAGE, total, "steps"))
        losses: list[float] = []
        while (share := self._share_done()) < 1 and (until_seconds is None or state.seconds < until_seconds):
            losses.append(self._step(share))
            state.step += 1
            now = time.monotonic()
            state.seconds = now - started
            if relocate_every and state.step % relocate_every == 0 and share < _RELOCATE_UNTIL:
                self.gaussians.relocate(state.generator)
                state.relocated = state.step
            if state.step % 50 == 0:
                # By time, the total is what this rate will reach.
                goal = total or max(state.step, round(state.step / max(self._share_done(), 1e-3)))
                values = {"loss": float(np.mean(losses)), "step_ms": 1000 * state.seconds / state.step}
                self.on_event(Progress(STAGE, state.step, goal, values))
                losses.clear()
            if now - last_picture > settings.picture_seconds:
                self.on_event(Picture(STAGE, state.step, "truth | avatar", self.preview()))
                last_picture = now
            if self.checkpoint is not None and now - last_checkpoint > settings.checkpoint_seconds:
                write_checkpoint(self.checkpoint, self._tensors(), self._scalars)
                last_checkpoint = now
        if self.checkpoint is not None:
            write_checkpoint(self.checkpoint, self._tensors(), self._scalars)
        self.on_event(Picture(STAGE, state.step, "truth | avatar", self.preview()))
        self.on_event(Finished(STAGE, state.seconds, {"steps": state.step}))

    def _those_that_show(self, avatar: GaussianAvatar) -> GaussianAvatar:
        """Of the fitted Gaussians, `avatar`, those that showed in a frame, once all frames were seen."""
        shown = self.gaussians.shown()
        if bool(shown.all()) or self.state.step - self.state.relocated < self.frame_count:
            return avatar
        note = f"{int((~shown).sum())} of {len(shown)} Gaussians showed in no frame and are left out"
        self.on_event(Note(STAGE, note))
        return avatar.only(shown)

    def _share_done(self) -> float:
        if self._plan.steps is not None:
            return self.state.step / max(self._plan.steps, 1)
        return self.state.seconds / max((self._plan.minutes or 0) * 60, 1e-9)

    def _next_frame(self) -> int:
        state = self.state
        if not len(state.order):
            state.order = torch.randperm(self.frame_count, generator=state.generator)
        frame, state.order = int(state.order[0]), state.order[1:]
        return frame

    def _loss(
        self, image: Tensor, frame: int, truth: StoredFrame, unknown: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """A picture's loss and its gradient; where it is `unknown`, bool [H, W], it counts as right."""
        settings = self._plan
        target = torch.from_numpy(truth.rgb.astype(np.float32)).mul_(1 / 255)
        person = truth.person if unknown is None else np.where(unknown.numpy(), 0, truth.person)
        if settings.exposure_rate and self._share_done() > _EXPOSURE_FROM:
            self.exposure.observe(frame, image, target, self.plate, person)
            target /= self.exposure.gain(frame)
        weight = torch.from_numpy(truth.weight.astype(np.float32)).mul_(1 / WEIGHT_SCALE)
        if unknown is not None:
            weight[unknown] = 0
            image[unknown] = torch.nn.functional.pad(target[unknown], (0, 1), value=1.0)
        loss, gradient = ops.l1_dssim_with_gradient(
            image, target, weight, settings.dssim_fraction, background=self.plate, backend=self.backend
        )
        value, alpha_gradient = outline_loss(image[:, :, 3], torch.from_numpy(truth.person.copy()))
        gradient[:, :, 3].add_(alpha_gradient, alpha=settings.alpha_weight)
        loss = loss + settings.alpha_weight * value
        if self.perceptual is not None and self.state.step % settings.lpips_every == 0:
            loss += self.perceptual.add_to(gradient, image, target, self.plate, person, self.state.generator)
        if unknown is not None:
            gradient[unknown] = 0
        return loss, gradient

    def _resume(self) -> None:
        """Goes on from the checkpoint when there is one."""
        if self.checkpoint is not None and self.checkpoint.is_file():
            read_checkpoint(self.checkpoint, self._tensors(), self._scalars)
            self.on_event(Note(STAGE, f"resumed at step {self.state.step} from {self.checkpoint}"))

    def _scalars(self, loaded: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """State that is no fixed tensor; given a checkpoint's, takes it over."""
        state = self.state
        if loaded is not None:
            state.step, state.seconds = int(loaded["step"]), float(loaded["seconds"])
            state.relocated = int(loaded["relocated"])
            state.order = loaded["order"]
            state.generator.set_state(loaded["generator"])
        return {
            "step": torch.tensor(state.step),
            "relocated": torch.tensor(state.relocated),
            "seconds": torch.tensor(state.seconds, dtype=torch.float64),
            "order": state.order.clone(),
            "generator": state.generator.get_state(),
        }


def outline_loss(alpha: Tensor, person: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over the picture of |alpha - person| where the matte is sure, and its gradient.

    Args:
        alpha: float32 [H, W].
        person: uint8 [H, W], the matte; sure below 5 and above 250.

    Returns:
        scalar, and float32 [H, W].
    """
    difference = alpha - person.float().mul_(1 / 255)
    difference.mul_((person < 5) | (person > 250))
    return difference.abs().mean(), difference.sign_().div_(person.numel())
