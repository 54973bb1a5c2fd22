"""Clip in, avatar file out: capture, driver, picture, one after the other, each resumable."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from avatarfit import __version__
from avatarfit.audio.named_encoder import BUILT_IN, named_encoder
from avatarfit.avatarfile import Consent, check_head
from avatarfit.capture import ClipFolder, capture_clip
from avatarfit.capture.report import report_is_current, write_report
from avatarfit.contracts import InputError, SoundError
from avatarfit.contracts.events import Listener, Note, silent
from avatarfit.evaluation.split import LAST, split_into
from avatarfit.fitting.driver_prior import DriverPrior
from avatarfit.fitting.driver_prior_trainer import Speaker, fit_prior
from avatarfit.fitting.driver_trainer import fit_driver
from avatarfit.fitting.frame_store import FrameStore
from avatarfit.fitting.gaussian_trainer import GaussianTrainer
from avatarfit.fitting.hashgrid_trainer import HashgridTrainer
from avatarfit.model import avatar as model
from avatarfit.model.rig import Rig, lip_aperture_cm
from avatarfit.pipeline.avatar import Avatar
from avatarfit.pipeline.presets import DEFAULTS, Preset, load_preset


def fit(
    clip: Path | str,
    output: Path | str,
    *,
    head: str = "gaussian",
    size: int | None = None,
    minutes: float | None = None,
    steps: int | None = None,
    preset: str | Preset | None = None,
    work_dir: Path | str | None = None,
    seed: int = 0,
    resume: bool = False,
    frame_rate_hz: float | None = None,
    face: int | None = None,
    landmarker: Path | str = "auto",
    audio_offset: float | str = 0.0,
    split: str = LAST,
    features: str = BUILT_IN,
    driver_prior: Path | None = None,
    consent: Consent | None = None,
    on_event: Listener = silent,
) -> Avatar:
    """Makes an avatar of the person in a clip and writes it to `output`.

    An eleventh of the clip is never fitted to, so that `evaluate` has frames the avatar has not seen.

    Args:
        clip: a video file, or a clip folder made by `capture`.
        head: what the head is made of: "gaussian", or "hashgrid" for a radiance field over Gaussians of neck and torso.
        size: picture width in pixels; None takes the preset's.
        minutes: time for the picture (capture and driver come on top); None takes the preset's.
        steps: steps for the picture instead of minutes; repeatable to the bit on one machine with one thread count.
        preset: name of a file in configs/, a path to one, or a loaded Preset; None takes the head's own.
        work_dir: for the clip folder and checkpoints; None puts it beside the output.
        resume: go on from the checkpoint in the work folder.
        frame_rate_hz, face, landmarker, audio_offset: as `capture_clip` takes them; a clip folder has its own.
        split: which eleventh is held out: "last", or "blocks" spread over the clip (evaluation.split.split_into).
        features: what the driver hears: "built-in", "log-mel", or a HuBERT, wav2vec2 or Whisper checkpoint's folder or
            name.
        driver_prior: a file of `fit_driver_prior`, with which the driver begins.
        consent: who agreed to be made speak, and to what; the avatar file keeps it.

    Raises:
        AvatarfitError: of the kinds that name what is wrong with the input.
    """
    clip, output = Path(clip), Path(output)
    check_head(head)
    if not clip.exists():
        raise InputError(f"there is no clip {clip}", "a video file or a clip folder", "check the name")
    if not output.parent.is_dir():
        raise InputError(
            f"the folder {output.parent} is not there", "an existing folder for the avatar file", "create it first"
        )
    loaded = preset if isinstance(preset, Preset) else load_preset(preset or DEFAULTS[head])
    settings = loaded.with_choices(size=size, minutes=minutes, steps=steps, seed=seed)
    prior = None if driver_prior is None else DriverPrior.load(Path(driver_prior))
    work = Path(work_dir) if work_dir is not None else output.with_suffix(".work")
    work.mkdir(parents=True, exist_ok=True)
    encoder = named_encoder(features, cache=work / "features")

    if clip.is_dir():
        folder = ClipFolder.open(clip)
    else:
        folder = capture_clip(
            clip, work / "clip", frame_rate_hz=frame_rate_hz, face=face, landmarker=landmarker,
            audio_offset=audio_offset, on_event=on_event,
        )  # fmt: skip
    if not clip.is_dir() and not report_is_current(folder):
        write_report(folder, on_event)
    held_out = split_into(split, len(folder), folder.train_count)
    train = held_out.training_frames()
    landmarks_cm = folder.landmarks_cm[train]
    if folder.manifest["source"]["audio"] is None:
        raise SoundError(
            f"{clip} has no sound", "a clip in which the person speaks", "record it with sound, or capture it only"
        )

    motion, rig = folder.motion()[train], folder.rig()
    if split != LAST:  # the folder's rig knows the frames before the last eleventh
        rig = Rig.fit(landmarks_cm)
        motion = replace(motion, face=rig.encode(landmarks_cm))
    driver = fit_driver(
        rig, motion, landmarks_cm, folder.audio(), folder.frame_rate_hz, encoder=encoder,
        prior=prior, seconds_budget=settings.driver_seconds, steps=settings.driver_steps, seed=seed, on_event=on_event,
    )  # fmt: skip
    frames = FrameStore.build(folder, settings.size, work / f"frames-{settings.size}", on_event)
    camera = frames.camera
    plate = cv2.resize(folder.plate(), (camera.width_px, camera.height_px), interpolation=cv2.INTER_AREA)
    seen = motion, landmarks_cm, lip_aperture_cm(landmarks_cm), frames.only(train), plate, folder.torso_modes()
    trainer: GaussianTrainer | HashgridTrainer
    field = None
    if head == "hashgrid":
        trainer = HashgridTrainer(
            *seen, settings.hashgrid, checkpoint=work / "hashgrid.checkpoint", resume=resume, on_event=on_event
        )
        gaussians, field = trainer.run()
    else:
        trainer = GaussianTrainer(
            *seen, settings.gaussian, checkpoint=work / "avatar.checkpoint", resume=resume, on_event=on_event
        )
        gaussians = trainer.run()
    made = {
        "software": f"avatarfit {__version__}",
        "python": sys.version.split()[0],
        "source_sha256": folder.manifest["source"]["sha256"],
        "landmarks": folder.manifest["landmarks"],
        "train_frames": len(train),
        "held_out_frames": len(folder) - len(train),
        "split": held_out.as_dict(),
        "steps": trainer.state.step,
        "seconds": round(trainer.state.seconds, 1),
        "seed": seed,
    }
    avatar = Avatar(rig, camera, gaussians, driver, plate, folder.frame_rate_hz, made, folder.torso_modes(), field,
                    consent)  # fmt: skip
    save_and_tell(avatar, output, "fit", on_event)
    return avatar


def save_and_tell(avatar: model.Avatar, output: Path, stage: str, on_event: Listener) -> None:
    """Writes the avatar file and says how large it is, and a short name of the picture's exact numbers, which tells
    whether two fits came out the same."""
    avatar.save(output)
    digest = hashlib.sha256(avatar.gaussians.base.numpy().tobytes() + avatar.gaussians.deltas.numpy().tobytes())
    if avatar.field is not None:
        for values in avatar.field.to_tensors().values():
            digest.update(values.tobytes())
    on_event(Note(stage, f"wrote {output} ({output.stat().st_size / 1e6:.1f} MB, {digest.hexdigest()[:12]})"))


def fit_driver_prior(
    clips: Sequence[Path],
    output: Path,
    *,
    features: str = BUILT_IN,
    steps: int | None = None,
    seed: int = 0,
    on_event: Listener = silent,
) -> DriverPrior:
    """Learns from clip folders what people's lips have in common and writes it to `output`.

    The last eleventh of each clip is left out, so that an avatar of one of them can still be evaluated.

    Raises:
        AvatarfitError: of the kinds that name what is wrong with the input.
    """
    encoder = named_encoder(features)
    speakers = []
    for path in clips:
        folder = ClipFolder.open(path)
        if folder.manifest["source"]["audio"] is None:
            raise SoundError(f"{path} has no sound", "clips in which people speak", "leave it out")
        train = np.arange(folder.train_count)
        speakers.append(
            Speaker(
                folder.rig(), folder.motion()[train], folder.landmarks_cm[train], folder.audio(), folder.frame_rate_hz
            )
        )
    prior = fit_prior(speakers, encoder=encoder, steps=steps, seed=seed, on_event=on_event)
    prior.save(output)
    return prior
