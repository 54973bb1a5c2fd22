"""Fits a driver: how one person's mouth follows the sound, and the habits beside it."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from avatarfit.audio import (
    FEATURE_COUNT,
    FEATURE_NAME,
    HOP_SECONDS,
    SAMPLE_RATE_HZ,
    SpeechFeatures,
    look_ahead_seconds,
    require_audible,
    speech_features,
)
from avatarfit.contracts import AudioClip, Motion, SoundError
from avatarfit.contracts.events import Finished, Listener, Note, Progress, Started, silent
from avatarfit.fitting.fresh_starts import fresh_starts
from avatarfit.fitting.speech_augmentation import SPEEDS, at_speed, vary
from avatarfit.media import resample
from avatarfit.model import kernel_regression
from avatarfit.model.audio_to_landmarks import LOOK_AHEAD_HOPS, PAST_HOPS, AudioToLandmarks, AudioToLandmarksConfig
from avatarfit.model.driver_model import DriverModel
from avatarfit.model.habits import SOUND_COLUMNS, Habits, Stance
from avatarfit.model.locally_linear import LocallyLinear
from avatarfit.model.rig import MOUTH_REGION, Rig, lip_aperture_cm

STAGE = "driver"
_UPPER_LIP, _LOWER_LIP = (int(np.flatnonzero(i == MOUTH_REGION)[0]) for i in (13, 14))


@dataclass(frozen=True)
class DriverTrainingConfig:
    """How a driver is fitted."""

    steps: int = 660
    """Optimiser steps, taken in turn by the transformers."""
    members: int = 3
    """Transformers whose predictions are averaged."""
    batch: int = 8
    """Windows a step."""
    window_tokens: int = 64
    """Tokens a window."""
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    average_steps: int = 20
    """Weights are averaged over about this many of a transformer's last steps."""
    gap_weight: float = 2.4
    """Weight of the inner lips' gap beside the mouth region's landmarks."""
    closure_weight: float = 2.0
    """How much more the gap counts where the lips are (nearly) closed."""
    velocity_weight: float = 0.3
    """Weight of the landmarks' motion from token to token."""
    kernel_share: float = 0.5
    """Weight of the kernel regression in the mean."""
    kernel_centres: int = 3000
    """Most moments the kernel regression keeps."""
    threads: int = 1
    """More gain nothing on tensors this small, and lose much when other work shares the cores."""


@dataclass(frozen=True)
class _Recording:
    """Features with their surroundings, and for each token its target and whether it has one."""

    hops: np.ndarray  # float32 [PAST_HOPS + n * stride + LOOK_AHEAD_HOPS, D]
    targets: np.ndarray  # float32 [n, M]
    known: np.ndarray  # bool [n]


def fit_driver(
    rig: Rig,
    motion: Motion,
    landmarks_cm: np.ndarray,
    sound: AudioClip,
    frame_rate_hz: float,
    *,
    steps: int | None = None,
    seconds_budget: float | None = None,
    seed: int = 0,
    on_event: Listener = silent,
    config: DriverTrainingConfig | None = None,
) -> DriverModel:
    """A driver from one clip.

    Args:
        rig: the person's.
        motion: the frames to learn from; `pts_seconds` on the sound's clock.
        landmarks_cm: float32 [T, 478, 3] of the same frames, in the head's frame.
        sound: the clip's, at any rate; what lies beyond the frames is not heard.
        frame_rate_hz: of the clip.
        steps: overrides the config's. With a number of steps the same input gives the same driver on one machine.
        seconds_budget: stops earlier when this time is over (the clock decides, so results then vary from run to run).
        seed: of every random choice.

    Raises:
        SoundError: the clip has no sound at its frames, it is silent, or nobody speaks.
        ValueError: lengths differ.
    """
    config = config or DriverTrainingConfig()
    config = config if steps is None else replace(config, steps=steps)
    if len(landmarks_cm) != len(motion) or len(motion) < 2:
        raise ValueError(f"{len(landmarks_cm)} landmarks and {len(motion)} frames came; wanted as many, at least 2")
    started = time.monotonic()
    on_event(Started(STAGE, config.steps, "steps"))
    heard = _audible_part(sound, motion.pts_seconds)
    random = np.random.default_rng(seed)
    stride = min(max(round(1 / (HOP_SECONDS * frame_rate_hz)), 1), 5)
    features = speech_features(heard)
    if not (features.activity > 0.5).any():
        raise SoundError("Nobody seems to speak in the clip", "a clip with speech", "choose another clip or stretch")
    # As it is heard in the middle of a session, and in its first seconds.
    own = [_recording(f, motion, 1.0, stride, frame_rate_hz) for f in [features, *fresh_starts(heard, random)]]
    if not own[0].known.any():
        raise SoundError("No frame of the clip has sound", "sound that runs beside the pictures", "check the clip")
    recordings = list(own)
    for speed in SPEEDS:
        other = at_speed(heard, speed, random)
        for faster in [speech_features(other), *fresh_starts(other, random)]:
            recordings.append(_recording(faster, motion, speed, stride, frame_rate_hz))

    centres = min(sum(int(part.known.sum()) for part in own), config.kernel_centres)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = AudioToLandmarks(
            AudioToLandmarksConfig(
                FEATURE_COUNT, motion.face.mouth.shape[1], stride, members=config.members,
                kernel_centres=centres, kernel_share=config.kernel_share,
            )
        )  # fmt: skip
        _solve_kernel(network, own, centres)
        threads = torch.get_num_threads()
        torch.set_num_threads(min(threads, config.threads))
        try:
            loss = _train(network, rig, recordings, config, random, seconds_budget, started, on_event)
        finally:
            torch.set_num_threads(threads)
    network.eval()
    model = DriverModel(
        FEATURE_NAME,
        network,
        LocallyLinear(motion.face.mouth * rig.mouth_deviation_cm),
        _habits(motion, frame_rate_hz, features),
        _resting_mouth(motion, landmarks_cm, features),
        rig.mouth_deviation_cm,
    )
    on_event(Finished(STAGE, time.monotonic() - started, {"loss": loss, "frames": float(len(motion))}))
    return model


def _audible_part(sound: AudioClip, pts_seconds: np.ndarray) -> AudioClip:
    """The sound beside the frames, at 16 kHz; not what comes later, which may be held out.

    Raises:
        SoundError: there is none, or it is silent.
    """
    require_audible(sound)
    sound = resample(sound, SAMPLE_RATE_HZ)
    ahead = LOOK_AHEAD_HOPS * HOP_SECONDS + look_ahead_seconds()
    stop = round((pts_seconds[-1] + ahead - sound.start_seconds) * SAMPLE_RATE_HZ)
    heard = AudioClip(sound.samples[: max(stop, 0)], SAMPLE_RATE_HZ, sound.start_seconds)
    require_audible(heard)
    return heard


def _recording(features: SpeechFeatures, motion: Motion, speed: float, stride: int, frame_rate_hz: float) -> _Recording:
    """Tokens of a sound played at `speed` beside the motion, interpolated to the tokens' times."""
    count = -(-len(features) // stride)
    times = (features.start_seconds + np.arange(count) * stride * HOP_SECONDS) * speed
    pts = motion.pts_seconds
    targets = np.stack([np.interp(times, pts, column) for column in motion.face.mouth.T], axis=1).astype(np.float32)
    after = np.clip(np.searchsorted(pts, times - 1e-6), 1, len(pts) - 1)
    width = pts[after] - pts[after - 1]
    known = (times >= pts[0] - 1e-6) & (times <= pts[-1] + 1e-6) & (width < 1.5 / frame_rate_hz)
    hops = np.arange(-PAST_HOPS, count * stride + LOOK_AHEAD_HOPS)
    return _Recording(features.values[np.clip(hops, 0, len(features) - 1)], targets, known)


def _solve_kernel(network: AudioToLandmarks, recordings: list[_Recording], centres: int) -> None:
    """Fits the kernel regression to so many of all known tokens, evenly chosen."""
    first, last = PAST_HOPS - kernel_regression.PAST_HOPS, PAST_HOPS + kernel_regression.AHEAD_HOPS + 1
    stride = network.config.stride_hops
    windows = np.concatenate(
        [r.hops[t * stride + first : t * stride + last][None] for r in recordings for t in np.flatnonzero(r.known)]
    )
    targets = np.concatenate([r.targets[r.known] for r in recordings])
    keep = np.linspace(0, len(targets) - 1, centres).astype(np.int64)
    network.kernel.solve(torch.from_numpy(windows[keep]), torch.from_numpy(targets[keep]))


def _train(
    network: AudioToLandmarks,
    rig: Rig,
    recordings: list[_Recording],
    config: DriverTrainingConfig,
    random: np.random.Generator,
    seconds_budget: float | None,
    started: float,
    on_event: Listener,
) -> float:
    """Trains the transformers in turn and leaves their averaged weights; returns the smoothed loss at the end."""
    loss_of = _Loss(rig, config, recordings[0])
    for member in network.members:
        member.get_parameter("out.bias").data.copy_(network.kernel.mean)
    optimisers = [
        torch.optim.AdamW(m.parameters(), config.learning_rate, (0.9, 0.98), weight_decay=config.weight_decay)
        for m in network.members
    ]
    averages = [[p.detach().clone() for p in m.parameters()] for m in network.members]
    smoothed, rounds = float("nan"), max(config.steps // config.members, 1)
    network.train()
    for step in range(config.steps):
        elapsed = time.monotonic() - started
        if seconds_budget is not None and elapsed > seconds_budget:
            on_event(Note(STAGE, f"The driver's time was over after {step} of {config.steps} steps."))
            break
        done = max(step / config.steps, 0.0 if seconds_budget is None else elapsed / seconds_budget)
        turn, which = divmod(step, config.members)
        member, optimiser = network.members[which], optimisers[which]
        for group in optimiser.param_groups:
            warm_up = min(1, (turn + 1) / min(30, rounds))
            group["lr"] = config.learning_rate * warm_up * (0.02 + 0.49 * (1 + np.cos(np.pi * done)))
        x, target, known = _batch(recordings, network.config.stride_hops, config, random)
        loss = loss_of(member(x), target, known)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(member.parameters(), 1.0)
        optimiser.step()
        keep = min(1 - 1 / config.average_steps, (turn + 1) / (turn + 1 + config.average_steps))
        with torch.no_grad():
            for weights, parameter in zip(averages[which], member.parameters(), strict=True):
                weights.lerp_(parameter, 1 - keep)
        value = float(loss.detach())
        smoothed = value if np.isnan(smoothed) else 0.95 * smoothed + 0.05 * value
        if (step + 1) % 20 == 0 or step + 1 == config.steps:
            on_event(Progress(STAGE, step + 1, config.steps, {"loss": smoothed}))
    with torch.no_grad():
        for member, average in zip(network.members, averages, strict=True):
            for parameter, weights in zip(member.parameters(), average, strict=True):
                parameter.copy_(weights)
    return smoothed


def _batch(
    recordings: list[_Recording], stride: int, config: DriverTrainingConfig, random: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Varied windows [B, H, D], targets [B, K, M] and which tokens have one, float [B, K]."""
    count = min(config.window_tokens, *(len(r.targets) for r in recordings))
    starts = np.array([len(r.targets) - count + 1 for r in recordings])
    xs, ys, knowns = [], [], []
    for _ in range(config.batch):
        which = int(random.choice(len(starts), p=starts / starts.sum()))
        recording, start = recordings[which], int(random.integers(starts[which]))
        hops = recording.hops[start * stride : (start + count - 1) * stride + PAST_HOPS + LOOK_AHEAD_HOPS + 1]
        xs.append(vary(hops, random))
        ys.append(recording.targets[start : start + count])
        knowns.append(recording.known[start : start + count])
    return (
        torch.from_numpy(np.stack(xs)),
        torch.from_numpy(np.stack(ys)),
        torch.from_numpy(np.stack(knowns).astype(np.float32)),
    )


class _Loss:
    """Landmarks in cm (the rig's basis is orthonormal, so scaled coefficients measure them), gap, closure, velocity.

    Landmarks are measured against the spread of the whole mouth region over the clip, the gap against its own.
    """

    def __init__(self, rig: Rig, config: DriverTrainingConfig, recording: _Recording) -> None:
        self.config = config
        self.deviation = torch.from_numpy(rig.mouth_deviation_cm.copy())
        gap = rig.mouth_basis[:, _LOWER_LIP, 1] - rig.mouth_basis[:, _UPPER_LIP, 1]
        self.gap = torch.from_numpy(gap) * self.deviation
        gaps = recording.targets[recording.known] @ self.gap.numpy()
        self.gap_variance = max(float(gaps.var()), 1e-6)
        self.closed = float(np.percentile(gaps, 15))
        self.variance = max(float(np.square(rig.mouth_deviation_cm).sum()), 1e-6)

    def __call__(self, predicted: Tensor, target: Tensor, known: Tensor) -> Tensor:
        """Scalar, about 1 for the mean mouth without the other weights."""
        error = (predicted - target) * self.deviation
        count = known.sum().clamp_min(1)
        shape = (error.square().sum(-1) * known).sum() / (count * self.variance)
        closed = torch.sigmoid((self.closed - target @ self.gap) / (0.2 * self.gap_variance**0.5))
        weight = known * (1 + self.config.closure_weight * closed)
        gap = (((predicted - target) @ self.gap).square() * weight).sum()
        gap = gap / (weight.sum().clamp_min(1) * self.gap_variance)
        both = known[:, 1:] * known[:, :-1]
        velocity = ((error[:, 1:] - error[:, :-1]).square().sum(-1) * both).sum()
        velocity = velocity / (both.sum().clamp_min(1) * self.variance)
        return shape + self.config.gap_weight * gap + self.config.velocity_weight * velocity


def _habits(motion: Motion, frame_rate_hz: float, features: SpeechFeatures) -> Habits:
    stance = Stance(
        motion.face.upper,
        motion.face.eyes,
        motion.head.rotation_wxyz,
        motion.head.translation_cm,
        motion.torso.affine,
        motion.torso.shape,
    )
    heard = features.at(features.values[:, list(SOUND_COLUMNS)], motion.pts_seconds)
    return Habits.of(stance, motion.pts_seconds, frame_rate_hz, heard)


def _resting_mouth(motion: Motion, landmarks_cm: np.ndarray, features: SpeechFeatures) -> np.ndarray:
    """float32 [M]: the median mouth of quiet frames with closed lips; of all with closed lips if few are quiet."""
    aperture = lip_aperture_cm(landmarks_cm)
    closed = aperture <= np.percentile(aperture, 25)
    quiet = closed & (features.at(features.activity, motion.pts_seconds) < 0.3)
    return np.median(motion.face.mouth[quiet if quiet.sum() >= 5 else closed], axis=0).astype(np.float32)
