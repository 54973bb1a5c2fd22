"""Fits a hash-grid head, and below it the Gaussians of neck and torso, to the frames of a clip, one frame a step.

Both are trained by the loss of the composite, field over Gaussians over background, so that there is no seam between
them to hide. The Gaussians draw the whole picture; the field only squares of the head, and where it does not draw, the
head counts as right.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avatarfit import ops
from avatarfit.capture.clip_folder import NECK, TORSO
from avatarfit.contracts import Motion
from avatarfit.contracts.events import Listener, silent
from avatarfit.fitting.fitted_gaussians import FittedGaussians, adam_tensors, moments_of
from avatarfit.fitting.frame_store import FrameStore, StoredFrame
from avatarfit.fitting.frame_trainer import FrameTrainer
from avatarfit.fitting.hashgrid_regularisers import distortion, head_matte
from avatarfit.fitting.hashgrid_settings import HashgridSettings
from avatarfit.fitting.hashgrid_start import initial_head
from avatarfit.fitting.initialise import initial_gaussians
from avatarfit.fitting.seen_cells import SeenCells
from avatarfit.model.gaussian_avatar import GaussianAvatar
from avatarfit.model.hashgrid_head import FrameState, HashgridHead, pixels_of_box, rays_through
from avatarfit.model.motion_grid import COLUMNS
from avatarfit.model.torso_modes import TorsoModes
from avatarfit.ops.field import DISPLACEMENT

_BETAS = (0.9, 0.99)
_BASIS_RATE = 0.25
_LAST_LOOKS = 64
"""Frames whose rays say at the end which cells are kept."""


class HashgridTrainer(FrameTrainer[tuple[GaussianAvatar, HashgridHead]]):
    """Fits the head's field and the Gaussians of neck and torso of one person.

    Args:
        motion: of the training frames, measured.
        landmarks_cm: float32 [T, 478, 3] of the training frames, in the head's frame.
        aperture_cm: float [T], the inner lips' gap.
        frames: the same T frames on disk.
        plate: uint8 [H, W, 3], the background at the fitting size.
        modes: how the torso gives way; as many as `motion.torso.shape` has columns.
        settings: how.
        checkpoint: where to keep the state; None keeps none.
        resume: go on from the checkpoint when there is one.

    Raises:
        InputError: no frame shows a head, or nothing below it, or the grids do not fit into memory.
    """

    def __init__(
        self,
        motion: Motion,
        landmarks_cm: np.ndarray,
        aperture_cm: np.ndarray,
        frames: FrameStore,
        plate: np.ndarray,
        modes: TorsoModes,
        settings: HashgridSettings,
        *,
        checkpoint: Path | None = None,
        resume: bool = False,
        on_event: Listener = silent,
    ) -> None:
        super().__init__(len(motion), frames, plate, settings, checkpoint, on_event)
        self.settings = settings
        below = settings.below()
        gaussians = initial_gaussians(
            motion, landmarks_cm, frames, aperture_cm, modes, count=below.count, basis_count=below.basis_count,
            generator=np.random.default_rng(settings.seed), labels=(NECK, TORSO),
        )  # fmt: skip
        self.gaussians = FittedGaussians(gaussians, motion, frames.camera, below, self.backend)
        start = initial_head(motion, landmarks_cm, frames, gaussians.rest_head, settings.shape())
        self.head = start.head
        self.cells = SeenCells(start.allowed, self.head.low_cm, self.head.side_cm, settings.occupancy_threshold)
        self.head.occupancy.copy_(self.cells.bits(start.shell))
        self.codes = torch.nn.Parameter(torch.zeros(len(motion), settings.code_count))
        self.optimiser, self._rates = self._field_optimiser()
        grid = self.head.motion
        self._motion_moments = moments_of(grid.rest, grid.bases)
        self._motion_rates = torch.full((COLUMNS,), settings.motion_rate)
        self._motion_rates[DISPLACEMENT] = settings.displacement_rate_cm
        self.poses = torch.from_numpy(motion.head.matrices())
        self.condition = self.head.conditions(motion, held=False)
        if resume:
            self._resume()

    def _field_optimiser(self) -> tuple[torch.optim.Adam, list[float]]:
        settings, head = self.settings, self.head
        parts: list[tuple[list[torch.nn.Parameter], float, float]] = [
            ([head.table, head.planes], settings.table_rate, 0.0),
            ([*head.density.parameters(), *head.colour.parameters()], settings.mlp_rate, 0.0),
            ([*head.weights.parameters(), head.motion.attention], settings.network_rate, 0.0),
            ([self.codes], settings.code_rate, settings.code_weight),
        ]
        groups = [
            {"params": [p for p in some if p.numel()], "lr": rate, "weight_decay": decay} for some, rate, decay in parts
        ]
        groups = [group for group in groups if group["params"]]
        optimiser = torch.optim.AdamW(groups, betas=_BETAS, eps=1e-15, fused=True)
        return optimiser, [float(group["lr"]) for group in optimiser.param_groups]

    def result(self) -> tuple[GaussianAvatar, HashgridHead]:
        """The Gaussians that show, and the head, as they are now, of their own; the trainer may go on."""
        avatar = self.gaussians.avatar
        gaussians = self._those_that_show(avatar.only(torch.ones(avatar.count, dtype=torch.bool)).trainable())
        head = HashgridHead.from_tensors(self.head.to_tensors(), self.head.config())
        head.occupancy.copy_(self._last_bits())
        return gaussians, head

    def _step(self, share: float) -> float:
        settings, state, head = self.settings, self.state, self.head
        frame = self._next_frame()
        truth = self.frames[frame]
        rate = settings.last_rate**share
        behind = self.gaussians.draw(frame, state.generator)
        inside, outside, near = (torch.from_numpy(m) for m in head_matte(truth.labels, truth.person))
        drawn = self._squares(frame, truth, near)
        pixels = drawn.nonzero()

        noise = torch.randn(self.condition.shape[1], generator=state.generator) * settings.motion_noise
        inputs = self.condition[frame] + noise
        zone_weights = head.motion.zone_weights(head.weights(inputs[None])[0])
        # A leaf, as the Gaussians' attributes are.
        rows = head.motion.rows(zone_weights, self.backend).requires_grad_()
        field_state = FrameState(head.motion.spread(rows), head.seen(inputs, self.codes[frame]))
        jitter = torch.rand(len(pixels), generator=state.generator)
        samples = head.march(*rays_through(pixels.flip(1), self.frames.camera, self.poses[frame]), jitter)
        sigma, colour = head.shade(samples.positions, field_state, self.backend)
        light = ops.composite_rays(sigma, colour, samples.t, samples.lengths, samples.offsets, backend=self.backend)
        self.cells.see(samples.positions, light.weights.detach())

        front = torch.zeros_like(behind)
        front[drawn] = torch.cat([light.color, light.alpha[:, None]], 1).detach()
        image = front + (1 - front[:, :, 3:]) * behind
        loss, gradient = self._loss(image, frame, truth, near & ~drawn)
        of_front = gradient.clone()
        of_front[:, :, 3] -= (gradient * behind).sum(2)
        self.gaussians.take(gradient * (1 - front[:, :, 3:]), state.step + 1, rate)

        of_rays = of_front[drawn]
        per_ray = 1 / len(pixels)
        # The field's own alpha: a head has no holes, and nothing else is the field's.
        sign = outside[drawn].float() - inside[drawn].float()
        of_rays[:, 3] += settings.head_alpha_weight * per_ray * sign
        of_weights = distortion(light.weights.detach(), samples.t, samples.lengths, samples.offsets)[1]
        torch.autograd.backward(
            [light.color, light.alpha, light.weights],
            [
                of_rays[:, :3].contiguous(),
                of_rays[:, 3].contiguous(),
                of_weights * (settings.distortion_weight * per_ray),
            ],
        )
        assert rows.grad is not None
        grid, rates = head.motion, self._motion_rates * rate
        zone_weights.backward(
            ops.blend_adam_step_(
                grid.rest, grid.bases, *self._motion_moments, rows.grad, zone_weights.detach(), grid.zone,
                state.step + 1, rates, rates * _BASIS_RATE, beta1=_BETAS[0], beta2=_BETAS[1], eps=1e-12,
                delta_weight_decay=settings.basis_decay, backend=self.backend,
            )
        )  # fmt: skip
        for group, first in zip(self.optimiser.param_groups, self._rates, strict=True):
            group["lr"] = first * rate
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        if state.step + 1 >= settings.occupancy_from and (state.step + 1) % settings.occupancy_every == 0:
            head.occupancy.copy_(self.cells.bits(self.cells.occupied()))
            self.cells.fade(settings.occupancy_fade)
        return float(loss)

    def _squares(self, frame: int, truth: StoredFrame, near: Tensor) -> Tensor:
        """bool [H, W]: the pixels whose rays are looked through, around pixels drawn by the loss' weight."""
        height, width = near.shape
        drawn = torch.zeros_like(near)
        chance = (torch.from_numpy(truth.weight.astype(np.float32)) * near).flatten().cumsum(0)
        if chance[-1] <= 0:
            chance = torch.arange(1.0, height * width + 1)
        left, top, right, bottom = pixels_of_box(self.head.box, self.frames.camera, self.poses[frame])
        side = self.settings.patch_px
        for _ in range(self.settings.patches):
            place = torch.rand((), generator=self.state.generator) * chance[-1]
            at = min(int(torch.searchsorted(chance, place)), height * width - 1)
            row = max(0, min(at // width - side // 2, height - side))
            column = max(0, min(at % width - side // 2, width - side))
            drawn[row : row + side, column : column + side] = True
        of_box = torch.zeros_like(near)
        of_box[top:bottom, left:right] = True
        return drawn & of_box

    @torch.no_grad()
    def _last_bits(self) -> Tensor:
        """Occupancy of the cells in which rays of frames spread over the clip see more than the threshold."""
        head, camera = self.head, self.frames.camera
        cells = SeenCells(self.cells.allowed, head.low_cm, head.side_cm, self.settings.occupancy_threshold)
        chosen = np.unique(np.linspace(0, self.frame_count - 1, min(_LAST_LOOKS, self.frame_count)).round())
        for frame in chosen.astype(int):
            pixels = self._pixels(int(frame))
            samples = head.march(*rays_through(pixels, camera, self.poses[frame]), backend=self.backend)
            sigma = head.density_at(samples.positions, head.frame_state(self.condition[frame]), self.backend)
            rest = samples.t, samples.lengths, samples.offsets
            cells.see(samples.positions, ops.composite_rays(sigma, sigma[:, None], *rest).weights)
        return cells.bits(cells.occupied()) & head.occupancy

    def _pixels(self, frame: int) -> Tensor:
        left, top, right, bottom = pixels_of_box(self.head.box, self.frames.camera, self.poses[frame])
        return torch.cartesian_prod(torch.arange(top, bottom), torch.arange(left, right)).flip(1)

    @torch.no_grad()
    def preview(self) -> np.ndarray:
        """uint8 [H, 2W, 3]: a training frame beside the avatar in the same motion."""
        frame = self.frame_count // 3
        front = self.head.draw(
            self.frames.camera, self.poses[frame], self.head.frame_state(self.condition[frame]), self.backend
        )
        image = front + (1 - front[:, :, 3:]) * self.gaussians.draw(frame)
        shown = image[:, :, :3] + (1 - image[:, :, 3:]) * self.plate
        picture = (shown.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
        return np.concatenate([self.frames[frame].rgb, picture], axis=1)

    def _tensors(self) -> dict[str, Tensor]:
        out = {f"gaussians.{name}": tensor for name, tensor in self.gaussians.tensors().items()}
        out |= {f"field.{name}": tensor for name, tensor in adam_tensors("adam", self.optimiser).items()}
        out |= {"motion.rest": self.head.motion.rest, "motion.bases": self.head.motion.bases}
        out |= {f"motion.moment.{i}": moment for i, moment in enumerate(self._motion_moments)}
        seen = {"occupancy": self.head.occupancy, "largest": self.cells.largest, "exposure": self.exposure.log_gain}
        return out | seen
