"""Fits a Gaussian avatar to the frames of a clip, one frame a step."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avatarfit import ops
from avatarfit.contracts import Motion
from avatarfit.contracts.events import Finished, Listener, Note, Picture, Progress, Started, silent
from avatarfit.fitting.checkpoint import read_checkpoint, write_checkpoint
from avatarfit.fitting.exposure import Exposure
from avatarfit.fitting.frame_store import WEIGHT_SCALE, FrameStore
from avatarfit.fitting.initialise import initial_gaussians
from avatarfit.fitting.perceptual_loss import PerceptualLoss
from avatarfit.fitting.relocation import DEAD_LOGIT, relocate
from avatarfit.model.gaussian_avatar import GaussianAvatar
from avatarfit.model.lpips_network import lpips_network
from avatarfit.model.torso_modes import TorsoModes

STAGE = "avatar"
_BETAS = (0.9, 0.99)
_EPSILON = 1e-10
_RELOCATE_UNTIL = 0.7
_EXPOSURE_FROM = 0.1
"""Share of the fit after which a picture is like enough for its gain to mean exposure."""


@dataclass(frozen=True)
class GaussianSettings:
    """How a Gaussian avatar is fitted. Learning rates are the first ones; all fall to `last_rate` of that."""

    count: int = 12_000
    """Gaussians."""
    basis_count: int = 24
    """Deltas for each Gaussian."""
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
    """Deviation of the noise on the network's inputs, in deviations of the motion: held-out motion is never exact."""
    delta_decay: float = 0.02
    """Decoupled weight decay of the deltas (AdamW), per unit of step * rate."""
    mean_rate_cm: float = 0.006
    rotation_rate: float = 0.004
    scale_rate: float = 0.006
    opacity_rate: float = 0.03
    colour_rate: float = 0.005
    delta_rate_fraction: float = 0.25
    """A delta's learning rate over its base attribute's."""
    network_rate: float = 2e-3
    last_rate: float = 0.05
    opacity_weight: float = 0.005
    """Weight of the mean opacity: Gaussians that the picture does not need fade (Kheradmand et al. 2024, eq. 10)."""
    exposure_rate: float = 0.3
    """How much of a newly measured exposure of a frame is believed; 0 takes the frames as they are."""
    relocate_every: int = 300
    """Steps between moves of Gaussians that do nothing to where error stays; none in the last 30 %."""
    checkpoint_seconds: float = 60.0
    picture_seconds: float = 20.0

    def attribute_rates(self) -> Tensor:
        """float32 [14]."""
        rates = [self.mean_rate_cm] * 3 + [self.rotation_rate] * 4 + [self.scale_rate] * 3
        return torch.tensor([*rates, self.opacity_rate, *[self.colour_rate] * 3], dtype=torch.float32)


Moments = tuple[Tensor, Tensor, Tensor, Tensor]
"""Adam's first and second moments, of the base and then of the deltas."""


@dataclass
class _State:
    """All that a checkpoint must hold to go on as if nothing had happened."""

    avatar: GaussianAvatar
    moments: Moments
    network: torch.optim.Adam
    generator: torch.Generator
    step: int = 0
    relocated: int = 0
    seconds: float = 0.0
    order: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    error: Tensor = field(default_factory=lambda: torch.zeros(0))
    seen: Tensor = field(default_factory=lambda: torch.zeros(0))


class GaussianTrainer:
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
        self.settings, self.frames, self.on_event, self.checkpoint = settings, frames, on_event, checkpoint
        self.plate = torch.from_numpy(plate).float() / 255
        backend = ops.choose("auto")
        self.backend = backend.name
        on_event(Note(STAGE, f"kernels: {backend.name} ({backend.reason})"))
        network, said = lpips_network() if settings.lpips_weight else (None, "LPIPS is off: its weight is 0")
        self.perceptual = None if network is None else PerceptualLoss(network, settings.lpips_weight)
        on_event(Note(STAGE, f"in the loss, {said}"))
        torch.manual_seed(settings.seed)
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
        self.state = _State(
            avatar,
            moments_of(avatar),
            torch.optim.Adam(avatar.weights.parameters(), lr=settings.network_rate, betas=_BETAS, eps=1e-8),
            torch.Generator().manual_seed(settings.seed),
            error=torch.zeros(avatar.count),
            seen=torch.full((avatar.count,), -torch.inf),
        )
        self.exposure = Exposure(len(motion), settings.exposure_rate)
        if resume and checkpoint is not None and checkpoint.is_file():
            read_checkpoint(checkpoint, self._tensors(), self._scalars)
            on_event(Note(STAGE, f"resumed at step {self.state.step} from {checkpoint}"))
        self.condition = avatar.condition(motion)
        self.head = torch.from_numpy(avatar.head_matrices(motion.head))
        self.torso = torch.from_numpy(motion.torso.matrices())

    def run(self) -> GaussianAvatar:
        """Fits until the minutes or the steps are used up and returns the avatar."""
        # Torch's part of a step is small; its threads would only wait, spinning, for the kernels' own.
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return self._run()
        finally:
            torch.set_num_threads(threads)

    def _run(self) -> GaussianAvatar:
        settings, state = self.settings, self.state
        started = time.monotonic() - state.seconds
        last_checkpoint = last_picture = time.monotonic()
        total = settings.steps if settings.steps is not None else None
        self.on_event(Started(STAGE, total, "steps"))
        losses: list[float] = []
        while (share := self._share_done()) < 1:
            losses.append(self._step(share))
            state.step += 1
            now = time.monotonic()
            state.seconds = now - started
            if settings.relocate_every and state.step % settings.relocate_every == 0 and share < _RELOCATE_UNTIL:
                relocate(state.avatar, state.moments, state.error, state.seen, state.generator)
                state.error.zero_()
                state.seen.fill_(-torch.inf)
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
        shown = state.seen >= DEAD_LOGIT
        if bool(shown.all()) or state.step - state.relocated < len(self.condition):
            return state.avatar
        self.on_event(
            Note(STAGE, f"{int((~shown).sum())} of {len(shown)} Gaussians showed in no frame and are left out")
        )
        return state.avatar.only(shown)

    def _share_done(self) -> float:
        if self.settings.steps is not None:
            return self.state.step / max(self.settings.steps, 1)
        return self.state.seconds / max((self.settings.minutes or 0) * 60, 1e-9)

    def _next_frame(self) -> int:
        state = self.state
        if not len(state.order):
            state.order = torch.randperm(len(self.condition), generator=state.generator)
        frame, state.order = int(state.order[0]), state.order[1:]
        return frame

    def _step(self, share: float) -> float:
        settings, state, avatar = self.settings, self.state, self.state.avatar
        frame = self._next_frame()
        rate = settings.last_rate**share
        noise = torch.randn(1, self.condition.shape[1], generator=state.generator) * settings.motion_noise
        weights = avatar.weights(self.condition[frame : frame + 1] + noise)[0]
        still = weights.detach()

        # The attributes are a leaf: the deltas' gradient is an outer product that the optimiser forms on the fly.
        with torch.no_grad():
            attributes = ops.blend(avatar.base, avatar.deltas, still, avatar.group, backend=self.backend)
        attributes.requires_grad_()
        size = (self.frames.camera.height_px, self.frames.camera.width_px)
        image = ops.rasterise(self._project(attributes, frame), *size, backend=self.backend)
        loss, image_gradient = self._loss(image.detach(), frame)
        image.backward(image_gradient)
        gradient = attributes.grad
        assert gradient is not None
        logit = attributes.detach()[:, 10]
        torch.maximum(state.seen, logit, out=state.seen)
        opacity = torch.sigmoid(logit)
        gradient[:, 10] += settings.opacity_weight / avatar.count * opacity * (1 - opacity)

        rates = settings.attribute_rates() * rate
        weights_gradient = ops.blend_adam_step_(
            avatar.base, avatar.deltas, *state.moments, gradient, still, avatar.group, state.step + 1,
            rates, rates * settings.delta_rate_fraction, beta1=_BETAS[0], beta2=_BETAS[1], eps=_EPSILON,
            delta_weight_decay=settings.delta_decay, backend=self.backend,
        )  # fmt: skip
        weights.backward(weights_gradient)
        for group in state.network.param_groups:
            group["lr"] = settings.network_rate * rate
        state.network.step()
        state.network.zero_grad(set_to_none=True)
        state.error += gradient[:, :3].norm(dim=1)
        return float(loss)

    def _project(self, attributes: Tensor, frame: int) -> Tensor:
        c = self.frames.camera
        return ops.project(
            attributes, self.state.avatar.skin, self.head[frame], self.torso[frame],
            c.focal_px, c.center_x_px, c.center_y_px, c.width_px, c.height_px, backend=self.backend,
        )  # fmt: skip

    def _loss(self, image: Tensor, frame: int) -> tuple[Tensor, Tensor]:
        """A picture's loss and its gradient."""
        truth = self.frames[frame]
        target = torch.from_numpy(truth.rgb.astype(np.float32)).mul_(1 / 255)
        if self.settings.exposure_rate and self._share_done() > _EXPOSURE_FROM:
            self.exposure.observe(frame, image, target, self.plate, truth.person)
            target /= self.exposure.gain(frame)
        weight = torch.from_numpy(truth.weight.astype(np.float32)).mul_(1 / WEIGHT_SCALE)
        loss, gradient = ops.l1_dssim_with_gradient(
            image, target, weight, self.settings.dssim_fraction, background=self.plate, backend=self.backend
        )
        value, alpha_gradient = outline_loss(image[:, :, 3], torch.from_numpy(truth.person.copy()))
        gradient[:, :, 3].add_(alpha_gradient, alpha=self.settings.alpha_weight)
        loss = loss + self.settings.alpha_weight * value
        if self.perceptual is not None and self.state.step % self.settings.lpips_every == 0:
            loss += self.perceptual.add_to(gradient, image, target, self.plate, truth.person, self.state.generator)
        return loss, gradient

    @torch.no_grad()
    def preview(self) -> np.ndarray:
        """uint8 [H, 2W, 3]: a training frame beside the avatar in the same motion."""
        avatar, frame = self.state.avatar, len(self.condition) // 3
        weights = avatar.weights(self.condition[frame : frame + 1])[0]
        attributes = ops.blend(avatar.base, avatar.deltas, weights, avatar.group, backend=self.backend)
        splats = self._project(attributes, frame)
        plate = (self.plate * 255).round().to(torch.uint8)
        return np.concatenate(
            [self.frames[frame].rgb, ops.rasterise_over(splats, plate, backend=self.backend).numpy()], axis=1
        )

    def _tensors(self) -> dict[str, Tensor]:
        """Everything that changes, by name; reading a checkpoint writes into these."""
        state = self.state
        avatar = state.avatar
        out = {
            "base": avatar.base,
            "deltas": avatar.deltas,
            "group": avatar.group,
            "skin": avatar.skin,
            "error": state.error,
            "seen": state.seen,
            "exposure": self.exposure.log_gain,
        }
        out |= {f"moment.{i}": moment for i, moment in enumerate(state.moments)}
        for i, parameter in enumerate(avatar.weights.parameters()):
            out[f"network.{i}"] = parameter.data
            slots = state.network.state[parameter]
            if not slots:
                slots.update(
                    step=torch.zeros(()), exp_avg=torch.zeros_like(parameter), exp_avg_sq=torch.zeros_like(parameter)
                )
            out |= {f"network.{i}.{name}": slot for name, slot in slots.items()}
        return out

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


def moments_of(avatar: GaussianAvatar) -> Moments:
    """An optimiser's moments before its first step."""
    base, deltas = avatar.base, avatar.deltas
    return torch.zeros_like(base), torch.zeros_like(base), torch.zeros_like(deltas), torch.zeros_like(deltas)


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
