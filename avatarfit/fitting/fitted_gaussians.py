"""Gaussians that are fitted: they draw a frame, and take the picture's gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from avatarfit import ops
from avatarfit.contracts import Camera, Motion
from avatarfit.fitting.gaussian_settings import GaussianSettings
from avatarfit.fitting.relocation import DEAD_LOGIT, relocate
from avatarfit.model.gaussian_avatar import GaussianAvatar

_BETAS = (0.9, 0.99)
_EPSILON = 1e-10

Moments = tuple[Tensor, Tensor, Tensor, Tensor]
"""Adam's first and second moments, of the base and then of the deltas."""


class FittedGaussians:
    """One avatar's Gaussians and their optimisers.

    Args:
        avatar: to fit, in place.
        motion: of the training frames.
        camera: the pictures' view.
        settings: rates and regularisers.
        backend: of `avatarfit.ops`.
    """

    def __init__(
        self, avatar: GaussianAvatar, motion: Motion, camera: Camera, settings: GaussianSettings, backend: str
    ) -> None:
        self.avatar, self.camera, self.settings, self.backend = avatar, camera, settings, backend
        self.moments = moments_of(avatar.base, avatar.deltas)
        self.network = torch.optim.Adam(avatar.weights.parameters(), lr=settings.network_rate, betas=_BETAS, eps=1e-8)
        self.error = torch.zeros(avatar.count)
        self.seen = torch.full((avatar.count,), -torch.inf)
        self.condition = avatar.condition(motion)
        self.head = torch.from_numpy(avatar.head_matrices(motion.head))
        self.torso = torch.from_numpy(motion.torso.matrices())
        self._weights = self._attributes = self._image = torch.zeros(0)

    def draw(self, frame: int, generator: torch.Generator | None = None) -> Tensor:
        """A frame's picture [H, W, 4]; with a generator, of motion with a little noise, for `take`."""
        avatar = self.avatar
        inputs = self.condition[frame : frame + 1]
        if generator is not None:
            inputs = inputs + torch.randn(inputs.shape, generator=generator) * self.settings.motion_noise
        self._weights = avatar.weights(inputs)[0]
        with torch.no_grad():
            still = self._weights.detach()
            attributes = ops.blend(avatar.base, avatar.deltas, still, avatar.group, backend=self.backend)
        # A leaf: the deltas' gradient is an outer product that the optimiser forms on the fly.
        self._attributes = attributes.requires_grad_(generator is not None)
        c = self.camera
        self._image = ops.rasterise(
            self._splats(self._attributes, frame), c.height_px, c.width_px, backend=self.backend
        )
        return self._image.detach()

    @torch.no_grad()
    def draw_over(self, frame: int, plate: Tensor) -> Tensor:
        """A frame's picture over a background uint8 [H, W, 3]: uint8 [H, W, 3]."""
        avatar = self.avatar
        weights = avatar.weights(self.condition[frame : frame + 1])[0]
        attributes = ops.blend(avatar.base, avatar.deltas, weights, avatar.group, backend=self.backend)
        return ops.rasterise_over(self._splats(attributes, frame), plate, backend=self.backend)

    def _splats(self, attributes: Tensor, frame: int) -> Tensor:
        c = self.camera
        return ops.project(
            attributes, self.avatar.skin, self.head[frame], self.torso[frame],
            c.focal_px, c.center_x_px, c.center_y_px, c.width_px, c.height_px, backend=self.backend,
        )  # fmt: skip

    def take(self, image_gradient: Tensor, step: int, rate: float) -> None:
        """One optimiser step, the `step`-th from 1, by the gradient of the picture drawn last."""
        avatar, settings = self.avatar, self.settings
        self._image.backward(image_gradient)
        gradient = self._attributes.grad
        assert gradient is not None
        logit = self._attributes.detach()[:, 10]
        torch.maximum(self.seen, logit, out=self.seen)
        opacity = torch.sigmoid(logit)
        gradient[:, 10] += settings.opacity_weight / avatar.count * opacity * (1 - opacity)
        rates = settings.attribute_rates() * rate
        weights_gradient = ops.blend_adam_step_(
            avatar.base, avatar.deltas, *self.moments, gradient, self._weights.detach(), avatar.group, step,
            rates, rates * settings.delta_rate_fraction, beta1=_BETAS[0], beta2=_BETAS[1], eps=_EPSILON,
            delta_weight_decay=settings.delta_decay, backend=self.backend,
        )  # fmt: skip
        self._weights.backward(weights_gradient)
        for group in self.network.param_groups:
            group["lr"] = settings.network_rate * rate
        self.network.step()
        self.network.zero_grad(set_to_none=True)
        self.error += gradient[:, :3].norm(dim=1)
        self._weights = self._attributes = self._image = torch.zeros(0)

    def relocate(self, generator: torch.Generator) -> None:
        """Moves Gaussians that lately showed in no frame to where error stays."""
        relocate(self.avatar, self.moments, self.error, self.seen, generator)
        self.error.zero_()
        self.seen.fill_(-torch.inf)

    def shown(self) -> Tensor:
        """bool [N]: which showed in some frame since the last move."""
        return self.seen >= DEAD_LOGIT

    def tensors(self) -> dict[str, Tensor]:
        """Everything that changes, by name; a checkpoint writes into these."""
        avatar = self.avatar
        out = {name: getattr(avatar, name) for name in ("base", "deltas", "group", "skin")}
        out |= {"error": self.error, "seen": self.seen}
        out |= {f"moment.{i}": moment for i, moment in enumerate(self.moments)}
        return out | adam_tensors("network", self.network)


def moments_of(base: Tensor, deltas: Tensor) -> Moments:
    """An optimiser's moments before its first step."""
    return torch.zeros_like(base), torch.zeros_like(base), torch.zeros_like(deltas), torch.zeros_like(deltas)


def adam_tensors(name: str, optimiser: torch.optim.Adam) -> dict[str, Tensor]:
    """Parameters and moments of an optimiser, which are made where it has not stepped yet."""
    out: dict[str, Tensor] = {}
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    for i, parameter in enumerate(parameters):
        out[f"{name}.{i}"] = parameter.data
        slots = optimiser.state[parameter]
        if not slots:
            slots.update(
                step=torch.zeros(()), exp_avg=torch.zeros_like(parameter), exp_avg_sq=torch.zeros_like(parameter)
            )
        out |= {f"{name}.{i}.{slot}": value for slot, value in slots.items()}
    return out
