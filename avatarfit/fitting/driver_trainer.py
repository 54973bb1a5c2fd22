"""Fits a driver: how one person's mouth follows the sound, and the habits beside it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from avatarfit.audio import LOG_MEL, OTHER_COLUMNS, SpeechEncoder, SpeechFeatures, feature_name
from avatarfit.contracts import AudioClip, Motion
from avatarfit.contracts.events import Finished, Listener, Note, Started, silent
from avatarfit.fitting.driver_flow import fit_flow
from avatarfit.fitting.driver_kernel import Moments, best_lead
from avatarfit.fitting.driver_lessons import Columns, Lesson, listen
from avatarfit.fitting.driver_loss import DriverLoss, DriverLossConfig
from avatarfit.fitting.driver_prior import DriverPrior
from avatarfit.fitting.driver_schooling import Pupil, Schooling, school, start_head
from avatarfit.fitting.speech_augmentation import VOICES, Voice
from avatarfit.model.audio_to_landmarks import AudioToLandmarks, AudioToLandmarksConfig
from avatarfit.model.driver_model import DriverModel
from avatarfit.model.habits import SOUND_COLUMNS, Habits, Stance
from avatarfit.model.kernel_regression import KernelRegression, window_size
from avatarfit.model.locally_linear import LocallyLinear
from avatarfit.model.rig import Rig

STAGE = "driver"
KERNEL_GROUP = 4
_LEAD_MOMENTS = 1_200


@dataclass(frozen=True)
class DriverTrainingConfig:
    """How a driver is fitted."""

    schooling: Schooling = field(default_factory=Schooling)
    """Of the transformers."""
    loss: DriverLossConfig = field(default_factory=DriverLossConfig)
    voices: Sequence[Voice] = VOICES
    """What the clip's sound is also made to sound like."""
    members: int = 1
    """Transformers whose predictions are averaged."""
    kernel_share: float = 0.65
    """Weight of the kernel regression in the mean."""
    kernel_centres: int = 3000
    """Most moments a kernel regression keeps."""
    kernel_axes: int = 48
    """Principal axes of its windows on which it tells distances: a quarter of the work of all of them, as good."""
    beside_share: float = 0.3
    """Weight of the second kernel regression, which hears what the transformers do not, in the mean."""
    beside_axes: int = 96
    """Its axes."""
    hear_pitch: bool = True
    """Whether pitch and voicing are heard."""
    lead_hops: float | None = None
    """How much later than the mouth the sound comes that tells most of it; None finds out."""
    prior_rate: float = 0.3
    """Learning rate of a prior that is adapted, over that of one that starts from nothing."""


def fit_driver(
    rig: Rig,
    motion: Motion,
    landmarks_cm: np.ndarray,
    sound: AudioClip,
    frame_rate_hz: float,
    *,
    encoder: SpeechEncoder = LOG_MEL,
    prior: DriverPrior | None = None,
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
        encoder: of the speech features.
        prior: what many people have in common, to start from; None starts from nothing.
        steps: overrides the config's. With a number of steps the same input gives the same driver on one machine.
        seconds_budget: stops earlier when this time is over (the clock decides, so results then vary from run to run).
        seed: of every random choice.

    Raises:
        SoundError: the clip has no sound at its frames, it is silent, or nobody speaks.
        FileFormatError: the prior hears other features.
        ValueError: lengths differ.
    """
    config = config or DriverTrainingConfig()
    if steps is not None:
        config = replace(config, schooling=replace(config.schooling, steps=steps))
    if prior is not None:
        prior.require(feature_name(encoder))
    started = time.monotonic()
    on_event(Started(STAGE, config.schooling.steps, "steps"))
    random = np.random.default_rng(seed)
    heard = listen(motion, landmarks_cm, sound, frame_rate_hz, encoder, config.voices, random)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        columns = Columns.of(heard.own[0].values, encoder) if prior is None else prior.columns
        columns = replace(columns, hear_pitch=config.hear_pitch)
        beside = Columns.beside(heard.own[0].values, encoder)
        sizes = AudioToLandmarksConfig(
            encoder.column_count + OTHER_COLUMNS, motion.face.mouth.shape[1], heard.stride_hops,
            members=config.members, kernel_group=1 if columns.kept else KERNEL_GROUP, kernel_share=config.kernel_share,
            kept_columns=columns.kept, hear_pitch=columns.hear_pitch,
            beside_columns=encoder.column_count - columns.stop, beside_kept=0 if beside is None else beside.kept,
            beside_share=config.beside_share,
        )  # fmt: skip
        sizes = replace(
            sizes,
            kernel_axes=min(config.kernel_axes, window_size(sizes.seen_columns, sizes.kernel_group)),
            beside_axes=min(config.beside_axes, window_size(sizes.beside_kept + OTHER_COLUMNS)),
        )
        own, others = heard.lessons(columns)
        loss = DriverLoss(rig, config.loss, own[0])
        lead = config.lead_hops
        if lead is None:
            lead = best_lead(sizes, Moments.of(own[:1], sizes.stride_hops, _LEAD_MOMENTS), loss.weights())
        on_event(Note(STAGE, f"The sound that tells most of a mouth comes {10 * lead:g} ms after it."))
        moments = Moments.of(own, sizes.stride_hops, config.kernel_centres)
        sizes = replace(sizes, kernel_centres=len(moments.targets), lead_hops=lead)
        if prior is not None:
            sizes = prior.adapted(sizes)
        network = AudioToLandmarks(sizes)
        network.offset.copy_(torch.from_numpy(columns.offset))
        network.turn.copy_(torch.from_numpy(columns.turn))
        moments.into(network.kernel, lead)
        if beside is not None and network.beside is not None:
            beside = replace(beside, hear_pitch=config.hear_pitch)
            network.beside_offset.copy_(torch.from_numpy(beside.offset))
            network.beside_turn.copy_(torch.from_numpy(beside.turn))
            _fit_beside(network.beside, heard.own_lessons(beside), sizes, config, loss.weights())
        for member in network.transformers:
            start_head(member.out, network.kernel.mean)
        if prior is not None:
            prior.into(network, own[0])
        schooling = config.schooling if prior is None else config.schooling.slower(config.prior_rate)
        pupil = Pupil(own, others, loss, [member.out for member in network.transformers], not columns.kept)
        left = None if seconds_budget is None else max(seconds_budget - (time.monotonic() - started), 0.0)
        end = school(network.transformers, [pupil], schooling, sizes.stride_hops, random, STAGE, left, on_event)
        flow = fit_flow(
            sizes, Moments.of(own[:1], sizes.stride_hops, config.kernel_centres), rig.mouth_deviation_cm, lead,
            sizes.stride_hops,
        )  # fmt: skip
    network.eval()
    shapes_cm = motion.face.mouth * rig.mouth_deviation_cm
    model = DriverModel(
        feature_name(encoder),
        network,
        LocallyLinear(shapes_cm),
        _habits(motion, frame_rate_hz, heard.own[0]),
        heard.mouths.rest,
        rig.mouth_deviation_cm,
        LocallyLinear(shapes_cm[heard.mouths.closed]) if heard.mouths.closed.any() else None,
        flow,
    )
    on_event(Finished(STAGE, time.monotonic() - started, {"loss": end, "frames": float(len(motion))}))
    return model


def _fit_beside(
    kernel: KernelRegression, own: list[Lesson], sizes: AudioToLandmarksConfig, config: DriverTrainingConfig,
    weights: np.ndarray,
) -> None:  # fmt: skip
    """Fits the second kernel regression, with a lead of its own: it hears other features, which may be late."""
    ungrouped = replace(sizes, kernel_group=1, kernel_axes=sizes.beside_axes)
    lead = config.lead_hops
    if lead is None:
        lead = best_lead(ungrouped, Moments.of(own[:1], sizes.stride_hops, _LEAD_MOMENTS), weights)
    Moments.of(own, sizes.stride_hops, config.kernel_centres).into(kernel, lead)


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
