"""Fits what a driver's predictions leave open (avatarfit.model.mouth_flow)."""

from __future__ import annotations

import numpy as np
import torch

from avatarfit.fitting.driver_kernel import Moments, blocks_of, kernel_for
from avatarfit.model.audio_to_landmarks import AudioToLandmarksConfig
from avatarfit.model.mouth_flow import MouthFlow

_AXES = 8
_STEPS, _BATCH = 1200, 256
_RATE, _DECAY = 2e-3, 0.05
_BLUR = 0.5
"""Deviation of the noise on predictions, in their own: a minute is learned by heart otherwise (Bishop 1995)."""
_LEAST = 1e-2
_FOLDS = 4


def fit_flow(
    sizes: AudioToLandmarksConfig, moments: Moments, deviation_cm: np.ndarray, lead_hops: float, stride_hops: int
) -> MouthFlow:
    """The flow of one person, by what kernel regressions leave open of blocks that they were not fitted to.

    What remains where the driver itself was fitted is too small: it knows those moments by heart.

    Args:
        moments: of the clip's own voice, in order; a hop of the clip is 10 ms.
        deviation_cm: float [M], coefficients to cm: the axes are the largest in cm.
        lead_hops: the kernel's.
        stride_hops: hops between neighbouring moments.
    """
    block = blocks_of(moments)
    told = np.zeros_like(moments.targets)
    fold = block % min(_FOLDS, max(len(np.unique(block)), 1))
    for k in np.unique(fold):
        inside, outside = moments.only(fold != k), fold == k
        if not len(inside.targets):
            inside = moments
        kernel = kernel_for(sizes, inside)
        inside.into(kernel, lead_hops)
        with torch.no_grad():
            told[outside] = kernel(torch.from_numpy(moments.windows[outside]), 1)[:, 0].numpy()
    told[:, -1] = np.clip(told[:, -1], 0, 1)
    left = (moments.targets - told)[:, :-1]
    left = left - left.mean(axis=0)

    _, spread, directions = np.linalg.svd(left * deviation_cm / np.sqrt(len(left)), full_matrices=False)
    count = max(int((spread[:_AXES] > _LEAST * spread[0]).sum()), 1)
    spread = np.maximum(spread[:count], 1e-6)
    flow = MouthFlow(count, left.shape[1])
    flow.axes.copy_(torch.from_numpy(spread[:, None] * directions[:count] / deviation_cm))
    flow.offset.copy_(torch.from_numpy(told.mean(axis=0)))
    flow.scale.copy_(torch.from_numpy(told.std(axis=0) + 0.05))
    places = (left * deviation_cm) @ directions[:count].T / spread
    flow.reach_hops.fill_(_reach(places, spread, moments.seconds, stride_hops))
    _train(flow, torch.from_numpy(places.astype(np.float32)), torch.from_numpy(told))
    return flow.eval().requires_grad_(False)


def _reach(places: np.ndarray, spread: np.ndarray, seconds: np.ndarray, stride_hops: int) -> float:
    """The window, in hops, that gives white noise the correlation which neighbouring residuals have.

    White noise under a Gaussian window of deviation r has the correlation exp(-k^2 / 4 r^2) at a lag of k.
    """
    next_to = np.diff(seconds) < 1.5e-2 * stride_hops
    if not next_to.any():
        return float(stride_hops)
    along = (places[1:] * places[:-1])[next_to].mean(axis=0) / np.square(places).mean(axis=0)
    correlation = np.clip(np.average(along, weights=np.square(spread)), 0.05, 0.98)
    return float(stride_hops / (2 * np.sqrt(-np.log(correlation))))


def _train(flow: MouthFlow, places: torch.Tensor, told: torch.Tensor) -> None:
    """Regresses the velocities of straight paths (Lipman et al. 2023, eq. 23 with sigma_min = 0)."""
    optimiser = torch.optim.AdamW(flow.network.parameters(), _RATE, weight_decay=_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, _STEPS)
    for _ in range(_STEPS):
        chosen = torch.randint(len(places), (_BATCH,))
        end, start, time = places[chosen], torch.randn(_BATCH, places.shape[1]), torch.rand(_BATCH)
        x = start + time[:, None] * (end - start)
        given = told[chosen] + _BLUR * flow.scale * torch.randn(_BATCH, told.shape[1])
        loss = (flow.velocity(x, time, given) - (end - start)).square().mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
