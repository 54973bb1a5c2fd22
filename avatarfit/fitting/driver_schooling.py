"""The training of a driver's transformers, of one person or of many at once."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from avatarfit.contracts.events import Listener, Note, Progress
from avatarfit.fitting.driver_lessons import Lesson
from avatarfit.fitting.driver_loss import DriverLoss
from avatarfit.fitting.speech_augmentation import vary
from avatarfit.model.audio_to_landmarks import LOOK_AHEAD_HOPS, PAST_HOPS, Member
from avatarfit.ops.torch_threads import torch_threads


@dataclass(frozen=True)
class Schooling:
    """How transformers are trained."""

    steps: int = 440
    """Optimiser steps, taken in turn by the transformers; many more learn the clip by heart."""
    batch: int = 8
    """Windows a step."""
    window_tokens: int = 64
    """Tokens a window."""
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    average_steps: int = 20
    """Weights are averaged over about this many of a transformer's last steps."""
    own_share: float = 0.4
    """Windows of the clip's own sound; the others are of its other voices."""
    threads: int = 1
    """More gain nothing on tensors this small, and lose much when other work shares the cores."""

    def slower(self, factor: float) -> Schooling:
        """The same with another learning rate."""
        return replace(self, learning_rate=self.learning_rate * factor)


@dataclass(frozen=True)
class Pupil:
    """One person's lessons.

    Attributes:
        own: in the clip's own voice. others: in other voices, perhaps none.
        heads: of each transformer the layer that tells this person's mouth.
        mel: the features are mel bands.
    """

    own: list[Lesson]
    others: list[Lesson]
    loss: DriverLoss
    heads: list[nn.Linear]
    mel: bool


@torch.no_grad()
def start_head(head: nn.Linear, mean: Tensor) -> None:
    """Lets a last layer begin with the mean mouth and, last in float [M + 1], the mean share of closed lips."""
    head.weight.zero_()
    head.bias.copy_(mean)
    head.bias[-1] = torch.logit(mean[-1].clamp(0.01, 0.99))


def school(
    members: list[Member], pupils: list[Pupil], config: Schooling, stride_hops: int,
    random: np.random.Generator, stage: str, seconds_budget: float | None, on_event: Listener,
) -> float:  # fmt: skip
    """Trains transformers in turn, each with all pupils in turn, and leaves their averaged weights.

    Returns:
        the smoothed loss at the end; NaN without a step.
    """
    with torch_threads(config.threads):
        return _school(members, pupils, config, stride_hops, random, stage, seconds_budget, on_event)


def _school(
    members: list[Member], pupils: list[Pupil], config: Schooling, stride_hops: int,
    random: np.random.Generator, stage: str, seconds_budget: float | None, on_event: Listener,
) -> float:  # fmt: skip
    started = time.monotonic()
    parameters = [
        list({id(p): p for part in (m, *(pupil.heads[k] for pupil in pupils)) for p in part.parameters()}.values())
        for k, m in enumerate(members)
    ]
    optimisers = [
        torch.optim.AdamW(own, config.learning_rate, (0.9, 0.98), weight_decay=config.weight_decay)
        for own in parameters
    ]
    averages = [[p.detach().clone() for p in own] for own in parameters]
    smoothed, rounds = float("nan"), max(config.steps // len(members), 1)
    for member in members:
        member.train()
    for step in range(config.steps):
        elapsed = time.monotonic() - started
        if seconds_budget is not None and elapsed > seconds_budget:
            on_event(Note(stage, f"The driver's time was over after {step} of {config.steps} steps."))
            break
        done = max(step / config.steps, 0.0 if seconds_budget is None else elapsed / seconds_budget)
        turn, which = divmod(step, len(members))
        pupil, optimiser = pupils[turn % len(pupils)], optimisers[which]
        for group in optimiser.param_groups:
            warm_up = min(1, (turn + 1) / min(30, rounds))
            group["lr"] = config.learning_rate * warm_up * (0.02 + 0.49 * (1 + np.cos(np.pi * done)))
        x, target, known = _batch(pupil, stride_hops, config, random)
        loss = pupil.loss(pupil.heads[which](members[which].trunk(x)), target, known)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters[which], 1.0)
        optimiser.step()
        keep = min(1 - 1 / config.average_steps, (turn + 1) / (turn + 1 + config.average_steps))
        with torch.no_grad():
            for weights, parameter in zip(averages[which], parameters[which], strict=True):
                weights.lerp_(parameter, 1 - keep)
        value = float(loss.detach())
        smoothed = value if np.isnan(smoothed) else 0.95 * smoothed + 0.05 * value
        if (step + 1) % 20 == 0 or step + 1 == config.steps:
            on_event(Progress(stage, step + 1, config.steps, {"loss": smoothed}))
    with torch.no_grad():
        for own, average in zip(parameters, averages, strict=True):
            for parameter, weights in zip(own, average, strict=True):
                parameter.copy_(weights)
    return smoothed


def _batch(pupil: Pupil, stride: int, config: Schooling, random: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Varied windows [B, H, D], targets [B, K, M + 1] and which tokens have one, float [B, K]."""
    count = min(config.window_tokens, *(len(part.targets) for part in (*pupil.own, *pupil.others)))
    starts = [np.array([len(part.targets) - count + 1 for part in parts]) for parts in (pupil.own, pupil.others)]
    xs, ys, knowns = [], [], []
    for _ in range(config.batch):
        side = 0 if not pupil.others or random.random() < config.own_share else 1
        which = int(random.choice(len(starts[side]), p=starts[side] / starts[side].sum()))
        lesson, start = (pupil.own, pupil.others)[side][which], int(random.integers(starts[side][which]))
        hops = lesson.hops[start * stride : (start + count - 1) * stride + PAST_HOPS + LOOK_AHEAD_HOPS + 1]
        xs.append(vary(hops, random, pupil.mel))
        ys.append(lesson.targets[start : start + count])
        knowns.append(lesson.known[start : start + count])
    return (
        torch.from_numpy(np.stack(xs)),
        torch.from_numpy(np.stack(ys)),
        torch.from_numpy(np.stack(knowns).astype(np.float32)),
    )
