"""Trains what many people's drivers have in common on clips of them all."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from avatarfit.audio import LOG_MEL, OTHER_COLUMNS, SpeechEncoder, feature_name
from avatarfit.contracts import AudioClip, InputError, Motion
from avatarfit.contracts.events import Finished, Listener, Note, Started, silent
from avatarfit.fitting.driver_lessons import Columns, Heard, listen
from avatarfit.fitting.driver_loss import DriverLoss
from avatarfit.fitting.driver_prior import DriverPrior
from avatarfit.fitting.driver_schooling import Pupil, school, start_head
from avatarfit.fitting.driver_trainer import KERNEL_GROUP, DriverTrainingConfig
from avatarfit.model.audio_to_landmarks import AudioToLandmarks, AudioToLandmarksConfig
from avatarfit.model.rig import Rig

STAGE = "driver's prior"
_STRIDE_HOPS = 4


@dataclass(frozen=True)
class Speaker:
    """One person's clip, as `fit_driver` takes it."""

    rig: Rig
    motion: Motion
    landmarks_cm: np.ndarray
    sound: AudioClip
    frame_rate_hz: float


def fit_prior(
    speakers: Sequence[Speaker],
    *,
    encoder: SpeechEncoder = LOG_MEL,
    steps: int | None = None,
    seed: int = 0,
    on_event: Listener = silent,
    config: DriverTrainingConfig | None = None,
) -> DriverPrior:
    """Transformers that hear for all speakers, each of whom has a last layer of their own.

    Every transformer takes the speakers in turn, so that a long clip counts no more than a short one. People's rigs
    differ; nothing is assumed of what their coefficients have in common, which the last layers tell.

    Args:
        steps: overrides the config's, which are for one speaker and grow by half with each one more.

    Raises:
        InputError: there is no speaker.
        SoundError: a clip has no sound at its frames, it is silent, or nobody speaks.
    """
    if not speakers:
        raise InputError("no clip came", "clips of one or more people", "name them")
    config = config or DriverTrainingConfig()
    count = steps if steps is not None else config.schooling.steps * (1 + len(speakers)) // 2
    schooling = replace(config.schooling, steps=count)
    started = time.monotonic()
    on_event(Started(STAGE, count, "steps"))
    random = np.random.default_rng(seed)
    heard = [_listen(speaker, encoder, config, random) for speaker in speakers]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        columns = Columns.of(np.concatenate([one.own[0].values for one in heard]), encoder)
        sizes = AudioToLandmarksConfig(
            encoder.column_count + OTHER_COLUMNS, speakers[0].motion.face.mouth.shape[1], _STRIDE_HOPS,
            members=config.members, kernel_group=1 if columns.kept else KERNEL_GROUP, kept_columns=columns.kept,
            beside_columns=encoder.column_count - columns.stop,
        )  # fmt: skip
        network = AudioToLandmarks(sizes)
        pupils = [_pupil(one, speaker, columns, sizes, config) for one, speaker in zip(heard, speakers, strict=True)]
        loss = school(network.transformers, pupils, schooling, _STRIDE_HOPS, random, STAGE, None, on_event)
    spoken = sum(float(one.own[0].activity.sum()) * one.own[0].hop_seconds for one in heard)
    on_event(Note(STAGE, f"{len(speakers)} people, {spoken:.0f} s of speech"))
    on_event(Finished(STAGE, time.monotonic() - started, {"loss": loss, "people": float(len(speakers))}))
    return DriverPrior.of(network, feature_name(encoder), columns, len(speakers), spoken)


def _listen(
    speaker: Speaker, encoder: SpeechEncoder, config: DriverTrainingConfig, random: np.random.Generator
) -> Heard:
    heard = listen(
        speaker.motion, speaker.landmarks_cm, speaker.sound, speaker.frame_rate_hz, encoder, config.voices, random
    )
    # Clips of any frame rate are heard in the same steps.
    return replace(heard, stride_hops=_STRIDE_HOPS)


def _pupil(
    heard: Heard, speaker: Speaker, columns: Columns, sizes: AudioToLandmarksConfig, config: DriverTrainingConfig
) -> Pupil:
    own, others = heard.lessons(columns)
    mean = torch.from_numpy(own[0].targets[own[0].known].mean(axis=0))
    heads = [nn.Linear(sizes.width, len(mean)) for _ in range(sizes.members)]
    for head in heads:
        start_head(head, mean)
    return Pupil(own, others, DriverLoss(speaker.rig, config.loss, own[0]), heads, not columns.kept)
