"""What every figure of an evaluation means: one record each, which the JSON and the report repeat."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Definition:
    """The meaning of a figure.

    Attributes:
        text: how it is measured.
        unit: of the figure, "" for a pure number.
        better: "higher", "lower", "near 1", "near 0", or "" where it has no direction.
        source: the paper it comes from, or "avatarfit".
    """

    text: str
    unit: str = ""
    better: str = ""
    source: str = "avatarfit"


_HIGHER, _LOWER, _ONE, _ZERO = "higher", "lower", "near 1", "near 0"
_WANG_2004 = "Wang, Bovik, Sheikh, Simoncelli, Image quality assessment, IEEE TIP 2004"

_SYNCNET = "Chung and Zisserman, Out of time: automated lip sync in the wild, ACCV-W 2016"

DEFINITIONS: dict[str, Definition] = {
    "truth": Definition(
        "the clip's frames resized to the avatar's size by area averaging (OpenCV INTER_AREA), 8 bit",
    ),
    "render": Definition(
        "straight float pictures over the avatar's plate, before any encoding, with the clip's measured "
        "motion; what is tracked or followed in them is rounded to 8 bit first, as the truth is",
    ),
    "split": Definition(
        "which frames were held out: last (the last 1/11 of the kept frames) or blocks (spread over the "
        "clip), as the avatar file says; train is an even sample of the other frames",
    ),
    "full": Definition(
        "composite: the whole picture is the avatar's, over its plate",
    ),
    "head_over_true_torso": Definition(
        "composite: the render where the clip's labels say face, mouth or hair, the true picture where they "
        "say neck, torso or background, mixed by the person's soft alpha and labels blurred by 1 px",
    ),
    "paste_back": Definition(
        "composite: the render inside the oval of the true face landmarks, fading over its inner 3 px, the "
        "true picture elsewhere; most pixels are the truth's, which makes its figures high",
    ),
    "torso_from_head": Definition(
        "full synthesis with the clip's measured face and head, and the torso that a ridge regression over the "
        "training frames expects from the head's pose: as when only a head's motion is given",
    ),
    "person": Definition(
        "region: pixels whose person alpha is above 1/2",
    ),
    "head": Definition(
        "region: pixels that are by more than half face, mouth or hair in the clip's labels and alpha",
    ),
    "mouth": Definition(
        "region: square around the outer lip contour, side 1.4 times the contour's longer side",
    ),
    "whole_frame": Definition(
        "region: all pixels",
    ),
    "psnr_db": Definition(
        "mean over frames of each frame's PSNR on sRGB-coded values in [0, 1], square error averaged over the "
        "region; equal pictures count as 100 dB",
        "dB", _HIGHER, "-10 log10 MSE",
    ),
    "ssim": Definition(
        "mean over frames; Gaussian 11x11 of sigma 1.5, per RGB channel, windows that lie wholly in the "
        "picture, its map averaged over the region",
        "", _HIGHER, _WANG_2004,
    ),
    "ms_ssim": Definition(
        "mean over frames; SSIM's contrast and structure at several scales, its luminance at the coarsest; "
        "five scales where the picture allows (176 px), else as many as fit, their weights scaled to sum to "
        "one: see ms_ssim_scales",
        "", _HIGHER, "Wang, Simoncelli, Bovik, Multiscale structural similarity, Asilomar 2003",
    ),
    "lpips": Definition(
        "mean over frames of the lpips package's distance, version 0.1, AlexNet; of head and mouth on their "
        "bounding box, brought to 64 px where it is smaller",
        "", _LOWER, "Zhang et al., The unreasonable effectiveness of deep features, CVPR 2018",
    ),
    "baseline_mean": Definition(
        "every held-out frame answered by the mean training frame",
    ),
    "baseline_nearest": Definition(
        "every held-out frame answered by the training frame nearest in face landmarks and torso, px",
    ),
    "found_landmarks": Definition(
        "landmarks found anew in the true and in the rendered frames at the avatar's size, by the network "
        "that gave the clip its own; on consecutive held-out frames",
    ),
    "lmd_px": Definition(
        "mean distance of the 20 mouth landmarks of the 68-point scheme, each picture's mean taken off, in "
        "pixels of the avatar's size",
        "px", _LOWER, "Chen et al., Lip movements generation at a glance, ECCV 2018",
    ),
    "aperture_r": Definition(
        "Pearson correlation over time of the inner lips' gap with the truth's",
        "", _HIGHER,
    ),
    "blink_f1": Definition(
        "F1 of blinks: runs of frames with the eyes closed (avatarfit.capture.blendshapes.blinks, levels of "
        "the truth for both), a pair matched where they overlap or touch",
        "", _HIGHER,
    ),
    "expression_error": Definition(
        "mean absolute difference of the face landmarker's 51 blendshape scores (0..1) of render and truth",
        "", _LOWER,
    ),
    "identity": Definition(
        "root mean square distance of the mean layouts of the 68 landmarks (over frames aligned by "
        "similarity), Procrustes-aligned, over the distance of the outer eye corners",
        "", _LOWER, "Gower, Generalized Procrustes analysis, 1975",
    ),
    "neck_seam": Definition(
        "squared gradient of the luma summed over a band along the border of head (face, mouth, hair) and "
        "body (neck, torso) in the true labels, render over truth, per frame; the band reaches 0.04 of the "
        "face's size to both sides; above 1 the render draws an edge, below 1 it is smoother than the person",
        "", _ONE,
    ),
    "neck_seams": Definition(
        "the neck seam with the clip's own torso under the head (source) on held-out frames; and in head poses of "
        "another clip (other_pose), with the torso of the model and of the clip. There no true frame exists: the "
        "squared gradient for each pixel within 0.04 of the face's size of the jaw's line, from ear to ear, is held "
        "against its median in the 9 true frames whose jaw lies nearest, as seen from the torso, and true_frames is "
        "what the true frames themselves measure so, frames within a second of them left out: no render can be asked "
        "for less spread. other_pose_by_labels is the earlier definition: the render's own border of head and body "
        "against that of the clip's labels about the frame whose pose is nearest; the two borders differ",
        "", _ONE,
    ),
    "pose_jitter": Definition(
        "how far the rigid skin's motion from frame to frame in the pictures is from what the measured head pose "
        "predicts: root mean square over pairs of the median feature's difference "
        "(avatarfit.capture.pose_measure), in pixels of a 512 px wide picture, over the pairs in which truth and "
        "render both show enough features (frames says how many); added = render - truth",
        "px/frame at 512", _LOWER,
    ),
    "temporal_flicker": Definition(
        "mean absolute second difference in time of the luma inside the face's oval, the frames before and "
        "after brought onto the middle one by the similarity of the rigid landmarks; 8-bit levels; added = "
        "render - truth",
        "levels",
        _LOWER,
        "after the warping error of Lai et al., Learning blind video temporal consistency, ECCV 2018",
    ),
    "silence_leakage": Definition(
        "mean speed of the mouth's 20 landmarks while nobody speaks (nor within 0.1 s), over that while someone does; "
        "the face aligned by its rigid landmarks; voice activity of avatarfit.audio; to be held against the truth's",
        "", _LOWER,
    ),
    "lip_sound_offset": Definition(
        "agreement of lips and sound at every shift between them; energy: Pearson correlation of the inner lips' "
        "gap with the sound's level, shifts to 0.5 s; spectrum: ridge regression (avatarfit.capture.audio_offset), "
        "shifts to 1 s, from 4 s of held-out frames on; to be held against the truth's own",
        "", "", "Slaney and Covell, FaceSync, NIPS 2000",
    ),
    "offset_s": Definition(
        "shift at which sound and lips agree best; positive: the sound comes later",
        "s", _ZERO,
    ),
    "r": Definition("correlation at that shift", "", _HIGHER),
    "confidence": Definition("share of random choices of the clip's seconds that give the same shift", "", _HIGHER),
    "sync": Definition(
        "SyncNet on consecutive held-out frames at 25 a second, faces cut by the clip's landmarks; truth is the "
        "clip's own score; offset_frames is the best shift, positive where the sound comes later",
        "", "", _SYNCNET,
    ),
    "sync_d": Definition(
        "Sync-D: the least mean distance of SyncNet's vectors of lips and sound over shifts of +-15 frames",
        "", _LOWER, _SYNCNET,
    ),
    "sync_c": Definition(
        "Sync-C: the median over the shifts of the mean distance, minus the least",
        "", _HIGHER, _SYNCNET,
    ),
    "driven": Definition(
        "the mouth that the avatar's own driver makes of the clip's held-out sound (with the 5 s before it as "
        "context), placed by the true pose; no picture is drawn. true_motion: the measured motion through the "
        "same rig, the floor that the rig's few coefficients set",
    ),
    "closure_recall": Definition(
        "share of the frames with closed lips (gap in the lowest 15 % of the training frames) in which the driven "
        "lips are nearly closed (a tenth of the range to the 95th percentile above that)",
        "", _HIGHER,
    ),
    "closure_precision": Definition(
        "share of the frames with closed driven lips in which the person's are nearly closed; recall alone is best "
        "for a mouth that never opens",
        "", _HIGHER,
    ),
    "jitter_above_6hz": Definition(
        "root mean square of the mouth's 20 landmarks' motion above 6 Hz, over the truth's own",
        "", _ONE,
    ),
    "latency": Definition(
        "look-ahead of the driver (how much sound after a moment can change its mouth) plus the time measured "
        "on this machine from sound to frame",
        "ms", _LOWER,
    ),
    "worst_frames": Definition(
        "the ten held-out frames with the lowest PSNR of the person, full composite",
    ),
}  # fmt: skip


def definitions() -> dict[str, dict[str, str]]:
    """JSON-able: `{figure: {text, unit, better, source}}`."""
    return {name: asdict(definition) for name, definition in DEFINITIONS.items()}


def _of(name: str) -> Definition:
    """The definition of a dotted figure: that of its last part which has a unit or a direction."""
    if name.endswith(".frames"):
        return Definition("")
    known = (DEFINITIONS[part] for part in reversed(name.split(".")) if part in DEFINITIONS)
    return next((d for d in known if d.unit or d.better), Definition(""))


def direction(name: str) -> str:
    """`better` of a dotted figure such as "composites.full.person.psnr_db"; "" of the truth's own and where none is."""
    return "" if name.endswith(".truth") or ".truth." in name else _of(name).better


def unit(name: str) -> str:
    """`unit` of a dotted figure."""
    return _of(name).unit


SECTIONS = (
    "composites", "train", "baseline_mean", "baseline_nearest", "found_landmarks", "neck_seam", "neck_seams",
    "pose_jitter", "temporal_flicker", "silence_leakage", "lip_sound_offset", "driven", "latency", "sync",
)  # fmt: skip
"""The parts of an evaluation that hold figures."""


def flat_figures(result: dict[str, Any]) -> dict[str, float | None]:
    """Every figure of an evaluation by its dotted name, in `SECTIONS`' order; None where it could not be measured."""
    out: dict[str, float | None] = {}

    def walk(name: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, part in value.items():
                walk(f"{name}.{key}", part)
        else:
            out[name] = None if value is None else float(value)

    for section in SECTIONS:
        if section in result:
            walk(section, result[section])
    return out
