"""A hash-grid avatar becomes a Gaussian one, which a CPU draws live: Gaussians begin where the field's surface is and
are fitted further."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from avatarfit.capture import ClipFolder
from avatarfit.compositing import composite, to_uint8
from avatarfit.contracts import FaceMotion, HeadPose, InputError, Motion, TorsoMotion
from avatarfit.contracts.events import Finished, Listener, Note, Progress, Started, silent
from avatarfit.evaluation.clip_view import check_same_landmarks, measured_motion
from avatarfit.evaluation.split import split_of
from avatarfit.fitting.field_gaussians import gaussians_of_field
from avatarfit.fitting.frame_store import FrameStore, fitted_camera, loss_weight
from avatarfit.fitting.gaussian_trainer import GaussianTrainer
from avatarfit.model.avatar import Avatar
from avatarfit.model.hashgrid_head import HashgridHead
from avatarfit.model.rig import lip_aperture_cm
from avatarfit.pipeline.fit import save_and_tell
from avatarfit.pipeline.presets import DEFAULTS, Preset, load_preset
from avatarfit.rendering.renderer import renderer_of

OWN_FRAMES = 600
"""Pictures that the field draws of itself where there is no clip."""
_STAGE = "convert"
_LEAST_SHARE = 0.5


def convert_to_gaussian(
    avatar: Avatar,
    output: Path | str,
    *,
    clip: Path | str | None = None,
    minutes: float | None = None,
    steps: int | None = None,
    preset: str | Preset | None = None,
    work_dir: Path | str | None = None,
    seed: int = 0,
    resume: bool = False,
    own_frames: int = OWN_FRAMES,
    on_event: Listener = silent,
) -> Avatar:
    """Makes a Gaussian avatar of a hash-grid one and writes it to `output`.

    Args:
        avatar: with a field.
        clip: the clip folder that it was fitted from, whose training frames the Gaussians are then fitted to; None
            takes pictures that the field draws, in motion that this person has shown.
        minutes, steps, preset, seed, resume: as `fit` takes them, for the Gaussians.
        work_dir: for pictures and checkpoints; None puts it beside the output.
        own_frames: pictures that the field draws where there is no clip.

    Raises:
        InputError: the avatar is a Gaussian one already, or the clip is not the avatar's.
        AvatarfitError: of the kinds that name what else is wrong with the input.
    """
    output = Path(output)
    field = check_convertible(avatar)
    loaded = preset if isinstance(preset, Preset) else load_preset(preset or DEFAULTS["gaussian"])
    settings = loaded.with_choices(size=None, minutes=minutes, steps=steps, seed=seed).gaussian
    work = Path(work_dir) if work_dir is not None else output.with_suffix(".work")
    work.mkdir(parents=True, exist_ok=True)
    if clip is None:
        motion = own_motion(avatar, own_frames, np.random.default_rng(seed))
        landmarks_cm = avatar.rig.landmarks_cm(motion.face)
        frames = _drawn(avatar, motion, landmarks_cm, work / "drawn", on_event)
    else:
        motion, landmarks_cm, frames = _seen(avatar, ClipFolder.open(clip), work, on_event)
    began = time.monotonic()
    on_event(Started(_STAGE, None))
    count = max(settings.count - avatar.gaussians.count, round(_LEAST_SHARE * settings.count))
    start = gaussians_of_field(
        field, avatar.gaussians, avatar.rig, motion, avatar.camera, count=count,
        generator=np.random.default_rng(seed),
    )  # fmt: skip
    on_event(Finished(_STAGE, time.monotonic() - began))
    kept, made = avatar.gaussians.count, start.count - avatar.gaussians.count
    on_event(Note(_STAGE, f"{made} Gaussians begin on the field's surface, {kept} of neck and torso are kept"))
    trainer = GaussianTrainer(
        motion, landmarks_cm, lip_aperture_cm(landmarks_cm), frames, avatar.plate, avatar.torso_modes, settings,
        initial=start, checkpoint=work / "convert.checkpoint", resume=resume, on_event=on_event,
    )  # fmt: skip
    gaussians = trainer.run()
    told = {
        "from": "hashgrid", "against": "the field's pictures" if clip is None else "the clip's frames",
        "steps": trainer.state.step, "seconds": round(trainer.state.seconds, 1), "seed": seed,
    }  # fmt: skip
    converted = replace(avatar, gaussians=gaussians, field=None, made=avatar.made | {"converted": told})
    save_and_tell(converted, output, _STAGE, on_event)
    return converted


def check_convertible(avatar: Avatar) -> HashgridHead:
    """The field that there is to be converted.

    Raises:
        InputError: there is none.
    """
    if avatar.field is None:
        raise InputError(
            "the avatar's head is made of Gaussians already", "an avatar fitted with --head hashgrid", "use it as it is"
        )
    return avatar.field


def own_motion(avatar: Avatar, count: int, generator: np.random.Generator) -> Motion:
    """Motion of `count` frames that this person has shown: the file holds pose, eyes, brows and mouth of every frame
    that was fitted to.

    Of the first half of them all parts are of one moment, the moments evenly spread; of the second half the mouth is of
    another moment than the rest, as when somebody else's words are spoken.
    """
    habits, driver = avatar.driver.habits, avatar.driver
    mouths = (driver.shapes.shapes_cm / driver.mouth_deviation_cm).astype(np.float32)
    together = np.linspace(0, len(habits) - 1, count - count // 2).round().astype(int)
    moments = np.concatenate([together, generator.integers(len(habits), size=count // 2)])
    with_them = together if len(mouths) == len(habits) else generator.integers(len(mouths), size=len(together))
    spoken = np.concatenate([with_them, generator.integers(len(mouths), size=count // 2)])
    return Motion(
        np.arange(count) / avatar.frame_rate_hz,
        FaceMotion(mouths[spoken], habits.upper[moments], habits.eyes[moments]),
        HeadPose(habits.rotation_wxyz[moments], habits.translation_cm[moments]),
        TorsoMotion(habits.torso_affine[moments], habits.torso_shape[moments]),
    )


def _seen(avatar: Avatar, folder: ClipFolder, work: Path, on_event: Listener) -> tuple[Motion, np.ndarray, FrameStore]:
    """Motion, landmarks_cm [T, 478, 3] and pictures of the clip's frames that the avatar was fitted to."""
    check_same_landmarks(avatar, folder)
    size = avatar.camera.width_px, avatar.camera.height_px
    view = fitted_camera(folder.camera, size[0])
    if (view.width_px, view.height_px) != size:
        raise InputError(
            f"the avatar is {size[0]}x{size[1]} px and the clip's frames would be {view.width_px}x{view.height_px}",
            "the clip it was fitted from", "check --clip",
        )  # fmt: skip
    train = split_of(avatar.made, len(folder), folder.train_count).training_frames()
    frames = FrameStore.build(folder, size[0], work / f"frames-{size[0]}", on_event)
    return measured_motion(avatar, folder)[train], np.asarray(folder.landmarks_cm)[train], frames.only(train)


def _drawn(avatar: Avatar, motion: Motion, landmarks_cm: np.ndarray, folder: Path, on_event: Listener) -> FrameStore:
    """Pictures that the avatar draws of itself."""
    camera = avatar.camera
    rotation, translation = motion.head.matrices()[:, :, :3], motion.head.translation_cm
    landmarks_px = camera.project(np.einsum("tij,tlj->tli", rotation, landmarks_cm) + translation[:, None])

    def fill(out: dict[str, np.ndarray]) -> None:
        began = time.monotonic()
        on_event(Started("pictures", len(motion)))
        renderer = renderer_of(avatar, camera)
        for index in range(len(motion)):
            rgba = renderer.render(motion, index)
            out["rgb"][index] = to_uint8(composite(rgba, avatar.plate))
            out["person"][index] = to_uint8(rgba[:, :, 3])
            out["weight"][index] = loss_weight(out["person"][index], landmarks_px[index])
            if index % 25 == 24:
                on_event(Progress("pictures", index + 1, len(motion)))
        on_event(Finished("pictures", time.monotonic() - began))

    told = [
        *check_convertible(avatar).to_tensors().values(),
        *avatar.gaussians.to_tensors().values(),
        motion.face.mouth,
    ]
    digest = hashlib.sha256(f"1 {camera}".encode())
    for array in (*told, motion.head.rotation_wxyz, avatar.plate):
        digest.update(np.ascontiguousarray(array).tobytes())
    return FrameStore.kept_in(folder, digest.hexdigest(), camera, len(motion), fill)
