"""How much an avatar looks, moves and speaks like its person: frames it has never seen, against the clip's own."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits

from avatarfit.audio.named_encoder import named_encoder
from avatarfit.compositing import composite, to_uint8
from avatarfit.contracts import AvatarfitError, InputError, Motion, SoundError
from avatarfit.contracts.events import Finished, Listener, Note, Progress, Started, silent
from avatarfit.evaluation.baselines import MeanPicture, motion_features, nearest_frames
from avatarfit.evaluation.clip_view import ClipView, check_same_landmarks, evenly, measured_motion
from avatarfit.evaluation.composites import COMPOSITES, composed
from avatarfit.evaluation.definitions import definitions
from avatarfit.evaluation.driven import driven_mouth, latency, mouth_figures
from avatarfit.evaluation.lip_sound import Sound
from avatarfit.evaluation.metrics import ms_ssim_scales
from avatarfit.evaluation.motion_pass import MotionFigures, MotionPass
from avatarfit.evaluation.perceptual import perceptual_distance
from avatarfit.evaluation.pictures import PictureLog
from avatarfit.evaluation.regions import mouth_box
from avatarfit.evaluation.scores import Scores, Truth
from avatarfit.evaluation.split import Split, runs, split_of
from avatarfit.model.rig import closed_gaps_cm, lip_aperture_cm
from avatarfit.model.torso_follower import TorsoFollower

if TYPE_CHECKING:
    from avatarfit.audio import SpeechEncoder
    from avatarfit.capture.clip_folder import ClipFolder
    from avatarfit.model.avatar import Avatar
    from avatarfit.rendering.renderer import Renderer

TRAIN_SAMPLE = 100
STAGE = "evaluate"
_TORSO_FROM_HEAD = "torso_from_head"


@dataclass
class _Judgement:
    """All that one evaluation holds while it runs; `guessed` has the torso that the head makes likely."""

    avatar: Avatar
    clip: ClipFolder
    view: ClipView
    split: Split
    motion: Motion
    renderer: Renderer
    guessed: Motion
    guesser: Renderer
    held_out: list[int]
    consecutive: list[int]
    train: list[int]
    scores: dict[str, Scores]
    log: PictureLog
    on_event: Listener
    encoder: SpeechEncoder | None
    notes: list[str] = field(default_factory=list)
    picture_seconds: list[float] = field(default_factory=list)

    def picture(self, index: int) -> np.ndarray:
        """Frame `index` of the avatar over its plate, float [H, W, 3]."""
        began = time.perf_counter()
        picture = composite(self.renderer.render(self.motion, index), self.avatar.plate)
        self.picture_seconds.append(time.perf_counter() - began)
        return picture


def evaluate_avatar(
    avatar: Avatar,
    clip: ClipFolder,
    *,
    frames_limit: int | None = None,
    pictures_dir: str | Path | None = None,
    report_dir: str | Path | None = None,
    split: str | None = None,
    syncnet: str | Path | None = None,
    pictures_only: bool = False,
    features: str | None = None,
    seams: Callable[[], dict[str, Any]] | None = None,
    backend: str = "auto",
    on_event: Listener = silent,
) -> dict[str, Any]:
    """Judge an avatar on the clip it was fitted from; see `definitions` for what each figure means.

    A few frames are in memory at a time; the training frames that the nearest-frame baseline needs wait in a temporary
    file that is gone afterwards.

    Args:
        avatar: to be judged.
        clip: its clip folder.
        frames_limit: judge the pictures of this many held-out and at most as many training frames, evenly spaced, and
            what moves on the first so many held-out frames; None: all held-out ones and 100 training ones.
        pictures_dir: where to put pictures "truth | render | error x 4" of some frames and of the worst; None: nowhere.
        report_dir: where to put evaluation.html, evaluation.json and evaluation.mp4; None: nowhere.
        split: "last" or "blocks" to insist on one; None takes what the avatar was fitted with.
        syncnet: weights of SyncNet, for Sync-C and Sync-D; None leaves them out.
        pictures_only: leave out all that is tracked, heard or driven.
        features: what the driver hears, if it is a network: the checkpoint's folder or name.
        seams: measures `neck_seams` (avatarfit.pipeline.seams); None leaves them out.
        backend: of the renderer.

    Returns:
        JSON-able. `{person, head, mouth, whole_frame: {psnr_db, ssim, ...}}` of full synthesis on the held-out frames;
        the same under `train`, `torso_from_head`, `baseline_mean`, `baseline_nearest`, and of each composite under
        `composites`; `found_landmarks`, `neck_seam`, `pose_jitter`, `temporal_flicker`, `silence_leakage`,
        `lip_sound_offset`, `driven`, `latency`, `sync` where they could be measured; `split`, `frames`, `size`,
        `head`, `gaussians`, `field_numbers`, `worst_frames`, `notes`, `per_frame`, `definitions`.

    Raises:
        InputError: the clip is too short to hold frames out, has another aspect ratio than the avatar, its landmarks
            are another network's, or the avatar has seen the frames of the split that was asked for.
        FileFormatError: the avatar's split or the SyncNet file is damaged.
    """
    from avatarfit.rendering.renderer import renderer_of

    began = time.perf_counter()
    encoder = None if features is None else named_encoder(features)
    view = ClipView(clip, avatar.camera)
    check_same_landmarks(avatar, clip)
    total = len(clip)
    chosen = split_of(avatar.made, total, clip.train_count, split)
    held_out = evenly(chosen, True, frames_limit)
    train = evenly(chosen, False, min(frames_limit or TRAIN_SAMPLE, TRAIN_SAMPLE))
    if not held_out or len(train) < min(2, total):
        raise InputError(f"the clip has {total} usable frames", "at least 11", "record a longer clip")
    network = None
    if syncnet is not None:
        from avatarfit.evaluation.syncnet import load_syncnet

        network = load_syncnet(Path(syncnet))
    distance, said = perceptual_distance()
    names = ("train", _TORSO_FROM_HEAD, "baseline_mean", "baseline_nearest")
    boxes = [mouth_box(view.landmarks_px(k), view.width, view.height) for k in held_out]
    side = min(min(right - left, bottom - top) for left, top, right, bottom in boxes)
    scales = ms_ssim_scales(side, side)
    scores = {name: Scores() for name in names} | {name: Scores(scales, distance) for name in COMPOSITES}
    motion = measured_motion(avatar, clip)
    renderer, guesser = (renderer_of(avatar, avatar.camera, backend) for _ in range(2))
    job = _Judgement(
        avatar, clip, view, chosen, motion, renderer, _with_guessed_torso(motion, chosen), guesser, held_out,
        [] if pictures_only else evenly(chosen, True, None)[:frames_limit], train, scores,
        PictureLog(pictures_dir, held_out, keep=report_dir is not None), on_event, encoder, [said],
    )  # fmt: skip
    on_event(Started(STAGE, total))
    report = None if report_dir is None else Path(report_dir)
    if report is not None:
        report.mkdir(parents=True, exist_ok=True)
    sound = None if pictures_only else _sound_of(clip)
    video = report / "evaluation.mp4" if report is not None and job.consecutive else None
    # The small systems that are solved here are no work for several threads, which wait for each other.
    with (
        threadpool_limits(1, "blas"),
        MotionPass(view, job.motion.head, avatar.camera, sound, network, video) as motion_pass,
    ):
        _look(job, motion_pass if job.consecutive else None)
        moving = motion_pass.finish() if job.consecutive else MotionFigures({}, {}, [])
    job.notes.extend(moving.notes)
    driven = _driven(job, sound) if job.consecutive and sound is not None else {}
    if seams is not None and job.consecutive:
        driven = {**driven, "neck_seams": seams()}
    result = _result(job, moving, driven)
    for note in result["notes"]:
        on_event(Note(STAGE, note))
    written = job.log.write()
    if written:
        on_event(Note(STAGE, f"pictures are in {written}"))
    if report is not None:
        from avatarfit.evaluation.report import write_report

        on_event(Note(STAGE, f"the report is {write_report(report, result, job.log.worst_pictures(), clip)}"))
    quality = result["person"].get("psnr_db", 0.0)
    on_event(Finished(STAGE, time.perf_counter() - began, {"person.psnr_db": quality}))
    return result


def _with_guessed_torso(motion: Motion, split: Split) -> Motion:
    known = split.training_frames()
    follower = TorsoFollower.fit(motion.head[known], motion.torso[known])
    return replace(motion, torso=follower.torso(motion.head))


def _sound_of(clip: ClipFolder) -> Sound | None:
    try:
        return Sound(clip.audio())
    except SoundError:  # MotionPass says what is absent without it
        return None


def _look(job: _Judgement, motion_pass: MotionPass | None) -> None:
    """Every picture once: the training frames, then the held-out ones."""
    view, training = job.view, job.split.training()
    features = motion_features(job.clip.landmarks_px, job.motion.torso, job.clip.camera)
    known = job.split.training_frames()
    nearest = dict(
        zip(job.held_out, known[nearest_frames(features[job.held_out], features[known])].tolist(), strict=True)
    )
    progress = _counter(len(job.clip), job.on_event)
    mean = MeanPicture()
    with tempfile.TemporaryFile() as file:
        slots = {index: slot for slot, index in enumerate(sorted(set(nearest.values())))}
        answers = np.memmap(file, np.uint8, "w+", shape=(len(slots), view.height, view.width, 3))
        for index, rgb, truth in view.truths(training, set(job.train)):
            mean.add(rgb)
            if index in slots:
                answers[slots[index]] = rgb
            if truth is not None:
                job.scores["train"].add(truth, job.picture(index))
            progress()
        mean_picture = mean.picture()
        judged, moving = set(job.held_out), set(job.consecutive)
        for index, _, truth in view.truths(job.split.held_out, judged | moving, whole=True):
            if truth is not None:
                picture = job.picture(index)
                if index in moving and motion_pass is not None:
                    motion_pass.add(index, truth, to_uint8(picture))
                if index in judged:
                    _judge(job, index, truth, picture)
                    guessed = composite(job.guesser.render(job.guessed, index), job.avatar.plate)
                    job.scores[_TORSO_FROM_HEAD].add(truth, guessed)
                    job.scores["baseline_mean"].add(truth, mean_picture)
                    job.scores["baseline_nearest"].add(truth, answers[slots[nearest[index]]] / np.float32(255))
            progress()


def _judge(job: _Judgement, index: int, truth: Truth, picture: np.ndarray) -> None:
    if truth.head is None or truth.face is None:
        raise ValueError("a Truth without mattes came; wanted a whole one (ClipView.truths)")
    pictures = composed(truth.exact(), picture, truth.head, truth.face)
    figures = {name: job.scores[name].add(truth, pictures[name]) for name in COMPOSITES}
    job.log.add(index, truth.rgb, picture, figures["full"])


def _counter(total: int, on_event: Listener) -> Callable[[], None]:
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        on_event(Progress(STAGE, done, total))

    return step


def _driven(job: _Judgement, sound: Sound) -> dict[str, Any]:
    """`driven` and `latency`; a note where the driver cannot be asked."""
    avatar, clip, frames = job.avatar, job.clip, job.consecutive
    stretches = runs(frames)
    try:
        times = [clip.pts_seconds[part.start : part.stop] for part in stretches]
        mouth = np.concatenate([driven_mouth(avatar, sound.clip, pts, job.encoder) for pts in times])
        longest = max(times, key=len)
        picture_ms = 1000 * float(np.median(job.picture_seconds))
        delay = latency(avatar, sound.clip, longest, picture_ms, job.encoder)
    except AvatarfitError as cause:
        job.notes.append(f"the driven figures are absent: {cause}")
        return {}
    known = job.split.training_frames()
    shown_motion = job.motion[np.array(frames)]
    face, head = shown_motion.face, shown_motion.head
    gaps = lip_aperture_cm(np.asarray(clip.landmarks_cm))
    figures = {
        name: mouth_figures(
            shown, face, avatar.rig, head, avatar.camera, job.view.landmarks_px(frames), clip.landmarks_cm[frames],
            closed_gaps_cm(gaps[known]), clip.pts_seconds[frames], sound,
        )
        for name, shown in (("driver", mouth), ("true_motion", face.mouth))
    }  # fmt: skip
    rounded = {
        name: {key: None if value is None else round(value, 4) for key, value in part.items()}
        for name, part in figures.items()
    }
    return {"driven": rounded, "latency": delay}


def _result(job: _Judgement, moving: MotionFigures, driven: dict[str, Any]) -> dict[str, Any]:
    view, means = job.view, {name: scores.means() for name, scores in job.scores.items()}
    volume = job.avatar.field
    return {
        **means["full"],
        "train": means["train"],
        _TORSO_FROM_HEAD: means[_TORSO_FROM_HEAD],
        "baseline_mean": means["baseline_mean"],
        "baseline_nearest": means["baseline_nearest"],
        "composites": {name: means[name] for name in COMPOSITES},
        **moving.figures,
        **driven,
        "split": job.split.as_dict(),
        "size": {"width_px": view.width, "height_px": view.height},
        "ms_ssim_scales": {
            "whole_frame": ms_ssim_scales(view.height, view.width), "mouth": job.scores["full"].mouth_scales,
        },
        "frames": {
            "clip": len(job.clip),
            "training": sum(len(part) for part in job.split.training()),
            "held_out": sum(len(part) for part in job.split.held_out),
            "held_out_judged": len(job.held_out),
            "training_judged": len(job.train),
            "consecutive": len(job.consecutive),
        },
        "head": "gaussian" if volume is None else "hashgrid",
        "gaussians": int(job.avatar.gaussians.base.shape[0]),
        "field_numbers": None if volume is None else sum(v.size for v in volume.to_tensors().values()),
        "worst_frames": job.log.worst_frames(),
        "notes": job.notes,
        "per_frame": _per_frame(job, moving.curves),
        "definitions": definitions(),
    }  # fmt: skip


def _per_frame(job: _Judgement, curves: dict[str, np.ndarray]) -> dict[str, Any]:
    """Figures frame by frame: of pictures (evenly spaced) and of what moves (consecutive); null where there is none."""

    def listed(values: np.ndarray | list[float]) -> list[float | None]:
        return [round(float(v), 4) if np.isfinite(v) else None for v in values]

    pts = job.clip.pts_seconds
    full = {
        f"{composite}.{name}": listed(values)
        for composite in COMPOSITES
        for name, values in job.scores[composite].values.items()
        if len(values) == len(job.held_out)
    }
    return {
        "pictures": {"index": job.held_out, "pts_seconds": listed(pts[job.held_out]), **full},
        "motion": {
            "index": job.consecutive,
            "pts_seconds": listed(pts[job.consecutive]),
            **{name: listed(values) for name, values in curves.items()},
        },
    }
