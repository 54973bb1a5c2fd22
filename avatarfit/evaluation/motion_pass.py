"""One pass over consecutive held-out frames: all that is found, followed and compared over time."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from avatarfit.capture.face_mesh import face_size_px
from avatarfit.contracts import HeadPose
from avatarfit.evaluation import face_figures as face
from avatarfit.evaluation.clip_view import ClipView
from avatarfit.evaluation.found_landmarks import LandmarkFinder, landmark_finders
from avatarfit.evaluation.lip_sound import Sound, lip_speed, offsets, silence_leakage
from avatarfit.evaluation.scores import Truth
from avatarfit.evaluation.steadiness import Flicker, PoseJitter, neck_seam, root_mean_square, seam_band
from avatarfit.media import VideoWriter

if TYPE_CHECKING:
    from avatarfit.contracts import Camera
    from avatarfit.evaluation.sync_score import LipFeatures
    from avatarfit.evaluation.syncnet import SyncNet

SIDES = ("truth", "render")


@dataclass(frozen=True)
class MotionFigures:
    """What a pass found.

    Attributes:
        figures: JSON-able, by the names of `definitions`; None where a figure could not be measured.
        curves: one float [T] per name, NaN where a frame has none.
        notes: what a person should know.
    """

    figures: dict[str, Any]
    curves: dict[str, np.ndarray]
    notes: list[str]


class MotionPass:
    """A context manager; `add` frames in time order, then `finish`.

    Args:
        view: the clip at the avatar's size.
        head: the measured poses of all frames.
        camera: of the avatar.
        sound: of the clip; None where it has none.
        syncnet: None leaves Sync-C and Sync-D out.
        video: where to put "truth | render" as H.264; None for nowhere.
    """

    def __init__(
        self, view: ClipView, head: HeadPose, camera: Camera, sound: Sound | None, syncnet: SyncNet | None = None,
        video: Path | None = None,
    ) -> None:  # fmt: skip
        clip = view.clip
        self._view, self._camera, self._sound, self._head = view, camera, sound, head
        shape = np.asarray(clip.landmarks_cm).mean(axis=0, dtype=np.float64)
        landmarks = view.landmarks_px(slice(None))
        self._jitter = {side: PoseJitter(head, shape, landmarks, camera) for side in SIDES}
        self._flicker = {side: Flicker() for side in SIDES}
        self._syncnet = syncnet
        self._lips: dict[str, LipFeatures] = {}
        if syncnet is not None:
            from avatarfit.evaluation.sync_score import LipFeatures

            self._lips = {side: LipFeatures(syncnet, clip.frame_rate_hz) for side in SIDES}
        self._video_path = video
        self._video: VideoWriter | None = None
        self._finders: dict[str, LandmarkFinder] = {}
        self._notes: list[str] = []
        self._indices: list[int] = []
        self._seam: list[float] = []
        self._open = ExitStack()

    def __enter__(self) -> MotionPass:
        found, missing = landmark_finders(self._view.clip.manifest["landmarks"], len(SIDES))
        self._finders = dict(zip(SIDES, found, strict=False))
        if missing:
            self._notes.append(missing)
        for finder in found:
            self._open.callback(finder.close)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def add(self, index: int, truth: Truth, render: np.ndarray) -> None:
        """Take frame `index` in: its whole `Truth` and the rendered picture, uint8 [H, W, 3]."""
        points, labels = truth.landmarks_px, truth.labels
        if points is None or labels is None:
            raise ValueError("a Truth without landmarks and labels came; wanted a whole one (ClipView.truths)")
        seconds = float(self._view.clip.pts_seconds[index])
        for side, rgb in zip(SIDES, (truth.rgb, render), strict=True):
            self._jitter[side].add(index, rgb)
            self._flicker[side].add(index, rgb, points)
            if side in self._finders:
                self._finders[side].add(rgb, points)
            if side in self._lips:
                self._lips[side].add(index, seconds, rgb, points)
        self._seam.append(neck_seam(truth.rgb, render, seam_band(labels, face_size_px(points))))
        self._write(index, truth.rgb, render)
        self._indices.append(index)

    def _write(self, index: int, truth: np.ndarray, render: np.ndarray) -> None:
        if self._video_path is None:
            return
        pair = np.concatenate([truth, render], axis=1)
        if self._video is None:
            clip = self._view.clip
            sound = None
            if self._sound is not None:
                from avatarfit.evaluation.driven import heard

                cut = heard(self._sound.clip, clip.pts_seconds[index:], clip.frame_rate_hz, lead_seconds=0)
                sound = type(cut)(cut.samples, cut.sample_rate_hz)
            writer = VideoWriter(
                self._video_path, pair.shape[1], pair.shape[0], clip.frame_rate_hz, sound=sound, crf=20
            )
            self._video = self._open.enter_context(writer)
        self._video.write(pair)

    def finish(self) -> MotionFigures:
        """The figures of the frames that came."""
        pts = np.asarray(self._view.clip.pts_seconds)[self._indices]
        seam = np.array(self._seam)
        curves: dict[str, np.ndarray] = {"neck_seam": seam}
        figures: dict[str, Any] = {
            "neck_seam": _spread(seam),
            "pose_jitter": self._two_sided("pose_jitter", {s: np.array(j.px) for s, j in self._jitter.items()}, curves),
            # A flicker belongs to the middle of three frames, and is known when the last has come.
            "temporal_flicker": self._two_sided(
                "temporal_flicker",
                {s: np.array([*f.levels[1:], np.nan]) for s, f in self._flicker.items()}, curves, mean=True,
            ),
        }  # fmt: skip
        measured, pairs = figures["pose_jitter"]["frames"], len(pts) - 1
        if 2 * measured < pairs:
            self._notes.append(
                f"pose jitter rests on {measured} of {pairs} pairs of frames: the others show too few features"
            )
        if self._finders and len(pts):
            figures |= self._of_landmarks(pts, curves)
        if self._syncnet is not None:
            figures["sync"] = self._sync()
        return MotionFigures(figures, curves, self._notes)

    def _two_sided(
        self, name: str, values: dict[str, np.ndarray], curves: dict[str, np.ndarray], mean: bool = False
    ) -> dict[str, float | int | None]:
        """{truth, render, added, frames} over the frames that both have."""
        both = np.isfinite(values["truth"]) & np.isfinite(values["render"])
        curves |= {f"{name}.{side}": v for side, v in values.items()}
        if not both.any():
            return {"truth": None, "render": None, "added": None, "frames": 0}
        truth, render = (
            float(v[both].mean()) if mean else float(root_mean_square(v[both]) or 0.0)
            for v in (values["truth"], values["render"])
        )
        return {
            "truth": round(truth, 4), "render": round(render, 4), "added": round(render - truth, 4),
            "frames": int(both.sum()),
        }  # fmt: skip

    def _of_landmarks(self, pts: np.ndarray, curves: dict[str, np.ndarray]) -> dict[str, Any]:
        truth, render = (np.stack(self._finders[side].points_px) for side in SIDES)
        both = face.found(truth) & face.found(render)
        lost = int((~both).sum())
        if lost:
            self._notes.append(f"no face was found in {lost} of {len(pts)} frames, true or rendered; they do not count")
        if not both.any():
            return {}
        distance = face.lmd_px(truth, render)
        curves["lmd_px"] = distance
        curves |= {f"aperture_px.{side}": face.aperture_px(p) for side, p in zip(SIDES, (truth, render), strict=True)}
        figures: dict[str, Any] = {
            "lmd_px": round(float(np.nanmean(distance)), 4),
            "aperture_r": _rounded(face.correlation(curves["aperture_px.truth"], curves["aperture_px.render"])),
            **self._blinks(truth, render, curves),
            "identity": _rounded(face.identity_distance(truth, render)),
            "expression_error": None,
            "frames_without_face": lost,
        }
        scores = [np.stack(self._finders[side].blendshapes) for side in SIDES]
        if np.isfinite(scores).all(axis=(0, 2)).any():
            error = face.expression_error(scores[0][:, 1:], scores[1][:, 1:])  # the first is _neutral
            curves["expression_error"] = error
            figures["expression_error"] = round(float(np.nanmean(error)), 4)
        else:
            self._notes.append(
                "expression error is absent: the clip's landmarks do not come from a face_landmarker.task"
            )
        return {"found_landmarks": figures, **self._against_sound(pts, truth, render)}

    def _blinks(self, truth: np.ndarray, render: np.ndarray, curves: dict[str, np.ndarray]) -> dict[str, Any]:
        rotation = self._head.matrices()[self._indices][:, :, :3].astype(np.float64)
        shut = face.closures(face.in_head_cm(truth, rotation), face.in_head_cm(render, rotation))
        breaks = np.diff(self._indices, prepend=self._indices[0] - 1) != 1
        events = [face.blink_events(np.nan_to_num(side) > shut[2], breaks) for side in shut[:2]]
        curves |= {"eyes_shut.truth": shut[0], "eyes_shut.render": shut[1]}
        return {
            "blink_f1": _rounded(face.blink_f1(*events)),
            "blinks": {"truth": len(events[0]), "render": len(events[1])},
        }

    def _against_sound(self, pts: np.ndarray, truth: np.ndarray, render: np.ndarray) -> dict[str, Any]:
        if self._sound is None:
            self._notes.append("silence leakage and the offset of lips and sound are absent: the clip has no sound")
            return {}
        reference = truth[face.found(truth)][0, :, :2].astype(np.float64)
        heard = [self._sound.at(values, pts) for values in (self._sound.speech, self._sound.pause)]
        leakage: dict[str, float | None] = {}
        apart: dict[str, Any] = {}
        for side, points in zip(SIDES, (truth, render), strict=True):
            steady = face.steadied(points, reference)
            leakage[side] = _rounded(silence_leakage(lip_speed(steady, pts), *heard))
            apart[side] = offsets(pts, steady, self._sound)
        if leakage["truth"] is None:
            self._notes.append("silence leakage is absent: the held-out frames have under ten of silence or of speech")
        return {"silence_leakage": leakage, "lip_sound_offset": apart}

    def _sync(self) -> dict[str, Any] | None:
        if self._sound is None or self._syncnet is None:
            return None
        from avatarfit.evaluation.sync_score import sync_scores

        scores = {side: sync_scores(self._syncnet, self._lips[side], self._sound.clip) for side in SIDES}
        if None in scores.values():
            self._notes.append("Sync-C and Sync-D are absent: too little sound around the held-out frames")
            return None
        return scores


def _spread(values: np.ndarray) -> dict[str, float | None]:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return {"median": None, "p95": None}
    return {"median": round(float(np.median(finite)), 4), "p95": round(float(np.quantile(finite, 0.95)), 4)}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
